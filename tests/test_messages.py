"""Wrong calls: fusec raises the exceptions that NumPy raises, in NumPy's words."""

import struct

import numpy as np
import pytest

import fusec

A, B = np.arange(12.0).reshape(3, 4), np.arange(15.0).reshape(3, 5)
V, W, N, S = np.arange(4.0), np.ones(3), np.arange(6), np.ones((2, 3, 3))


def into(fn, shape, dtype="f8"):
    """``fn`` with an ``out`` of its own."""
    return lambda *a: fn(*a, out=np.empty(shape, dtype))


def in_place(change):
    def fn(a, b):
        a = a.copy()
        change(a, b)

    return fn


def stored(key, value=None):
    def fn(a, *given):
        a.copy()[key] = given[0] if given else value

    return fn


def add(a, b):
    a += b


def matmul(a, b):
    a @= b


CALLS = {
    "add": (lambda a, b: a + b, A, B),
    "mul3": (lambda a, b, c: a * b * c, A, V, W),
    "cmp": (lambda a, b: a < b, A, B),
    "where": (lambda a, b: np.where(a > 0, a, b), A, B),
    "iadd": (in_place(add), A, B),
    "iadd_grow": (in_place(add), V, A),
    "iadd_cast": (in_place(add), N, np.ones(6)),
    "ipow_neg": (lambda a: a ** (-1), N),
    "ipow_arr": (lambda a, b: a ** b, N, -N),
    "sum_axis": (lambda a: a.sum(2), A),
    "sum_neg": (lambda a: a.sum(-3), A),
    "sum_dup": (lambda a: a.sum((0, 0)), A),
    "sum_float": (lambda a: a.sum(1.0), A),
    "max_axis": (lambda a: a.max(5), A),
    "argmax_axis": (lambda a: a.argmax(3), A),
    "cumsum_axis": (lambda a: a.cumsum(2), A),
    "mean_axis": (lambda a: np.mean(a, axis=2), A),
    "std_axis": (lambda a: np.std(a, axis=2), A),
    "median_axis": (lambda a: np.median(a, axis=2), A),
    "sort_axis": (lambda a: np.sort(a, axis=2), A),
    "max_empty": (lambda a: a[:0].max(), V),
    "argmax_empty": (lambda a: a[:0].argmax(), V),
    "min_empty_axis": (lambda a: a[:0].min(axis=0), A),
    "reshape": (lambda a: a.reshape(5, 3), A),
    "reshape_m1": (lambda a: a.reshape(-1, 5), A),
    "reshape_2m1": (lambda a: a.reshape(-1, -1), A),
    "reshape_float": (lambda a: a.reshape(2.0, 6), A),
    "resize": (lambda a: np.resize(a, (-1, 2)), A),
    "transpose": (lambda a: a.transpose(0, 2), A),
    "transpose_n": (lambda a: a.transpose(0, 1, 2), A),
    "transpose_dup": (lambda a: a.transpose(0, 0), A),
    "swapaxes": (lambda a: a.swapaxes(0, 2), A),
    "moveaxis": (lambda a: np.moveaxis(a, 2, 0), A),
    "squeeze": (lambda a: a.squeeze(0), A),
    "expand": (lambda a: np.expand_dims(a, 4), A),
    "rollaxis": (lambda a: np.roll(a, 1, axis=3), A),
    "flip": (lambda a: np.flip(a, 2), A),
    "rot90": (lambda a: np.rot90(a), V),
    "bcast": (lambda a: np.broadcast_to(a, (3, 5)), A),
    "bcast_less": (lambda a: np.broadcast_to(a, (4,)), A),
    "bcast_arrays": (lambda a, b: np.broadcast_arrays(a, b), A, B),
    "out_shape": (into(np.add, (4,)), A, A),
    "out_shape2": (into(np.exp, (3, 5)), A),
    "out_dtype": (into(np.add, (3, 4), "i4"), A, A),
    "sum_out": (lambda a: np.sum(a, axis=0, out=np.empty(3)), A),
    "out_none": (lambda a: np.add(a, a, out=[1]), A),
    "dot_out": (lambda a: np.dot(a, a.T, out=np.empty((2, 2))), A),
    "concat": (lambda a, b: np.concatenate([a, b]), A, B),
    "concat_nd": (lambda a, b: np.concatenate([a, b]), A, V),
    "concat_axis": (lambda a: np.concatenate([a, a], axis=2), A),
    "concat_none": (lambda a: np.concatenate([]), A),
    "concat_0d": (lambda a: np.concatenate([a.sum(), a.sum()]), A),
    "stack": (lambda a, b: np.stack([a, b]), A, B),
    "stack_axis": (lambda a: np.stack([a, a], axis=4), A),
    "vstack": (lambda a, b: np.vstack([a, b]), A, B),
    "hstack": (lambda a, b: np.hstack([a, b]), A, S),
    "dstack": (lambda a, b: np.dstack([a, b]), A, B),
    "column_stack": (lambda a, b: np.column_stack([a, b]), V, W),
    "stack_none": (lambda a: np.stack([]), A),
    "matmul": (lambda a, b: a @ b, A, B),
    "matmul_v": (lambda a, b: a @ b, A, W),
    "matmul_vv": (lambda a, b: a @ b, V, W),
    "matmul_0d": (lambda a: a @ 2, A),
    "matmul_0d2": (lambda a: np.matmul(a.sum(), a), A),
    "dot": (lambda a, b: a.dot(b), A, B),
    "dot_v": (lambda a, b: np.dot(a, b), V, W),
    "inner": (lambda a, b: np.inner(a, b), A, B),
    "vdot": (lambda a, b: np.vdot(a, b), A, B),
    "tensordot": (lambda a, b: np.tensordot(a, b, 2), A, B),
    "imatmul": (in_place(matmul), A, A),
    "cross": (lambda a: np.cross(a, a), A),
    "outer": (lambda a: np.outer(a, a, np.empty((2, 2))), V),
    "matmul_stack": (lambda a, b: a @ b, S, np.ones((3, 3, 3))),
    "kron": (lambda a: np.trace(a), V),
    "einsum": (lambda a, b: np.einsum("ij,jk", a, b), A, B),
    "einsum_n": (lambda a: np.einsum("ij,jk->ik", a), A),
    "einsum_dim": (lambda a: np.einsum("ijk->i", a), A),
    "einsum_out": (lambda a: np.einsum("ij->ik", a), A),
    "einsum_bad": (lambda a: np.einsum("i?->i", a), A),
    "einsum_diag": (lambda a: np.einsum("ii", a), A),
    "take": (lambda a: a.take(7), V),
    "take_ax": (lambda a: a.take([1], axis=3), A),
    "take_arr": (lambda a, i: np.take(a, i), V, N),
    "index": (lambda a: a[4], V),
    "index2": (lambda a: a[0, 9], A),
    "index_many": (lambda a: a[0, 0, 0], A),
    "index_neg": (lambda a: a[-5], V),
    "index_arr": (lambda a, i: a[i], V, N),
    "index_float": (lambda a: a[1.0], V),
    "index_str": (lambda a: a["x"], V),
    "index_2e": (lambda a: a[..., ...], A),
    "index_shapes": (lambda a: a[[0, 1], [0, 1, 2]], A),
    "index_mask": (lambda a: a[np.ones(3, bool)], V),
    "index_floatarr": (lambda a, i: a[i], V, W),
    "slice_float": (lambda a: a[1.5:], V),
    "slice_zero": (lambda a: a[::0], V),
    "take_along": (lambda a: np.take_along_axis(a, np.zeros((2, 2), int), 0), A),
    "take_along2": (lambda a: np.take_along_axis(a, np.zeros(2, int), 0), A),
    "set_shape": (stored(slice(0, 2)), V, W),
    "set_index": (stored(9, 1.0), V),
    "set_arr": (stored([0, 1]), V, W),
    "set_seq": (stored(0, [1, 2]), V),
    "set_complex": (stored(0, 1j), V),
    "set_str": (stored(0, "a"), V),
    "set_mask": (stored(np.array([True] * 4)), V, W),
    "split": (lambda a: np.split(a, 3), V),
    "split0": (lambda a: np.split(a, 0), V),
    "split_ax": (lambda a: np.split(a, 2, axis=2), A),
    "hsplit": (lambda a: np.hsplit(a.sum(), 2), A),
    "vsplit": (lambda a: np.vsplit(a, 2), V),
    "array_split": (lambda a: np.array_split(a, -1), V),
    "astype": (lambda a: a.astype("i4", casting="safe"), A),
    "astype_bad": (lambda a: a.astype("nope"), A),
    "view": (lambda a: a[:, :1].view("i2").reshape(3, 9), A),
    "view2": (lambda a: a[:3].view("c16"), V),
    "complex_cmp": (lambda a: a % 2, A + 1j),
    "floor_c": (lambda a: np.floor(a), A + 1j),
    "bool_sub": (lambda a: a - a, A > 3),
    "bool_neg": (lambda a: -a, A > 3),
    "inv_float": (lambda a: ~a, A),
    "shift_float": (lambda a: a << 1, A),
    "and_float": (lambda a: a & 1, A),
    "u8": (lambda a: a + 300, N.astype("u1")),
    "u8neg": (lambda a: a + -1, N.astype("u1")),
    "len0d": (lambda a: len(a.sum()), A),
    "iter0d": (lambda a: list(a.sum().reshape(())), A),
    "bool_arr": (lambda a: 1 if a else 2, A),
    "bool_empty": (lambda a: 1 if a[:0] else 2, V),
    "int_arr": (lambda a: int(a), A),
    "float_arr": (lambda a: float(a[:2]), V),
    "item": (lambda a: a.item(), A),
    "item_i": (lambda a: a.item(99), A),
    "range_f": (lambda a: range(a[0]), V),
    "hash": (lambda a: {a: 1}, A),
    "attr": (lambda a: a.nope, A),
    "unpack": (lambda a: [x for x, y in [a]], W),
    "inv": (lambda a: np.linalg.inv(a), A),
    "inv_s": (lambda a: np.linalg.inv(a * 0), A[:, :3]),
    "solve": (lambda a, b: np.linalg.solve(a, b), A[:, :3], V),
    "chol": (lambda a: np.linalg.cholesky(-a), np.eye(3)),
    "det": (lambda a: np.linalg.det(a), A),
    "norm": (lambda a: np.linalg.norm(a, axis=3), A),
    "norm_ord": (lambda a: np.linalg.norm(a, "x"), A),
    "eigh": (lambda a: np.linalg.eigh(a), V),
    "mpow": (lambda a: np.linalg.matrix_power(a, 2), A),
    "interp": (lambda a, b: np.interp(a, a, b), V, W),
    "searchsorted": (lambda a: np.searchsorted(a, 1), A),
    "bincount": (lambda a: np.bincount(a), -N),
    "bincount_f": (lambda a: np.bincount(a), V),
    "digitize": (lambda a: np.digitize(a, [3, 1, 2]), V),
    "hist": (lambda a: np.histogram(a, bins=0), V),
    "linspace": (lambda a: np.linspace(0, 1, -1) + a[0], V),
    "arange": (lambda a: np.arange(0, 1, 0) + a[0], V),
    "zeros_neg": (lambda a: np.zeros(-1) + a[0], V),
    "eye": (lambda a: np.eye(-1) + a[0], V),
    "full": (lambda a: np.full((2,), a), V),
    "repeat": (lambda a: a.repeat(-1), V),
    "repeat_n": (lambda a: a.repeat([1, 2]), V),
    "tile": (lambda a: np.tile(a, -1), V),
    "pad": (lambda a: np.pad(a, -1), V),
    "pad_mode": (lambda a: np.pad(a, 1, mode="nope"), V),
    "choose": (lambda a, i: np.choose(i, [a, a]), V, N[:4]),
    "select": (lambda a: np.select([a > 0], [a, a]), V),
    "diag": (lambda a: np.diag(a), S),
    "diagonal": (lambda a: a.diagonal(0, 1, 1), A),
    "trace": (lambda a: a.trace(), V),
    "tril": (lambda a: np.tril(a.sum()), A),
    "percentile": (lambda a: np.percentile(a, 101), V),
    "quantile": (lambda a: np.quantile(a, -0.1), V),
    "gradient": (lambda a: np.gradient(a[:1]), V),
    "diff": (lambda a: np.diff(a, n=-1), V),
    "convolve": (lambda a: np.convolve(a[:0], a), V),
    "average": (lambda a: np.average(a, weights=a * 0), V),
    "average_w": (lambda a, b: np.average(a, weights=b), A, W[:2]),
    "cov": (lambda a, b: np.cov(a, b), V, W),
    "polyfit": (lambda a, b: np.polyfit(a, b, 1), V, W),
    "meshgrid": (lambda a: np.meshgrid(a, indexing="no"), V),
    "ravel_o": (lambda a: a.ravel("Z"), A),
    "partition": (lambda a: np.partition(a, 9), V),
    "fft": (lambda a: np.fft.fft(a, 0), V),
    "logspace": (lambda a: np.logspace(0, a, -2), V[1]),
    "put": (lambda a: np.put_along_axis(a, N, 1, 0), A),
    "fill_diag": (lambda a: np.fill_diagonal(a, 1), V),
    "copyto": (lambda a, b: np.copyto(a.copy(), b), V, W),
    "add_at": (lambda a: np.add.at(a.copy(), [9], 1), V),
    "reduce": (lambda a: np.add.reduce(a, axis=3), A),
    "accumulate": (lambda a: np.add.accumulate(a.sum()), A),
    "outer_u": (lambda a: np.add.outer(a), V),
    "nargs": (lambda a: np.add(a), V),
    "nargs_sum": (lambda a: np.sum(), V),
    "kwarg": (lambda a: np.sum(a, nope=1), V),
    "kwarg_u": (lambda a: np.exp(a, nope=1), V),
    "dtype_u": (lambda a: np.exp(a, dtype="i4"), V),
    "where_u": (lambda a: np.add(a, a, where=W > 0), V),
    "casting": (lambda a: np.add(a, 1.5, dtype="i4", casting="no"), N),
}
OTHER_WORDS = {
    "where", "iadd", "reshape_m1", "sum_out", "dot_out", "inner", "vdot", "outer", "matmul_stack",
    "einsum", "einsum_diag", "item_i",
}  # fmt: skip
"""The same exception, said of other shapes or in other words."""


if np.lib.NumpyVersion(np.__version__) < "2.2.0":
    del CALLS["bool_empty"]  # a warning there


def raised(fn, args):
    with pytest.raises(Exception) as info:
        fn(*args)
    return info.value


NEED_MEMORY = {
    "struct": lambda x: struct.unpack("d", x[1:2]), "bytes": lambda x: bytes(x)[8:16],
}  # fmt: skip


@pytest.mark.parametrize("name", NEED_MEMORY)
def test_what_needs_memory_is_numpys(name):
    """C code that says 'Tracer' has been given a value of a trace, not a wrong one."""
    fn = NEED_MEMORY[name]
    with pytest.warns(fusec.errors.FallbackWarning):
        assert fusec.jit(fn)(V) == fn(V)


def test_bytes_of_an_array_on_a_device():
    assert bytes(fusec.to_device(V, "cpu")) == bytes(V)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_as_numpys(name):
    fn, *args = CALLS[name]
    want = raised(fn, [np.copy(a) for a in args])
    got = raised(fusec.jit(fn), [np.copy(a) for a in args])
    assert isinstance(got, type(want)), repr(got)
    assert (str(want) in str(got)) == (name not in OTHER_WORDS), str(got)
