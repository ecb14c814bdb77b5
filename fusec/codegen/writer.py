"""An indenting writer: emitters never concatenate indentation."""

from collections.abc import Iterator
from contextlib import contextmanager


class Writer:
    """Collects lines; ``with w.block("for i in range(n):")`` indents what is written inside.

    >>> w = Writer()
    >>> with w.block("def f(x):"):
    ...     w("return x")
    >>> print(w.text())
    def f(x):
        return x
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self(head)
        self.depth += 1
        if self.depth > 95:  # Python reads 100 levels
            raise RecursionError
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self("pass")
        self.depth -= 1

    def text(self) -> str:
        return "\n".join(self.lines)
