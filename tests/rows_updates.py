"""Rows of `numpy_faithfulness.md` about what is written: views, updates, `out=`, overlap."""

import numpy as np
from table import Table, ramp, read_only

ROWS = Table()
row = ROWS.row
LINE, PLANE, CUBE = ramp("f4"), ramp("f8", 3, 4), ramp("f4", 2, 3, 4)


def does(id, *args, **allowed):
    """Decorator that makes a row of a function too long for a lambda."""
    return lambda fn: row(id, fn, *args, **allowed)


# --- views and updates
for name, fn, *args in (
    ("add", lambda x: x.__iadd__(1), LINE), ("int-plus-float", lambda x: x.__iadd__(1.5), LINE
     .astype("i4")), ("int-divide", lambda x: x.__itruediv__(2), LINE.astype("i4")),
    ("u1-plus-300", lambda x: x.__iadd__(300), ramp("u1")),
    ("f4-plus-f8", lambda x, y: x.__iadd__(y), LINE, ramp("f8")),
    ("i4-plus-i8", lambda x, y: x.__iadd__(y), ramp("i4"), ramp("i8")),
    ("u8-plus-i8", lambda x, y: x.__iadd__(y), ramp("u8"), ramp("i8")),
    ("growing", lambda x, y: x.__iadd__(y), LINE, ramp("f4", 2, 12)),
    ("shrinking", lambda x, y: x.__iadd__(y), ramp("f4", 2, 12), LINE),
    ("bool-and", lambda x, y: x.__iand__(y), ramp("?"), ramp("?")[::-1].copy()),
    ("f4-plus-c8", lambda x, y: x.__iadd__(y), LINE, ramp("c8")),
    ("power", lambda x: x.__ipow__(2), LINE), ("matmul", lambda x, y: x.__imatmul__(y),
     ramp("i4", 3, 3), ramp("i4", 3, 3)), ("shift", lambda x: x.__ilshift__(2), ramp("i4")),
    ("floor", lambda x: x.__ifloordiv__(2), LINE), ("mod", lambda x: x.__imod__(2), LINE),
    ("read-only", lambda x: x.__iadd__(1), read_only(LINE)),
    ("broadcast", lambda x: x.__iadd__(1), np.broadcast_to(LINE, (3, 12))),
    ("broadcast-arrays", lambda x, y: [np.broadcast_arrays(x, y, 1)[0].__iadd__(1),
     np.broadcast_arrays(x, y[:, None])[1].__setitem__(1, 7)], LINE, LINE + 1),
    ("itself", lambda x: x.__iadd__(x), LINE), ("reversed", lambda x: x.__iadd__(x[::-1]), LINE),
    ("transpose", lambda x: x.__iadd__(x.T), ramp("f4", 4, 4)),
    ("overlapping-arguments", lambda x, y: x.__iadd__(y), LINE[1:], LINE[:-1]),
    ("overlapping-arguments-2", lambda x, y: (x.__imul__(2), y + 1)[1], LINE[:8], LINE[4:]),
    ("same-argument-twice", lambda x, y: (x.__iadd__(1), y * 2)[1], *[LINE] * 2),
):
    row(f"in-place-{name}", fn, *args)


@does("view-update-shows", LINE)
def _(x):
    y = x[1:]
    y += 1
    y[::2] = 7
    return x * 2, y


@does("transpose-update", PLANE, ramp("f8", 4, 3))
def _(x, v):
    x.T[...] = v
    return x + 1


@does("overlapping-assignment", LINE, LINE.copy(), LINE.copy())
def _(x, y, z):
    x[1:] = x[:-1]
    y[:-1] = y[1:]
    z[::2] = z[1::2][::-1]


# NumPy reads what it has written where the steps differ and have one sign
for name, put, read in (
    ("spread", slice(0, 6, 2), slice(0, 3)), ("spread-behind", slice(1, 7, 2), slice(3)),
    ("gathered", slice(0, 6), slice(0, 12, 2)), ("gathered-behind", slice(3, 9), slice(0, 12, 2)),
    ("backwards", slice(8, 2, -2), slice(11, 2, -3)), ("turned", slice(6, 9), slice(9, 3, -2)),
    ("backwards-behind", slice(9, 3, -2), slice(6, 3, -1)),
    ("element", slice(2, 9, 3), slice(5, 6)),
):
    row(f"overlapping-{name}", lambda x, put=put, read=read: x.__setitem__(put, x[read]),
        ramp("f8"))
    row(f"overlapping-copyto-{name}", lambda x, put=put, read=read: np.copyto(x[put], x[read]),
        ramp("i4"))
    row(f"overlapping-flat-{name}", lambda x, put=put, read=read: x[put].flat.__setitem__(
        slice(None), x[read]), ramp("f8"))
    row(f"overlapping-row-{name}", lambda x, put=put, read=read: x.__setitem__(put, x[None, read]),
        ramp("f8"))


@does("overlapping-update", LINE)
def _(x):
    x[1:] += x[:-1]
    x[:-1] *= x[1:]


@does("read-after-write", LINE)
def _(x):
    before = x * 1
    x[3:6] = 0
    after = x * 1
    x[...] = -1
    return before, after


@does("local-update", LINE)
def _(x):
    y = np.zeros(12, "f4")
    y[1:] = x[:-1]
    y[0] += x.sum()
    z = y.reshape(3, 4)
    z[1] = -1
    z[:, 2] *= 2
    return y, z, y + 1


@does("local-copy-is-no-view", PLANE)
def _(x):
    y = x.T.reshape(-1)
    y += 1
    z = x.reshape(-1).copy()
    z[:] = 0
    return x * 1, y, z


@does("ravel-view-or-copy", PLANE, np.asfortranarray(PLANE))
def _(x, f):
    x.ravel()[0] = 100
    f.ravel()[0] = 100
    f.ravel(order="K")[1] = 50


@does("list-of-views", LINE)
def _(x):
    parts = np.split(x, 3)
    for i, part in enumerate(parts):
        part *= i
    return parts


@does("swap", PLANE)
def _(x):
    x[0], x[1] = x[1].copy(), x[0].copy()
    x[:, [0, 1]] = x[:, [1, 0]]


@does("out", LINE, np.zeros(12, "f4"), np.zeros(12, "f8"))
def _(x, y, z):
    a = np.multiply(x, 2, out=y)
    b = np.sqrt(np.abs(x), out=z)
    np.add(x, y, x)
    return a is y, b is z


@does("out-casting-refused", LINE, np.zeros(12, "i4"))
def _(x, y):
    np.add(x, 1, out=y)


@does("out-casting-allowed", LINE, np.zeros(12, "i4"))
def _(x, y):
    np.add(x, 1, out=y, casting="unsafe")


@does("out-shape-refused", LINE, np.zeros(11, "f4"))
def _(x, y):
    np.add(x, 1, out=y)


@does("out-read-only", LINE, read_only(LINE))
def _(x, y):
    np.add(x, 1, out=y)


@does("out-two", LINE, np.zeros(12, "f4"), np.zeros(12, "f4"))
def _(x, q, r):
    np.divmod(x, 2, out=(q, r))
    return np.modf(x, q, r)


@does("out-where", LINE, np.zeros(12, "f4"))
def _(x, y):
    return np.sqrt(np.abs(x), out=y, where=x > 0), np.add(x, 1, where=x > -99)


@does("mask-assignment", LINE, ramp("i4"), PLANE)
def _(x, y, z):
    x[x < 0] = 0
    y[x > 2] += 1
    y[y == 3] = 2.7
    z[z > 1] *= 2
    z[z.sum(axis=1) > 0] = -1


@does("mask-assignment-values", LINE, np.arange(12, dtype="f4"))
def _(x, v):
    m = x > 0
    x[m] = v[m]
    v[~m] = x[~m] * 2


@does("fancy-assignment", LINE, np.array([1, 3, 3, -1]), np.array([10, 20, 30, 40], "f4"))
def _(x, i, v):
    x[i] = v
    x[i] += 1
    x[[0, 2]] = 5


@does("fancy-assignment-out-of-range", LINE, np.array([1, 12]))
def _(x, i):
    x[i] = 1


@does("ufunc-at", LINE, np.array([1, 3, 3, -1]))
def _(x, i):
    np.add.at(x, i, 2)


@does("assign-casts", ramp("i4"), ramp("f4"))
def _(x, y):
    x[2:5] = 1.9
    x[6:] = y[6:]
    y[0] = 3
    y[1:3] = np.array([1, 2])


@does("assign-too-large", ramp("u1"))
def _(x):
    x[0] = 300


@does("assign-wrong-shape", LINE)
def _(x):
    x[1:4] = np.zeros(4)


@does("assign-broadcast", CUBE, ramp("f4", 4))
def _(x, v):
    x[...] = v
    x[0] = 1
    x[:, 1] = v[::-1]
    x[1, :, 2] = 9


@does("assign-index-out-of-range", LINE)
def _(x):
    x[12] = 0


@does("assign-read-only", read_only(LINE))
def _(x):
    x[0] = 0


@does("methods-in-place", LINE)
def _(x):
    x.fill(3)
    x.sort()
    np.copyto(x[:3], 7)
    np.copyto(x, 5, where=x > 6)
    np.put(x, [0, 1], 9)
    np.fill_diagonal(x.reshape(3, 4), 8)


@does("sort-in-place", LINE)
def _(x):
    x[:6].sort()


@does("error-after-write", LINE, np.array([20]))
def _(x, i):
    x += 1
    return x[i]


@does("results-share", PLANE)
def _(x):
    y = x + 1
    return y, y[1:], y, y.T, x, x[::2]


@does("argument-returned", LINE)
def _(x):
    x *= 2
    return x, x[1:3], x.reshape(3, 4), np.asarray(x), np.array(x), x.copy()


@does("dict-results", LINE)
def _(x):
    return {"a": x + 1, "b": (x[0], [x.sum() > 0])}


@does("views-of-results", PLANE)
def _(x):
    return np.exp(x * 0)[1:, ::2], (x + 1).T, (x * 2).reshape(-1)[3:5], (x + 1)[::-1]


@does("flat-and-flags", PLANE)
def _(x):
    return x.flat[3] + 1, x.flags.c_contiguous, x.T.flags.f_contiguous


# --- a mask among other indices
MASK, MASK5 = np.array([True, False, True]), np.array([0, 1, 1, 0, 1], bool)
for name, fn in {
    "column": lambda x, m, k: x.__setitem__((m, 1), 5), "part": lambda x, m, k: x[m, 1:3].sum(0),
    "columns": lambda x, m, k: x.__setitem__((m, slice(1, 3)), np.arange(2.0)[:, None]),
    "after-int": lambda x, m, k: (x.__setitem__((1, k), 0), x[0, k].max()),
    "last": lambda x, m, k: x.__setitem__((slice(None), k), 7),
    "dots": lambda x, m, k: x.__setitem__((..., x[0, 0] > 0), -1),
    "apart": lambda x, m, k: (x.__setitem__((m, slice(None), 2), 1), x[m, :, 2].sum()),
    "too-far": lambda x, m, k: x.__setitem__((m, 9), 1),
    "wrong-length": lambda x, m, k: x.__setitem__((k, 0), 1),
    "sum": lambda x, m, k: (x[:, k].sum(), x[:, k].sum(axis=1), x[:, k].max(axis=(1, 2))),
    "times": lambda x, m, k: x.__setitem__((slice(None), k), x[:, k] * 2 + 1),
    "two-axes": lambda x, m, k: x.__setitem__((x[..., 0] > 0, 1), 3),
}.items():
    row(f"mask-among-{name}", fn, ramp("f8", 3, 5, 4), MASK, MASK5, rel=1e-14)

# --- unbuffered updates at a tuple of indices, an index that is a range
ROWS3, COLUMNS3 = np.array([0, 1, 1]), np.array([3, 2, 2])
row("at-pairs", lambda o, i, j: np.add.at(o, (i, j), 2), PLANE, ROWS3, COLUMNS3)
row("at-slice", lambda o, j: np.subtract.at(o, (slice(None), j), 1), PLANE, COLUMNS3)
row("at-u1-wraps", lambda o: np.add.at(o, np.arange(300).astype("u1"), 2), ramp("f8", 400))
row("at-list", lambda o, i, j: np.add.at(o, [i[0], j[0]], 1), LINE, ROWS3, COLUMNS3)
for name, dtype in {"double": "f8", "half": "f2", "complex": "c16", "integers": "i4"}.items():
    for zero in (0.0, -0.0):
        row(f"at-separate-places-{name}-{zero}",
            lambda v, j, z=np.dtype(dtype).type(zero): [
                (np.add.at(o, (np.arange(3), j), v), o)[1] for o in [np.full((3, 4), z)]],
            np.array([-0.0, 0.0, 3]).astype(dtype), COLUMNS3)
row("index-range", lambda x: x.__setitem__(range(3), x[range(5, 2, -1)]), LINE)


# --- functions of NumPy that give a view of their argument: it sees later updates
for name, view in {
    "as_strided": lambda x: np.lib.stride_tricks.as_strided(x, (4, 3), (x.itemsize, x.itemsize)),
    "frombuffer": lambda x: np.frombuffer(x, x.dtype),
    "view-narrower": lambda x: x.view("u1"),
    "view-wider": lambda x: x.view("c8"),
    "view-bits": lambda x: x.view("i4"),
    "view-doubles": lambda x: x.view(np.dtype("f8")),
    "view-none": lambda x: (x.view(None), x.view(dtype=None)[1:]),
    "view-objects": lambda x: x.view(np.dtype("O")),
    "view-unsigned": lambda x: x[::-2].view(np.uint32)[1:],
    "view-structured": lambda x: x.view([("a", "i2"), ("b", "i2")])["b"],
    "view-bool": lambda x: (x * 0).view("?"),
}.items():
    row(f"view-of-numpy-{name}",
        lambda x, view=view: [(v, x.__iadd__(1), v + v) for v in [view(x)]], LINE)
    row(f"view-of-numpy-written-{name}", lambda x, view=view: view(x).__setitem__(0, 3), LINE)
row("view-of-scalar", lambda x: (x[3].view(np.int32), x.max().view("u4") + 1), LINE)
row("view-refused", lambda x: x.view("no such dtype"), LINE)
row("view-there-and-back", lambda x: (x.view("u4") ^ np.uint32(1 << 31)).view("f4"), LINE)
row("view-fast-inverse-root", lambda x: (np.int32(0x5F3759DF) - (x.view("i4") >> 1)).view("f4"),
    np.abs(LINE))
row("view-sorted-keys", lambda x: np.where(x < 0, ~x.view("i4"), x.view("i4")).argmax(), LINE)
row("view-half", lambda x: x.view("u2") & 1, LINE.astype("f2"))


@does("turned-then-updated", ramp("i8", 16, 64))
def _(x):
    turned = np.ascontiguousarray(x.T * 2)
    updated = turned.copy()
    updated[50:54] = turned[10:14]
    return updated, turned, np.pad(turned, 1), np.concatenate([turned + 1, turned], axis=1)


# --- errors of elements that nobody reads
FAR = np.array([9, 1, 2])
LIVE = np.array([0, -1, 2])


def _ignored(compute):
    """What comes after an expression whose value nobody reads."""
    return lambda x, *more: (compute(x, *more), x * 2)[1]


UNREAD = {
    "slice": lambda x, i: x[i][1:] * 2,
    "nothing-left": lambda x, i: x[i][:0],
    "update": lambda x, i: [y.__setitem__(0, 3) or y for y in [x[i]]],
    "update-reversed": lambda x, i: [y.__setitem__(slice(None, None, -1), x[:3]) or y
                                     for y in [x[i]]],
    "dead": _ignored(lambda x, i: x[i]),
    "dead-number": _ignored(lambda x, i: x[i[0]]),
    "dead-addition": _ignored(lambda x, i: np.add.at(x * 1, i, 1.0)),
    "twice": lambda x, i: x[i][np.array([1, 2, 1])],
    "columns": lambda x, i: (x[:8].reshape(2, 4).T[:, i % 2 + i // 9])[:, 1:],
    "concatenated": lambda x, i: np.concatenate([x, x[i]])[:4],
    "number-concatenated": lambda x, i: np.concatenate([x[:2], x[i[0]] * np.ones(3)])[:2],
    "padded": lambda x, i: np.pad(x[i], 1)[2:],
    "of-zeros": lambda x, i: np.zeros(5)[i],
    "of-one": lambda x, i: (x[:1] * 2)[i // 3],
    "reshaped": lambda x, i: np.stack([x, x], 1)[i].reshape(-1)[2:],
    "sorted": lambda x, i: np.sort(x[i])[1:],
    "searched": lambda x, i: np.argmax(x[i] > -99),
    "any": lambda x, i: np.any(x[i[::-1]] > -99),
    "mean": lambda x, i: np.stack([x, x], 1)[i].mean(axis=0)[1:],
}
for name, fn in UNREAD.items():
    for label, index in {"far": FAR, "live": LIVE}.items():
        row(f"unread-{name}-{label}", fn, np.arange(8.0), index)
POWERS = {
    "sum": lambda a, b: (a**b)[1:].sum(), "slice": lambda a, b: (a**b)[1:],
    "number": lambda a, b: (a ** b[0])[1:], "dead": _ignored(lambda a, b: a**b),
    "dead-floats": _ignored(lambda a, b: (a * 1.0) ** b),
}  # fmt: skip
for name, fn in POWERS.items():
    row(f"unread-power-{name}", fn, np.array([2, 3, 4]), np.array([-1, 2, 2]))
SINGULAR = np.eye(3) * np.arange(20)[:, None, None]
row("unread-inverse", _ignored(np.linalg.inv), np.zeros((3, 3)))
row("unread-inverses", _ignored(np.linalg.inv), SINGULAR)
row("unread-inverses-slice", lambda a: np.linalg.inv(a)[1:], SINGULAR)
row("unread-cholesky", _ignored(np.linalg.cholesky), -np.eye(3))
row("unread-division", _ignored(lambda x: x.max().item() / x.min().item()), np.arange(3.0))


# --- an argument that becomes another one, which is nothing that a kernel computes
def becomes_another(x, y):
    x[...] = y


def becomes_another_and_more(x, y, z):
    x[:] = y
    z *= x
    return x.sum(), x[::2] + y[::2]


row("becomes-another", becomes_another, ramp("f8", 3, 4), -ramp("f8", 3, 4))
row("becomes-another-strided", becomes_another, ramp("i2", 6, 4)[::2], -ramp("i2", 4, 3).T)
row("becomes-another-and-more", becomes_another_and_more, ramp("f4"), ramp("f4") + 1, ramp("f4"))
row("becomes-what-is-known", lambda x: x.__setitem__(..., np.array([4.0, 5.0, 6.0])), ramp("f8", 3))


# --- loops of the user's over hundreds of rows, too deep for one kernel
def rows_copied(x, y):
    for a, b in zip(x, y):
        a[:] = b


def rows_from_the_last(x, y):
    for i in range(1, len(x)):
        x[i] = x[i - 1]


def rows_added(x, y):
    total = 0.0
    for a in x:
        total = total + a[0]
    return total


def rows_put_together(x, y):
    return np.concatenate([x[i : i + 1] for i in range(len(x))][::-1])


MANY = ramp("f8", 400, 2)
for many in (rows_copied, rows_from_the_last, rows_added, rows_put_together):
    row(many.__name__, many, MANY, MANY[::-1] + 1)


@does("flat-reads-copies", PLANE)
def _(x):
    first, some = x.T.flat[:3], x.flat[[1, 2]]
    first *= 2
    some += 1
    x.flat[::5] = [7, 8]
    rest = x.flat
    return first, some, next(rest), next(rest), rest.index, rest.coords, sum(x.flat), len(x.flat)


for name, used in {
    "max": lambda x: (np.max(x.flat), x.flat == 1), "array": lambda x: np.array(x.flat) + 1,
    "list": lambda x: list(x.flat), "class": lambda x: isinstance(x.flat, np.ndarray),
    "mask": lambda x: x.flat.__setitem__(x.ravel() > 0, [1, 2]), "plus": lambda x: x.flat + 1,
}.items():
    row(f"flat-{name}", used, PLANE)
row("all-flat", lambda x: setattr(x, "flat", 3), MANY)

# --- a number that an integer array can't hold is refused where it is put, and cut by np.full
for number in (np.nan, 1e20, -1.0, 1j):
    small = np.arange(3, dtype="u1")
    row(f"puts-{number}", lambda x, v=number: x.__setitem__(1, v), small)
    row(f"puts-all-{number}", lambda x, v=number: x.__setitem__(..., v), small)
    row(f"puts-mask-{number}", lambda x, v=number: x.__setitem__(x > 0, v), small)
    row(f"puts-full-{number}", lambda x, v=number: np.full_like(x, v), small)
PUTS = {
    "item": lambda x, v: x.__setitem__(1, v), "all": lambda x, v: x.__setitem__(..., v),
    "fill": lambda x, v: x.fill(v), "index": lambda x, v: x.__setitem__([0, 2, 1], v),
    "mask": lambda x, v: x.__setitem__(x > 0, v),
    "flat-item": lambda x, v: x.flat.__setitem__(1, v),
    "flat-part": lambda x, v: x.flat.__setitem__(slice(1, 9), v),
    "flat-index": lambda x, v: x.flat.__setitem__([2, 0, 5], v),
    "set-flat": lambda x, v: setattr(x, "flat", v), "put": lambda x, v: np.put(x, [0, 2], v),
    "putmask": lambda x, v: np.putmask(x, x > 1, v), "place": lambda x, v: np.place(x, x > 1, v),
    "copyto": lambda x, v: np.copyto(x, v, "unsafe"), "diagonal": lambda x, v: np
    .fill_diagonal(x, v), "array": lambda x, v: np.array(v, x.dtype), "choose": lambda x, v: np
    .choose(x > 1, [x, v]), "pad": lambda x, v: np.pad(x, 1, constant_values=v),
    "select": lambda x, v: np.select([x > 1], [x], v), "stack": lambda x, v: np
    .array([x[0, 0], np.size(v) if isinstance(v, list) else v], x.dtype),
    "python": lambda x, v: x.__setitem__(0, np.max(v).item()),
}
for name, put in PUTS.items():
    for k, v in enumerate((
        np.nan, 1e20, -1.5, 2.5, 300, np.float64(np.nan), np.float64(1e20), np.float32(-1.5),
        np.int64(300), np.int64(-1), np.uint64(2**64 - 1), np.array(np.nan), [1, 2, 300], "3",
        np.array([1.5, np.nan, 300.0, -1.0])[:, None], [2.5, np.nan, 1e20], np.array([1e20]),
    )):
        for dtype in ("u1", "i4", "i8", "u8"):
            into = np.arange(16).reshape(4, 4).astype(dtype)
            row(f"put-{name}-{k}-{dtype}", put, into, v)
            if not isinstance(v, np.ndarray):
                row(f"put-{name}-{k}-{dtype}-known", lambda x, v=v, put=put: put(x, v), into)
row("where-none", lambda x: np.where(x > 0, x, None), ramp("f8"))
row("putmask-refused", lambda x, y: np.putmask(x, y > 0, y), ramp("i4"), ramp("f8"))

# --- results of reductions go into any out=, vectors never into x @= y
for name, into in {
    "sum": lambda x, o: np.sum(x, axis=1, out=o), "max": lambda x, o: x.max(axis=1, out=o),
    "cumsum": lambda x, o: x[:, 0].cumsum(out=o),
    "accumulate": lambda x, o: np.maximum.accumulate(x[:, 0], out=o),
}.items():
    row(f"cut-by-out-{name}", into, ramp("f8", 4, 3), np.ones(4, "i8"))
row("no-vector-in-place", lambda x, y: x.__imatmul__(y), ramp("f8", 3), ramp("f8", 3))


# --- views of a number are copies
def changes_a_copy(x):
    flat, line = x.reshape(-1), np.ravel(x)
    flat *= 2
    line[0] = 7
    return x, flat, line


row("number-reshaped", changes_a_copy, np.float64(3))
row("number-stays-one", lambda x: (x.max().reshape(()), np.reshape(x[0], ())), ramp("f8"))
row("computed-number-reshaped", lambda x: changes_a_copy(x.sum()), ramp("f4"))
row("computed-number-views", lambda x: [(s, v.__iadd__(1)) for s in [x.max()] for v in
    (s[None], np.atleast_2d(s), np.expand_dims(s, 0), s[...], s.ravel())], ramp("f8"))


# --- what NumPy's own functions raise is for the function to catch, and its updates stay
def factor(x, y):
    y += 1
    for k in range(3):
        try:
            return np.linalg.cholesky(x + 10.0**k * np.eye(3) * (k > 0)), k
        except np.linalg.LinAlgError:
            y *= 2
    raise ValueError("not even then")


for k, x in enumerate((2 * np.eye(3), -np.ones((3, 3)), np.ones((3, 3)) - 20)):
    row(f"caught-{k}", factor, x, LINE)
row("not-caught", lambda x, y: (y.__iadd__(1), np.linalg.inv(x))[1], np.ones((3, 3)), LINE)


# --- a part that many updates leave alone
def written_one_by_one(x, y):
    for k in range(80):
        x[k + 1] = x[0] + y[k % 12]
    return x[:1] * 2


row("written-one-by-one", written_one_by_one, ramp("f4", 90), LINE)
