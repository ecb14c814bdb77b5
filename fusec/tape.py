"""``fusec.Tape``: differentiation for those who write programs line by line.

Inside the block an operation on a ``fusec.Array`` computes nothing. It becomes a step of a
``Recording``, and its result an array that knows its shape and dtype and has no memory yet. The
first value that is asked for, or the end of ``Tape.gradient``, runs one jitted function that goes
through the steps and gives every array that is still referred to. It is found by the steps: the
same lines with the same shapes trace and compile once.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from fusec import remote
from fusec.arrays import assign
from fusec.autodiff.transform import value_and_grad
from fusec.dispatch import JitFunction, device_key
from fusec.errors import DerivativeError, ShapeError, TapeError, UnsupportedError
from fusec.plan import Outline, apply_view
from fusec.runtime import cpu
from fusec.runtime.array import Array, empty, recording, same_device, upload
from fusec.runtime.shadow import shadow
from fusec.trace.run import Result, Trace, session_of
from fusec.trace.scalars import compute
from fusec.trace.tree import TreeDef, flatten

Ref = tuple[int, int]  # step and leaf of its result; step -1: an input of the recording
MAX_PROGRAMS = 256  # recordings whose programs are kept
CHANGED = (
    "fusec.Tape: an array that the tape had read was changed in place before what depends on it "
    "was computed. Take the gradient, or read the value, before the update; inside the block "
    "write x = x + 1 for x += 1, and for x[1:2] = 0 call a function under fusec.jit that copies x, "
    "updates the copy and returns it"
)


class Static:
    """A value that is part of the program: an axis, an index, a name."""

    __slots__ = ("facts", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        known = isinstance(value, int | str | bytes | type(None) | np.dtype | type)
        self.facts = (type(value), value if known else repr(value))

    def __eq__(self, other: object) -> bool:
        return type(other) is Static and self.facts == other.facts

    def __hash__(self) -> int:
        return hash(self.facts)


Step = tuple[int, JitFunction, TreeDef, tuple[Ref | Static, ...]]  # with its number


class Recording:
    """What happened in the blocks of a tape and of those inside it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.inputs: list[Any] = []
        self.captured: list[Array] = []
        self._known: dict[int, tuple[weakref.ref[Array], Ref, int]] = {}  # by id; version

    def record(self, function: JitFunction, leaves: Sequence[Any], tree: TreeDef) -> Any:
        """One more step; its results are arrays without memory."""
        device = self._device(leaves)
        leaves = [
            upload(device, x, "an array in a Tape") if isinstance(x, np.ndarray) else x
            for x in leaves
        ]
        outline, hidden = outlined(function, leaves, tree)
        static = function._static_leaves(tree)
        number = len(self.steps)
        refs = tuple([Static(x) if k in static else self.ref_of(x) for k, x in enumerate(leaves)])
        self.steps.append((number, function, tree, refs))
        self.captured += [x for x in hidden if type(x) is Array]
        made: list[Any] = []
        for k, r in enumerate(outline.trace.results):
            if r.kind == "same" or (r.kind == "arg" and not r.path):
                made.append((made if r.kind == "same" else leaves)[r.ref])
                continue
            like = _like(r, outline.trace, leaves, hidden)
            made.append(self._later(like, (number, k)) if isinstance(like, np.ndarray) else like)
        return outline.trace.tree.unflatten(made)

    def ref(self, x: Any) -> Ref | None:
        """Where an array stands in the recording."""
        found = self._known.get(id(x))
        return found[1] if found is not None and found[0]() is x else None

    def flush(self) -> None:
        """Run what was recorded, for every array without memory that is still referred to."""
        known = [(weak(), ref, version) for weak, ref, version in self._known.values()]
        waiting = [(x, ref) for x, ref, _ in known if x is not None and x.waits is not None]
        waiting.sort(key=lambda pair: pair[1])  # ids, and so the order of the dict, are chance
        if not waiting:
            return
        if any(x.buffer.version != v for x, ref, v in known if x is not None and ref[0] < 0):
            raise TapeError(CHANGED)
        wanted = tuple([ref for _, ref in waiting])
        run = _program(self.needed(wanted), wanted)
        with recorded_by(None):
            values = run(self.inputs)
        for (x, ref), value in zip(waiting, values):
            if value.strides != x.strides and x.size > 1:  # whoever saw the layout relies on it
                laid_out = empty(value.buffer.device, x.shape, x.dtype, x.strides)
                assign(laid_out, value)
                value = laid_out
            x.buffer, x.offset, x.waits = value.buffer, value.offset, None
            self._known[id(x)] = (weakref.ref(x), ref, x.buffer.version)

    def needed(self, refs: Iterable[Ref]) -> tuple[Step, ...]:
        """The steps that lead to some results."""
        wanted, found = {n for n, _ in refs}, []
        for step in reversed(self.steps):
            if step[0] in wanted:
                found.append(step)
                wanted |= {r[0] for r in step[3] if type(r) is tuple}
        return tuple(reversed(found))

    def _device(self, leaves: Sequence[Any]) -> Any:
        given = [x for x in [*leaves, *self.inputs] if type(x) is Array]
        return same_device([x for x in given if x.waits is not self])

    def ref_of(self, x: Any) -> Any:
        """As ``ref``; what stands nowhere yet becomes an input, or part of the program."""
        if type(x) is Array:
            found = self.ref(x)
            if found is None:
                found = self._input(x)
                self._known[id(x)] = (weakref.ref(x), found, x.buffer.version)
            elif x.waits is None and x.buffer.version != self._known[id(x)][2]:
                raise TapeError(CHANGED)
            return found
        if isinstance(x, float | complex | np.generic):
            return self._input(x)
        return Static(x)

    def _input(self, x: Any) -> Ref:
        self.inputs.append(x)
        return (-1, len(self.inputs) - 1)

    def _later(self, like: np.ndarray, ref: Ref) -> Array:
        made: Array = Array.__new__(Array)
        made.shape, made.dtype, made.strides = like.shape, like.dtype, like.strides
        made.waits = self
        self._known[id(made)] = (weakref.ref(made), ref, 0)
        return made



# -- steps ----------------------------------------------------------------------------------------


@contextmanager
def recorded_by(one: Recording | None) -> Iterator[None]:
    """What happens inside goes to this recording."""
    token = recording.set(one)
    try:
        yield
    finally:
        recording.reset(token)


def outlined(
    function: JitFunction, leaves: list[Any], tree: TreeDef
) -> tuple[Outline, Sequence[Any]]:
    """What a call would give, traced once for each signature, and the arrays that it captures."""
    static = function._static_leaves(tree)
    key = device_key("outline", leaves, tree, static)
    found = function._find(key, leaves, None)
    if found is not None:
        return found.plan, found.hidden
    arrays = [x if k in static else remote.layout(x) for k, x in enumerate(leaves)]
    try:
        with cpu.native_lock:
            trace = function.traced(leaves, arrays, tree, static, same=False)
    except UnsupportedError as error:
        raise DerivativeError(f"fusec.Tape can't record this: {error}") from None
    if trace.update is not None:
        raise DerivativeError("fusec.Tape can't record this: it changes a container")
    if trace.writes:
        raise TapeError(CHANGED)
    outline = Outline(trace)
    function._plans.setdefault(key, []).insert(0, outline)
    return outline, trace.guards.arrays(leaves)


def _like(result: Result, trace: Trace, leaves: Sequence[Any], hidden: Sequence[Any]) -> Any:
    """The layout of a result, or the result where it is no array."""
    if result.kind == "value":
        return result.ref
    if result.kind == "python":
        return compute(result.ref, leaves)
    if result.kind == "output":
        node = trace.graph.outputs[result.ref]
        like = shadow(node.shape, node.dtype, trace.out_strides[result.ref])
    else:
        given = (leaves if result.kind == "arg" else hidden)[result.ref]
        like = given.like if type(given) is Array else given
    for step in result.path:
        like = apply_view(like, step)
    return like


def replay(
    steps: Sequence[Step], inputs: Sequence[Any], given: dict[Ref, Any] | None = None
) -> dict[Ref, Any]:
    """The value of every result, with some of them given."""
    values = {(-1, k): x for k, x in enumerate(inputs)} | (given or {})
    for number, function, tree, refs in steps:
        args, kwargs = tree.unflatten([
            r.value if type(r) is Static else values[r] for r in refs  # type: ignore[index]
        ])  # fmt: skip
        for k, leaf in enumerate(flatten(function(*args, **kwargs))[0]):
            values.setdefault((number, k), leaf)
    return values


@lru_cache(MAX_PROGRAMS)
def _program(steps: tuple[Step, ...], wanted: tuple[Ref, ...]) -> JitFunction:
    """The jitted function that takes the inputs of a recording to some of its arrays."""

    def tape(inputs: list[Any]) -> list[Any]:
        values = replay(steps, inputs)
        return [values[ref] for ref in wanted]

    return JitFunction(tape)


@lru_cache(MAX_PROGRAMS)
def _gradient(steps: tuple[Step, ...], loss: Ref, sources: tuple[Ref, ...]) -> JitFunction:
    """The jitted function that takes the inputs of a recording to the gradients of ``loss``."""

    given = [ref for ref in sources if ref[0] < 0]
    inside = [ref for ref in sources if ref[0] >= 0]  # one may depend on another

    def gradient(inputs: list[Any]) -> list[Any]:
        session: Any = session_of(inputs, gradient)
        values = replay(steps if inside else (), inputs)
        grads: dict[Ref, Any] = {}
        for refs in (given, *[[ref] for ref in inside]):

            def run(sources: list[Any], refs: list[Ref] = refs) -> Any:
                return replay(steps, inputs, dict(zip(refs, sources)))[loss]

            at = [values[ref] for ref in refs]
            found = value_and_grad(session, run, 0, False, (at,), {}, "Tape.gradient")[1]
            grads |= zip(refs, found)
        return [grads[ref] for ref in sources]

    return JitFunction(gradient)


# -- for users ------------------------------------------------------------------------------------


class Tape:
    """Records what is computed from arrays of a device, for ``gradient``.

    persistent: ``gradient`` may be called more than once.

    Every ``fusec.Array`` that is used in the block is watched. ``fusec.to_device(x, "cpu")`` makes
    one in the host's memory. A value may be read at any time; what is recorded runs when one is,
    or when ``gradient`` is called, as one program. Python floats are run-time values; ints, strings
    and whatever else is no array are part of the program. A tape inside a tape gives second
    derivatives.

    >>> import numpy as np, fusec
    >>> w = fusec.to_device(np.array([1.0, 2.0]), "cpu")
    >>> with fusec.Tape() as tape:
    ...     loss = (w * w * w).sum()
    >>> np.asarray(tape.gradient(loss, w)), float(loss)
    (array([ 3., 12.]), 9.0)
    """

    def __init__(self, persistent: bool = False) -> None:
        self.persistent = persistent
        self._recording: Recording | None = None
        self._used = False

    def __enter__(self) -> Tape:
        self._recording, self._used = recording.get() or Recording(), False
        self._token = recording.set(self._recording)
        return self

    def __exit__(self, *_: object) -> None:
        recording.reset(self._token)

    def gradient(self, loss: Any, sources: Any) -> Any:
        """The gradient of ``loss`` in each array of ``sources``, in the same containers.

        loss: an array of shape () that was computed in the block. sources: an array or a container
        of arrays, which may have been computed in the block, too. The gradient in an array that
        ``loss`` does not depend on is 0. Raises TapeError for a loss that was not recorded and for
        a second call without ``persistent``, ShapeError for a loss of more than one number.
        """
        tape = self._ready(loss)
        at = tape.ref(loss)
        if at is None:
            raise TapeError(
                "fusec.Tape: the loss was not recorded: compute it inside the block, from "
                'fusec.Arrays (fusec.to_device(x, "cpu") makes one)'
            )
        if loss.shape != ():
            raise ShapeError(
                f"fusec.Tape: the loss has shape {loss.shape}: sum it up, or take its mean"
            )
        leaves, tree = flatten(sources)
        with recorded_by(tape):
            refs = tuple([_source(tape, x) for x in leaves])
            args = (list(tape.inputs),)
            made = tape.record(_gradient(tape.needed([at]), at, refs), *flatten((args, {})))
        self._used = True
        if recording.get() is None:
            tape.flush()
        if not self.persistent:
            self._recording = None
        return tree.unflatten(made)

    def _ready(self, loss: Any) -> Recording:
        if self._used and not self.persistent:
            raise TapeError(
                "fusec.Tape: its gradient was taken already, and the recording is gone: write "
                "fusec.Tape(persistent=True)"
            )
        if self._recording is None:
            raise TapeError("fusec.Tape: nothing was recorded yet: `with fusec.Tape() as tape:`")
        return self._recording


def _source(tape: Recording, x: Any) -> Ref:
    if type(x) is not Array:
        raise TapeError(
            f"fusec.Tape: a source is a {type(x).__name__}: differentiate in fusec.Arrays, "
            'fusec.to_device(x, "cpu")'
        )
    if any(x is y for y in tape.captured):
        raise DerivativeError(
            "fusec.Tape: a jitted function reads this source from outside: give it as an argument"
        )
    found: Ref = tape.ref_of(x)
    return found
