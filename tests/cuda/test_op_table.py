"""Every op of the registry as a CUDA kernel in the simulator, against NumPy.

All elementwise ops of one dtype are the results of one program over a few values: edges and the
op's own samples. What is allowed to differ is what the table for the CPU allows.
"""

import os

import numpy as np
import pytest
from simulated import check_assembled, graph_program, has_ptxas, run_program
from test_ops_table import (
    CASES,
    DTYPES,
    case_id,
    failures,
    has_expression,
    inputs_of,
    output,
    reference,
)

from fusec.codegen.steps import Call
from fusec.ir.aval import Aval
from fusec.ir.graph import Literal, Node
from fusec.ops.elementwise import NOT_WIDE
from fusec.ops.registry import OPS

simulated = pytest.mark.skipif(
    not os.environ.get("NUMBA_ENABLE_CUDASIM"), reason="needs NUMBA_ENABLE_CUDASIM=1"
)
assembled = pytest.mark.skipif(
    bool(os.environ.get("NUMBA_ENABLE_CUDASIM")) or not has_ptxas(), reason="needs ptxas"
)
VALUES = 24  # of an op and dtype

LIMITATIONS = {
    "host_call": "NumPy's own function",
    "loop": "made for CPUs only",
    "recurrence": "has tests of its own",
    "host_out": "a result of NumPy's own function",
    "scatter_flat": "scatter_set, once it is lowered",
    **dict.fromkeys(("custom", "custom_out", "hold"), "a mark that the passes drop"),
    **dict.fromkeys(("param", "dim"), "a value that is given"),
}
"""Ops without a kernel of their own, and why."""


def param(name, aval):
    return Node(OPS["param"], (), {"name": name, "aval": aval}, aval)


def node(op, params, attrs):
    return Node(op, tuple(params), attrs, op.infer(tuple(p.aval for p in params), attrs))


def few(case):
    """Some of the values that the table has for a case: edges, random ones and samples."""
    op, _, inputs, _ = case
    rng, arrays = np.random.default_rng(11), inputs_of(case[0], inputs)
    places = rng.choice(len(arrays[0]), VALUES // 2, replace=False)
    if op.checked:  # samples of it may be what it reports
        return [x[places] for x in arrays]
    ranges = op.sample or ((-4.0, 4.0),)
    low, high = zip(*(ranges if len(ranges) == len(arrays) else ranges * len(arrays)))
    made = []
    for k, x in enumerate(arrays):
        sampled = rng.uniform(low[k], high[k], VALUES - len(places))
        sampled = np.abs(sampled) if x.dtype.kind == "u" else sampled
        if x.dtype.kind == "c":
            sampled = sampled + 1j * rng.permutation(sampled)
        made.append(np.concatenate([x[places], sampled.astype(x.dtype)]))
    return made


def is_half(case):
    """Whether a pass makes float32 of it."""
    op, name, _, _ = case
    return name == "f2" and getattr(op.ufunc, "nout", 0) == 1 and op.name not in NOT_WIDE


def whole(name, target):
    """All elementwise ops of a dtype as one program, with the cases and the values of each."""
    cases = [c for c in CASES if c[1] == name and (has_expression(c) or is_half(c))]
    params, arrays, outputs = [], [], []
    for case in cases:
        op, _, inputs, attrs = case
        given = few(case)
        mine = [param(f"p{len(params) + k}", Aval(x.shape, x.dtype)) for k, x in enumerate(given)]
        outputs.append(node(op, mine, attrs))
        assert outputs[-1].dtype == output(op, inputs, attrs)
        params += mine
        arrays.append(given)
    made = graph_program(params, outputs, target)
    assert not any(isinstance(step, Call) for step in made.steps)
    return made, cases, arrays


@assembled
@pytest.mark.parametrize("name", ["b1", "i1", "u8", "f2", "f4", "f8", "c16"])  # kinds and widths
def test_elementwise_kernels_assemble(name):
    for kernel in whole(name, "cuda")[0].kernels:
        check_assembled(kernel)


@simulated
@pytest.mark.parametrize("name", DTYPES)
def test_elementwise(name):
    made, cases, arrays = whole(name, "simulator")
    found = run_program(made, [x for given in arrays for x in given])
    check_all(cases, arrays, found)


def check_all(cases, arrays, found):
    """Compare the results of ``whole`` with NumPy's."""
    wrong = []
    for case, given, got in zip(cases, arrays, found):
        op, _, _, attrs = case
        want = reference(op, given, attrs)
        bad = failures(op, given, got, want)
        wrong += [(case_id(case), [a[k] for a in given], got[k], want[k]) for k in bad[:3]]
    assert not wrong


REALS, NUMBERS = "i2 u4 f4 f8", "i4 u1 f4 f8 c8 c16"
ROWS, BLOCK = (3, 40), (2, 3, 37)
REDUCED = [(ROWS, (1,)), (ROWS, (0,)), (ROWS, (0, 1)), (BLOCK, (0, 2)), (BLOCK, (1,))]
REDUCED.append(((0, 3), (0,)))
SCANNED = [(ROWS, 1), (ROWS, 0), ((70,), 0)]
INEXACT = {"reduce_sum", "reduce_prod", "scan_sum", "scan_prod", "matmul"}  # of floats

#: op: (dtypes, [(shapes of its inputs, attributes)])
OTHERS = {
    **{
        f"reduce_{name}": (dtypes, [([s], {"axes": a}) for s, a in REDUCED])
        for name, dtypes in {
            "sum": f"f2 {NUMBERS}", "prod": NUMBERS, "max": f"b1 {REALS}", "min": f"b1 {REALS}",
            "fmax": "f4 f8", "fmin": "f4 f8", "any": "b1", "all": "b1",
        }.items()
    },
    **{
        f"scan_{name}": (dtypes, [([s], {"axis": a}) for s, a in SCANNED])
        for name, dtypes in {
            "sum": REALS, "prod": REALS, "max": REALS, "min": REALS,  # complex: NumPy runs them
        }.items()
    },
    "slice": ("f4 c16", [
        ([BLOCK], {"start": (1, 2, 36), "step": (1, -1, -3), "shape": (1, 3, 12)}),
        ([ROWS], {"start": (0, 5), "step": (2, 1), "shape": (2, 35)}),
    ]),
    "transpose": ("f4 b1", [([BLOCK], {"perm": p}) for p in [(2, 0, 1), (0, 2, 1), (2, 1, 0)]]),
    "reshape": ("f8 i1", [([ROWS], {"shape": (5, 24)}), ([BLOCK], {"shape": (222,)})]),
    "broadcast_to": ("f4", [([(3, 1)], {"shape": (2, 3, 40)}), ([()], {"shape": (7,)})]),
    "diagonal": ("f4", [([(2, 33, 33)], {})]),
    "windows": ("f4", [([ROWS], {"shape": (5,), "axes": (1,)})]),
    "pad": ("f4 i2", [([ROWS, ()], {"before": (1, 2), "after": (0, 3)})]),
    "concatenate": ("f4 u8", [([ROWS, (2, 40)], {"axis": 0}), ([ROWS, (3, 1)], {"axis": 1})]),
    "entries": ("f4 f8", [([ROWS] * 6, {"core": (2, 3)})]),
    "slice_update": ("f4 i8", [([ROWS, (2, 13)], {"start": (0, 1), "step": (2, 3)})]),
    "iota": ("", [([], {"shape": (3, 40), "axis": 1}), ([], {"shape": (5,), "axis": 0})]),
    "gather": ("f4 c8", [([ROWS, (5, 1), (4,)], {"shape": (5, 4)})]),
    "scatter_add": ("f8 i4 c8", [
        ([(5, 4), (6, 3), (6, 1), (3,)], {}), ([ROWS, (6, 40), (6,)], {}),
    ]),
    "scatter_set": ("f8 i1 b1 c8", [([(50,), (9, 4), (9, 4)], {}), ([(7,), (40,), (40,)], {})]),
    "matmul": ("f2 f4 f8 i4 c16", [([(5, 7), (7, 3)], {}), ([(2, 1, 4, 3), (3, 3, 2)], {})]),
}  # fmt: skip


def test_every_op_has_a_row_or_a_reason():
    stated = {op.name for op in OPS.values() if op.family == "elementwise"} | OTHERS.keys()
    assert stated.isdisjoint(LIMITATIONS)
    assert stated | LIMITATIONS.keys() | {"const"} == OPS.keys()  # constants are in every row


def values(shape, dtype, rng):
    kind = np.dtype(dtype).kind
    if kind in "biu":
        return rng.integers(0 if kind != "i" else -3, 4, shape).astype(dtype)
    made = np.asarray(rng.normal(1, 0.4, shape))
    return (made + 1j * rng.permutation(made) if kind == "c" else made).astype(dtype)


OTHER_CASES = [
    (name, dtype, k)
    for name, (dtypes, rows) in OTHERS.items()
    for dtype in (dtypes.split() or ["i8"])
    for k in range(len(rows))
]


def other(name, dtype, k, target):
    """The program of one row, and its values."""
    shapes, attrs = OTHERS[name][1][k]
    op, rng = OPS[name], np.random.default_rng(5)
    arrays = [values(s, DTYPES[dtype], rng) for s in shapes]
    if name in ("gather", "scatter_add", "scatter_set"):  # indices follow the array, or the values
        first = 1 + (name != "gather")
        arrays[first:] = [rng.integers(0, n, s) for n, s in zip(shapes[0], shapes[first:])]
    params = [param(f"p{i}", Aval(x.shape, x.dtype)) for i, x in enumerate(arrays)]
    one = Node(OPS["const"], (), {"value": Literal(1)}, Aval((), np.dtype("i8")))
    result = node(op, params, attrs)
    result = result if params else node(OPS["add"], [result, one], {})
    made = graph_program(params, [result], target)
    assert not any(isinstance(step, Call) for step in made.steps)
    return made, arrays


@assembled
@pytest.mark.parametrize(("name", "dtype", "k"), OTHER_CASES[::3], ids=str)
def test_other_kernels_assemble(name, dtype, k):
    for kernel in other(name, dtype, k, "cuda")[0].kernels:
        check_assembled(kernel)


@simulated
@pytest.mark.parametrize(("name", "dtype", "k"), OTHER_CASES, ids=str)
def test_other_families(name, dtype, k):
    made, arrays = other(name, dtype, k, "simulator")
    check_other(name, k, arrays, *run_program(made, arrays))


def check_other(name, k, arrays, got):
    """Compare the result of ``other`` with NumPy's."""
    op, attrs = OPS[name], OTHERS[name][1][k][1]
    want = op.impl(*arrays, **attrs) if arrays else op.impl(**attrs) + 1
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    if got.dtype.kind in "fc" and op.name in INEXACT:
        unit = np.finfo(got.dtype).eps * 16
        scale = np.abs(want).max(initial=1) * np.sqrt(max(map(np.size, arrays)))
        np.testing.assert_allclose(got, want, rtol=0, atol=unit * scale)
    else:
        np.testing.assert_array_equal(got, want)
