"""Rows of `numpy_faithfulness.md` about arrays: indexing, views, layouts, creation."""

import collections
import copy
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view as windows
from table import Table, layouts, misaligned, ramp

ROWS = Table()
row = ROWS.row
LINE, PLANE, CUBE = ramp("f4"), ramp("f8", 3, 4), ramp("f4", 2, 3, 4)


# --- indexing
for name, fn in {
    "lists-unlike": lambda x: x.reshape(3, 4)[[0, 1], [0, 1, 2]],
    "out-of-range": lambda x: x[12], "negative-out-of-range": lambda x: x[-13],
    "negative": lambda x: (x[-1], x[-12]), "too-many": lambda x: x[0, 0],
    "slices": lambda x: (x[2:5], x[-3:], x[:100], x[8:3], x[::3], x[::-1], x[5:1:-2], x[20:]),
    "step-0": lambda x: x[::0], "newaxis": lambda x: (x[None], x[:, None], x[..., None, 2:4]),
    "float": lambda x: x[1.0], "string": lambda x: x["a"],
    "ellipsis": lambda x: (x[...], x[..., 1]),
    "list": lambda x: x[[0, 2, -1]], "list-out-of-range": lambda x: x[[0, 12]],
    "bool-literal": lambda x: x[True], "empty-list": lambda x: x[[]],
    "numpy-int": lambda x: x[np.int64(2)], "empty-tuple": lambda x: x[()],
    "take": lambda x: (np.take(x, 3), np.take(x, [1, -1]), x.take([0, 0])),
    "take-modes": lambda x: (np.take(x, [20, -30], mode="clip"), np.take(x, [20], mode="wrap")),
    "take-out-of-range": lambda x: np.take(x, 12), "item": lambda x: x[3] * 2,
    "len-shape": lambda x: (len(x), x.shape, x.size, x.ndim, x.dtype, x.nbytes, x.itemsize),
    "iterate": lambda x: [v + 1 for v in x[:3]], "unpack": lambda x: (lambda a, b: a - b)(*x[:2]),
    "contains": lambda x: x.reshape(3, 4)[1][2],
}.items():
    row(f"index-{name}", fn, LINE)
ids = np.array([0, -1, 5, 5, 11, -12])
row("index-array", lambda x, i: (x[i], np.take(x, i), x[i[:2]]), LINE, ids)
row("index-array-out-of-range", lambda x, i: x[i], LINE, ids + 1)
row("index-array-below-range", lambda x, i: x[i], LINE, ids - 1)
row("index-take-array-out-of-range", lambda x, i: np.take(x, i) * 2, LINE, ids + 7)
row("index-u1", lambda x, i: x[i], LINE, np.array([0, 11, 3], "u1"))
row("index-float-array", lambda x, i: x[i], LINE, np.array([0.0, 1.0]))
row("index-u1-wraps", lambda x: x[np.arange(300).astype("u1")], ramp("f4", 400))
row("index-i1-wraps", lambda x: x[np.arange(200).astype("i1")], ramp("f4", 400))
row("index-i2-keeps", lambda x: x[np.arange(200).astype("i2")], ramp("f4", 400))
row("index-2d-array", lambda x, i: (x[i], x[i].shape), LINE, ids.reshape(2, 3))
for name, i in layouts("i8", 3, 4).items():
    row(f"index-layout-{name}", lambda x, i: (x[i], x[i].ravel("K"), x[::2][i % 6]), LINE, i % 12)
    row(f"index-layout-u1-{name}", lambda x, i: (x[i], x.reshape(3, 4)[:, i % 4]), LINE,
        (i % 12).astype("u1", order="K"))
row("index-argument", lambda x, i: x[i], LINE, 3)
row("index-argument-negative", lambda x, i: x[i], LINE, -2)
row("index-argument-out-of-range", lambda x, i: x[i], LINE, 12)
row("index-argument-slice", lambda x, i: x[i:], LINE, 3)
row("index-pairs", lambda x, i, j: (x[i, j], x[i], x[:, j], x[i, 1]), PLANE, np.array([0, 2, -1]),
    np.array([1, 3, -4]))
row("index-pairs-broadcast", lambda x, i, j: x[i[:, None], j], PLANE, np.array([0, 2]),
    np.array([1, 3, 0]))
ROWS_AT = np.array([2, 0])


def swap_rows(x, i):
    """Views of rows that arrays choose: the second assignment sees the first, as in NumPy."""
    x[i[0]], x[i[1]] = x[i[1]], x[i[0]]


def centre_rows(x, i):
    for k in i:
        row = x[k]
        row -= row.mean()
        row[1:] /= 2


def best_row(x, i):
    best = x[x[:, 0].argmax()]
    x += 1
    return best * 1, best.strides, best.flags.c_contiguous


for name, fn in {
    "add": lambda x, i: x[i[0]].__iadd__(1) * 1, "nested": lambda x, i: x[i[0]].__setitem__(1, 9),
    "part": lambda x, i: x[i[0], ::2].__imul__(3) * 1, "column": lambda x, i: x.T[i[0]].sort(),
    "of-two": lambda x, i: x[:, i[0]].__iadd__(x[:, i[1]]) * 1, "new-axis": lambda x, i:
    x[None, i[0], :, None].fill(5), "reshaped":
    lambda x, i: x[i[0]].reshape(2, 2).__setitem__(0, 7),
    "python": lambda x, i: x[int(i[0])].__iadd__(1) * 1, "array": lambda x, i: x[i[:1]].fill(0),
    "local": lambda x, i: (lambda y: (y[i[0]].fill(4), y)[1])(x * 2), "mask":
    lambda x, i: x[i[0]].__setitem__(x[i[0]] > 0, 0), "swap": swap_rows, "loop": centre_rows,
    "seen": best_row, "row": lambda x, i: x[i[0]].__setitem__(slice(1, 3), x[i[1]][:2]),
}.items():
    row(f"index-chosen-row-{name}", fn, PLANE, ROWS_AT, rel=1e-15)


def add_rows(x, i):
    for k in i:
        x[k] += x[k + 1] * 2
        x[k, 1:] *= 3


row("index-chosen-row-updated", add_rows, CUBE.reshape(6, 4), np.array([0, 4, 0, -2]))
row("index-chosen-number-as-an-array", lambda x, i: (x[i[0], 1, ...] + 1, x[i[0], 1, ...].shape,
    x[1, i[1], ...].fill(7)), PLANE, np.array([0, 1]))  # fmt: skip
row("index-number-or-array", lambda x, i, j: (x[i].fill(1), x[j].fill(2)), PLANE, np.int64(1),
    np.array(2))
row("index-mixed-fancy", lambda x, i: (x[i, :, 1], x[0, i], x[:, i, 1:], x[i, None]), CUBE,
    np.array([0, 1]))
row("index-rows", lambda x: (x[0], x[-1], x[1:, ::2], x[:, 1], x[..., -1], x[0, 1], x[1][2]), CUBE)
row("index-row-out-of-range", lambda x: x[0, 3], CUBE)
row("take-axis", lambda x, i: (np.take(x, i, axis=1), np.take(x, i, axis=-1), x.take(i)), CUBE,
    np.array([[0, 1], [-1, 0]]))
row("take-along-axis", lambda x, i: np.take_along_axis(x, i, axis=1), PLANE,
    np.array([[0], [-1], [3]]))
row("take-along-axis-out-of-range", lambda x, i: np.take_along_axis(x, i, axis=1), PLANE,
    np.array([[0], [4], [3]]))
row("choose-select", lambda x: (np.select([x > 1, x > 0], [x, 2 * x], -1), np.choose(
    np.array([0, 1, 0, 1]), x[:2])), PLANE)
for name, fn in {
    "list": lambda x: x[[True, False, True]], "list-short": lambda x: x[[True, False]],
    "list-columns": lambda x: x[:, [True, False, False, True]] * 2,
    "list-and-number": lambda x: (x[[True, False, True], 1], x[1, [False] * 4]),
    "list-and-new-axis": lambda x: (x[None, [True] * 3], x[[True, False, True], None]),
    "list-and-list": lambda x: x[[True, False, True], [3, -1]],
    "two-lists": lambda x: x[[True, False, True], [False, True, True, False]],
    "two-lists-unlike": lambda x: x[[True, True, True], [False, True, True, False]],
    "dots": lambda x: (x[..., [True, False, True, False]], x[[False, False, True], ...]),
    "plane": lambda x: x[np.eye(3, 4, dtype=bool)], "columns-short": lambda x: x[:, [True, False]],
    "of-shape": lambda x: x[:, np.arange(x.shape[1]) % 2 == 0] + 1,
    "assigned": lambda x: x.__setitem__((slice(None), [True, False, True, False]), 7),
    "assigned-array": lambda x: x.__setitem__(([True, False, True], slice(1, 3)), x[:2, :2] * 2),
    "in-place": lambda x: x[:, [True, False, True, False]].__iadd__(1),
    "sum": lambda x: x[:, [True, False, True, True]].mean(axis=1),
    "compress": lambda x: (np.compress([True, False], x, axis=0), x.compress([0, 1, 0, 2, 0])),
    "compress-long": lambda x: np.compress([False] * 4 + [True], x, axis=0),
    "compress-plane": lambda x: np.compress([[True]], x),
    "extract": lambda x: np.extract(np.arange(12) % 3 == 0, x),
    "where": lambda x: x.reshape(-1)[np.where(np.arange(12) > 7)],
    "nonzero": lambda x: (np.flatnonzero(np.arange(len(x)) % 2), np.argwhere(np.eye(2)).sum(0),
                          x.T[np.eye(4, 3).nonzero()]),
    "set-functions": lambda x: x[:, np.unique([3, 1, 3])] + np.intersect1d([1, 2], [2, 3]),
}.items():
    row(f"known-mask-{name}", fn, PLANE, rel=1e-15)
row("compress-of-constant", lambda x: x[np.array([True, False, True])], PLANE)
for name, fn in {
    "selection": lambda x: x[x > 0], "nonzero": lambda x: np.nonzero(x),
    "where": lambda x: np.where(x), "unique": lambda x: np.unique(x),
    "flatnonzero": lambda x: np.flatnonzero(x), "argwhere": lambda x: np.argwhere(x),
}.items():
    row(f"data-dependent-{name}", fn, LINE)

# --- 0-d, size 0, many axes
row("0-d", lambda x: (x + 1, x[()], x * x, np.exp(x * 0), x.T, x.reshape(1), -x, x[None]),
    np.array(2.5))
row("0-d-returned", lambda x: x, np.array(2.5))
row("0-d-ellipsis", lambda x: (x[...], x[()]), np.array(2.5))
row("0-d-where", lambda x: np.where(x > 0, x, 0), np.array(2.5))
row("0-d-int", lambda x: (x // 2, x ** 2, x / 2), np.array(5))
row("0-d-out", lambda x: np.add(x, 1, out=x), np.array(2.5))
row("0-d-index", lambda x: x[0], np.array(2.5))
row("0-d-asarray", lambda x: (np.asarray(x), np.array(x), x.copy(), x.astype("f4")), np.array(2.5))
row("numpy-scalar", lambda x: (x + 1, x * x, np.sqrt(x), x.astype("f8")), np.float32(2.5))
row("numpy-scalar-returned", lambda x: x, np.float32(2.5))
row("python-scalar-returned", lambda x: (x, [x, {"a": x}]), 2.5)
row("none-and-strings", lambda x, n: (x + 1, n), LINE, None)
row("size-0", lambda x: (x + 1, x.reshape(3, 0), x[:, None], np.concatenate([x, x])), LINE[:0])
row("size-0-broadcast", lambda x, y: x + y, np.zeros((0, 4)), PLANE[:1])
row("size-0-mismatch", lambda x, y: x + y, np.zeros((0, 4)), PLANE)
row("size-1-axes", lambda x, y: (x + y, x * y.T), ramp("f4", 1, 5), ramp("f4", 5, 1))
row("32-axes", lambda x: (x * 2, x.transpose(), x.reshape(-1)), ramp("f4", *[1, 2] * 3, *[1] * 26))
row("33-axes", lambda x: x[None] * 2, ramp("f4", *[1, 2] * 3, *[1] * 26))
row("broadcast-mismatch", lambda x, y: x + y, ramp("f4", 3), ramp("f4", 4))
row("broadcast-3", lambda x, y, z: x * y + z, ramp("f4", 4, 1), ramp("f4", 5), ramp("f8", 3, 1, 1))
row("same-array-twice", lambda x, y: x * y + x, *[LINE] * 2)

# --- moving elements
for name, fn in {
    "reshape": lambda x: (x.reshape(6, 4), x.reshape(-1), x.reshape(4, -1), np.reshape(x, (24,))),
    "reshape-fortran": lambda x: (x.reshape(6, 4, order="F"), x.ravel(order="F")),
    "reshape-wrong": lambda x: x.reshape(5, 5), "ravel": lambda x: (x.ravel(), x.T.ravel()),
    "reshape-of-transpose": lambda x: (x.T.reshape(-1), x.T.reshape(4, 6), x.T.ravel("K")),
    "transpose": lambda x: (x.T, x.transpose(1, 0, 2), np.transpose(x, (2, 0, 1)), x.mT),
    "transpose-wrong": lambda x: x.transpose(0, 0, 1), "flatten": lambda x: x.flatten(),
    "swapaxes": lambda x: (x.swapaxes(0, 2), np.moveaxis(x, 0, -1), np.rollaxis(x, 2)),
    "expand-squeeze": lambda x: (np.expand_dims(x, (0, 2)), np.squeeze(x[:1]), x[:1].squeeze(0)),
    "squeeze-wrong": lambda x: x.squeeze(0),
    "broadcast-to": lambda x: (np.broadcast_to(x, (3, 2, 3, 4)), np.broadcast_to(x[:1], x.shape)),
    "broadcast-to-wrong": lambda x: np.broadcast_to(x, (2, 3, 5)),
    "broadcast-arrays": lambda x: np.broadcast_arrays(x, x[:1])[1] * 1,
    "concatenate": lambda x: (np.concatenate([x, x]), np.concatenate((x, x), axis=-1),
                              np.concatenate([x, x], axis=None)),
    "concatenate-wrong": lambda x: np.concatenate([x, x[:, 1:]]),
    "concatenate-dtypes": lambda x: np.concatenate([x, x.astype("i8")]),
    "stack": lambda x: (np.stack([x, x]), np.stack([x, x], axis=-1), np.vstack([x, x]),
                        np.hstack([x, x]), np.dstack([x, x]), np.column_stack([x[0], x[1]])),
    "stack-wrong": lambda x: np.stack([x, x[0]]),
    "split": lambda x: (np.split(x, 2), np.split(x, [1, 3], axis=2), np.array_split(x, 3, axis=2)),
    "split-wrong": lambda x: np.split(x, 3), "hsplit": lambda x: np.hsplit(x, 3),
    "flip": lambda x: (np.flip(x), np.flip(x, 0), np.flipud(x), np.fliplr(x), np.rot90(x)),
    "roll-float": lambda x: (np.roll(x, 2.5), np.roll(x, (-1.5, 2), axis=(0, 2))),
    "roll": lambda x: (np.roll(x, 1), np.roll(x, -2, axis=1), np.roll(x, (1, 2), axis=(0, 2))),
    "pad": lambda x: (np.pad(x, 1), np.pad(x, ((0, 1), (2, 0), (0, 0)), constant_values=7)),
    "pad-modes": lambda x: (np.pad(x, 1, mode="edge"), np.pad(x, 1, mode="reflect"),
                            np.pad(x, 1, mode="wrap")),
    "tile-repeat": lambda x: (np.tile(x, 2), np.tile(x, (2, 1, 2)), np.repeat(x, 3, axis=1),
                              x.repeat(2)),
    "triangles": lambda x: (np.tril(x), np.triu(x, 1), np.tril(x[0], -1)),
    "indices-from": lambda x: (x[:, :, :2][np.diag_indices_from(x[:, :2, :2])],
                               np.tril_indices_from(x[0], -1), x[0][np.triu_indices_from(x[0])]),
    "indices-from-unequal": lambda x: np.diag_indices_from(x[0]),
    "diag": lambda x: (np.diag(x[0]), np.diag(x[0, 0]), np.diagonal(x, 0, 1, 2), np.diag(x[0], 1)),
    "diag-views": lambda x: (x.diagonal(1, 1, 2), np.diagonal(x, -1, 2, 0)[::-1],
                             np.linalg.diagonal(x), x.T.diagonal(), np.diag(x[0]).reshape(3, 1)),
    "diag-views-of-einsum": lambda x: (np.einsum("ii->i", x[0, :, :3]),
                                       np.einsum("iji->ij", x[:, :, :2])),
    "diag-read-only": lambda x: x[0].diagonal().__iadd__(1),
    "diag-written-einsum": lambda x: np.einsum("jj->j", x[1, :, 1:]).__iadd__(5),
    "diag-sees-updates": lambda x: (x.diagonal(), x.__iadd__(2)),
    "diag-traces": lambda x: (np.trace(x), x.trace(1, 1, 2), np.diagonal(x * 2).sum()),
    "diag-far": lambda x: (x.diagonal(9), np.diag(x[0], -7)),
    "atleast": lambda x: (np.atleast_1d(x[0, 0, 0]), np.atleast_2d(x[0, 0]), np.atleast_3d(x)),
    "order": lambda x: (x.copy("F"), x.copy("K"), np.copy(x.T), np.ascontiguousarray(x.T)),
    "views-then-math": lambda x: (x.T[1:] * 2, (x[::-1] + 1).T, np.exp(x.transpose(2, 0, 1)[::2])),
    "strides-of-mixed": lambda x: (x.T + x.copy().T, x.T + np.ones((4, 3, 2), "f4"), x.T * 2),
    "append-delete-insert": lambda x: (np.append(x, 1), np.delete(x, 0, axis=0),
                                       np.insert(x, 0, 1, axis=2)),
}.items():
    # np.exp appears once; its last bits may differ
    row(f"move-{name}", fn, CUBE, ulp=4 if name == "views-then-math" else 0)

# --- windows
WINDOWS = {
    "moving-average": lambda x: (windows(x[0, 0], 3).mean(-1), windows(x, 2, -1).max(axis=-1)),
    "of-two-axes": lambda x: windows(x, (2, 3), axis=(1, 2)).sum(axis=(-1, -2)),
    "of-all-axes": lambda x: windows(x, (1, 2, 3)) * 2,
    "of-one-axis-twice": lambda x: windows(x, (2, 2), axis=(2, 2)) + 1,
    "returned": lambda x: (windows(x, 2, 0), windows(x * 2, 2, 1), windows(x, 4, 2)[..., ::-1]),
    "of-views": lambda x: windows(x.T[::-1, ::2], (2, 2), (0, 2)) - x[0, 0, 0],
    "of-windows": lambda x: windows(windows(x, 2, -1), 2, -2).min(axis=(-1, -2)),
    "then-moved": lambda x: windows(x, (2, 2), (1, 2)).transpose(0, 3, 4, 1, 2).reshape(2, 4, -1),
    "of-work": lambda x: windows(np.exp(x[0] * 0.1), 2, 1).sum(-1) - x[0, :, 1:].astype("f8"),
    "median": lambda x: np.median(windows(x, 3, -1), axis=-1),
    "product": lambda x: (windows(x, 3, -1) @ np.ones(3), np.einsum("abck,k->abc", windows(x, 3, 2),
                          np.arange(3.0))),
    "see-updates": lambda x: (windows(x[0, 0], 3), x.__iadd__(1), windows(x, 2, 1).sum()),
    "made-before-updates": lambda x: [(w, x.__iadd__(1), w.sum(-1)) for w in [windows(x, 2, -1)]],
    "read-only": lambda x: windows(x, 2, 0).__iadd__(1),
    "writeable": lambda x: windows(x[0, 0], 2, writeable=True)[::2].__iadd__(1),
    "writeable-unwritten": lambda x: windows(x, 2, 0, writeable=True).sum(-1),
    "into-the-argument": lambda x: x[0, 0].__setitem__(slice(1, -1), windows(x[0, 0], 3).mean(-1)),
    "too-long": lambda x: windows(x, 5, axis=0),
    "negative": lambda x: windows(x, -1, axis=0),
    "lengths-without-axes": lambda x: windows(x, 2),
    "axis-out-of-range": lambda x: windows(x, 2, axis=5),
    "of-length-1": lambda x: windows(x[0, 0, :1], 1) + windows(x, 1, -1),
    "of-none": lambda x: (windows(x[:, :0], 2, -1).sum(-1), windows(x[0, 0, 1:1], 0)),
    "of-everything": lambda x: windows(x, x.shape).sum(),
    "sized-by-an-argument": lambda x: windows(x, x.ndim - 1, -1).std(-1),
}
for name, fn in WINDOWS.items():
    row(f"windows-{name}", fn, ramp("f8", 2, 3, 4), rel=1e-14)
    row(f"windows-fortran-{name}", fn, np.asfortranarray(ramp("f8", 2, 3, 4)), rel=1e-14)
for d in ("i1", "u8", "f4", "c16", "?"):
    row(f"windows-{d}", lambda x: (windows(x, 3).sum(-1), windows(x, 3).mean(-1)), ramp(d),
        rel=1e-6)
row("windows-argument-length", lambda x, n: windows(x, n).mean(-1), ramp("f4"), 3, rel=1e-6)

# --- layouts
for name, a in layouts("f4", 6, 8).items():
    row(f"layout-{name}-map", lambda x: (x * 2 + 1, np.abs(x), x.T - 1, x[1:] * x[:-1]), a)
    row(f"layout-{name}-reduce", lambda x: (x.sum(), x.sum(axis=0), x.max(axis=-1, initial=0),
        x.mean(axis=1)), a, rel=2e-6)
    row(f"layout-{name}-move", lambda x: (x.reshape(-1), x.ravel(), x.T.reshape(-1), x.copy(),
        np.concatenate([x, x]), x[:, ::-1]), a)
    row(f"layout-{name}-update", lambda x: x.__iadd__(1), a)
    row(f"layout-{name}-softmax", lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), a,
        ulp=8, rel=1e-6)
    row(f"layout-{name}-like", lambda x: (np.zeros_like(x), np.ones_like(x), x.astype("f8"),
        np.full_like(x, 3), np.where(x > 0, x, 0)), a)
    row(f"layout-{name}-mixed", lambda x, y: (x + y, x * y[:1], np.maximum(x, y)), a,
        ramp("f8", *a.shape))
    row(f"layout-{name}-matmul", lambda x: x @ x.T, a, rel=1e-5)
for d in ("i2", "i8", "f8", "c8", "?"):
    for name, a in layouts(d, 4, 6).items():
        row(f"layout-{name}-{d}", lambda x: (x + x, x.sum(axis=0), x[::-1], x == x), a, rel=1e-5
            if d == "c8" else 1e-14)
row("layout-mixed-orders", lambda x, y: (x + y, y * x, x + y + 1), PLANE, np.asfortranarray(PLANE))
row("layout-k-order-3d", lambda x, y: (x.transpose(2, 0, 1) + 1, x.transpose(1, 2, 0) * y), CUBE,
    ramp("f4", 3, 4, 2))
row("layout-misaligned-scaled", lambda x: x.__imul__(2), misaligned(PLANE))
row("layout-as-strided", lambda x: x * 1,
    np.lib.stride_tricks.as_strided(ramp("f8"), (5, 3), (16, 8)))
row("layout-overlapping-rows-sum", lambda x: x.sum(axis=1),
    np.lib.stride_tricks.as_strided(ramp("f8"), (5, 3), (16, 8)), rel=1e-15)

# --- creation
for name, fn in {
    "zeros-ones": lambda x: (np.zeros(3), np.ones((2, 3), "i4"), np.full(3, 2.5),
                             np.zeros(()) + x[0]),
    "full-traced": lambda x: (np.full(4, x[0]), np.full((2, 2), x.sum())),
    "full-like-traced": lambda x: np.full_like(x, x[1]),
    "likes": lambda x: (np.zeros_like(x), np.ones_like(x, dtype="i4"), np.full_like(x, 7)),
    "likes-shape": lambda x: (np.zeros_like(x, shape=(2, 2)), np.ones_like(x.T, order="F")),
    "arange": lambda x: x + np.arange(12), "arange-f4": lambda x: x + np.arange(12, dtype="f4"),
    "arange-of-shape": lambda x: np.arange(x.shape[0]) * 2, "eye": lambda x: np.eye(12) * x,
    "linspace": lambda x: x * np.linspace(0, 1, 12), "identity": lambda x: np.identity(3) + x[0],
    "linspace-traced": lambda x: np.linspace(x[0], x[1], 5), "tri": lambda x: np.tri(12) * x,
    "array-of-traced": lambda x: np.array([x[0], x[1] * 2, 3.0]),
    "array-of-rows": lambda x: np.array([x, x * 2]),
    "array-of-ints": lambda x: np.array([1, 2]) * x[:2],
    "array-nested": lambda x: np.array([[x[0], 1], [2, x[1]]]),
    "asarray": lambda x: (np.asarray(x) * 2, np.asarray([x[0], x[1]]), np.array(x, dtype="f8")),
    "array-copy": lambda x: (np.array(x), np.asanyarray(x) + 1, np.array(x, copy=None) * 1),
    "empty-filled": lambda x: np.multiply(x, 2, out=np.empty(12, "f4")),
    "meshgrid": lambda x: np.meshgrid(x, x[:3]), "meshgrid-ij": lambda x: np.meshgrid(
        x, x[:3], indexing="ij")[0] + 1, "indices": lambda x: np.indices((3, 4))[0] * x[0],
    "ogrid": lambda x: x[:3] * np.ogrid[0:3], "vander": lambda x: np.vander(x, 3),
    "fromfunction": lambda x: np.fromfunction(lambda i, j: i + j, (3, 4)) * x[0],
    "constants": lambda x: x * np.pi + np.array([1.0], "f4") - np.float32(2),
    "constant-returned": lambda x: (np.arange(3), np.zeros(2), 5, "text", None),
    "r_": lambda x: np.r_[x[:2], x[3]], "c_": lambda x: np.c_[x[:2], x[3:5]],
    "logspace": lambda x: np.logspace(0, 1, 12) * x, "hanning": lambda x: np.hanning(12) * x,
    "broadcast-shapes": lambda x: np.zeros(np.broadcast_shapes(x.shape, (3, 1))) + x,
    "result-type": lambda x: x.astype(np.result_type(x, np.float64)),
    "finfo": lambda x: x + np.finfo(x.dtype).eps, "dtype-test": lambda x: x * 2
        if x.dtype == np.float32 else x, "isinstance": lambda x: isinstance(x, np.ndarray),
    "polyval": lambda x: np.polyval([1.0, 2.0, 3.0], x),
    "convolve": lambda x: np.convolve(x, x[:3]),
    "piecewise": lambda x: np.piecewise(x, [x < 0, x >= 0], [-1, 1]),
    "apply-along-axis": lambda x: np.apply_along_axis(np.sum, 0, x.reshape(3, 4)),
    "apply-along-axis-of-types": lambda x: [np.apply_along_axis(f, k, x[:6].reshape(2, 3))
        for k in (0, 1)
        for f in (lambda r: int(r[0]) if r[0] < 3 else r[:1], lambda r: r if r[0] > 2 else r > 1)],
    "large-ints": lambda x: [f(v) for v in (x[0], int(x[0]), x.astype("u8")[0]) for f in (
        lambda v: np.array([v, 10**19]), lambda v: np.array([v, -1, 2**63]) + 1,
        lambda v: np.array([[2**63 + 1], [v]]), lambda v: np.full(2, 2**63) + v)],
    "larger-int": lambda x: np.array([int(x[0]), 2**64]).dtype,
    "vectorize": lambda x: np.vectorize(lambda v: v + 1)(x),
    "nditer": lambda x: [float(v) * 2 for v in np.nditer(x)],
    "ndenumerate": lambda x: {k: v + 1 for k, v in np.ndenumerate(x.reshape(3, 4)[:2])},
    "ndenumerate-known": lambda x: [x[i] for i, v in np.ndenumerate(np.array([0, 3, 1])) if v],
    "fromiter": lambda x: np.fromiter((v * 2 for v in x), float),
    "fromiter-count": lambda x: np.fromiter(iter([1.5, 2]), x.dtype, 1) * x,
    "fromiter-short": lambda x: np.fromiter((v for v in x), "f8", count=13),
}.items():
    sums = name in ("convolve", "polyval", "apply-along-axis")
    row(f"create-{name}", fn, LINE, rel=1e-6 if sums else 0)

# --- functions whose result depends on the data in more than its values
row("emath", lambda x: (np.emath.sqrt(x), np.emath.log(x)), LINE, rel=1e-15)
row("emath-positive", lambda x: np.emath.sqrt(x), np.abs(LINE))
row("bincount-as-promised", lambda i, w: (np.bincount(i, minlength=9), np.bincount(i, w, 9)),
    np.array([1, 5, 1, 0]), np.array([0.5, 1, 2, 4]), rel=1e-15)
row("bincount-of-nothing", lambda i, w: np.bincount(i, w, 5), np.zeros(0, int), np.zeros(0))
row("bincount-of-nothing-known", lambda w: np.bincount(np.array([], int), w, 1), np.zeros(0))
row("add-at-nothing-known", lambda y: np.add.at(y, np.array([], int), y[:0]), np.ones(1))
row("add-at-nothing-stacked", lambda x, y: np.add.at(y, np.stack([x, x + 1])[0].astype(int), 1),
    np.zeros(0), np.zeros(3))
row("bincount-more", lambda i: np.bincount(i, minlength=2) * 2, np.array([1, 5, 1, 0], "u1"))
row("bincount-negative", lambda i: np.bincount(i, minlength=2), np.array([1, -5]))

# --- NumPy's functions of one name are many
row("polynomial-polyval", lambda x: np.polynomial.polynomial.polyval(x, [1, 2, 3]), LINE, rel=1e-15)
row("polyval", lambda x: np.polyval([1, 2, 3], x), LINE, rel=1e-15)
row("masked-sum", lambda x: np.ma.sum(x), LINE, refuse=True)


# --- results of calls of NumPy's that are no new plain arrays
class Kind(np.ndarray):
    """An array with a class of its own."""


def sometimes(a, axis):
    """Its argument's memory, but not for the values that a call is tried with."""
    return a[:1] if a.tolist()[0][0] not in (0.0, 1.0, 0.25) else a[:1] * 2


def swapped(a, axis):
    return (a * 2).astype(">f8") if a.tolist() else a


def padded(row, widths, axis, given):
    row[:1] = given["a b"]
    row[-1:] = given["for"]


def two_of(call):
    """Two calls on temporaries that may lie in the same memory."""
    return lambda x: (call(np.sin(x)), call(np.sort(np.cos(x) * 3, 0) * 2))


for name, call in {
    "class": lambda a: np.apply_over_axes(lambda a, axis: (a * 2).view(Kind), a, [0]),
    "class-of-slices": lambda a: np.apply_along_axis(lambda r: np.sort(r).view(Kind), 0, a),
    "matrix": lambda a: np.asmatrix(a) * a, "matrix-of-blocks": lambda a: np.bmat([[a, a]]),
    "view-class": lambda a: a.view(Kind) + 1, "view-by-name": lambda a: a.view(type=Kind),
    "view-as-class": lambda a: a.view("i8", Kind), "view-plain": lambda a: a.view(type=np.ndarray),
    "argument-sometimes": lambda a: np.apply_over_axes(sometimes, a, [0]),
    "byte-order": lambda a: np.apply_over_axes(swapped, a, [0]) + 1,
    "apart-in-one-memory": lambda a: np.unravel_index((a > 0).astype(int), (2, 2)),
    "python-numbers": lambda a: (a.astype("f4") * np.count_nonzero(a), np.allclose(a, a)),
    "odd-names": lambda a: np.pad(a, 1, padded, **{"a b": a[0, 0], "for": 1}),
}.items():
    row(f"host-{name}", two_of(call), ramp("f8", 3, 4), rel=1e-15)

# --- memory order of np.round, what np.squeeze gives where it does nothing
PART, TURNED = ramp("f8", 6, 8).T[:6, :6], ramp("f8", 2, 3, 4).transpose(1, 0, 2)
for name, a in {"part": PART, "turned": TURNED, "fortran": TURNED.T.copy("F"),
                "complex": PART + 1j * PART, "0d": np.array(1.256)}.items():
    row(f"round-{name}", lambda x: (np.round(x), np.round(x, 1), x.round(-1)), a)
row("c_-fortran", lambda x: (np.c_[np.ones(6), x], np.c_[x[0], x]), PART.T.copy().T)
row("bool-of-nothing", lambda x: 1 if x > 0 else 2, PART[:0])
row("dtype-among-types", lambda x: (x.dtype in (np.float32, np.float64), x.dtype not in [np.int8],
    np.float32 == x.dtype, np.float64 in (x.dtype, int)), PART)
row("copy-of-numbers", lambda p: (copy.deepcopy(p), copy.copy(p), copy.deepcopy(p["k"]) * p["w"]),
    {"w": LINE, "k": 2.5, "n": [3, True]})
for name, fn in {
    "repr": repr, "repr-of-list": lambda x: f"{[x[0], 2]}", "fsum": math.fsum, "prod": math.prod,
    "prod-of-list": lambda x: math.prod([x[0], x[1]]), "gcd": lambda x: math.gcd(*x.astype(int)),
    "isclose": lambda x: math.isclose(x[0], x[1], rel_tol=1.0), "dist": lambda x: math.dist(x, -x),
    "byte-order": lambda x: (x.astype(">f4"), x.astype("<f4")),
    "zeros": lambda x: np.zeros(3, ">i2"),
}.items():
    row(f"left-to-numpy-{name}", fn, LINE)
row("require-any-order", lambda x: np.require(x, requirements="W").fill(7), PART)
row("set-shape-of-argument", lambda x: (setattr(x, "shape", (2, -1)), x + 1)[1], LINE)
row("set-shape-of-view", lambda x: (lambda y: (setattr(y, "shape", (2, 3)), y.fill(1)))(x[:6]),
    LINE)
row("setflags-of-argument", lambda x: (x.setflags(write=False), x + 1)[1], LINE)
row("squeeze-nothing", lambda x: (x.squeeze(), np.squeeze(x)), PART)

# --- what is not a plain array of numbers: as NumPy, or a clear error, never silently wrong
for name, a in {
    "masked": np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
    "matrix": np.array([[1.0, 2.0], [3.0, 4.0]]).view(np.matrix),
    "datetime64": np.array(["2020-01-01", "2020-01-02"], "M8[D]"),
    "timedelta64": np.array([1, 2], "m8[s]"),
    "structured": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    "object": np.array([1, "a", None], object),
    "strings": np.array(["a", "b"]),
    "float128": np.array([1.0, 2.0], np.longdouble),
    "bytes": np.array([b"a", b"b"]),
}.items():
    row(f"refused-{name}-multiply", lambda x: x * x, a, refuse=True)
    row(f"refused-{name}-sum", lambda x: x.sum(), a, refuse=True)
    row(f"refused-{name}-view", lambda x: x[1:], a, refuse=True)
    row(f"refused-{name}-with-plain", lambda x, y: (y * 2, x == x), a, LINE, refuse=True)
RECORDS = np.array([(1, 2.0), (3, 4.5)], [("a", "i4"), ("b", "f8")])
row("structured-fields", lambda r: (r["a"] * 2, r["b"].sum(), r[["b"]]), RECORDS)
row("float128-constant", lambda x: x * 2 + np.longdouble(1), np.array([1.0, 2.0], np.longdouble))
row("refused-list", lambda x: np.asarray(x) * 2, [1.0, 2.0])
row("refused-list-argument", lambda x: np.add(x, 1), [1.0, 2.0])
row("refused-string-argument", lambda x, mode: x * 2 if mode == "a" else x, LINE, "a")
row("refused-none-math", lambda x: x + None, LINE)
row("refused-string-math", lambda x: x + "a", LINE)
row("refused-list-math", lambda x: x + [1] * 12, LINE)

# --- memory order of what is joined, read-only zeros, arrays of nothing
for name, a in {"turned": TURNED, "part": PART, "thin": PART[:, :1],
                "back": PLANE[::2, ::-1]}.items():
    row(f"joined-{name}", lambda x: (np.stack([x, x], 1), np.concatenate([x, x], -1), x.imag,
        np.dstack([x, x]), np.vstack([x, x]), np.stack([x, x], -1)), a)


def grown(x, steps):
    """Values that need the one before, collected."""
    now, found = x + 1, [x]
    for k in range(steps):
        now = now * 0.5 + x * k
        found.append(now)
    return found


def changed(x):
    y = x * 2
    x[...] = np.concatenate([y[:1], y[1:] + y[:-1]])
    return np.stack([x, y, x])


# Parts that others read as well are computed in the memory of the concatenation.
for name, fn in {
    "stack": lambda x: np.stack(grown(x, 5)), "last": lambda x: np.stack(grown(x, 5), axis=-1),
    "middle": lambda x: np.stack(grown(x, 3), axis=1), "many": lambda x: np.stack(grown(x, 120)),
    "axis": lambda x: np.concatenate([x[:, :2], *grown(x, 3), x[:, :1], x[:, 4:]], axis=1),
    "transposed": lambda x: np.stack([y.T for y in grown(x, 3)]),
    "flat": lambda x: np.concatenate([y.ravel() for y in grown(x, 3)]),
    "flat-transposed": lambda x: np.concatenate([y.T.ravel() for y in grown(x, 3)]),
    "block": lambda x: (lambda y: np.block([[y, x], [y * 2, y + x]]))(x * x),
    "rows": lambda x: np.vstack([x.sum(0), x.max(0, initial=0), x[:1].sum(0)]),
    "numbers": lambda x: np.array([x.min(initial=9), x.max(initial=1), 2.0, (x * 3).max()]),
    "running": lambda x: np.hstack([np.cumsum(x, 1), x, np.cumsum(x[:, ::-1], 1)]),
    "returned": lambda x: (lambda y: (y, np.stack([y, y, y + 1]), y.max()))(x * x),
    "twice": lambda x: (lambda z: (z, z, z.T, z[::-1] + 1, z.max()))(np.stack(grown(x, 2))),
    "repeated": lambda x: (lambda y: (np.stack([y, x, y]), np.stack([y, y * 2])))(x * x),
    "parts-of-parts": lambda x: (lambda y: np.concatenate([y[:2], y[2:], y[:0], y + 1]))(x * x),
    "called": lambda x: (lambda y: (np.stack([y, np.sort(y), y + 1]), np.sort(y + 2)))(x * x),
    "sorted": lambda x: np.sort(np.stack(grown(x, 2)), axis=0),
    "bool": lambda x: (lambda y: (np.stack([y, ~y]), y.sum()))(x > 0),
    "half": lambda x: (lambda y: (np.stack([y, -y, y]), y.max(initial=0)))(x.astype("f2")),
    "complex": lambda x: (lambda y: (np.stack([y, y + x]), y.real.max()))(x + 1j),
    "changed": changed,
}.items():
    row(f"joined-{name}", fn, PLANE)
for name, a in layouts("f4", 4, 6).items():
    row(f"joined-layout-{name}", lambda x: (np.stack(grown(x, 3)), np.stack(grown(x.T, 3), -1),
        np.concatenate([grown(x, 2)[k] for k in (0, 2, 1)], axis=1)), a)
# What lies the other way round is read through transposed tiles.
for d in ("?", "i1", "u2", "i4", "f2", "f4", "f8", "c8", "c16"):
    for m, n in ((16, 64), (33, 130), (100, 47)):
        row(f"tiles-{d}-{m}-{n}", lambda x, y: (x.T.copy(), np.where(y > 0, x.T, y), x[::-1].T | y
            if y.dtype == bool else x[::-1].T + y, np.hstack([x.T, y]), x[:, ::2].T + y[::2]),
            ramp(d, m, n), ramp(d, n, m))
row("tiles-3", lambda x: [x.transpose(p) * 2 + np.ones(x.transpose(p).shape) for p in
    ((0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1), (1, 0, 2))], ramp("f4", 18, 20, 35))
row("joined-columns", lambda x: (np.column_stack([x[::-2], x[::2]]), np.c_[x, x]), LINE)
row("repeat-nothing", lambda x: (np.repeat(x[:0], 2), np.tile(x[:0], 3), np.repeat(x, 0)), LINE)
row("pad-of-nothing", lambda x: (np.pad(np.stack([x, x]), 1), np.pad(np.hstack([x, x]), 1)),
    ramp("f8", 0, 3))
row("repeat-0d", lambda x: (np.repeat(x, 3, axis=0), x.repeat([2], axis=-1)), np.array(2))
row("repeat-0d-axis", lambda x: np.repeat(x, 3, axis=1), np.array(2))
row("round-0d-int", lambda x: (np.round(x, 1), np.imag(x)), np.array(2))

# --- one object that is several results
row("one-object-twice", lambda x: ((y := (x + 1).T), y.real, [y], x, x), PLANE)

# --- text of an array: only NumPy, which then runs the function, knows its numbers
row("text-of-an-array", lambda x: (x + 1, f"{x} {x[0, 0]:.2f}", str(x.sum())), PLANE)


# --- rolling windows in a deque, what np.r_, int and [...] make of values
def rolled(x):
    last, means = collections.deque(maxlen=3), []
    for line in x:
        last.append(line)
        means.append(np.mean(last, axis=0))
    return np.array(means), np.array(last), np.stack(last), np.add.reduce(last)


row("window-in-a-deque", rolled, ramp("f8", 5, 2), rel=1e-14)
for dtype in ("f2", "f4", "i4", "u1", "?", "c8"):
    row(f"joined-weakly-{dtype}", lambda x: (np.r_[x, 2], np.r_[0.5, x], np.c_[x, x]), ramp(dtype))
    row(f"joined-out-of-range-{dtype}", lambda x: np.r_[x, 300], ramp(dtype))
for k, x in enumerate((np.uint64(2**64 - 1), np.array(2**63, "u8"), np.array(1 + 2j), 2.0)):
    row(f"int-of-{k}", lambda x: int(x), x)
row("dots-of-number", lambda x: x[...], np.float64(2))
row("round-of-one-complex", lambda x: x.round(1), np.array(1.23 + 2j))
row("arange-of-dates", lambda x: x + np.diff(np.arange("2020-01", "2021-02", dtype="M8[M]"))
    .astype(int), ramp("f8"))
row("order-of-constants", lambda x: (x, np.argwhere(np.eye(3)), np.array(np.nonzero(np.eye(3))).T),
    ramp("f8"))
