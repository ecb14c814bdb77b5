"""Traces one call: arguments become tracers, the twin runs, results become recipes.

A ``Trace`` is what the rest of the compiler needs: a closed graph, where each param comes from at a
call, and how the user's results are made of the graph's outputs.
"""

import functools
import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fusec.errors import (
    ConcreteValueError,
    DTypeError,
    FusecError,
    ShapeError,
    UnsupportedError,
    refusing,
)
from fusec.ir.aval import is_number
from fusec.ir.graph import Graph, Node, toposort
from fusec.trace import capture, indexing, ufuncs  # noqa: F401  (each completes a class)
from fusec.trace.decisions import Decision, Way, after, checks_of, cut, looped, told
from fusec.trace.extremes import settle
from fusec.trace.guards import Guards
from fusec.trace.scalars import NUMBERS, PyScalar, Recipe, compute, returned
from fusec.trace.session import Retrace, Session, Source, Storage, escaped
from fusec.trace.standin import copy_like, stand_in
from fusec.trace.steps import Step
from fusec.trace.tracer import Tracer
from fusec.trace.tree import TreeDef, flatten
from fusec.trace.twins import trace_code
from fusec.trace.writeback import Update, Watched

_PLAIN = (str, bytes, int, float, complex, bool, type(None))
_OURS = ("'Tracer'", "'PyScalar'", "'Selection'")  # memoryview(x), struct.unpack("d", x) name them
TRACED = 64  # operations that are traced for each that may be left when loops have been found
NUMPYS = (ShapeError, DTypeError)
"""Errors of ours that NumPy raises too; it keeps the updates that came before."""


@dataclass
class Result:
    """How one leaf of the user's result is made.

    kind: "output" (graph output ``ref``), "arg" (argument leaf ``ref``), "captured" (hidden array
    ``ref``), "python" (recipe ``ref``), "value" (``ref`` itself) or "same" (the object that leaf
    ``ref`` of the result is). path: views on top of it; scalar: hand over a NumPy scalar.
    """

    kind: str
    ref: Any
    path: tuple[Step, ...] = ()
    scalar: bool = False
    view: bool = False  # a new array object over the whole of it
    item: bool = False  # a Python number


@dataclass
class Trace:
    """One traced call. ``writes``: (source, graph output) of arrays the function changed.

    update: of changed containers; ``results`` and ``tree`` are then those of its values.
    decisions: what ``if`` and its like have found, for which the graph was made; decided: how many
    those are, each round of a loop counted.
    """

    graph: Graph
    sources: list[Source]
    strides: list[tuple[int, ...]]
    out_strides: list[tuple[int, ...]]
    results: list[Result]
    tree: TreeDef
    writes: list[tuple[Source, int]]
    guards: Guards
    scalar_guards: dict[Recipe, Any]
    notes: list[str] = field(default_factory=list)
    checkpoints: list[tuple[str, int]] = field(default_factory=list)
    update: Update | None = None
    decisions: list[Decision] = field(default_factory=list)
    decided: int = 0

    @functools.cached_property
    def numbers(self) -> list[Recipe]:
        """What is computed of Python numbers by a function that has changed an argument before."""
        if not self.writes and self.update is None:
            return []
        found = [s.ref for s in self.sources if s.kind == "scalar"]
        found += [r.ref for r in self.results if r.kind == "python"]
        return [r for r in found if r[0] not in ("arg", "lit")]

    def holds(self, leaves: Sequence[Any]) -> bool:
        """Whether the Python numbers whose values were used still have them, and none raises."""
        try:
            for recipe in self.numbers:
                compute(recipe, leaves)
        except (ArithmeticError, ValueError):  # of 1 / n; a new trace tells what changes before
            return False
        return _same(self.scalar_guards, leaves)


@dataclass(frozen=True)
class Facts:
    """What a trace that failed has read until then: without that it may go another way."""

    guards: Guards
    scalar_guards: dict[Recipe, Any]

    def hold(self, leaves: Sequence[Any]) -> bool:
        return self.guards.fetch(leaves) is not None and _same(self.scalar_guards, leaves)


def _same(scalar_guards: dict[Recipe, Any], leaves: Sequence[Any]) -> bool:
    try:
        for recipe, value in scalar_guards.items():
            now = compute(recipe, leaves)
            if type(now) is not type(value) or repr(now) != repr(value):  # 0.0 and -0.0 differ
                return False
    except (ArithmeticError, ValueError):
        return False
    return True


def trace(
    fn: Callable[..., Any], leaves: Sequence[Any], tree: TreeDef, static: frozenset[int],
    same: bool = True, way: Way | None = None,
) -> Trace:  # fmt: skip
    """Trace ``fn(*args, **kwargs)`` where ``(args, kwargs)`` flattens to ``leaves`` and ``tree``.

    static: numbers of the leaves that are handed over as they are. same: an argument's container
    that is returned is that very object. way: gives the values that Python decides on. None: such
    a decision is an error.
    Raises what the function raises, and UnsupportedError for effects that tracing can't express,
    whose ``facts`` say for which calls.
    """
    session = Session(Guards())
    try:
        made = _trace(session, fn, leaves, tree, static, same, way)
    except (Retrace, Exception) as error:
        if not session.compares_types:
            _note(error, session)
            raise
    else:
        if not session.compares_types:  # a bare `except:` may have caught Retrace
            return made
    session = Session(Guards(), own_types=True)
    try:
        return _trace(session, fn, leaves, tree, static, same, way)
    except UnsupportedError as error:
        _note(error, session)
        raise


def _note(error: BaseException, session: Session) -> None:
    if isinstance(error, UnsupportedError):
        error.facts = Facts(session.guards, session.scalar_guards)


def _trace(
    session: Session, fn: Any, leaves: Sequence[Any], tree: TreeDef, static: frozenset[int],
    same: bool, way: Way | None,
) -> Trace:  # fmt: skip
    names = session.labels = labels(fn, tree)
    if way is not None:
        session.ask, session.way = functools.partial(_asked, session), way
        session.most = way.most_nodes * TRACED
    run = capture.twin(fn, session)
    traced = [
        leaf if k in static else _argument(session, k, leaf, names[k])
        for k, leaf in enumerate(leaves)
    ]
    args, kwargs = tree.unflatten(traced)
    watched = Watched((args, kwargs), traced, lambda: capture.seen(session))
    try:
        with np.errstate(all="ignore"), refusing():
            value = run(*args, **kwargs)
        capture.finish(session)
        if session.notes:
            raise UnsupportedError(session.notes[0])
        update = watched.update(value)
        if not (update.needed if same else update.changes):
            return _close(session, value)
        made = _close(session, tuple(update.values))
        made.update, update.values = update, []  # tracers, which keep the whole trace
        return made
    except Exception as error:
        if session.missing is not None or not session.closing:
            _find_loop(session, session.missing[1] if session.missing is not None else [])
        if type(error) is TypeError and any(name in str(error) for name in _OURS):
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise ConcreteValueError(
                f"{at.filename}:{at.lineno}: what is called here takes memory, or only real "
                f"arrays ({error}). Call it outside the jitted function."
            ) from None
        changed = watched.changed() or any(s.mutated for s in session.storages)
        kept = changed and isinstance(error, NUMPYS)
        own = isinstance(error, FusecError) or not (
            changed or session.decisions or _holds(error)
        )
        if own and not kept:
            raise
        when = "has looked at values" if session.decisions else "hands over what it computes"
        when = "has changed an argument" if changed else when
        raise UnsupportedError(f"it raises {type(error).__name__} when it {when}") from error
    finally:
        session.active, session.ask, session.way = False, None, None
        session.values.clear()


def _holds(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, may hold what only a trace knows."""
    if error is None:
        return False
    plain = all(type(a) in _PLAIN for a in [*error.args, *vars(error).values()])
    return not plain or _holds(error.__cause__) or _holds(error.__context__)


def labels(fn: Callable[..., Any], tree: TreeDef) -> list[str]:
    """What the user calls each leaf of ``(args, kwargs)``: ``x``, ``params["w"]``, ``args[2]``."""
    code = getattr(fn, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    names = names or tuple(positional_names(getattr(fn, "__wrapped__", None)))
    args, kwargs = tree.children
    found: list[str] = []
    for k, child in enumerate(args.children):
        found += child.paths(names[k] if k < len(names) else f"args[{k - len(names)}]")
    for name, child in zip(kwargs.steps(), kwargs.children):
        found += child.paths(name[2:-2])
    return found


def session_of(leaves: Sequence[Any], fn: Any) -> Session | None:
    """The trace that is under way and that these values belong to, or the function was made in."""
    session: Session | None = None
    for leaf in leaves:
        if type(leaf) is Tracer or type(leaf) is PyScalar:
            session = leaf._session
            return session
    made_in: Any = trace_code(fn)
    session = made_in.capture.session if made_in is not None else None
    return session if session is not None and session.active else None


def positional_names(fn: Any) -> list[str]:
    """The names of the parameters that may be given by position, as far as they are known."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]


def _argument(session: Session, k: int, leaf: Any, name: str) -> Any:
    if isinstance(leaf, np.ndarray):
        return session.array_param(leaf, Source("arg", k, name))
    if isinstance(leaf, np.generic) and is_number(leaf.dtype):
        found = session.array_param(np.asarray(leaf), Source("arg", k, name))
        found._scalar = True
        session.numbers[found.node] = PyScalar(leaf, ("arg", k), session)
        return found
    if type(leaf) in NUMBERS:
        return PyScalar(leaf, ("arg", k), session)
    path = session.guards.argument(k, name)
    session.opaque[id(leaf)] = k
    return capture.proxy_argument(leaf, path, session)


def _close(session: Session, value: Any) -> Trace:
    """The graph of everything that leaves the function: results and changed arrays."""
    leaves, tree = flatten(value)
    settle(leaves)
    outputs: list[Node] = []
    storages: dict[Storage, int] = {}
    results: list[Result] = []
    first: dict[int, int] = {}
    for k, leaf in enumerate(leaves):
        before = first.setdefault(id(leaf), k)
        again = before < k and type(leaf) is Tracer and not leaf._scalar
        results.append(
            Result("same", before) if again else _result(session, leaf, storages, outputs)
        )
    writes = []
    for storage in session.storages:
        if storage.mutated:
            assert storage.source is not None
            writes.append((storage.source, len(outputs)))
            storages[storage] = len(outputs)
            outputs.append(storage.node)
    if any(n.op.name == "param" for n in toposort(outputs, session.params)[len(session.params) :]):
        raise escaped(None)  # one example's value, kept by a function under ``vmap``
    session.closing = True
    if _find_loop(session, outputs):
        raise UnsupportedError("it is traced again, with a loop that was found")
    layouts = [copy_like(s.like).strides if s.source else s.like.strides for s in storages]
    made = _of_graph(session, outputs, layouts, results, tree)
    made.writes = writes
    return made


def _asked(session: Session, nodes: list[Node]) -> Trace:
    """The program that gives nodes of a trace under way, as a tuple: the first as a number."""
    made = _of_graph(session, nodes, *_as_tuple(nodes))
    made.guards, made.scalar_guards = made.guards.copy(), {**made.scalar_guards}
    made.sources = [*made.sources]
    return made


def _as_tuple(nodes: list[Node]) -> tuple[list[tuple[int, ...]], list[Result], TreeDef]:
    results = [Result("output", k, scalar=k == 0) for k in range(len(nodes))]
    layouts = [stand_in(n.shape, n.dtype).strides for n in nodes]
    return layouts, results, flatten((0,) * len(nodes))[1]


def _find_loop(session: Session, outputs: list[Node]) -> bool:
    """Whether the decisions of a trace, which gives these, are those of a loop."""
    way = session.way
    if way is None or not way.loops or way.again or not session.decisions:
        return False
    way.ended(len(session.decisions))
    if session.loop is not None:
        cut(session)
    made = looped(session, outputs)
    if made is not None:
        found, build, outputs = made
        like: Trace = session.decisions[found.first].trace
        number = [s.kind for s in like.sources].count("captured")
        layouts, results, tree = _as_tuple(outputs)
        program = replace(
            like, graph=Graph([*like.graph.params, build.most], outputs), results=results,
            sources=[*like.sources, Source("captured", number, "most")],
            strides=[*like.strides, ()], out_strides=layouts, tree=tree,
        )  # fmt: skip
        way.found(found, program)
    elif session.values:
        way.undecided(session.decisions[-1].loc)
    return made is not None


def _of_graph(
    session: Session, outputs: list[Node], layouts: list[tuple[int, ...]],
    results: list[Result], tree: TreeDef,
) -> Trace:  # fmt: skip
    """What earlier decisions have handed on are captured arrays that follow all others."""
    params = {id(s.start): s for s in session.storages}
    strides = [
        params[id(p)].like.strides if id(p) in params else (0,) * p.aval.ndim
        for p in session.params
    ]
    checks, sources = checks_of(session), session.sources
    handed_on = session.handed
    if session.decisions:
        now = after(session, [*outputs, *checks])
        outputs, checks = now[: len(outputs)], now[len(outputs) :]
        first = len(session.captured)
        sources = [*sources, *[Source("captured", first + k, n.attrs["name"])
                               for k, n in enumerate(handed_on)]]  # fmt: skip
        strides += [stand_in(n.shape, n.dtype).strides for n in handed_on]
    graph = Graph([*session.params, *handed_on], outputs, checks)
    return Trace(
        graph, sources, strides, layouts, results, tree, [], session.guards,
        session.scalar_guards, session.notes, session.checkpoints, None, told(session),
        len(session.decisions),
    )  # fmt: skip


def _result(
    session: Session, leaf: Any, storages: dict[Storage, int], outputs: list[Node]
) -> Result:
    if type(leaf) is Tracer:
        if leaf._session is not session:
            raise escaped(leaf._storage.node.loc)
        if any(name == "gather" for name, _ in leaf._path):
            leaf = leaf.copy("K")
        storage = leaf._storage
        source = storage.source
        single = leaf._scalar or storage.start in session.numbers
        if source is not None and (
            source.kind == "captured" or (source.kind == "arg" and not single)
        ):
            view = leaf is not storage.root()
            return Result(source.kind, source.ref, leaf._path, leaf._scalar, view)
        number = storages.setdefault(storage, len(outputs))
        if number == len(outputs):
            outputs.append(storage.node)
        view = leaf is not storage.root()
        return Result("output", number, leaf._path, leaf._scalar, view, storage.item)
    if type(leaf) is PyScalar:
        return Result("python", returned(leaf._recipe))
    if type(leaf).__module__ == "fusec.trace.selection":
        leaf.refuse("returned")
    if id(leaf) in session.opaque:
        return Result("arg", session.opaque[id(leaf)])
    unwrap = getattr(type(leaf), "__fusec_unwrap__", None)
    return Result("value", unwrap(leaf) if unwrap else leaf)
