"""Random programs of 5 to 30 statements against NumPy.

`pytest --programs=5000` runs more of them.  A program that fails is cut down as far as it keeps
failing and printed as a Python file that shows both answers.
"""

import dataclasses

import numpy as np
import pytest
from oracle import differences, run
from programs import Machine, Program, generate


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--program-seed")
        metafunc.parametrize("seed", range(first, first + metafunc.config.getoption("--programs")))


def problems(program: Program, calls: int = 2) -> list[str]:
    """How NumPy and fusec differ on a program; [] when they agree."""
    import fusec

    machine = Machine(program)
    fn, args = program.function(), program.args()
    allowed = {f"result[{i}]": machine.tolerance(n) for i, n in enumerate(program.results)}
    allowed |= {f"args[{i}]": machine.tolerance(n) for i, n in enumerate(program.parameters)
                if isinstance(machine.plain[n], np.ndarray)}  # fmt: skip
    want = run(fn, args, ignore=True)
    compiled = fusec.jit(fn)
    for _ in range(calls):
        got = run(compiled, args, ignore=False)
        if found := differences(got, want, rel=allowed):
            return found
    return []


def shrink(program: Program, tries: int = 60) -> Program:
    """Leave out statements, last ones first, as long as the program still fails."""
    for number in reversed(range(len(program.lines))):
        if tries == 0:
            break
        tries -= 1
        smaller = dataclasses.replace(
            program,
            lines=program.lines[:number] + program.lines[number + 1 :],
            rounded={r - (r > number) for r in program.rounded if r != number},
            results=[r for r in program.results if r != program.lines[number].split()[0]],
        )
        try:
            if smaller.results and problems(smaller, calls=1):
                program = smaller
        except (NameError, ValueError, TypeError, IndexError):
            continue
    return program


def test_random_program(seed):
    program = generate(seed)
    if found := problems(program):
        smallest = shrink(program)
        text = "\n  ".join(problems(smallest) or found)
        pytest.fail(f"program {seed} differs from NumPy:\n  {text}\n\n{smallest.script()}",
                    pytrace=False)  # fmt: skip


def test_programs_are_long_and_varied():
    programs = [generate(seed) for seed in range(40)]
    assert all(5 <= len(p.lines) <= 30 for p in programs)
    text = "".join(p.source() for p in programs)
    for word in ("where", "astype", "+=", "[::-1]", "sum(", "keepdims", "concatenate", "exp("):
        assert word in text, word


def test_a_program_is_the_same_every_time():
    assert generate(7) == generate(7)


def test_noise_is_found_in_what_depends_on_it():
    program = Program(0, ["rng.normal(size=8)"], ["v0 = np.exp(a0)", "v1 = a0 + 1"], {0})
    machine = Machine(program)
    assert 0 < machine.tolerance("v0") < 1e-12
    assert machine.tolerance("v1") == 0


def test_the_script_runs(tmp_path, capfd):
    path = tmp_path / "program.py"
    path.write_text(generate(3).script())
    compile(path.read_text(), str(path), "exec")
