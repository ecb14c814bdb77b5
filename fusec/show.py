"""How a lowered program prints, and the files that ``FUSEC_DUMP`` asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fusec.codegen.steps import Call, Launch, Program, Rounds, Slot
from fusec.config import config, log
from fusec.ir.aval import short
from fusec.traffic import amount, counted

if TYPE_CHECKING:
    from fusec.stage_kernels import Kernel
    from fusec.stages import Lowered

MAX_STEPS = 24  # steps that are printed of a program


def program_text(low: Lowered, program: Program) -> list[str]:
    """The screen that a ``Lowered`` prints as."""
    names = _slot_names(program)
    slots, trace = program.slots, low.traced.trace
    assert trace is not None
    lines = [
        f"{low.name}: {counted(len(low.kernels), 'kernel')}, {counted(len(program.steps), 'step')}"
    ]
    lines += [
        f"  in    {names[k]}: {_buffer(slots[k])}" + (" (captured)" * (s.kind == "captured"))
        for k, s in zip(program.inputs, trace.sources)
    ]
    kernels = {k.name: k for k in low.kernels}
    lines += _steps(program, kernels)
    if len(program.steps) > MAX_STEPS:
        lines.append(f"  ...   {len(program.steps) - MAX_STEPS} more steps")
    lines += [f"  out   {names[k]}: {_buffer(slots[k])}" for k in program.results]
    found = low.explain()
    lines.append(
        f"  bytes moved {amount(found.bytes_moved)}, least possible {amount(found.bytes_least)}; "
        f"temporary memory {amount(sum(program.blocks))}"
    )
    return lines


def _steps(program: Program, kernels: dict[str, Kernel], before: str = "") -> Iterator[str]:
    """A line for each step, and for those of a loop's round."""
    names = _slot_names(program)
    for number, step in enumerate(program.steps[:MAX_STEPS]):
        where = f"{before}{number}"
        yield f"  {where:<5} {_step_text(step, names, program.slots, kernels)}"
        if isinstance(step, Rounds) and step.program is not None:
            yield from _steps(step.program, kernels, f"{where}.")


def _slot_names(program: Program) -> dict[int, str]:
    """A short name for each buffer: the argument's own, ``out0``, ``t0``, ``c0``, ``v0``."""
    letters = {"result": "out", "temp": "t", "tile": "t", "const": "c", "view": "v", "call": "t"}
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    for slot in program.slots:
        if slot.role == "input":
            assert slot.node is not None
            names[slot.number] = str(slot.node.attrs["name"])
            continue
        stem = "out" if slot.number in program.results else letters[slot.role]
        names[slot.number] = f"{stem}{counts.get(stem, 0)}"
        counts[stem] = counts.get(stem, 0) + 1
    return names


def _buffer(slot: Slot) -> str:
    return f"{short(slot.dtype)}[{','.join(map(str, slot.shape))}]"


def _step_text(
    step: Launch | Call, names: dict[int, str], slots: list[Slot], kernels: dict[str, Kernel]
) -> str:
    if isinstance(step, Call):
        args = ", ".join([names[k] for k in step.inputs])
        made = ", ".join([f"{names[k]}: {_buffer(slots[k])}" for k in step.outputs])
        if isinstance(step, Rounds):
            return f"loop   {', '.join([names[k] for k in step.outputs])} = {step.loop}({args})"
        return f"{'view' if step.view else 'call'}   {made} = {step.name}({args})"
    kernel = kernels[step.kernel.name]
    slots_used = sorted([k for k, _ in step.arguments], key=lambda k: k in step.writes)
    used = ", ".join(dict.fromkeys([names[k] for k in slots_used]))
    chain = step.chain
    last = chain is None or step is chain.parts[-1]
    after = "" if last else f", {chain.each} at a time for {chain.parts[-1].kernel.name}"
    return (
        f"kernel {kernel.name}({used}): {kernel.title}; {step.kernel.launch_text}, "
        f"reads {amount(kernel.bytes_read)}, writes {amount(kernel.bytes_written)}{after}"
    )


def write(low: Lowered) -> Path:
    """Write graphs, kernels and explanation into a folder of ``config.dump``, and return it.

    The folder is named after the function and its signature; an old one is written over.
    """
    graph = low.traced.graph
    params = ", ".join([repr(p.aval) for p in graph.params])
    signature = hashlib.sha256(f"{params}\n{graph}".encode()).hexdigest()[:8]
    assert config.dump is not None
    name = re.sub(r"\W+", "_", low.name).strip("_")
    folder = Path(config.dump) / f"{name}-{signature}"
    files = {f"{k}-{s.replace(' ', '-')}.txt": str(g) for k, (s, g) in enumerate(low.history)}
    files |= {f"{kernel.name}.py": kernel.source.rstrip() for kernel in low.kernels}
    for n, (_, ask) in enumerate(low.decisions):
        files |= {f"decision{n}.txt": str(ask)}
        files |= {f"decision{n}-{k.name}.py": k.source.rstrip() for k in ask.kernels}
    files |= {"program.txt": str(low), "explain.txt": str(low.explain()), "graph.dot": low.dot()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(f"{text}\n")
    except OSError as error:
        log("plan", "FUSEC_DUMP: %s", error)
    return folder
