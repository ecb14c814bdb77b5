"""``fusec.verify``: run a function through NumPy and through fusec, and compare everything.

What is compared: the exception, the structure of the result, and for each result and each array
that the function changed its type, dtype, shape and values; ``compare`` says how exactly.

On a difference the traced graph is walked from the result towards the arguments, each value run
through NumPy and through kernels of its own, down to an op whose operands agree.
"""

from __future__ import annotations

import dataclasses
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fusec.compare import Comparison, allowed, compare, copied, same, scales
from fusec.device_plan import Elsewhere, adopt, device_executor, host_copies
from fusec.errors import VerifyError, VerifyWarning
from fusec.ir.graph import Graph, Loc, Node
from fusec.ops.shape import c_strides
from fusec.passes.pipeline import optimise
from fusec.remote import Donated, device_of
from fusec.runtime.array import Array, extent, upload
from fusec.runtime.device import Device
from fusec.trace.run import labels
from fusec.trace.tree import TreeDef, flatten
from fusec.trace.writeback import Update, origins
from fusec.traffic import Printable, place

if TYPE_CHECKING:
    from fusec.dispatch import JitFunction
    from fusec.plan import Outline

MAX_STEPS = 200  # values that are compared one by one, each with a compile of its own


@dataclass(repr=False)
class Report(Printable):
    """What ``verify`` found. True when nothing differs more than allowed."""

    name: str
    comparisons: list[Comparison] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    first: str = ""  # the first op that differs
    loc: Loc | None = None  # and its line

    def __bool__(self) -> bool:
        return not self.problems and not any(c.problem for c in self.comparisons)

    def __str__(self) -> str:
        lines = [f"{self.name}: {'agrees with NumPy' if self else 'DIFFERS from NumPy'}"]
        for c in self.comparisons:
            said = c.problem or f"at most {c.max_ulp:g} ULP, {c.max_abs:.3g} apart"
            lines.append(f"  {c.label}: {c.aval}, {said} (allowed: {c.allowed})")
        lines += [f"  {text}" for text in [*self.problems, *self.notes]]
        if self.first:
            lines.append(f"  first op that differs: {self.first}")
        return "\n".join(lines)


def verify(
    fn: Callable[..., Any], *args: Any, raise_on_difference: bool = False, **kwargs: Any
) -> Report:
    """Run ``fn`` through NumPy and through fusec on copies of the arguments, and compare.

    fn: a function, jitted or not. With arrays on a device, or ``jit(device=...)``, its kernels run
    there, on copies too. Raises VerifyError on a difference if ``raise_on_difference``.

    >>> import numpy as np
    >>> print(verify(lambda x: x * 2 + 1, np.arange(3.0)))
    <lambda>: agrees with NumPy
      result: f8[3], at most 0 ULP, 0 apart (allowed: bitwise)
    """
    whole: Any = fn
    if isinstance(whole, types.MethodType):
        fn, args = whole.__func__, (whole.__self__, *args)
    report = _Check(_jitted(fn), args, kwargs).run()
    if raise_on_difference and not report:
        raise VerifyError(str(report))
    return report


def check_first_call(function: JitFunction, args: Any, kwargs: dict[str, Any]) -> None:
    """With ``FUSEC_VERIFY=1``: compare, and warn on a difference."""
    report = _Check(function, args, kwargs).run()
    if not report:
        warnings.warn(VerifyWarning(str(report)), stacklevel=4)


def _jitted(fn: Callable[..., Any]) -> JitFunction:
    from fusec.dispatch import JitFunction
    from fusec.jit import jit

    return fn if isinstance(fn, JitFunction) else jit(fn)  # type: ignore[return-value]


@dataclass
class _Outcome:
    """What one run gave: results, arguments afterwards, or an exception."""

    leaves: list[Any]
    value: Any = None
    error: BaseException | None = None


class _Check:
    def __init__(self, function: JitFunction, args: Any, kwargs: dict[str, Any]) -> None:
        self.function = function
        leaves, self.tree = flatten((args, kwargs))
        self.leaves = [adopt(x) for x in leaves]
        self.device = device_of(function, self.leaves)
        self.before = host_copies(self.leaves, "verify", "")
        self.search: _Search | None = None
        self.update: Update | None = None
        self.report = Report(str(getattr(function, "__qualname__", "function")))

    def run(self) -> Report:
        plan, hidden = self._plan()
        if plan is None and self.report.notes[0].startswith("NumPy runs"):
            return self.report
        self.update = plan.trace.update if plan is not None else None
        kept = [a.copy() for a in hidden]
        reference = self.function.fn
        if plan is not None and any(type(a) is Array for a in hidden):
            self.report.notes.append("reads arrays of a device: NumPy runs the traced graph")
            reference = self._by_graph(plan, hidden)
        numpy, theirs = self._outcome(reference, self.before, hidden, kept)
        ours, mine = self._outcome(self.function, self.leaves, hidden, kept)
        if plan is not None and numpy.error is None and ours.error is None:
            with suppress(Exception):  # what the function caught, the graph on its own does not
                self.search = self._search(plan, hidden)
            for source, k in plan.trace.writes:
                if source.kind == "captured":
                    node = plan.trace.graph.outputs[k]
                    self._compare(source.label, theirs[source.ref], mine[source.ref], node)
        self._compare_outcomes(numpy, ours, plan)
        if not self.report and self.search is not None:
            self._locate(self.search)
        return self.report

    def _search(self, plan: Outline, hidden: list[np.ndarray]) -> _Search:
        from fusec.signature import native_layout

        leaves = copied(self.before)
        inputs = plan.inputs(leaves, [native_layout(x) for x in leaves], hidden)
        return _Search(plan, [np.array(x) for x in inputs], self.device)

    def _by_graph(self, plan: Outline, hidden: list[Any]) -> Callable[..., Any]:
        """The function as NumPy runs its traced graph: it cannot read arrays of a device."""

        def run(*args: Any, **kwargs: Any) -> Any:
            leaves, _ = flatten((args, kwargs))
            arrays = host_copies(hidden, "verify", "")
            env = _values(plan.trace.graph, plan.inputs(leaves, leaves, arrays))
            outputs = [env[node] for node in plan.trace.graph.outputs]
            made = plan.finish(leaves, arrays, outputs)
            for source, _ in plan.trace.writes:
                if source.kind == "captured":
                    hidden[source.ref][...] = arrays[source.ref]
            return plan.delivered(plan.held((args, kwargs), leaves), leaves, made)

        return run

    def _plan(self) -> tuple[Outline | None, list[np.ndarray]]:
        from fusec.plan import Outline

        function, leaves = self.function, copied(self.leaves)
        try:
            if self.device is None:
                plan, hidden = function.plan(leaves, self.tree)
                self.device = plan.device if isinstance(plan, Elsewhere) else None
            if self.device is not None:
                static = function._static_leaves(self.tree)
                plan, hidden, _ = function.device_plan(self.device, leaves, self.tree, static)
        except Exception as error:
            self.report.notes.append(f"tracing raises {type(error).__name__}")
            return None, []
        if not isinstance(plan, Outline):
            self.report.notes.append(f"NumPy runs the function: {plan.reason}")
            return None, []
        plan.verified = True
        return plan, hidden

    def _outcome(
        self, run: Callable[..., Any], given: list[Any], hidden: list[Any], kept: list[Any]
    ) -> tuple[_Outcome, list[np.ndarray]]:
        """One run on copies of ``given``, and what it left in the captured arrays.

        Those become what they were. Everything is brought to the host.
        """
        leaves = copied(given)
        made = _Outcome(leaves)
        args, kwargs = self.tree.unflatten(leaves)
        try:
            with np.errstate(all="ignore"):
                result = run(*args, **kwargs)
            changed = self.update is not None  # containers, which are then compared too
            values, tree = flatten((result, args, kwargs) if changed else result)
            made.value = tree.unflatten([self._home(x) for x in values])
        except Exception as error:
            made.error = error
        made.leaves = [
            x if type(x) is not Array else old if type(x.buffer) is Donated else np.asarray(x)
            for x, old in zip(leaves, self.before)
        ]
        after = [np.array(a) for a in hidden]
        for array, old in zip(hidden, kept):
            if array.flags.writeable:
                array[...] = old
        return made, after

    def _home(self, x: Any) -> Any:
        """A result on the host; devices do not tell numbers from arrays without axes."""
        x = np.asarray(x) if type(x) is Array and type(x.buffer) is not Donated else x
        plain = self.device is not None and isinstance(x, np.ndarray) and not x.ndim
        return x[()] if plain else x

    # -- comparing ----------------------------------------------------------------------------

    def _compare_outcomes(self, numpy: _Outcome, ours: _Outcome, plan: Outline | None) -> None:
        if numpy.error is not None or ours.error is not None:
            text = f"NumPy: {_raised(numpy.error)}; fusec: {_raised(ours.error)}"
            agree = isinstance(ours.error, type(numpy.error))
            (self.report.notes if agree else self.report.problems).append(text)
            return
        values, tree = flatten(numpy.value)
        found, other = flatten(ours.value)
        if tree != other:
            self.report.problems.append(f"NumPy gives {tree}, fusec gives {other}")
            return
        paths = tree.paths("result")
        if self.update is not None:
            rest = TreeDef(tuple, None, tree.children[1:])
            paths = tree.children[0].paths("result") + labels(self.function.fn, rest)
        for k, (path, a, b) in enumerate(zip(paths, values, found)):
            if type(b) is not Array:  # given away
                self._compare(path, a, b, self._output(plan, k))
        names = labels(self.function.fn, self.tree)
        for k, (before, a, b) in enumerate(zip(self.before, numpy.leaves, ours.leaves)):
            if isinstance(a, np.ndarray) and not (same(before, a) and same(before, b)):
                self._compare(f"{names[k]} (changed)", a, b, self._output(plan, k, True))

    def _output(self, plan: Outline | None, k: int, argument: bool = False) -> Node | None:
        """The node behind result ``k``, or behind the new value of argument ``k``."""
        if plan is None:
            return None
        trace = plan.trace
        kind, ref = "arg", k
        if not argument:
            order = origins(trace.update, self.tree, len(trace.results))
            result = trace.results[order[k]] if k < len(order) and order[k] >= 0 else None
            while result is not None and result.kind == "same":
                result = trace.results[result.ref]
            kind, ref = (result.kind, result.ref) if result is not None else ("", 0)
        changed = [o for s, o in trace.writes if (s.kind, s.ref) == (kind, ref)]
        found = [ref] if kind == "output" else changed
        return trace.graph.outputs[found[0]] if found else None

    def _compare(self, label: str, a: Any, b: Any, node: Node | None) -> None:
        tolerance, scale = "bitwise", 0.0
        if node is not None:
            tolerance = allowed(node)
            scale = self.search.scales[node] if self.search is not None else 0.0
        self.report.comparisons.append(compare(label, a, b, tolerance, scale))

    # -- where it begins ------------------------------------------------------------------------

    def _locate(self, search: _Search) -> None:
        """Name the pass, or the first op, whose value differs."""
        report = self.report
        broken = search.broken_pass()
        if broken:
            report.notes.append(f"the pass {broken!r} changed a value")
        node = search.first()
        if node is None:
            report.notes.append("no op of the traced graph differs on its own: tracing is at fault")
            return
        values = ", ".join([repr(i.aval) for i in node.inputs])
        where = f" at {place(node.loc)}" if node.loc else ""
        report.first = f"{node.op.name}({values}) -> {node.aval!r}{where}; {search.said[node]}"
        report.loc = node.loc


class _Search:
    """Compares single values of a traced graph: NumPy op by op against kernels of the prefix."""

    def __init__(self, plan: Outline, inputs: list[np.ndarray], device: Device | None) -> None:
        self.plan, self.device = plan, device
        self.inputs = inputs
        self.env = _values(plan.trace.graph, inputs)
        self.said: dict[Node, str] = {}  # what differs, or nothing
        self.scales = scales(plan.trace.graph, self.env)

    def broken_pass(self) -> str:
        """The first pass after which NumPy, op by op, gives something else."""
        history: list[tuple[str, Graph]] = []
        graph = self.plan.trace.graph
        optimise(graph, history)
        for name, after in history:
            env = _values(after, self.inputs)
            for old, new in zip(graph.outputs, after.outputs):
                if compare("", self.env[old], env[new], allowed(old), self.scales[old]).problem:
                    return name
        return ""

    def first(self) -> Node | None:
        """A node that differs while everything it reads agrees."""
        wrong = next((o for o in self.plan.trace.graph.outputs if not self.holds(o)), None)
        while wrong is not None:
            deeper = next((i for i in self._operands(wrong) if not self.holds(i)), None)
            if deeper is None or len(self.said) > MAX_STEPS:
                return wrong
            wrong = deeper
        return None

    def _operands(self, node: Node) -> Iterator[Node]:
        for child in node.inputs:
            if child.op.name == "host_call":
                yield from self._operands(child)
            elif child.inputs:
                yield child

    def holds(self, node: Node) -> bool:
        """Whether kernels that compute only ``node`` give NumPy's value."""
        if node not in self.said:
            numpy, ours, scale = self.env[node], self._run(node), self.scales[node]
            self.said[node] = compare("", numpy, ours, allowed(node), scale).problem
        return not self.said[node]

    def _run(self, node: Node) -> Any:
        from fusec.plan import executor, lower_graph

        trace = dataclasses.replace(
            self.plan.trace,
            graph=Graph(self.plan.trace.graph.params, [node]),
            out_strides=[c_strides(node.shape, node.dtype.itemsize)],
        )
        inputs = [
            x if x.strides == strides else _with_strides(x, strides)
            for x, strides in zip(self.inputs, trace.strides)
        ]
        if self.device is None:
            return executor(lower_graph(trace), self.plan.fastmath).run(inputs)[0]
        low, on = lower_graph(trace, target=self.device.target), self.device.current()
        runner = device_executor(low, self.device, self.plan.fastmath)
        moved = [_moved(self.device, x, strides) for x, strides in zip(inputs, trace.strides)]
        return np.asarray(runner.run(moved, on, {})[0])


def _values(graph: Graph, inputs: list[np.ndarray]) -> dict[Node, Any]:
    """Every value of a graph, by NumPy, op by op."""
    env: dict[Node, Any] = dict(zip(graph.params, inputs))
    with np.errstate(all="ignore"):
        for node in graph.nodes():
            if node not in env:
                env[node] = node.op.impl(*[env[i] for i in node.inputs], **node.attrs)
    return env


def _moved(device: Device, array: np.ndarray, strides: tuple[int, ...]) -> Array:
    """``array`` on a device, in memory with these strides."""
    low, span = extent(array.shape, strides, array.dtype)
    memory = np.zeros(span, np.uint8)
    np.ndarray(array.shape, array.dtype, memory, -low, strides)[...] = array
    buffer = upload(device, memory, "verify").buffer
    return Array(buffer, -low, array.shape, array.dtype, strides)


def _with_strides(array: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """A copy of ``array`` in memory with these strides."""
    low = sum([min(0, (n - 1) * s) for n, s in zip(array.shape, strides)])
    high = sum([max(0, (n - 1) * s) for n, s in zip(array.shape, strides)])
    memory = np.zeros(max(high - low + array.itemsize, 1), np.uint8)
    made = np.ndarray(array.shape, array.dtype, memory, -low, strides)
    if array.size:
        made[...] = array
    return made


def _raised(error: BaseException | None) -> str:
    return "no exception" if error is None else f"{type(error).__name__}: {error}"
