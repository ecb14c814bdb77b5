"""Independent kernels of one row become one: their texts stand behind each other.

A loss, the gradients of biases, the second half of a split reduction: each is too little work for
more than one thread, and nothing reads the result before the next. The names of the second kernel
get a letter::

    for i0 in range(start, stop):
        r0 = fold_sum(at(x0, 0), n_i1)
        y0[0] = r0
    for i0b in range(start, stop):
        r0b = fold_sum(at(x0b, 0), n_i1b)
        y0b[0] = r0b
"""

import ast
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard

from fusec.codegen.emit import HEADER, KernelSource
from fusec.codegen.steps import Launch, Step, apart, fails

LETTERS = "bcdefgh"
MOST_LINES = 200  # of all texts; what is compiled together is compiled again for each program
_BEGIN, _END = "):\n    status = 0\n", "    return status\n"


def merge(steps: list[Step]) -> list[Step]:
    """The steps with launches of one row put together; texts that several share stay as they are.

    Those are compiled once however often they are launched.
    """
    texts = Counter([s.kernel.text for s in steps if isinstance(s, Launch)])

    def small(step: Step) -> TypeGuard[Launch]:
        """Of one row, and the only one with its text."""
        return isinstance(step, Launch) and step.kernel.rows == 1 and texts[step.kernel.text] < 2

    found: list[Step] = []
    for step in steps:
        if not small(step) or not _merged(found, step, small):
            found.append(step)
    return found


def _merged(steps: list[Step], late: Launch, small: Callable[[Step], TypeGuard[Launch]]) -> bool:
    """Put a launch together with an earlier one, in the place of either; whether it was."""
    between: list[Step] = []
    for k in reversed(range(len(steps))):
        early = steps[k]
        if fails(early):
            return False
        if small(early) and _short(early, late) and apart(early, late):
            first = all(apart(late, step) for step in between)
            if first or all(apart(early, step) for step in between):
                del steps[k]
                steps.insert(k if first else len(steps), _put_together(early, late))
                return True
        between.append(early)
    return False


def _short(early: Launch, late: Launch) -> bool:
    lines = (early.kernel.text + late.kernel.text).count("\n")
    return len(early.each()) <= len(LETTERS) and lines <= MOST_LINES


def _put_together(early: Launch, late: Launch) -> Launch:
    a, b = early.kernel, _renamed(late.kernel, LETTERS[len(early.each()) - 1])
    names = [*a.int_names, *b.int_names, *[p.name for p in (*a.pointers, *b.pointers)]]
    scratch = max(a.scratch, b.scratch)
    notes, bodies = [k.text.partition(HEADER)[0] for k in (a, b)], [_body(k.text) for k in (a, b)]
    args = ", ".join(["start", "stop", *names, *["scratch"] * bool(scratch)])
    text = f"{''.join(notes)}{HEADER}\n\ndef kernel({args}{_BEGIN}{''.join(bodies)}{_END}"
    kernel = replace(
        a, text=text, ints=a.ints + b.ints, pointers=a.pointers + b.pointers, scratch=scratch,
        work=a.work + b.work, partial=a.partial | b.partial, notes=a.notes + b.notes,
    )  # fmt: skip
    arguments = early.arguments + late.arguments
    writes = early.writes | late.writes
    return Launch(kernel, arguments, 1, early.group, writes, [*early.each(), late])


def _body(text: str) -> str:
    return text.partition(_BEGIN)[2].removesuffix(_END)


def _renamed(kernel: KernelSource, letter: str) -> KernelSource:
    """The kernel with ``letter`` behind its arguments and all that it assigns."""
    nodes = [*ast.walk(ast.parse(kernel.text))]
    names = {x.id for x in nodes if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
    names |= {x.arg for x in nodes if isinstance(x, ast.arg)}
    names -= {"start", "stop", "status", "scratch"}
    word = re.compile(rf"\b({'|'.join(sorted(names))})\b")
    notes, _, code = kernel.text.partition(HEADER)
    return replace(
        kernel,
        text=notes + HEADER + word.sub(rf"\g<1>{letter}", code),
        ints=[(name + letter, value) for name, value in kernel.ints],
        pointers=[replace(p, name=p.name + letter) for p in kernel.pointers],
    )
