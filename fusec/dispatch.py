"""Calls of a jitted function: find its plan, make it where there is none, run it.

A call flattens its arguments, finds the plan for their dtypes, shapes and layouts, and runs it.
Later calls take a short way (`fastcall`) that does the same checks in machine code.
"""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import numpy as np

from fusec import fastcall, remote
from fusec.config import config, log
from fusec.decided import MAX_FAST, MAX_PLANS, WARNED, Fallback, Undecided, keep
from fusec.device_plan import DevicePlan, Elsewhere, is_remote
from fusec.errors import FallbackWarning, UnsupportedError
from fusec.host_plan import HostPlan
from fusec.ir.graph import Loc
from fusec.passes.nodes import distinct
from fusec.plan import Outline, Plan
from fusec.route import MOST_TRACES, Route, Run
from fusec.runtime import cpu
from fusec.runtime.device import Device
from fusec.runtime.executor import KernelError
from fusec.runtime.native import ERROR, MISS
from fusec.signature import device_key, native_layout, signature
from fusec.trace.decisions import Way
from fusec.trace.locate import user_location
from fusec.trace.overrides import LOUD
from fusec.trace.run import Trace, session_of, trace
from fusec.trace.tree import TreeDef, flatten, outline

MAX_GROWN = 8  # signatures made for arguments whose lists the function itself makes longer


class JitFunction:
    """A compiled function. Call it like the function it wraps."""

    falls_back = True  # to NumPy where shapes depend on data, else that is raised
    bounded = True  # NumPy also runs what has too many operations

    def __init__(
        self,
        fn: Callable[..., Any],
        static_argnums: tuple[int, ...] = (),
        static_argnames: tuple[str, ...] = (),
        fastmath: bool = False,
        device: str | None = None,
        donate_argnums: tuple[int, ...] = (),
    ) -> None:
        functools.update_wrapper(self, fn)
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)  # partial objects have none
        self.fn = fn
        self.fastmath = fastmath
        self.device = device
        self._static = _static_names(fn, static_argnums, static_argnames)
        self.donated = _static_names(fn, donate_argnums, ())
        self._plans: OrderedDict[Any, list[Outline | Fallback]] = OrderedDict()
        self._fast: list[fastcall.Fast] = []
        self._grown: Counter[Any] = Counter()

    @property
    def __fusec_inline__(self) -> Callable[..., Any]:
        return self.fn

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<fusec.jit of {self.fn!r}>"

    def __reduce__(self) -> str:
        return self.__qualname__  # type: ignore[attr-defined, no-any-return]

    # -- calls ------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if config.disable or _raises():
            return self.fn(*args, **kwargs)
        for fetch, entry in self._fast:
            if fetch is None:
                result = entry(args, kwargs)
            elif kwargs or fetch(()) is None:
                continue
            else:
                result = entry(*args)
            if result is ERROR:
                return self.fn(*args, **kwargs)
            if result is not MISS:
                return result
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The way for everything that the native entry does not take."""
        try:
            leaves, tree = flatten((args, kwargs)) if kwargs else _positional(args)
        except RecursionError:  # a list that contains itself
            return self.fn(*args, **kwargs)
        session = session_of(leaves, self._inner)
        if session is not None:
            return _inline(self.fn, session)(*args, **kwargs)
        if self.device is not None or any(map(is_remote, leaves)):
            return remote.call(self, leaves, tree, (args, kwargs))
        route, arrays = self.route(leaves, tree)
        plan, hidden = route.plan, route.hidden
        if isinstance(plan, Elsewhere):
            return remote.call(self, leaves, tree, (args, kwargs), plan.device)
        if isinstance(plan, Fallback):
            if route.levels == [[plan]] and not self._static:
                self._take(fastcall.numpys(tree, leaves, plan.matches))
            route.give_up()
            return self.fn(*args, **kwargs)
        if overlaps(plan, leaves, hidden):
            return self.fn(*args, **kwargs)
        if config.verify and not plan.verified:
            from fusec.checking import check_first_call

            check_first_call(self, args, kwargs)
        try:
            held = plan.held((args, kwargs), leaves)
            result = plan.run(leaves, arrays, hidden)
        except (KernelError, UnsupportedError, OverflowError):  # a number has no room
            return self.fn(*args, **kwargs)
        self._hasten(route, tree, leaves, arrays)
        return plan.delivered(held, leaves, result)

    @property
    def _inner(self) -> Callable[..., Any]:
        """The user's function: where it was made says which trace a call may be a part of."""
        return self.fn

    def _hasten(self, route: Route, tree: TreeDef, leaves: list[Any], arrays: list[Any]) -> None:
        """Let later calls of this signature go through a native entry."""
        plan = route.plan
        if plan.hastened and plan.hastened[0] is None:  # no lock for what has no short way
            return
        with cpu.native_lock:
            call = (tree, leaves, arrays, self._static_leaves(tree))
            if not plan.hastened:
                plan.hastened.append(fastcall.make(plan, *call))
            fast = plan.hastened[0] and route.hasten(plan.hastened[0], *call)
        self._take(fast)

    def _take(self, fast: fastcall.Fast | None) -> None:
        """Try this way first from now on."""
        if fast is not None and fast not in self._fast:
            self._fast = [fast, *self._fast[: MAX_FAST - 1]]

    def plan(self, leaves: list[Any], tree: TreeDef) -> tuple[Outline | Fallback, list[Any]]:
        """The plan for these arguments, and the captured arrays."""
        route, _ = self.route(leaves, tree)
        return route.plan, route.hidden

    def route(self, leaves: list[Any], tree: TreeDef) -> tuple[Route, list[Any]]:
        """The way to the plan for these arguments, and the arguments in native layout."""
        static = self._static_leaves(tree)
        arrays = [native_layout(x) for x in leaves]
        pairs = enumerate(zip(leaves, arrays))
        key = (tree, tuple([signature(leaf, x, k in static) for k, (leaf, x) in pairs]))

        def run(plan: Plan, hidden: list[Any]) -> Any:
            return plan.run(leaves, arrays, hidden)

        found = self._find(key, leaves, run)
        if found is None:
            with cpu.making():  # a fork waits for it: imports and compiles are never cut in two
                for k in range(MOST_TRACES):
                    loops = k + 1 < MOST_TRACES
                    found = self._find(key, leaves, run) if found is None else found
                    found = found or self._make(key, arrays, tree, static, leaves, run, None, loops)
        assert found is not None
        return found, arrays

    def device_plan(
        self, device: Device, leaves: list[Any], tree: TreeDef, static: frozenset[int]
    ) -> tuple[Outline | Fallback, list[Any], Callable[[], list[Any]]]:
        """The plan for these arguments on a device, captured arrays, what moves the arguments."""
        key = device_key(device.name, leaves, tree, static)
        moved = functools.cache(lambda: remote.on_device(self, device, leaves, tree, static))

        def run(plan: Any, hidden: list[Any]) -> Any:
            return plan.call(self.fn, moved(), tree, hidden, ())

        found = self._find(key, leaves, run)
        if found is None:
            arrays = [x if k in static else remote.layout(x) for k, x in enumerate(leaves)]
            with cpu.making():
                found = self._find(key, leaves, run)
                found = found or self._make(key, arrays, tree, static, leaves, run, device)
            assert found is not None
        return found.plan, found.hidden, moved

    def _find(self, key: Any, leaves: list[Any], run: Run | None) -> Route | None:
        plans = self._plans.get(key)
        if not plans:
            return None
        route = Route(plans, leaves, self._build, run)
        try:
            found = route.find()
        except Undecided as error:
            route.levels[-1][:] = [self._fallback(error)]
            found = route.find()
        if not found:
            return None
        if len(self._plans) > 1:
            with suppress(KeyError):  # another thread may have dropped it
                self._plans.move_to_end(key)
        return route

    @property
    def _most(self) -> float:
        return config.most_nodes if self.bounded else inf

    def _build(self, traced: Trace, hidden: list[Any], device: Device | None = None) -> Outline:
        if device is not None and device.native:
            return HostPlan(traced, self.fastmath, device)
        if device is not None:
            return DevicePlan(traced, self.fastmath, device, hidden)
        if any(map(is_remote, hidden)):
            return Elsewhere(traced, hidden)
        return Plan(traced, self.fastmath, self._most)

    def _make(
        self, key: Any, arrays: list[Any], tree: TreeDef, static: frozenset[int], leaves: list[Any],
        run: Run, device: Device | None = None, loops: bool = False,
    ) -> Route | None:  # fmt: skip
        """The way to a new plan; None where only something about its loops was found."""
        log("recompile", "%s: a new signature", self.__name__)
        plan: Outline | Fallback
        plans = self._plans.setdefault(key, [])
        build = functools.partial(self._build, device=device)
        host = device is None
        most = self._most if host else inf
        route = Route(plans, leaves, build, run, patient=host, loops=loops, most_nodes=most)
        kind = outline(tree)
        if device is None and self._grown[kind] >= MAX_GROWN:
            return route.ends(Fallback("it changes the length of a list at each call"))
        hidden: list[Any] = []
        try:
            route.refuse_more_ways()
            traced = self.traced(leaves, arrays, tree, static, way=route)
            route.back_to(traced.decided)
            route.settle()
            self._grown[kind] += traced.update is not None and traced.update.grows
            hidden = traced.guards.arrays(leaves) + route.handed
            plan = route.build(traced, hidden)
            plan.prepare()
            if config.dump is not None:
                from fusec.stages import dump

                dump(self, plan.trace, tree, arrays)
        except UnsupportedError as error:
            if route.again and route.learn():
                return None
            plan = self._fallback(error)
            if isinstance(error, Undecided):
                route.levels[-1].clear()
                plan.facts = None
            with suppress(UnsupportedError):
                route.settle()
            if route.failed or (error.__cause__ is not None and not route.steps):
                return route.ends(plan)  # it may depend on values
        keep(route.levels[-1], plan)
        self._plans.move_to_end(key)
        while len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return route.ends(plan, hidden)

    def _fallback(self, error: UnsupportedError) -> Fallback:
        """What stands for a plan after an error, which is raised if it has to be."""
        if type(error) is not UnsupportedError:
            if not (self.falls_back and isinstance(error, WARNED)):
                raise error
            text = f"NumPy runs {self.__name__}: {error}"
            loc = user_location() or Loc("<fusec>", 0, "")
            warnings.warn_explicit(text, FallbackWarning, loc.filename, loc.line)
        return Fallback(str(error), error.facts)

    def traced(
        self, leaves: list[Any], arrays: list[Any], tree: TreeDef, static: frozenset[int],
        same: bool = True, way: Way | None = None,
    ) -> Trace:  # fmt: skip
        """Trace one call. Raises UnsupportedError where NumPy has to run the function."""
        if any(isinstance(x, np.ndarray) and not x.dtype.isnative for x in leaves):
            raise UnsupportedError("byte-swapped arrays: NumPy runs the function")
        return trace(self.fn, arrays, tree, static, same, way)

    def _static_leaves(self, tree: TreeDef) -> frozenset[int]:
        if not self._static:
            return frozenset()
        paths = tree.paths("")
        return frozenset(
            k for k, p in enumerate(paths) if any(p.startswith(s) for s in self._static)
        )

    # -- stages -----------------------------------------------------------------------------------

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """The traced call: ``.graph`` is the program as written."""
        from fusec.stages import Traced

        return Traced.of(self, args, kwargs)

    def lower(self, *args: Any, target: str | None = None, **kwargs: Any) -> Any:
        """The optimised program, cut into kernels. Arguments may be ``ShapeDtype``."""
        return self.trace(*args, **kwargs).lower(target)


_TREES: dict[TreeDef, TreeDef] = {}  # of the arguments -> of (arguments, no keywords)
MAX_TREES = 1024


def _positional(args: tuple[Any, ...]) -> tuple[list[Any], TreeDef]:
    """``flatten((args, {}))``, where most calls have one of few structures."""
    leaves, inner = flatten(args)
    tree = _TREES.get(inner)
    if tree is None:
        if len(_TREES) >= MAX_TREES:
            _TREES.clear()
        tree = _TREES[inner] = flatten((args, {}))[1]
    return leaves, tree


def _static_names(
    fn: Callable[..., Any], numbers: Sequence[int], names: Sequence[str]
) -> tuple[str, ...]:
    """How the paths of static arguments begin, given by position or by keyword."""
    if not numbers and not names:
        return ()
    parameters = list(inspect.signature(fn).parameters)
    positions = {n if n >= 0 else len(parameters) + n for n in numbers}
    positions |= {parameters.index(n) for n in names if n in parameters}
    keywords = set(names) | {parameters[p] for p in positions if p < len(parameters)}
    return tuple([f"[0][{p}]" for p in sorted(positions)] + [f"[1]['{n}']" for n in keywords] + [
        f'[1]["{n}"]' for n in sorted(keywords)
    ])


def _inline(fn: Callable[..., Any], session: Any) -> Callable[..., Any]:
    from fusec.trace import capture

    return capture.twin(fn, session)


def overlaps(plan: Outline, leaves: list[Any], hidden: list[np.ndarray]) -> bool:
    """Whether memory that is changed is in the inputs twice: NumPy's order then matters."""
    if not plan.trace.writes:
        return False
    arrays = [x for x in [*leaves, *hidden] if isinstance(x, np.ndarray)]
    for source, _ in plan.trace.writes:
        target = leaves[source.ref] if source.kind == "arg" else hidden[source.ref]
        same = [a for a in arrays if a is target]
        if any(not distinct(a.shape, a.strides, a.itemsize) for a in same):
            return True
        others = [a for a in arrays if a is not target]
        if len(same) > 1 or any(np.may_share_memory(target, a) for a in others):
            return True
    return False


_ERRSTATE = np._core.umath._extobj_contextvar  # type: ignore[attr-defined]
_LOUD: dict[int, tuple[Any, bool]] = {}  # by identity of NumPy's error state, which is immutable
MAX_LOUD = 64


def _raises() -> bool:
    """Whether ``np.errstate`` asks for exceptions, which only NumPy's own loops can raise."""
    state = _ERRSTATE.get(None)
    if state is None:
        return False
    known = _LOUD.get(id(state))
    if known is None:
        if len(_LOUD) > MAX_LOUD:
            _LOUD.clear()
        loud = any(v in LOUD for v in np.geterr().values())
        known = _LOUD[id(state)] = (state, loud)
    return known[1]
