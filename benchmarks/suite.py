"""One row of the suite: a kernel under every contender, checked against NumPy, then timed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.contenders import Contender, Unable, copies, mapped
from fusec.runtime.native_layout import KEPT
from kernels import Kernel


@dataclass
class Time:
    """Of one contender, in milliseconds: the median of the rounds; spread is relative.

    error: why there is no time, or why the answer is wrong; a wrong answer is never timed.
    """

    ms: float = 0.0
    spread: float = 0.0
    first_ms: float = 0.0
    error: str = ""


@dataclass
class Row:
    """What was measured of one kernel at one size and dtype.

    bytes and flops: the least the kernel can do. operations: of the traced function. kernels: how
    many fusec made of them.
    copy_ms: a copy that moves as many bytes, to a destination of the kind the kernel writes.
    """

    kernel: str
    family: str
    bound: str
    size: str
    dtype: str
    bytes: int
    flops: int
    operations: int = 0
    kernels: int = 0
    copy_ms: float = 0.0
    times: dict[str, Time] = field(default_factory=dict)

    @property
    def ours(self) -> Time:
        return self.times["fusec"]

    @property
    def bandwidth(self) -> float:
        """GB/s of the bytes that have to move."""
        return self.bytes / self.ours.ms / 1e6 if self.ours.ms else 0.0

    @property
    def of_copy(self) -> float:
        """Percent of the bandwidth of a copy of the same size."""
        return 100 * self.copy_ms / self.ours.ms if self.ours.ms and self.copy_ms else 0.0

    def ratio(self, name: str) -> float:
        """How often fusec runs while the contender runs once; nan where there is no time."""
        peer = self.times.get(name)
        if peer is None or not peer.ms or not self.ours.ms:
            return float("nan")
        return peer.ms / self.ours.ms

    def best_peer(self, but: Sequence[str] = ()) -> str:
        """The name of the fastest contender beside fusec and those in ``but``; '' for none."""
        timed = {n: t.ms for n, t in self.times.items() if t.ms and n not in ("fusec", *but)}
        return min(timed, key=timed.__getitem__, default="")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def row_from_json(values: dict[str, Any]) -> Row:
    """The inverse of `Row.as_json`."""
    times = {name: Time(**t) for name, t in values["times"].items()}
    return Row(**{**values, "times": times})


def flat(tree: Any) -> Iterator[Any]:
    """The arrays and scalars of nested results, as NumPy's."""
    if isinstance(tree, (tuple, list)):
        for item in tree:
            yield from flat(item)
    elif isinstance(tree, dict):
        yield from flat(list(tree.values()))
    elif tree is not None:
        yield np.asarray(tree) if hasattr(tree, "__array__") else tree


WIDE = {"f": np.float64, "c": np.complex128}


def wide(value: Any) -> Any:
    """A float array in float64; anything else as it is."""
    return value.astype(WIDE.get(value.dtype.kind, value.dtype))


@dataclass(frozen=True)
class Reference:
    """What a kernel should give: in its dtype, and as good as float64 can say."""

    want: list[Any]
    true: list[Any]

    @classmethod
    def of(cls, kernel: Kernel, args: tuple[Any, ...]) -> Reference:
        theirs, exact = copies(args), mapped(args, wide)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = list(flat((kernel.function(*theirs), theirs)))
            return cls(want, list(flat((kernel.function(*exact), exact))))


def problem(kernel: Kernel, dtype: str, got: Any, reference: Reference, strict: bool) -> str:
    """Why an answer is wrong, or ''.

    Values are compared with a float64 run: within the kernel's tolerance, or at most twice as far
    from it as NumPy in the same dtype is. strict: dtypes and the kind of scalar count, too, and
    so do updated arguments.
    """
    found = list(flat(got))
    if len(found) != len(reference.want) and (strict or not found):
        return f"{len(found)} results for {len(reference.want)}"
    for g, w, t in zip(found, reference.want, reference.true):
        if text := _difference(kernel, dtype, g, w, t, strict):
            return text
    return ""


def _difference(kernel: Kernel, dtype: str, got: Any, want: Any, true: Any, strict: bool) -> str:
    if not isinstance(want, np.ndarray):
        return "" if got == want else f"{got!r} for {want!r}"
    if np.shape(got) != want.shape:
        return f"shape {np.shape(got)} for {want.shape}"
    if strict and got.dtype != want.dtype:
        return f"{got.dtype} for {want.dtype}"
    if want.dtype.kind not in "fc":
        share = float(np.mean(got != want))
        return "" if share <= kernel.mismatch else f"{share:.2%} of the integers differ"
    with np.errstate(invalid="ignore"):
        allowed = kernel.rtol[dtype] * float(np.nanmax(np.abs(true), initial=0))
    error = _distance(got, true)
    if error <= allowed:
        return ""
    numpys = _distance(want, true)
    return "" if error <= 2 * numpys else f"off by {error:.2g} (NumPy {numpys:.2g})"


def _distance(got: Any, true: Any) -> float:
    """The largest difference from the true values; inf where only one of them is nan."""
    with np.errstate(invalid="ignore"):
        off = np.asarray(np.subtract(got, true))
        largest = float(np.abs(off, out=off if off.dtype.kind == "f" else None).max(initial=0))
    if largest == largest:  # nothing is nan
        return largest
    if not np.array_equal(np.isnan(got), np.isnan(true)):
        return float("inf")
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(got - true), initial=0))


def measure(
    kernel: Kernel, size: str, dtype: str, contenders: Sequence[Contender],
    budget: float, device: str = "cpu",
) -> Row:  # fmt: skip
    """Check one kernel under every contender and time those that are right, in turns.

    budget: seconds of timing for each contender.
    """
    args = kernel.args(size, dtype)
    row = Row(kernel.name, kernel.family, kernel.bound, size, dtype,
              kernel.bytes(*args), kernel.flops(*args))  # fmt: skip
    reference = Reference.of(kernel, args)
    ready: dict[str, Any] = {}
    for contender in contenders:
        if contender.name == "numpy":  # the reference itself
            row.times["numpy"] = Time()
            ready["numpy"] = contender.make(kernel, device)(copies(args))
            continue
        call, known = _checked(contender, kernel, dtype, args, reference, device)
        row.times[contender.name] = known
        if call is not None:
            ready[contender.name] = call
    if not row.ours.error:
        row.operations, row.kernels = _made_of(kernel, args)
    if size == "L" and device == "cpu":
        ready["copy"] = harness.copy_of(row.bytes, fresh=_writes_fresh(reference, args, row.bytes))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        products = row.bound == "blas"
        later = [c.name for c in contenders if c.apart and products]
        timings = {}
        for names in ([n for n in ready if n not in later], [n for n in ready if n in later]):
            calls = {name: ready[name] for name in names}
            timings |= harness.alternate(calls, budget * len(calls))
    for name, timing in timings.items():
        if name == "copy":
            row.copy_ms = timing.median * 1e3
        else:
            row.times[name].ms, row.times[name].spread = timing.median * 1e3, timing.spread
    return row


def _made_of(kernel: Kernel, args: tuple[Any, ...]) -> tuple[int, int]:
    """Operations of the traced function, and the kernels they become."""
    import fusec

    lowered = fusec.jit(kernel.function).lower(*args)
    names = [node.op.name for node in lowered.graph.nodes()]
    return len([n for n in names if n not in ("param", "const")]), len(lowered.kernels)


def _writes_fresh(reference: Reference, args: tuple[Any, ...], moved: int) -> bool:
    """Does the kernel give arrays in new memory, and that matters beside what it reads?

    Large results lie where an earlier one did that nobody needs any more.
    """
    results = reference.want[: len(reference.want) - len(list(flat(args)))]
    sizes = [r.nbytes for r in results if isinstance(r, np.ndarray)]
    return sum(n for n in sizes if n < KEPT) > moved / 10


def _checked(
    contender: Contender, kernel: Kernel, dtype: str, args: tuple[Any, ...],
    reference: Reference, device: str,
) -> tuple[Any, Time]:  # fmt: skip
    """The call to be timed (None where there is none) and what is known of it before."""
    found = Time()
    ours = contender.name == "fusec"
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mine = copies(args)
            start = time.perf_counter()
            bind = contender.make(kernel, device)
            got = bind(mine)()
            found.first_ms = (time.perf_counter() - start) * 1e3
            whole = (got, mine) if (ours or got is None) and device == "cpu" else got
            found.error = problem(kernel, dtype, whole, reference, strict=ours)
            call = None if found.error else bind(copies(args))
    except Unable as reason:
        return None, Time(error=f"none: {reason}")
    except Exception as error:
        found.error = f"{type(error).__name__}: {str(error).strip()[:200]}"
        return None, found
    return call, found
