"""One printable object per stage: ``Traced``, ``Lowered``, ``Compiled``.

    f.trace(x)      the program as the user wrote it
    f.lower(x)      optimised and cut into kernels: text, no machine code
    low.compile()   machine code, which a call of ``f`` then finds in the cache
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from fusec.codegen.backends import BACKENDS
from fusec.codegen.ptxas import PROCESSORS
from fusec.codegen.steps import Launch, Program
from fusec.decided import WARNED
from fusec.device_plan import adopt
from fusec.errors import DTypeError, ShapeError, UnsupportedError
from fusec.explain import Explanation, explain
from fusec.interpreted import by_numpy
from fusec.ir.graph import Graph
from fusec.plan import lower_graph
from fusec.route import MOST_TRACES
from fusec.runtime.array import Array, same_device
from fusec.runtime.cache import cache
from fusec.runtime.device import Device
from fusec.show import program_text, write
from fusec.stage_kernels import CompiledKernel, CudaKernel, Kernel
from fusec.trace.decisions import Decision
from fusec.trace.run import Trace, labels
from fusec.trace.standin import is_stand_in, stand_in
from fusec.trace.tree import TreeDef, flatten
from fusec.trace.writeback import containers
from fusec.traffic import Printable, launches

if TYPE_CHECKING:
    from fusec.dispatch import JitFunction


DEFAULT_ARCH = "sm_80"


class ShapeDtype:
    """Stands for a C-ordered array when only its shape and dtype matter.

    shape: an int or a tuple of ints. dtype: anything NumPy takes for one.

    >>> ShapeDtype((4096, 1024), "f4")
    ShapeDtype((4096, 1024), 'float32')
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: int | Sequence[int], dtype: DTypeLike) -> None:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(not isinstance(n, int | np.integer) or n < 0 for n in sizes):
            raise ShapeError(f"ShapeDtype takes a tuple of sizes, not {shape!r}")
        self.shape = tuple([int(n) for n in sizes])
        self.dtype = np.dtype(dtype)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ShapeDtype)
            and self.shape == other.shape
            and self.dtype == other.dtype
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"ShapeDtype({self.shape}, {self.dtype.name!r})"


class Traced(Printable):
    """A traced call. ``graph`` is the program as written; ``fallback`` says why there is none."""

    def __init__(
        self, function: JitFunction, tree: TreeDef, arrays: list[Any], trace: Trace | None = None
    ) -> None:
        self.function, self.tree, self.arrays, self.trace = function, tree, arrays, trace
        self.names = labels(function.fn, tree)
        self.copies: list[str] = []
        self.fallback = ""
        self.home: Device | None = None  # where arguments are

    @classmethod
    def of(cls, function: JitFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        """Trace ``function(*args, **kwargs)``; arguments may be ``ShapeDtype``."""
        from fusec.signature import native_layout

        leaves, tree = flatten((args, kwargs))
        leaves = [stand_in(x.shape, x.dtype) if type(x) is ShapeDtype else adopt(x) for x in leaves]
        home = same_device([x for x in leaves if type(x) is Array])
        leaves = [x.like if type(x) is Array else x for x in leaves]
        arrays = [native_layout(x) for x in leaves]
        made = cls(function, tree, arrays)
        made.home = home
        made.copies = [
            f"argument {name} is copied: kernels read aligned native data"
            for name, x, y in zip(made.names, leaves, arrays)
            if x is not y
        ]
        real = home is None and not any(map(_like, leaves))
        try:
            trace = partial(function.traced, leaves, arrays, tree, function._static_leaves(tree))
            made.trace = _traced(trace, leaves, arrays) if real else trace()
            made.fallback = made._overlapping([None if _like(x) else x for x in leaves])
            if made.trace.update is not None:
                made.trace.update.held(containers((args, kwargs)), leaves)
        except UnsupportedError as error:
            if type(error) not in (UnsupportedError, *(WARNED if real else ())):
                raise
            made.fallback = str(error)
        return made

    def _overlapping(self, leaves: list[Any]) -> str:
        from fusec.dispatch import overlaps

        assert self.trace is not None
        if not self.trace.writes:
            return ""
        hidden = self.trace.guards.arrays(leaves)
        if not overlaps(self, leaves, hidden):  # type: ignore[arg-type]
            return ""
        return "An argument that the function changes shares memory with another one."

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__qualname__", "function"))

    @property
    def graph(self) -> Graph:
        """The program as written; empty where NumPy runs the function."""
        return self.trace.graph if self.trace is not None else Graph((), ())

    def dot(self) -> str:
        """The graph in Graphviz' DOT language."""
        return self.graph.dot()

    def __str__(self) -> str:
        if self.fallback:
            return f"{self.name}: NumPy runs it. {self.fallback}"
        return f"{self.name}\n{self.graph}"

    def lower(self, target: str | None = None) -> Lowered:
        """Optimise the program and cut it into kernels.

        target: "cpu", or "cuda:sm_90" for an architecture ("cuda" for the oldest one); by default
        that of the function's device, or of its arguments. No GPU is needed. Raises
        UnsupportedError for others.
        """
        kind, _, arch = (target or self.function.device or "cpu").partition(":")
        if target is None:
            device = self.home
            kind = device.target if device else {"null": "cuda"}.get(kind, kind)
            arch = device.arch if device else ""
        arch = arch or DEFAULT_ARCH
        if kind not in BACKENDS or (kind == "cuda" and arch not in PROCESSORS):
            known = ", ".join([f"cuda:{name}" for name in PROCESSORS])
            raise UnsupportedError(f"target={target!r}: say 'cpu' or one of {known}")
        return Lowered(self, kind, arch)


class Lowered(Printable):
    """An optimised program, cut into kernels. Prints as one screen.

    graph: the optimised graph; history: (pass, graph after it), beginning with "as written";
    kernels: their texts; program: steps over numbered buffers, None where NumPy runs all.
    """

    def __init__(self, traced: Traced, target: str = "cpu", arch: str = "") -> None:
        self.traced, self.target, self.arch = traced, target, arch
        self.history: list[tuple[str, Graph]] = [("as written", traced.graph)]
        self.program: Program | None = None
        if traced.trace is not None and not traced.fallback:
            try:
                host = target == "cpu" and traced.home is None and not traced.function.device
                most = traced.function._most if host else inf
                self.program = lower_graph(traced.trace, self.history, target, most)
            except UnsupportedError as error:
                traced.fallback = str(error)

    @property
    def name(self) -> str:
        return self.traced.name

    @property
    def fallback(self) -> str:
        """Why NumPy runs the function instead; empty when it does not."""
        return self.traced.fallback

    @property
    def graph(self) -> Graph:
        return self.program.graph if self.program is not None else self.history[-1][1]

    @cached_property
    def kernels(self) -> list[Any]:
        """The kernels in the order of their launches."""
        return self._kernels(Kernel)

    def _kernels(self, kind: type[Kernel]) -> list[Any]:
        fastmath = self.traced.function.fastmath
        found = launches(self.program) if self.program is not None else ()
        return [kind(step, read, written, fastmath, self.arch) for step, read, written in found]

    @property
    def _clusters(self) -> dict[str, Any]:
        """The nodes of each kernel."""
        steps = self.program.steps if self.program is not None else []
        launches = [s for s in steps if isinstance(s, Launch)]
        return {s.kernel.name: s.members for s in launches}

    def dot(self) -> str:
        """The optimised graph in Graphviz' DOT language, with a frame around each kernel."""
        return self.graph.dot(self._clusters)

    def mermaid(self) -> str:
        """The optimised graph as a Mermaid flowchart, with a frame around each kernel."""
        return self.graph.mermaid(self._clusters)

    def explain(self) -> Explanation:
        """Each kernel's ops and bytes, and the reason for everything that is not fused."""
        t = self.traced
        asked = [(d, low.explain()) for d, low in self.decisions]
        return explain(self.name, self.program, t.trace, self.fallback, t.copies, t.names, asked)

    @cached_property
    def decisions(self) -> list[tuple[Decision, Lowered]]:
        """What Python has decided on for these arguments, and the program that gave the value."""
        t = self.traced
        return [
            (d, Lowered(Traced(t.function, t.tree, t.arrays, d.trace), self.target, self.arch))
            for d in (t.trace.decisions if t.trace is not None else ())
        ]

    def compile(self) -> Compiled:
        """Compile every kernel, or find it in the cache."""
        return Compiled(self.traced, self.target, self.arch)

    def __str__(self) -> str:
        if self.program is None:
            return f"{self.name}: NumPy runs it. {self.fallback}"
        return "\n".join(program_text(self, self.program))

    def _repr_html_(self) -> str:
        kernels = "".join([k._repr_html_() for k in self.kernels])
        return f"<pre>{html.escape(str(self))}</pre>{kernels}"


class Compiled(Lowered):
    """A compiled call. Call it like the function, with arguments of the same shapes and dtypes."""

    def __init__(self, traced: Traced, target: str = "cpu", arch: str = "") -> None:
        super().__init__(traced, target, arch)
        fastmath = traced.function.fastmath
        for kernel in self.program.sources if self.program is not None else ():
            facts = kernel.text, kernel.int_names, kernel.ptr_types
            if target == "cpu":
                cache.kernel(*facts, fastmath)
            else:
                cache.ptx(*facts, arch, fastmath=fastmath, aligned=kernel.aligned)

    @cached_property
    def kernels(self) -> list[Any]:
        """With ``llvm asm object``; for CUDA with ``ptx sass cubin resources``."""
        return self._kernels(CompiledKernel if self.target == "cpu" else CudaKernel)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function. Raises ShapeError or DTypeError for arguments of another kind."""
        leaves, tree = flatten((args, kwargs))
        if tree != self.traced.tree:
            raise DTypeError(
                f"{self.name} was compiled for arguments like {self.traced.tree}, got {tree}"
            )
        for leaf, known, label in zip(leaves, self.traced.arrays, self.traced.names):
            wanted, given = _kind(known), _kind(leaf)
            if wanted != given:
                error = ShapeError if wanted[0] == given[0] else DTypeError
                raise error(
                    f"{self.name} was compiled for argument {label} of {wanted[0]}{wanted[1]}, "
                    f"got {given[0]}{given[1]}; call the function itself for others"
                )
        return self.traced.function(*args, **kwargs)


def _traced(trace: Callable[..., Trace], leaves: list[Any], arrays: list[Any]) -> Trace:
    """The trace of a call whose decisions NumPy finds, and the loops that it ends by them."""
    plans: list[Any] = []
    for k in range(MOST_TRACES):
        way = by_numpy(leaves, arrays, plans, k + 1 < MOST_TRACES)
        try:
            return trace(way=way)
        except UnsupportedError:
            if not (way.again and way.learn()):
                raise
    raise AssertionError


def _like(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and is_stand_in(leaf)


def _kind(leaf: Any) -> tuple[str, list[int] | str]:
    """Dtype (or type) and shape of an argument."""
    if isinstance(leaf, np.ndarray | Array):
        return leaf.dtype.name, list(leaf.shape)
    return type(leaf).__name__, ""


def dump(function: JitFunction, traced: Trace, tree: TreeDef, arrays: list[Any]) -> None:
    """Write what a new plan does into ``config.dump``."""
    write(Lowered(Traced(function, tree, arrays, traced)))
