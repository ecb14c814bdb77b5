"""What an array tells about itself (types, flags, bases), and what Python asks of it besides."""

import numpy as np
from table import Table, ramp, read_only

ROWS = Table()
row = ROWS.row
LINE, SINGLE, WHOLE = ramp("f8", 6), ramp("f4", 6), ramp("i4", 6)


def does(*args, **allowed):
    """Decorator that makes a row of a function."""
    return lambda fn: row(fn.__name__.replace("_", "-"), fn, *args, **allowed)


# --- types
def is_double(kind):
    return kind is np.float64


def caught(x):
    try:
        double = is_double(x.dtype.type)
    except:  # noqa: E722
        double = False
    return x * 2 if double else x * 3


def named_kind(x):
    kind = x.dtype.type
    return x * 2 if kind is np.float64 else x * 3 if kind is not np.int32 else x


for name, fn in {
    "is": lambda x: x * 2 if x.dtype.type is np.float64 else x * 3,
    "named": named_kind, "caught": caught,
    "helper": lambda x: x * 2 if is_double(x.dtype.type) else x * 3,
    "equal": lambda x: x * 2 if x.dtype.type == np.float32 else x * 3,
    "subclass": lambda x: x * 2 if issubclass(x.dtype.type, np.floating) else x * 3,
    "in": lambda x: x * 2 if x.dtype.type in (np.float64, np.int32) else x * 3,
    "key": lambda x: x * {np.float64: 2, np.float32: 3, np.int32: 4}[x.dtype.type],
    "call": lambda x: (x * x.dtype.type(3), x.dtype.type(0.5), x.dtype.type is np.float32),
    "of-element": lambda x: x * 2 if type(x[0]) is np.float64 else x * 3,
    "class-of-element": lambda x: x * 2 if x[0].__class__ is np.float64 else x * 3,
    "of-two": lambda x: type(x[0]) is type(x.sum()),
    "promoted": lambda x: x * 2 if np.result_type(x, np.float32).type is np.float64 else x * 3,
    "dtype-is": lambda x: x * 2 if x.dtype is np.dtype("f8") else x * 3,
    "and-converts": lambda x: np.float64(x.sum()) if x.dtype.type is np.float32 else x.sum(),
}.items():
    for x in (LINE, SINGLE, WHOLE):
        row(f"type-{name}-{x.dtype}", fn, x, rel=1e-6)
row("type-of-number", lambda x, k: x * x.dtype.type(k), SINGLE, 0.3)
for name, fn in {
    "made": lambda x: np.ndarray((2, 6), x.dtype).__setitem__((..., 0), x[0]),
    "filled": lambda x: [a.__setitem__(slice(None), x) or a for a in (
        np.ndarray(6), np.ndarray((2, 6), x.dtype, order="F"), np.ndarray(shape=6, dtype="i4"))],
    "over-memory": lambda x: np.ndarray(3, "i2", bytearray(6)) + x[:3],
    "of-text": lambda x: (x, np.ndarray(2, "S3").size),
    "negative": lambda x: np.ndarray((2, -1)),
    "methods": lambda x: (np.ndarray.sum(x), np.ndarray.astype(x, "f4"), np.ndarray.dot(x, x),
        list(map(np.ndarray.max, [x, x + 1])), np.ndarray.__name__),
    "methods-of-others": lambda x: (x, np.ndarray.sum(3)),
    "is": lambda x: (type(x) is np.ndarray, isinstance(x, (np.ndarray, list)), np.ndarray((0,))),
    "key": lambda x: x * {np.ndarray: 3}[type(x)],
}.items():
    row(f"ndarray-{name}", fn, LINE, rel=1e-15)


# --- memory: arrays have a buffer
def with_memory(x):
    try:
        return x + memoryview(x).nbytes
    except TypeError:
        return x - 1


does(LINE)(with_memory)
row("memory-of-a-part", lambda x: (x, memoryview(x[1:])[0]), LINE)
row("memory-class", lambda x: (x + memoryview(b"ab").nbytes, isinstance(x, memoryview)), LINE)


# --- methods that are called through their class
class Scaled:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x * self.by

    def __add__(self, other):
        return self.by + other.by

    def __eq__(self, other):
        return type(other) is type(self)


class Shifted(Scaled):
    def __init__(self, by):
        Scaled.__init__(self, by * 2)

    def __call__(self, x):
        return Scaled.__call__(self, x) + 1

    def __add__(self, other):
        return Scaled.__add__(self, other) * 3


for name, fn in {
    "init": lambda x: Shifted(x).by,
    "call": lambda x: (Shifted(x)(2), Scaled.__call__(Scaled(x), x)),
    "operator": lambda x: (Shifted(x) + Scaled(x), Scaled.__add__(Shifted(x), Scaled(2))),
    "equal": lambda x: (Scaled.__eq__(Shifted(x), 3), Shifted(x) == Shifted(2), x),
    "too-many": lambda x: Scaled.__init__(Scaled(x), x, x),
    "of-object": lambda x: (x + 1, object.__init__(Scaled(x)), Scaled.__repr__ is object.__repr__),
}.items():
    row(f"by-class-{name}", fn, LINE)


# --- flags and bases
def frozen(x):
    y = x * 2
    y.flags.writeable = False
    return y


does(LINE)(frozen)
row("frozen-and-views", lambda x: (frozen(x)[1:], frozen(x).T, frozen(x).copy(), frozen(x) + 1),
    LINE)
for name, change in {
    "item": lambda y: y.__setitem__(0, 1), "add": lambda y: y.__iadd__(1),
    "sort": lambda y: y.sort(),
    "mask": lambda y: y.__setitem__(y > 0, 1), "out": lambda y: np.add(y, 1, out=y),
    "fill": lambda y: y.fill(1), "view": lambda y: y[1:].__setitem__(0, 1),
    "copyto": lambda y: np.copyto(y, 1), "places": lambda y: y.__setitem__([0, 1], 1),
}.items():  # fmt: skip
    row(f"write-frozen-{name}", lambda x, change=change: (change(y := frozen(x)), y)[1], LINE)


@does(LINE)
def frozen_after_a_view(x):
    y = x * 2
    v = y[1:]
    y.flags.writeable = False
    v[0] = 5
    return y, v


@does(LINE)
def frozen_view(x):
    v = x[1:]
    v.setflags(write=False)
    x[2] = 5
    return v, x.flags.writeable, v.flags.writeable


@does(LINE)
def frozen_and_back(x):
    y = frozen(x)
    y.flags["WRITEABLE"] = True
    y[0] = 1
    return y


@does(LINE)
def frozen_argument(x):
    x.flags.writeable = False
    return x


FLAGS = (
    "c_contiguous", "f_contiguous", "contiguous", "fortran", "fnc", "forc", "owndata", "writeable",
    "aligned", "writebackifcopy", "behaved", "carray", "farray", "num",
)  # fmt: skip
KEYS = ("C", "F", "W", "O", "A", "FNC", "CA", "FA", "B", "X", "C_CONTIGUOUS", "OWNDATA", "FORC")
for name, fn in {
    "made": lambda x: x + 1, "view": lambda x: (x + 1)[1:], "strided": lambda x: (x + 1)[::2],
    "turned": lambda x: (x + 1).reshape(2, 3).T, "number": lambda x: x.sum(),
    "argument": lambda x: x, "broadcast": lambda x: np.broadcast_to(x + 1, (2, 6)),
    "empty": lambda x: (x + 1)[:0],
    "diagonal": lambda x: np.diagonal((x[:4] + 1).reshape(2, 2)), "of-argument": lambda x: x[1:],
}.items():  # fmt: skip
    row(f"flags-of-{name}", lambda x, fn=fn: [getattr(fn(x).flags, n) for n in FLAGS], LINE)
    row(f"flag-keys-of-{name}", lambda x, fn=fn: [fn(x).flags[k] for k in KEYS], LINE)
    row(f"base-of-{name}", lambda x, fn=fn: fn(x).base is None, LINE)
row("flag-unknown", lambda x: x.flags["Q"], LINE)
row("flag-no-attribute", lambda x: x.flags.nope, LINE)
row("base-of-views", lambda x: [(v.base is y, y.base) for y in [x + 1] for v in (y[1:], y.T)], LINE)
for name, x in (("line", LINE), ("frozen", read_only(LINE)), ("strided", ramp("f8", 12)[::2])):
    row(f"flags-choose-{name}", lambda x: (x.__setitem__(0, 9) if x.flags.writeable else None,
        x * 2 if x.flags.c_contiguous else np.ascontiguousarray(x)), x)


# --- NumPy's numbers where Python wants an integer, or asks whether something is true
for name, fn in {
    "slice": lambda x, n: (x[:n], x[n:], x[n : n + 2], x[-n:], x[::n] if n else x),
    "shape": lambda x, n: (np.zeros(n), np.full((n, 2), x[0]), np.eye(n), np.linspace(0, 1, n)),
    "range": lambda x, n: (np.arange(n), sum(x[k] for k in range(n)), [x[k] for k in range(n)]),
    "if": lambda x, n: x * 2 if n > 2 else x * 3,
    "truth": lambda x, n: x * 2 if n else x * 3,
    "in": lambda x, n: x if n in (2, 3) else -x,
    "key": lambda x, n: {0: x, 3: x * 2}.get(n, x * 5),
    "repeat": lambda x, n: (np.repeat(x, n), np.tile(x, n), np.pad(x, n), np.roll(x, n)),
    "list": lambda x, n: ([x] * n, n * (1, 2), list(range(10))[n]),
    "root": lambda x, n: x[int(np.sqrt(n)) :],
    "bins": lambda x, n: np.bincount(np.array([0, 1]), minlength=n + 1),
    "reshape": lambda x, n: x.reshape(n, -1),
    "axis": lambda x, n: x.reshape(2, 3).sum(axis=n),
}.items():
    for n in (np.int64(3), np.int32(2), np.uint8(4), np.int64(0)):
        row(f"number-{name}-{n!r}", fn, LINE, n)
for n in (np.float64(2.0), np.bool_(True), 2.0):
    row(f"number-repeat-{n!r}", lambda x, n: np.repeat(x, n), LINE, n)
    row(f"number-bins-{n!r}", lambda x, n: np.bincount(x.astype(int), minlength=n), LINE, n)
row("number-bins-none", lambda x: np.bincount(x.astype(int), minlength=None), LINE)
row("number-is-integer", lambda x, n: (n.is_integer(), x), LINE, np.float64(2.0))
for name, fn in {
    "float-list": lambda x, n: [1, 2] * x[0], "float-tuple": lambda x, n: n * (1, 2),
    "array-list": lambda x, n: x * [1, 2, 3, 4, 5, 6], "none": lambda x, n: x * 2 if n > 1 else x,
}.items():  # fmt: skip
    row(f"number-times-{name}", fn, LINE, np.float64(0.5))


# --- slices at computed places; whatever reaches over an end NumPy slices
TABLE = ramp("f8", 6, 8)


def peak(x):
    k = x.argmax()
    return x[k - 1 : k + 2] * 1


def cleared(m, i):
    m[i[0] : i[0] + 2, i[1] : i[1] + 3] = 0
    return m


def added(m, i):
    m[i[0] : i[0] + 2, i[1] : i[1] + 3] += np.arange(3)
    return m.sum()


def through_a_view(m, i):
    v = m[i[0] : i[0] + 2]
    v[0] = 7
    v *= 2
    return m


def onto_itself(m, i):
    m[i[0] : i[0] + 2] = m[i[0] + 1 : i[0] + 3]


for k in range(6):
    row(f"window-peak-{k}", peak, np.roll(np.array([9.0, 1, 5, 2, 3, 4]), k))
for name, fn in {
    "crop": lambda m, i: m[i[0] : i[0] + 2, i[1] : i[1] + 3] * 1,
    "beside-number": lambda m, i: (m[i[0], i[1] : i[1] + 3] * 1, m[1, i[1] : i[1] + 3].sum()),
    "beside-axis": lambda m, i: m[i[0] : i[0] + 2, None, 0] * 1,
    "beside-dots": lambda m, i: m[..., i[0] : i[0] + 4] * 1,
    "beside-places": lambda m, i: m[[0, 1], i[0] : i[0] + 2] * 1,
    "beside-mask": lambda m, i: m[m[:, 0] > 0, i[0] : i[0] + 2].sum(),
    "number": lambda m, i: m[2 * i[0] : 2 * i[0] + 2].sum(axis=0),
    "minus": lambda m, i: m[-i[0] : 3 - i[0]].sum(axis=0),
    "int": lambda m, i: [m[k : k + 2].max() for k in [int(i[0])]],
    "moving": lambda m, i: [m[i[0] + k : i[0] + k + 2].sum() for k in range(3)],
    "cleared": cleared, "added": added, "view": through_a_view, "itself": onto_itself,
}.items():  # fmt: skip
    for i in ([1, 2], [4, 5], [5, 6], [-2, -3], [-1, -1], [7, 9], [-7, 1]):
        row(f"window-{name}-{i}", fn, TABLE, np.array(i), rel=1e-12)
for dtype in ("i1", "u1", "i4"):
    row(f"window-{dtype}", lambda m, i: m[i[0] + 100 : i[0] + 103].sum(), ramp("f8", 250),
        np.array([27], dtype))
    row(f"window-wraps-{dtype}", lambda m, i: m[i[0] : i[0] + 3].sum(), ramp("f8", 250),
        np.array([np.iinfo(dtype).max - 1], dtype))
row("window-of-argument", lambda x, i, w: x[i[0] - w : i[0] + w + 1] * 1, LINE, np.array([2]), 1)
for name, fn in {
    "tail": lambda x, i: x[i[0] :], "head": lambda x, i: x[: i[0]],
    "between": lambda x, i: x[i[0] : i[1]], "step": lambda x, i: x[i[0] : i[0] + 2 : i[1]],
    "long": lambda x, i: x[i[0] : i[0] + 9],
}.items():  # fmt: skip
    row(f"window-{name}", fn, LINE, np.array([1, 3]), refuse=True)


# --- shapes and dtypes that are nearly always the same: where they are others NumPy runs
for name, fn, *cases in (
    ("bin-edges", lambda x: np.histogram_bin_edges(x, 5), LINE, -LINE),
    ("bin-edges-auto", lambda x: np.histogram_bin_edges(x, "auto"), LINE, LINE**5),
    ("histogram-auto", lambda x: np.histogram(x, "fd")[0], ramp("f8", 60), ramp("f8", 60) ** 5),
    ("roots", np.roots, np.array([1.0, -3, 2]), np.array([0.0, 1, 2]), np.array([1.0, 0, 0])),
    ("poly", np.poly, np.array([1.0, 2]), ramp("f8", 3, 3)),
    ("real-if-close", np.real_if_close, LINE + 0j, LINE + 1j, LINE),
):
    for k, x in enumerate(cases):
        row(f"{name}-{k}", lambda x, fn=fn: fn(x) * 1, x, rel=1e-12)
for name, i in {
    "bool": np.array([True]), "float": np.array([1.0]), "row": np.array([[1]]),
}.items():  # fmt: skip
    row(f"window-at-{name}", lambda x, i: x[i[0] : i[0] + 3], LINE, i)
    row(f"window-at-array-{name}", lambda x, i: x[i.reshape(()) : i[0] + 3], LINE, i)
