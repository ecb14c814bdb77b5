"""Random NumPy programs, and how far rounding may move their results.

A program is a list of statements.  Each is proposed at random and tried on real arrays; what
raises, or has no answer of its own (a float out of range cast to int, a comparison of values
whose last bits may differ), is thrown away and another one proposed.  A second run of the same
statements, with a few ULP of noise after every step whose last bits NumPy does not promise,
says how much a result may differ.
"""

from __future__ import annotations

import linecache
import re
import types
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DTYPES = ("?", "i1", "u1", "i2", "i4", "i8", "u4", "u8", "f4", "f4", "f4", "f8", "f8", "c16")
SHAPES = ("n", "mn", "m1", "1n", "kmn", "n", "mn", "")
LAYOUTS = ("{}", "{}", "{}", "np.asfortranarray({})", "{}[::-1]", "{}.repeat(2, -1)[..., ::2]")
TARGETS = ("np.float32", "np.float64", "np.int32", "np.int8", "bool", "np.uint16")
NOISE_ULPS = 6
DRAWS = 3  #: noisy runs beside the plain one
CANCELLED = 1e-4  #: a result this much smaller than what it came from is mostly rounding
MAX_CONDITION = 1e-3  #: a statement whose result moves more than this is thrown away
LIMIT = 1e3  #: of what may go into a function whose last bits are not promised

EXACT = (
    "{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / (np.abs({b}) + 1)", "np.maximum({a}, {b})",
    "np.minimum({a}, {b})", "-{a}", "np.abs({a})", "{a} * {s}", "{s} + {a}", "{a} - {s}",
    "np.sqrt(np.abs({a}))", "{a} ** 2", "np.where({m}, {a}, {b})", "np.where({m}, {a}, {s})",
    "np.clip({a}, -2, 3)", "{a}.T", "{a}[{i}]", "{a}[{i}]", "{a}[:, {i}]", "{a}[..., {i}]",
    "{a}.reshape(-1)", "{a}[None]", "{a}[..., None]", "np.concatenate([{a}, {b}])",
    "np.stack([{a}, {b}])", "np.flip({a})", "np.roll({a}, {j})", "np.broadcast_to({a}, {b}.shape)",
    "{a}.max(axis={x})", "{a}.min(axis={x}, keepdims=True)", "{a}.max()",
    "np.cumsum({n}, axis={x})",
    "{n}.sum(axis={x})", "{n}.sum(axis={x}, keepdims=True)", "{n}.prod()", "np.pad({a}, 1)",
    "{a}.astype({t})", "{a}.astype({t})", "np.diff({a})", "np.zeros_like({a})", "{a}.copy()",
    "np.repeat({a}, 2, axis={x})", "np.tril({a})", "np.zeros({a}.shape) + {s}", "{n} @ {n2}",
    "np.take({a}, {j}, axis={x})", "np.swapaxes({a}, 0, -1)", "{a}.real", "{a} + np.arange({j})",
)  # fmt: skip
STEPS = (
    "{a} < {b}", "{a} >= {b}", "{a} == {b}", "{a} > {s}", "np.floor({a})", "np.sign({a})",
    "{a} // {b}", "{a} % {b}", "np.rint({a})", "{a}.argmax(axis={x})", "np.isfinite({a})",
    "({a} > 0) & ({b} > 0)", "~({a} > {s})", "np.any({a}, axis={x})", "np.all({a} > 0)",
    "{n} & {n2}", "{n} ^ {n2}", "{n} << 2", "{n} >> 1", "np.count_nonzero({a} > 0)",
    "np.argmin({a})", "np.logical_or({a}, {b})",
)  # fmt: skip
ROUNDED = (
    "np.exp(-np.abs({a}))", "np.tanh({a})", "np.sin({a})", "np.cos({a})", "np.log1p(np.abs({a}))",
    "np.arctan({a})", "{a}.sum()", "{a}.sum(axis={x})", "{a}.sum(axis={x}, keepdims=True)",
    "{a}.mean(axis={x}, keepdims=True)", "{a}.mean()", "np.var({a}, axis={x})", "np.std({a})",
    "np.cumsum({a}, axis={x})", "{a} @ {b}", "np.hypot({a}, {b})", "np.arctan2({a}, {b})",
    "(np.abs({a}) + 1) ** 1.5", "np.exp({a} - {a}.max(axis={x}, keepdims=True))",
    "np.linalg.norm({a})", "np.einsum('...i->...', {a})", "np.log(np.abs({a}) + 0.5)",
    "np.expm1(np.minimum({a}, 1))", "{a}.prod()", "1 / (1 + np.exp(-{a}))",
)  # fmt: skip
UPDATES = (
    "{a} += {b}", "{a} *= {s}", "{a}[{i}] = {b}", "{a}[{i}] = {s}", "{a}[{i}] += {b}",
    "{a}[..., {i}] -= {s}", "{a}[{m}] = {s}", "{a}[{m}] *= 2", "np.add({a}, {b}, out={a})",
    "{a}[1:] = {a}[:-1]", "{a}.T[...] = {b}", "{a}[...] = {b}", "{a} -= {a}.T",
)  # fmt: skip
KINDS = ((EXACT, 10), (STEPS, 4), (ROUNDED, 5), (UPDATES, 3))


@dataclass
class Program:
    """Statements over arguments `a0, a1, ...`; every one assigns `v0, v1, ...` or updates."""

    seed: int
    arguments: list[str]
    lines: list[str] = field(default_factory=list)
    rounded: set[int] = field(default_factory=set)
    results: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> list[str]:
        return [f"a{i}" for i in range(len(self.arguments))]

    def source(self) -> str:
        """The program as the text of one function."""
        body = [*self.lines, f"return {', '.join(self.results)},"]
        head = f"def program({', '.join(self.parameters)}):"
        return "\n    ".join([head, *body]) + "\n"

    def script(self) -> str:
        """A file that shows both answers; what a failure prints."""
        calls = f"program(*arguments({self.seed}))"
        makers = "".join(f"        {a},\n" for a in self.arguments)
        return (
            "import numpy as np\nimport fusec\n\n"
            f"def arguments(seed):\n    rng = np.random.default_rng(seed)\n    return [\n{makers}"
            f"    ]\n\n{self.source()}\nprint({calls})\nprint(fusec.jit({calls[:7]}){calls[7:]})\n"
        )

    def args(self) -> tuple[Any, ...]:
        """The arguments; the same ones every time."""
        scope = {"np": np, "rng": np.random.default_rng(self.seed)}
        return tuple(eval(text, scope) for text in self.arguments)

    def function(self) -> types.FunctionType:
        """The compiled program; tracebacks and fusec's messages can show its lines."""
        name, text = f"<program {self.seed}>", self.source()
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        scope: dict[str, Any] = {"np": np}
        exec(compile(text, name, "exec"), scope)
        return scope["program"]


class Machine:
    """The state of a program under construction: the plain run and the noisy one."""

    def __init__(self, program: Program):
        self.program = program
        self.restart()

    def restart(self) -> None:
        """Run all statements again: how a thrown-away update is undone."""
        names = self.program.parameters
        self.plain = dict(zip(names, self.program.args()))
        self.plain["np"] = np
        self.noisy = [dict(zip(names, self.program.args())) | {"np": np} for _ in range(DRAWS)]
        self.rng = np.random.default_rng(0)
        self.tainted: set[str] = set()
        for number, line in enumerate(self.program.lines):
            self.step(line, number in self.program.rounded)

    def step(self, line: str, rounded: bool) -> None:
        """Execute one statement in both runs."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(line, self.plain)
            for noisy in self.noisy:
                exec(line, noisy)
                if rounded:
                    name = re.findall("[av][0-9]+", line)[0]
                    disturbed = with_noise(noisy[name], self.rng)
                    if isinstance(noisy[name], np.ndarray) and noisy[name].flags.writeable:
                        noisy[name][...] = disturbed  # what shares its memory sees it too
                    else:
                        noisy[name] = disturbed
        self._taint(line, rounded)

    def _taint(self, line: str, rounded: bool) -> None:
        """Mark what a statement writes, and what shares its memory, if rounding reaches it."""
        target, *sources = re.findall(r"[av][0-9]+", line)
        if rounded or self.tainted.intersection(sources):
            written = self.plain[target]
            shared = [n for n, v in self.values().items() if np.may_share_memory(v, written)]
            self.tainted.update([target, *shared])

    def values(self) -> dict[str, Any]:
        return {k: v for k, v in self.plain.items() if k[0] in "av" and k[1:].isdigit()}

    def inexact(self, name: str) -> bool:
        """Whether the last bits of a variable are not promised."""
        return name in self.tainted

    def condition(self, name: str) -> float:
        """How far noise moved a variable, relative to its largest element."""
        want = np.asarray(self.plain[name])
        if want.dtype.kind not in "fc" or not want.size or not self.inexact(name):
            return 0.0
        with np.errstate(all="ignore"):
            moved = np.abs(np.array([noisy[name] for noisy in self.noisy]) - want)
        most = np.max(moved, initial=0, where=np.isfinite(moved))
        return float(most / size) if (size := magnitude(want)) else float(most > 0)

    def tolerance(self, name: str) -> float:
        """Relative to the largest element, as `oracle.close` takes it."""
        if not self.inexact(name) or np.asarray(self.plain[name]).dtype.kind not in "fc":
            return 0.0
        return 16 * self.condition(name) + 32 * float(np.finfo(self.plain[name].dtype).eps)


def with_noise(value: Any, rng: np.random.Generator) -> Any:
    """The value with every element moved a few ULP up or down."""
    value = np.asarray(value)
    if value.dtype.kind not in "fc":
        return value
    signs = rng.choice([-1, 1], size=value.shape)
    return value * (1 + NOISE_ULPS * np.finfo(value.dtype).eps * signs).astype(value.dtype)


def magnitude(value: Any) -> float:
    """The largest finite element, without sign."""
    with np.errstate(all="ignore"):
        size = np.abs(np.asarray(value))
    return float(np.max(size, initial=0, where=np.isfinite(size)))


def generate(seed: int) -> Program:
    """The random program of that number: 5 to 30 statements."""
    rng = np.random.default_rng(seed)
    program = Program(seed, _arguments(rng))
    machine = Machine(program)
    wanted = int(rng.integers(5, 31))
    for _ in range(40 * wanted):
        if len(program.lines) == wanted:
            break
        _propose(rng, machine)
    names = [n for n, v in machine.values().items() if not isinstance(v, (int, float))]
    used = set(re.findall(r"[av][0-9]+", " ".join(line.split("=", 1)[1] for line in program.lines)))
    unused = [n for n in names if n not in used and n[0] == "v"]
    program.results = list(dict.fromkeys([*unused[-5:], str(rng.choice(names))]))
    return program


def _arguments(rng: np.random.Generator) -> list[str]:
    sizes = {"k": 2, "m": int(rng.integers(1, 6)), "n": int(rng.choice([3, 7, 40, 300])), "1": 1}
    made = []
    for _ in range(rng.integers(2, 5)):
        dtype, shape = rng.choice(DTYPES), tuple(sizes[c] for c in rng.choice(SHAPES))
        layout = rng.choice(LAYOUTS) if shape else "np.array({})"
        low, high = (0, 9) if dtype[0] in "?u" else (-5, 6)
        draw = f"rng.integers({low}, {high}, {shape})"
        if dtype[0] in "fc":
            draw = f"rng.normal(size={shape})" + (" * (1 + 2j)" if dtype[0] == "c" else "")
        made.append(layout.format(f"np.asarray({draw}).astype({str(dtype)!r})"))
    return [*made, str(rng.choice(["2", "3", "0.5", "1.25"]))]


def _propose(rng: np.random.Generator, machine: Machine) -> bool:
    """Try one random statement; True when the program has grown."""
    weights = np.array([w for _, w in KINDS], float)
    kind = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())][0]
    text, used = _fill(rng, machine, str(rng.choice(kind)))
    if text is None or (kind is STEPS and any(machine.inexact(u) for u in used)):
        return False
    rounds = kind is ROUNDED or _complex_product(text, [machine.plain[u] for u in used])
    if rounds and not all(_tame(machine.plain[u]) for u in used):
        return False
    program = machine.program
    number = len(program.lines)
    line = text if kind is UPDATES else f"v{number} = {text}"
    name = used[0] if kind is UPDATES else f"v{number}"
    try:
        machine.step(line, rounds)
        good = _acceptable(machine, name, text, used)
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        good = False
    if good:
        program.lines.append(line)
        if rounds:
            program.rounded.add(number)
    else:
        machine.restart()
    return good


def _complex_product(text: str, values: list[Any]) -> bool:
    """Whether a statement multiplies, divides or measures complex numbers: not bitwise NumPy's."""
    complexes = any(np.asarray(v).dtype.kind == "c" for v in values)
    return complexes and any(sign in text for sign in ("*", "/", "abs", "sign"))


def _fill(
    rng: np.random.Generator, machine: Machine, template: str
) -> tuple[str | None, list[str]]:
    """Choose variables, slices, axes and scalars for a template."""
    values = machine.values()
    arrays = [n for n, v in values.items() if isinstance(v, np.ndarray) and v.ndim]
    used: list[str] = []
    words: dict[str, str] = {
        "s": str(rng.choice(["2", "-1", "0.5", "3", machine.program.parameters[-1]])),
        "i": str(rng.choice(["0", "-1", "1:", ":-1", "::2", "::-1", "1:3", "2:", "..."])),
        "j": str(rng.choice([1, 2, 3])),
        "x": str(rng.choice([0, -1, 1])),
        "t": str(rng.choice(TARGETS)),
    }
    for slot in ("a", "b", "m", "n", "n2"):
        if "{" + slot + "}" in template:
            fitting = [n for n in arrays if _fits(slot, values[n])]
            if not fitting:
                return None, []
            words[slot] = fitting[-1 - int(rng.exponential(2.5)) % len(fitting)]
            used.append(words[slot])
    if "astype" in template and not _castable(machine, used[0], words["t"]):
        return None, []
    return template.format(**words), used


def _fits(slot: str, value: np.ndarray) -> bool:
    kinds = {"m": "b", "n": "iub", "n2": "iub"}
    return value.dtype.kind in kinds.get(slot, "biufc")


def _castable(machine: Machine, name: str, target: str) -> bool:
    """Casts from float to a smaller integer, or of inexact values, have no one answer."""
    value, dtype = machine.plain[name], np.dtype(eval(target))
    if value.dtype.kind == "c":
        return False
    if value.dtype.kind == "f" and dtype.kind in "iub":
        return not machine.inexact(name) and bool(np.all(np.abs(value) < 100)) and dtype.kind != "u"
    return True


def _tame(value: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(value)) and np.all(np.abs(value.astype(np.complex128)) < LIMIT))


def _acceptable(machine: Machine, name: str, text: str, used: list[str]) -> bool:
    """Whether a result is small, of a compiled dtype, and its last bits matter little."""
    value = machine.plain[name]
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype == np.float16:
        return False
    if value.size > 20_000 or value.ndim > 5 or value.size == 0:
        return False
    if value.dtype.kind == "c" and "*" in text and not _tame(value):
        return False  # a complex product has several answers for infinities
    if name in machine.tainted:
        largest = max((magnitude(machine.plain[u]) for u in used), default=0.0)
        if value.dtype.kind not in "fc" or magnitude(value) <= CANCELLED * largest:
            return False
    chosen = ("where", "[v", "max", "min", "clip")  # of inexact values: noise may choose otherwise
    if any(w in text for w in chosen) and any(machine.inexact(u) for u in used):
        finite = all(_tame(machine.plain[u]) for u in used)
        return finite and machine.condition(name) < MAX_CONDITION
    others = machine.values()
    return all(machine.condition(n) < MAX_CONDITION for n in others)
