"""One trace: it makes nodes, hands out tracers and remembers what has to hold for its graph.

A session belongs to one call in one thread; tracers keep it, and a tracer whose session has ended
raises on use.
"""

import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np

from fusec.config import config
from fusec.errors import EscapedTracerError, ImpureError, ProgramSizeError, UnsupportedError
from fusec.ir.aval import Aval
from fusec.ir.graph import Literal, Loc, Node
from fusec.ops import OPS
from fusec.ops.registry import Op
from fusec.trace.decisions import Ask, Decision, Pinned, Way
from fusec.trace.locate import user_location
from fusec.trace.rounds import Cut
from fusec.trace.scalars import PyScalar, Recipe
from fusec.trace.standin import is_native, is_stand_in, like_array


class Source:
    """Where the value of a param comes from at each call.

    kind: "arg" (leaf number), "captured" (number among the guards' arrays) or "scalar"
    (a recipe over Python numbers, converted to the param's dtype).
    """

    __slots__ = ("kind", "label", "ref")

    def __init__(self, kind: str, ref: Any, label: str) -> None:
        self.kind = kind
        self.ref = ref
        self.label = label

    def __repr__(self) -> str:
        return f"{self.kind}:{self.label}"


class Storage:
    """The memory of one traced array: its current value, shared by all views of it.

    source: the param it belongs to, or None for memory the function made itself.
    """

    __slots__ = (
        "choice", "item", "like", "node", "root", "source", "start", "version", "writeable",
    )  # fmt: skip

    def __init__(self, node: Node, like: np.ndarray, source: Source | None = None) -> None:
        self.node = self.start = node
        self.like = like
        self.source = source
        self.writeable = True
        self.version = 0
        self.item = False  # a Python number, weak among arrays, as float(x) and np.allclose give
        self.choice: tuple[Any, dict[int, Any]] | None = None  # see ``extremes``
        # The tracer that is the array itself, not a view of it, as long as the function has it: a
        # cycle would keep all that is traced until Python's collector finds it.
        self.root: Callable[[], Any] = _gone

    @property
    def mutated(self) -> bool:
        return self.source is not None and self.node is not self.start


def _gone() -> None:
    pass


class Retrace(BaseException):  # which few functions catch
    """The trace has to begin again, with NumPy's own types."""


class Session:
    """See the module. ``guards`` is what the twin of the user's function read.

    own_types: ``np.float64`` is NumPy's own class, which ``is`` tells apart, and not the stand-in
    that converts traced values.
    """

    def __init__(self, guards: Any = None, own_types: bool = False) -> None:
        self.own_types = own_types
        self._noted: set[str] = set()
        self.params: list[Node] = []
        self.sources: list[Source] = []
        self._used: Counter[str] = Counter()  # how many labels of sources begin alike
        self.storages: list[Storage] = []
        self.scalar_guards: dict[Recipe, Any] = {}
        self.guards = guards
        self.checks: list[Node] = []  # that NumPy would make; see Graph
        self.active = True
        self.captured: list[np.ndarray] = []
        self.opaque: dict[int, int] = {}  # by identity, the arguments that are other objects
        self._lifted: dict[int, Any] = {}
        self._scalars: dict[tuple[Recipe, np.dtype], Node] = {}
        self.sized: dict[Node, np.ndarray] = {}  # params that only depend on shapes
        self.numbers: dict[Node, PyScalar] = {}  # params that are numbers of the call
        self.varying: set[Node] = set()  # nodes whose values only calls know; see ``values``
        self._consts: dict[Any, Node] = {}
        self._lines: dict[Any, Any] = {}
        self.notes: list[str] = []
        self.labels: list[str] = []  # of the arguments' leaves
        self.at: Loc | None = None  # the line that new nodes stand for, where it is not the caller
        self.checkpoints: list[tuple[str, int]] = []  # name and line, bytes that are not kept
        self.ask: Ask | None = None  # makes the programs of decisions
        self.way: Way | None = None  # gives the values of the call that is traced
        self.decisions: list[Decision] = []
        self.decided: dict[Node, np.ndarray] = {}
        self.lines: Counter[Loc | None] = Counter()  # how often each has decided
        self.handed: list[Node] = []  # params for what follows decisions
        self.handed_on: dict[Node, Node] = {}  # what each is
        self.closed: set[Node] = set()  # nodes that depend on nothing but params
        self.values: dict[Node, tuple[Any, int]] = {}  # and the last decision that needed it
        self.made, self.most = 0, inf  # nodes, and how many there may be
        self.checked = 0  # checks that have been made with them
        self.closing = False  # the function has come to its end
        self.loop: Pinned | None = None  # whose rounds are being traced
        self.cuts: list[Cut] = []  # loops that have been traced
        self.missing: tuple[Cut, Sequence[Node]] | None = None  # it should hand on more

    # -- nodes ------------------------------------------------------------------------------

    def make(self, op: Op | str, *inputs: Node, **attrs: Any) -> Node:
        """A node of ``op``, with the aval the op infers and the user's line."""
        if not self.active:
            raise escaped(None)
        if isinstance(op, str):
            op = OPS[op]
        aval = op.infer_aval(*[i.aval for i in inputs], **attrs)
        node = Node(op, inputs, attrs, aval, self.at or user_location(self._lines))
        self.made += 1
        if self.made > self.most:
            what = f"more than {self.most:,} operations, the last of them at {node.loc}"
            raise oversized(what, 4 * config.most_nodes)
        if node.checked:
            self.checks.append(node)
        return node

    def location(self) -> Loc | None:
        return self.at or user_location(self._lines)

    def const(self, value: Any, dtype: np.dtype | None = None) -> Node:
        """A constant of the graph: part of the kernels' text where it is small."""
        exact = type(value) in (int, float) and value != 0  # of which equal ones are the same
        key = (type(value), value, dtype) if exact else None
        node = self._consts.get(key)
        if node is not None:
            return node
        with np.errstate(all="ignore"):
            literal = Literal(np.array(value, dtype))
        node = self._consts.get(literal)
        if node is None:
            aval = Aval(literal.value.shape, literal.value.dtype)
            node = self._consts[literal] = Node(OPS["const"], (), {"value": literal}, aval)
        if exact:
            self._consts[key] = node
        return node

    def warn(self, text: str, category: type[Warning]) -> None:
        """Warn at the user's line that is traced."""
        loc = self.location() or Loc("<fusec>", 0, "")
        warnings.warn_explicit(text, category, loc.filename, loc.line)

    def cast(self, node: Node, dtype: np.dtype) -> Node:
        """``node`` as ``dtype``; constants are converted now.

        NumPy's warning about lost imaginary parts comes once for a line, when it is traced.
        """
        if node.dtype == dtype:
            return node
        if node.dtype.kind == "c" and dtype.kind in "fiu":
            text = "Casting complex values to real discards the imaginary part"
            self.warn(text, np.exceptions.ComplexWarning)
        if node.op.name == "const":
            value = node.attrs["value"].value
            with np.errstate(all="ignore"):
                return self.const((value.real if dtype.kind in "fiu" else value).astype(dtype))
        return self.make("cast", node, dtype=np.dtype(dtype))

    def broadcast(self, node: Node, shape: tuple[int, ...]) -> Node:
        return node if node.shape == shape else self.make("broadcast_to", node, shape=shape)

    def reshape(self, node: Node, shape: tuple[int, ...]) -> Node:
        return node if node.shape == shape else self.make("reshape", node, shape=shape)

    # -- params -----------------------------------------------------------------------------

    def param(self, aval: Aval, source: Source) -> Node:
        name = source.label
        node = Node(OPS["param"], (), {"name": name, "aval": aval}, aval)
        self.params.append(node)
        self.sources.append(source)
        self._used[name.split(":")[0]] += 1
        return node

    def array_param(self, array: np.ndarray, source: Source) -> Any:
        """The tracer of an array argument or of a captured array."""
        from fusec.trace.tracer import Tracer

        dtype = array.dtype
        if dtype.names or dtype.char in "gG":
            raise UnsupportedError(f"{source.label} has dtype {dtype}: NumPy runs the function")
        like = like_array(array)
        storage = self.storage(self.param(Aval(array.shape, dtype), source), like, source)
        storage.writeable = array.flags.writeable or is_stand_in(array)
        tracer = Tracer(self, storage, (), like)
        storage.root = weakref.ref(tracer)
        return tracer

    def scalar_param(self, scalar: PyScalar, dtype: np.dtype) -> Node:
        """A Python number as a 0-d value of ``dtype``, converted at each call as NumPy would."""
        key = (scalar._recipe, dtype)
        node = self._scalars.get(key)
        if node is None:
            value = np.array(scalar._value, dtype)  # raises as NumPy would, now
            node = self._scalars[key] = self._scalar_node(scalar, value)
            if scalar._recipe[0] != "lit":
                self.numbers[node] = scalar
        return node

    def _scalar_node(self, scalar: PyScalar, value: np.ndarray) -> Node:
        if scalar._recipe[0] != "lit":
            source = Source("scalar", scalar._recipe, self._scalar_label(scalar._recipe))
            return self.param(Aval((), value.dtype), source)
        if type(scalar._value) is int:
            return self.cast(self.make("dim", value=scalar._value), value.dtype)
        node = self.param(Aval((), value.dtype), Source("constant", value, repr(scalar._value)))
        self.sized[node] = value
        return node

    def _scalar_label(self, recipe: Recipe) -> str:
        name = self.labels[recipe[1]] if recipe[0] == "arg" and self.labels else "scalar"
        used = self._used[name]
        return f"{name}:{used}" if used else name

    def storage(self, node: Node, like: np.ndarray, source: Source | None = None) -> Storage:
        new = Storage(node, like, source)
        if source is not None:
            self.storages.append(new)
        return new

    def guard_scalar(self, recipe: Recipe, value: Any) -> None:
        self.scalar_guards[recipe] = value

    # -- what capture asks of us --------------------------------------------------------------

    def lift(self, array: np.ndarray, path: Any) -> Any:
        """The tracer of a captured array; one array is one hidden input."""
        found = self._lifted.get(id(array))
        if found is None:
            if isinstance(array, np.ndarray) and not is_native(array):
                raise UnsupportedError(f"{path} is byte-swapped or misaligned: pass a copy")
            source = Source("captured", len(self.captured), str(path))
            found = self._lifted[id(array)] = self.array_param(array, source)
            self.captured.append(array)
        return found

    def noted(self, parts: frozenset[str]) -> None:
        """Code that has these parts of ``x.dtype.type is np.float64`` is about to run."""
        self._noted |= parts
        if self.compares_types and not self.own_types:
            raise Retrace

    @property
    def compares_types(self) -> bool:
        return len(self._noted) == 2

    def numpy_override(self, name: str) -> Callable[..., Any] | None:
        from fusec.trace.overrides import override

        return override(self, name)

    def forbid(self, name: str) -> Any:
        result = (
            "its result be frozen into the compiled program. Call it outside and pass the result "
            "as an argument."
        )
        if ".save" in name:
            result = "not at each call. Return the array and save it outside."
        raise ImpureError(
            f"{self.location()}: {name} inside a function traced by fusec.jit would run once, "
            f"while the function is traced, and {result}"
        )

    def escape(self, path: Any, value: Any) -> None:
        self.notes.append(f"a traced array was stored in {path}")

    # -- dispatch -----------------------------------------------------------------------------

    ufunc: Callable[..., Any]  # set in ``ufuncs``

    def function(self, func: Any, args: Any, kwargs: Any) -> Any:
        from fusec.trace.functions import call_function

        return call_function(self, func, args, kwargs)


def oversized(what: str, enough: int) -> ProgramSizeError:
    """That a function makes too many operations, and the setting that allows as many."""
    return ProgramSizeError(
        f"it makes {what}, which would take long to compile. Let one operation on arrays do what "
        "an inner loop does (rounds whose slices differ in length can't become one loop), or "
        f"allow more: fusec.config.most_nodes = {enough:_}"
    )


def escaped(loc: Loc | None) -> EscapedTracerError:
    made = f" It was made at {loc}." if loc else ""
    return EscapedTracerError(
        "a traced array was used after the traced function had returned: it was stored in an "
        f"attribute, a global or a list.{made} Return it from the function instead."
    )
