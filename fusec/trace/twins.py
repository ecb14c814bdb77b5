"""Twins: the code of a user's function over globals, cells and defaults that map what is read."""

import builtins
import dis
import functools
import types
from typing import TYPE_CHECKING, Any

from fusec.trace.guards import Path

if TYPE_CHECKING:
    from fusec.trace.capture import Capture


class TwinGlobals(dict[str, Any]):
    """The globals of twins: filled from the real ones, name by name, when a name is read.

    LOAD_GLOBAL asks a subclass of dict through ``__getitem__``, which asks ``__missing__``.
    """

    __slots__ = ("capture", "given", "path", "real")

    def __init__(self, capture: "Capture", real: dict[str, Any], path: Path):
        fixed = {"__builtins__": capture.builtins, "__name__": real.get("__name__")}
        super().__init__(fixed)
        self.capture = capture
        self.real = real
        self.path = path
        self.given: dict[str, object] = dict(fixed)

    def __missing__(self, name: str) -> Any:
        if name in self.real:
            path = self.path.item(name, f"{self.path}.{name}" if str(self.path) else name)
            value = self.capture.map(self.real[name], path)
        else:
            self.capture.guards.add(self.path, "lacks", name)
            value = self.capture.library(vars(builtins)[name], f"builtins.{name}")
        self[name] = self.given[name] = value
        return value


def trace_code(value: Any) -> TwinGlobals | None:
    """The globals of a function (method, partial, jitted) that is a twin or was made by one."""
    while type(value) in _PARTS or hasattr(type(value), "__fusec_inline__"):
        value = getattr(value, _PARTS.get(type(value), "__fusec_inline__"))
    found = value.__globals__ if type(value) is types.FunctionType else None
    return found if type(found) is TwinGlobals else None


_PARTS: dict[type, str] = {types.MethodType: "__func__", functools.partial: "func"}


def make_twin(capture: "Capture", fn: types.FunctionType, path: Path | None) -> Any:
    """The same code over mapped globals, cells and defaults; ``path`` of a function argument."""
    base = path or capture.guards.pin(fn, fn.__qualname__)
    capture.guards.add(base.attr("__code__"), "is", fn.__code__)
    capture.session.noted(type_comparison(fn.__code__))
    cells = fn.__closure__ or ()
    fresh = [i for i, cell in enumerate(cells) if id(cell) not in capture.stand_ins]
    for i in fresh:
        capture.stand_ins[id(cells[i])] = (cells[i], types.CellType())
    closure = tuple([capture.stand_ins[id(cell)][1] for cell in cells]) or None
    made = types.FunctionType(fn.__code__, _twin_globals(capture, fn), fn.__name__, None, closure)
    made.__qualname__ = fn.__qualname__
    capture.stand_ins[id(fn)] = (fn, made)  # before the cells: functions may name themselves
    for i in fresh:
        at = capture.guards.pin(cells[i], "") if path is None else path.attr("__closure__").item(i)
        _fill(capture, fn.__code__.co_freevars[i], cells[i], at)
    for i in set(range(len(cells) if path else 0)) - set(fresh):
        capture.guards.add(base.attr("__closure__").item(i), "is", cells[i])
    _defaults(capture, fn, made, base)
    return made


_IS = dis.opmap["IS_OP"]
_KINDS = frozenset({"type", "__class__"})


@functools.lru_cache(maxsize=1024)
def type_comparison(code: types.CodeType) -> frozenset[str]:
    """Which parts of ``x.dtype.type is np.float64`` code has: "is" (not of a constant), "type".

    >>> sorted(type_comparison((lambda x, k: x.dtype.type is k).__code__))
    ['is', 'type']
    >>> sorted(type_comparison((lambda x: x is None or type(x)).__code__))
    []
    """
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    found = set().union(*map(type_comparison, inner))
    if _IS in code.co_code[::2] or not _KINDS.isdisjoint(code.co_names):
        before = ""
        for step in dis.get_instructions(code):
            if step.opcode == _IS and before != "LOAD_CONST":
                found.add("is")
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in _KINDS:
                found.add("type")
            before = step.opname
    return frozenset(found)


def _fill(capture: "Capture", name: str, cell: Any, at: Path) -> None:
    """Give a twin's cell the mapped contents of the user's."""
    try:
        value = cell.cell_contents
    except ValueError:  # not assigned yet
        capture.guards.add(at, "no_attr", "cell_contents")
        return
    new, at = capture.stand_ins[id(cell)][1], at.attr("cell_contents", name)
    new.cell_contents = value if name == "__class__" else capture.map(value, at)
    capture.ledger.hold(at, new, {"": new.cell_contents})


def _defaults(capture: "Capture", fn: Any, made: Any, base: Path) -> None:
    names = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    if fn.__defaults__:
        at = base.attr("__defaults__")
        first = len(names) - len(fn.__defaults__)
        capture.guards.add(at, "len", len(fn.__defaults__))
        made.__defaults__ = tuple(
            capture.map(v, at.item(i, names[first + i])) for i, v in enumerate(fn.__defaults__)
        )
    if fn.__kwdefaults__:
        at = base.attr("__kwdefaults__")
        capture.guards.add(at, "keys", [*fn.__kwdefaults__])
        made.__kwdefaults__ = {
            n: capture.map(v, at.item(n, n)) for n, v in fn.__kwdefaults__.items()
        }
    if fn.__dict__:
        given = capture.map(fn.__dict__, base.attr("__dict__", str(base)))
        made.__dict__.update(given)
        capture.ledger.hold(base, made.__dict__, dict(given))


def _twin_globals(capture: "Capture", fn: types.FunctionType) -> TwinGlobals:
    real = fn.__globals__
    if id(real) not in capture.globals:
        label = str(real.get("__name__", "")) if capture.globals else ""
        made = TwinGlobals(capture, real, capture.guards.pin(real, label))
        capture.globals[id(real)] = made
        capture.ledger.hold(made.path, made, made.given)
    return capture.globals[id(real)]


def single_dispatch(capture: "Capture", fn: Any) -> Any:
    """A ``functools.singledispatch`` function: the twin of what it chooses."""

    def dispatching(*args: Any, **kwargs: Any) -> Any:
        return capture.twin(fn.dispatch(args[0].__class__))(*args, **kwargs)

    return dispatching
