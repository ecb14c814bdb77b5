"""One class per kind of error; each is also what NumPy (or Python) would raise in its place.

A message fits on a screen and says what happened, on which line of the user's file, with which
shapes and dtypes, and what to type instead.
"""


import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_thread = threading.local()


class FusecError(Exception):
    """Base of every error that fusec raises on purpose."""


class ShapeError(FusecError, ValueError):
    """Operands whose shapes do not fit together, where NumPy raises ValueError."""


class DTypeError(FusecError, TypeError):
    """An operation that is not defined for a dtype, where NumPy raises TypeError."""


class UnsupportedError(FusecError, NotImplementedError):
    """Something that fusec does not compile; the message says what to do instead."""

    facts: Any = None  # for which calls; see ``fusec.trace.run.trace``

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        unsupported().append((type(self), args))


def unsupported() -> list[tuple[type[UnsupportedError], tuple[Any, ...]]]:
    """What the trace of this thread could not express."""
    found: list[Any] = getattr(_thread, "made", [])
    return found


@contextmanager
def refusing() -> Iterator[None]:
    """Raise what a trace can't express, also where the function catches the error."""
    before, _thread.made = unsupported(), []
    try:
        try:
            yield
        except UnsupportedError:
            raise
        except Exception:
            _refuse()
            raise
        _refuse()
    finally:
        _thread.made = before


def _refuse() -> None:
    for cls, told in [*unsupported()]:
        raise cls(*told)


class DataDependentShapeError(UnsupportedError):
    """A result whose shape depends on the data of a traced array."""


class ProgramSizeError(UnsupportedError):
    """A program of more operations than are compiled soon; see ``config.most_nodes``."""


class DerivativeError(UnsupportedError):
    """A derivative of something that has no rule for it."""


class TapeError(FusecError, RuntimeError):
    """A ``fusec.Tape`` was asked for something that it has not recorded, or used twice."""


class TracerBoolError(FusecError, TypeError):
    """Python asked for the truth of a traced array (``if``, ``while``, ``and``, ``not``)."""


class ConcreteValueError(UnsupportedError, TypeError):
    """Code that is not traced asked for the values of a traced array (``tolist()``, SciPy)."""


class EscapedTracerError(FusecError, RuntimeError):
    """A traced array was used after its trace had ended."""


class ImpureError(FusecError, RuntimeError):
    """A traced function asked for randomness, the time or a file."""


class VerifyError(FusecError, AssertionError):
    """A graph broke one of the IR's rules, or ``fusec.verify`` found a difference."""


class DeviceError(FusecError, RuntimeError):
    """A device is missing, out of memory, or failed."""


class CacheWarning(UserWarning):
    """The kernel cache folder could not be used; kernels are compiled in this process only."""


class VerifyWarning(UserWarning):
    """With ``FUSEC_VERIFY=1``: a first call gave another result than NumPy."""


class FallbackWarning(UserWarning):
    """NumPy runs a function: shapes in it depend on data, Python decides on too many values, or its
    loops make too many operations."""


class TransferWarning(UserWarning):
    """With ``config.transfers = "warn"``: a copy between host and device nobody asked for."""
