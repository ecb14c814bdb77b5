"""The language that the runtime's own machine code is written in, against Python itself."""

import ctypes

import llvmlite.binding as llvm
import pytest

from fusec.runtime import cpu, native_build, native_lang

LANGUAGE = {
    "for and continue": ("s = 0\n for i in range(2, a):\n  if i == b:\n   continue\n  s += i\n"
                         " return s", lambda a, b: sum(i for i in range(2, a) if i != b)),
    "while and break": ("while True:\n  a -= b\n  if a < 0:\n   break\n return a",
                        lambda a, b: a % b - b),
    "and": ("return a > 5 and b < 5", lambda a, b: a > 5 and b < 5),
    "or": ("return not a or (b == 3 and a == 7)", lambda a, b: not a or (b == 3 and a == 7)),
    "bits": ("return ((a << 3) | b) & 60 - (-a >> 1)",
             lambda a, b: ((a << 3) | b) & 60 - (-a >> 1)),
    "elif": ("if a > b:\n  c = 1\n elif a == b:\n  c = 2\n else:\n  c = 3\n return c",
             lambda a, b: 1 if a > b else 2 if a == b else 3),
    "recursion": ("if a <= 0:\n  return b\n return f(a - 1, b + 2)",
                  lambda a, b: b + 2 * max(a, 0)),
    "stack": ("p = stack(i64, a)\n for i in range(a):\n  p[i] = i * b\n return p[a - 1]",
              lambda a, b: (a - 1) * b),
    "atomics": ("p = stack(i64, 1)\n p[0] = a\n atomic_add(p[0], b)\n"
                " ok = atomic_cas(p[0], a + b, 9)\n old = atomic_swap(p[0], 4)\n"
                " return ok * 100 + old * 10 + atomic_load(p[0])",
                lambda a, b: 194),
}  # fmt: skip


@pytest.mark.parametrize("case", LANGUAGE)
def test_language(case):
    text, expected = LANGUAGE[case]
    names = {"i64": ctypes.c_int64}
    symbol = "test_" + "".join(c if c.isalnum() else "_" for c in case)
    source = f"def f(a: i64, b: i64) -> i64:\n {text}\n"
    f = compiled(symbol, native_lang.emit(source, symbol, names, native_build.triple()))
    for a, b in ((7, 3), (3, 7), (5, 5), (9, 2), (1, 1)):
        assert f(a, b) == expected(a, b)


def compiled(symbol, ir):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(ir)
    module.verify()
    machine = llvm.Target.from_triple(native_build.triple()).create_target_machine(jit=True)
    address = cpu.load(symbol, machine.emit_object(module))
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
