"""`python -m benchmarks.page > docs/kernels.md`: what fusec makes of every kernel of the suite.

For each kernel its NumPy function, what it teaches, the steps it becomes and a picture of the
fused graph with a frame around each kernel. It depends on nothing that is measured.
"""

from __future__ import annotations

import inspect
import sys
import textwrap

import fusec
import kernels

#: A larger graph is drawn by its steps alone.
MOST_NODES = 40

HEAD = """\
# The kernels of the suite

Made by `python -m benchmarks.page > docs/kernels.md`, for float32 at the middle size: what each
function becomes, in the words of `fusec.jit(f).lower(*args)`, and the fused graph, with a frame
around what one kernel computes. Values without a frame are read, made by NumPy or free views.
`python -m benchmarks --kernel NAME` measures one of them.
"""


def source(kernel: kernels.Kernel) -> str:
    """The NumPy function without its statement in the suite."""
    lines = textwrap.dedent(inspect.getsource(kernel.function)).splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("def "))
    return "\n".join(lines[first:])


def section(kernel: kernels.Kernel) -> str:
    """A kernel's part of the page."""
    low = fusec.jit(kernel.function).lower(*kernel.args("M", "f4"))
    nodes = len(low.graph.nodes())
    picture = f"\n```mermaid\n{low.mermaid()}\n```\n" if nodes <= MOST_NODES else ""
    return f"""\
### {kernel.name}

{kernel.teaches[0].upper()}{kernel.teaches[1:]}. Bound by {kernel.bound}.

```python
{source(kernel)}
```

```text
{low}
```
{picture}"""


def page() -> str:
    """The whole page: a table, then a section for each kernel by family."""
    families = dict.fromkeys(k.family for k in kernels.suite())
    parts = [HEAD, "| kernel | family | bound | kernels | steps |\n| --- | --- | --- | --- | --- |"]
    for kernel in kernels.suite():
        low = fusec.jit(kernel.function).lower(*kernel.args("M", "f4"))
        steps = len(low.program.steps) if low.program is not None else 0
        cells = (f"[{kernel.name}](#{kernel.name})", kernel.family, kernel.bound,
                 str(len(low.kernels)), str(steps))  # fmt: skip
        parts.append(f"| {' | '.join(cells)} |")
    for family in families:
        parts.append(f"\n## {family}\n")
        parts += [section(kernel) for kernel in kernels.suite(family)]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page().rstrip() + "\n")
