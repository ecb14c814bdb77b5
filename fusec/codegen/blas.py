"""Matrix products on the CPU: a step of machine code that calls the BLAS that NumPy was built with.

NumPy's wheels carry OpenBLAS; its C interface is found through NumPy's own extension module, so
nothing is linked or loaded twice and the result is what ``np.matmul`` gives. Strides become
transposition flags and leading dimensions, batches become the rows of the step::

    for number in range(start, stop):
        a_at = number * a_batch0
        b_at = number * b_batch0
        y_at = number * y_batch0
        gemm_f4(blas, turn_a, turn_b, m, n, k, a, a_at, lead_a, b, b_at, lead_b, y, y_at, lead_y)

Where the library or the strides do not fit, NumPy is called as for any other function.
"""

import ctypes
from functools import cache

import numpy as np

from fusec.codegen.emit import HEADER, KernelSource, Pointer
from fusec.codegen.loops import Buffer
from fusec.codegen.matrices import NO_TURN, Axis, Matrix, Problem, batch_places
from fusec.codegen.writer import Writer

#: Names of the C interface where its integers have 64 bits: NumPy's wheels, a system's OpenBLAS.
NAMES = ("scipy_cblas_{}64_", "cblas_{}64_")
LETTERS = {"f4": "s", "f8": "d"}
FLOPS_PER_NS = 30.0  # of one core, roughly: says how many products are worth waking a thread for
CALL_NS = 100.0  # of a call of BLAS, beside its arithmetic
#: Multiplications up to which OpenBLAS uses the caller's thread alone (SMP_THRESHOLD_MIN times
#: GEMM_MULTITHREAD_THRESHOLD; gemv has its own limit): a stack of such products is shared out to
#: our threads, of larger ones each is shared out by OpenBLAS.
ALONE = {"gemm": 65_536 * 4, "gemv": 2_304 * 4}


@cache
def address(routine: str) -> int:
    """Where a routine (``sgemm``) of NumPy's BLAS is in this process; 0 where it is not found.

    >>> address("no_such_routine")
    0
    """
    library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    for name in NAMES:
        found = getattr(library, name.format(routine), None)
        if found is not None:
            return ctypes.cast(found, ctypes.c_void_p).value or 0
    return 0


def product(of: Problem) -> KernelSource | None:
    """The step of a product; None where BLAS can't do it."""
    first, second, result, order, batch, dtype = of
    if result.columns == 1:
        routine, told = "gemv", _gemv(first, second.down, result.down)
    else:
        routine, told = "gemm", _gemm(first, second, result)
    where = address(LETTERS[dtype.str[1:]] + routine)
    if told is None or not where:
        return None
    ints = [("blas", where), *told, *of.batch_ints]
    work = CALL_NS + 2.0 * of.work / FLOPS_PER_NS
    source = _source(routine, ints, order, batch, dtype, work)
    source.threads = of.work > ALONE[routine]
    return source


def _gemv(matrix: Matrix, step: int, to: int) -> list[tuple[str, int]] | None:
    turn, lead = matrix.told
    rows, columns = matrix[:2] if turn == NO_TURN else matrix.turned[:2]
    steps = [step if matrix.columns > 1 else 1, to if matrix.rows > 1 else 1]
    if not lead or min(steps) < 1:
        return None
    return [("turn", turn), ("m", rows), ("k", columns), ("lead", lead),
            ("step", steps[0]), ("y_step", steps[1])]  # fmt: skip


def _gemm(first: Matrix, second: Matrix, result: Matrix) -> list[tuple[str, int]] | None:
    (turn_a, lead_a), (turn_b, lead_b) = first.told, second.told
    if not (lead_a and lead_b and result.lead):
        return None
    return [("turn_a", turn_a), ("turn_b", turn_b), ("m", first.rows), ("n", second.columns),
            ("k", first.columns), ("lead_a", lead_a), ("lead_b", lead_b),
            ("lead_y", result.lead)]  # fmt: skip


def _source(
    routine: str, ints: list[tuple[str, int]], order: str, batch: list[Axis], dtype: np.dtype,
    work: float,
) -> KernelSource:  # fmt: skip
    p, q = order[0], order[1]
    call = {
        "gemv": f"turn, m, k, {p}, {p}_at, lead, {q}, {q}_at, step, y, y_at, y_step",
        "gemm": f"turn_a, turn_b, m, n, k, {p}, {p}_at, lead_a, {q}, {q}_at, lead_b, "
        "y, y_at, lead_y",
    }[routine]
    w = Writer()
    names = ["start", "stop", *[name for name, _ in ints], "a", "b", "y"]
    with w.block(f"def kernel({', '.join(names)}):"):
        w("status = 0")
        with w.block("for number in range(start, stop):"):
            batch_places(w, len(batch))
            w(f"status |= {routine}_{dtype.str[1:]}(blas, {call})")
        w("return status")
    text = f"# matmul {dtype.str[1:]}, by NumPy's BLAS\n{HEADER}\n\n{w.text()}\n"
    buffers = [Buffer(name, dtype, (), role) for name, role in zip("aby", ("in", "in", "out"))]
    pointers = [Pointer(x.name, x, 0) for x in buffers]
    rows = int(np.prod([size for size, *_ in batch], dtype=np.int64))
    return KernelSource("matmul", text, ints, pointers, rows, work)
