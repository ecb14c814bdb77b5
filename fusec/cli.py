"""The command line. Each command yields lines of text; ``__main__`` prints them.

    fusec info                                            versions, processor, cache, settings
    fusec doctor                                          checks, and what to do where one fails
    fusec cache list | clear | path                       the kernel cache
    fusec inspect pkg.module:function "f4[1024,256]" 3.0  graph, kernels and explanation
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import os
import platform
import re
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any

import numpy as np

import fusec
from fusec.config import config
from fusec.runtime.cache import Entry, cache
from fusec.stages import Lowered, ShapeDtype
from fusec.traffic import amount, counted

SPEC = re.compile(r"([<>=|]?[A-Za-z]\w*)\[([\d,\s]*)\]")
HELP = (
    'write "f4[1024,256]" for an array, "f8[]" for a 0-d one, 3.0 for a Python number, '
    "'\"text\"' for a string, name=... for a keyword, and literals of these for containers"
)
Lines = Iterable[str]


class CliError(Exception):
    """A request that can't be served; the message says what to type instead."""


def run(words: Sequence[str] | None = None) -> tuple[Callable[[], int], Lines]:
    """Parse a command line; gives its lines, and its exit status once they are read."""
    options = _parser().parse_args(words)
    failed: list[str] = []
    return lambda: int(bool(failed)), options.command(options, failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusec", description="Look at the machine, the kernel cache and compiled functions."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command in (("info", info), ("doctor", doctor)):
        commands.add_parser(name, help=_first(command)).set_defaults(command=command)
    folder = commands.add_parser("cache", help=_first(cache_command))
    folder.add_argument("action", choices=("list", "clear", "path"))
    folder.set_defaults(command=cache_command)
    look = commands.add_parser("inspect", help=_first(inspect_command), epilog=HELP)
    look.add_argument("function", help="pkg.module:function")
    look.add_argument("arguments", nargs="*", metavar="argument", help='"f4[1024,256]", 3.0, ...')
    for name in ("graph", "source", "explain", "llvm", "asm", "dot"):
        look.add_argument(f"--{name}", action="append_const", const=name, dest="parts")
    look.set_defaults(command=inspect_command)
    return parser


def _first(command: Callable[..., Any]) -> str:
    return (command.__doc__ or "").splitlines()[0].rstrip(".").lower()


# -- info and doctor ------------------------------------------------------------------------------


def info(_options: argparse.Namespace, _failed: list[str]) -> Iterator[str]:
    """Versions, processor, threads, cache and settings."""
    from fusec.codegen.target import host
    from fusec.runtime.threads import machine_threads, num_threads

    names = ("numpy", "numba", "llvmlite")
    yield f"fusec {fusec.__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join([f"{name} {_version(name) or 'not installed'}" for name in names])
    yield f"processor: {host().cpu}, {counted(os.cpu_count() or 1, 'core')}"
    yield f"threads: {num_threads()} of {machine_threads()} that the process was granted"
    entries = cache.list_entries()
    size = sum([e.size for e in entries])
    limit = amount(config.cache_bytes)
    yield f"cache: {cache.folder}, {counted(len(entries), 'kernel')}, {amount(size)} of {limit}"
    yield "settings:"
    for setting in dataclasses.fields(config):
        value = getattr(config, setting.name)
        shown = ",".join(sorted(value)) if isinstance(value, frozenset) else value
        yield f"  {'FUSEC_' + setting.name.upper():<18} {'' if shown is None else shown}".rstrip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def doctor(_options: argparse.Namespace, failed: list[str]) -> Iterator[str]:
    """Check that kernels can be compiled, kept and run here."""
    for name, check, advice in CHECKS:
        try:
            yield f"ok    {name}: {check()}"
        except Exception as error:
            failed.append(name)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            yield f"FAIL  {name}: {reason}"
            yield f"      {advice}"
    yield from _cuda()
    yield "all checks passed" if not failed else f"{counted(len(failed), 'check')} failed"


def _cuda() -> Iterator[str]:
    """What CUDA needs and has; none of it is needed for the CPU."""
    yield "CUDA, which the CPU does without:"
    for name, check, advice in CUDA_CHECKS:
        try:
            yield f"  {name:<10} {check()}"
        except Exception as error:
            reason = " ".join(f"{error}".split())[:200]
            yield f"  {name:<10} missing: {reason}"
            yield f"  {'':<10} {advice}"


def _check_core() -> str:
    from fusec.runtime.cuda import core

    return f"{core().__version__}, cuda.bindings {_version('cuda-bindings')}"


def _check_driver() -> str:
    found = fusec.devices()
    if not found:
        raise RuntimeError("no CUDA driver, or no device that it shows")
    return ", ".join([f"{d.name} is {d.arch} with {amount(d.total)}" for d in found])


def _check_ptxas() -> str:
    from fusec.codegen.ptxas import tool

    return str(tool("ptxas"))


def _check_cublas() -> str:
    from fusec.runtime.cublas import binding

    binding()
    return f"found, nvmath-python {_version('nvmath-python')}"


def _check_versions() -> str:
    found = []
    for name, low, high in _supported():
        version = _version(name)
        if not version:
            raise RuntimeError(f"{name} is not installed")
        if not low <= _numbers(version) < high:
            raise RuntimeError(f"{name} {version} was not tested with fusec {fusec.__version__}")
        found.append(f"{name} {version}")
    return ", ".join(found)


def _supported() -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """(package, lowest version, first version that is too new), from our own metadata."""
    for line in metadata.requires("fusec") or ():
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line:
            low, high = re.search(r">=([\d.]+)", line), re.search(r"<([\d.]+)", line)
            highest = _numbers(high[1]) if high else (10**6,)
            yield name[0], _numbers(low[1]) if low else (), highest


def _numbers(version: str) -> tuple[int, ...]:
    return tuple([int(n) for n in re.findall(r"\d+", version)[:3]])


def _check_folder() -> str:
    import tempfile

    cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache.folder, prefix="fusec-", suffix=".tmp") as file:
        file.write(b"written")
    return str(cache.folder)


def _check_target() -> str:
    from fusec.codegen.target import host, machine

    machine()
    return f"{host().cpu}, {host().triple}"


def _check_compiler() -> str:
    from fusec.codegen.numba_cpu import compile_kernel
    from fusec.runtime import cpu

    text = "def kernel(start, stop, x):\n    for i in range(start, stop):\n        x[i] = i\n"
    began = time.perf_counter()
    code = compile_kernel(f"{text}    return 0\n", (), (("x", "<i8"),))
    if not cpu.load(code.symbol, code.object):
        raise RuntimeError("the compiled kernel has no address")
    return f"a kernel in {1e3 * (time.perf_counter() - began):.0f} ms"


def _check_answer() -> str:
    x = np.linspace(-3, 3, 1_000_001)
    report = fusec.verify(lambda x: np.exp(-x * x) + 1, x)
    if not report or report.notes:
        raise RuntimeError(str(report))
    return f"a fused kernel over {x.size} elements agrees with NumPy"


def _check_threads() -> str:
    from fusec.runtime import threads

    _check_answer()
    wanted, running = threads.num_threads(), threads.pool().workers + 1
    if running < wanted:
        raise RuntimeError(f"{running} of {wanted} threads run")
    return counted(wanted, "thread")


CHECKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("versions", _check_versions, "install the versions that fusec asks for: pip install fusec"),
    (
        "cache folder",
        _check_folder,
        "set FUSEC_CACHE_DIR to a folder that you may write; until then each process compiles",
    ),
    ("processor", _check_target, "reinstall llvmlite: pip install --force-reinstall llvmlite"),
    ("compiler", _check_compiler, "reinstall numba and llvmlite in the versions above"),
    ("answer", _check_answer, "set FUSEC_DISABLE=1 to go on with NumPy, and report this output"),
    ("threads", _check_threads, "set FUSEC_NUM_THREADS=1 to go on without threads"),
)

EXTRA = "pip install 'fusec[cuda13]', or 'fusec[cuda12]' for a driver older than 580"
CUDA_CHECKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("driver", _check_driver, "install NVIDIA's display driver; it is no package of pip"),
    ("cuda.core", _check_core, EXTRA),
    ("ptxas", _check_ptxas, f"{EXTRA}; only .sass and .resources need it"),
    ("cuBLAS", _check_cublas, f"{EXTRA}; without it products take a slower kernel of ours"),
)


# -- cache ----------------------------------------------------------------------------------------


def cache_command(options: argparse.Namespace, _failed: list[str]) -> Iterator[str]:
    """List, clear or locate the kernel cache."""
    if options.action == "path":
        yield str(cache.folder)
    elif options.action == "clear":
        yield f"removed {counted(cache.clear(), 'kernel')} from {cache.folder}"
    else:
        entries = cache.list_entries()
        for entry in reversed(entries):
            yield f"{entry.key[:12]}  {amount(entry.size):>10}  {_age(entry):>8}  {_title(entry)}"
        yield f"{counted(len(entries), 'kernel')}, {amount(sum([e.size for e in entries]))}"


def _age(entry: Entry) -> str:
    seconds = max(0.0, time.time() - entry.used)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _title(entry: Entry) -> str:
    """The first comment of the text that a kernel was made from."""
    try:
        first = entry.path.with_suffix(".py").read_text().split("\n", 1)[0]
    except OSError:
        return ""
    return first.removeprefix("# ") if first.startswith("#") else ""


# -- inspect --------------------------------------------------------------------------------------


def inspect_command(options: argparse.Namespace, _failed: list[str]) -> Iterator[str]:
    """Show graph, kernels and explanation of a function."""
    function = load(options.function)
    args, kwargs = read_arguments(options.arguments)
    try:
        low = function.lower(*args, **kwargs)
        if set(options.parts or ()) & {"llvm", "asm"}:
            low = low.compile()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise CliError(f"{options.function} can't be traced with these arguments. {said}") from None
    for part in options.parts or ("graph", "source", "explain"):
        yield from _PARTS[part](low)


def load(name: str) -> Any:
    """The jitted function that ``pkg.module:function`` names; a plain one is jitted."""
    module_name, colon, path = name.partition(":")
    if not colon or not path:
        raise CliError(f"{name!r} names no function: write pkg.module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "run from the folder it is in, or set PYTHONPATH"
        raise CliError(f"no module {error.name!r} ({hint})") from None
    for part in path.split("."):
        if not hasattr(found, part):
            near = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
            raise CliError(f"{module_name} has no {path!r}; it has {', '.join(near[:12])}")
        found = getattr(found, part)
    if isinstance(found, types.FunctionType):
        return fusec.jit(found)
    if not hasattr(found, "lower"):
        raise CliError(f"{name} is of type {type(found).__name__}, not a function")
    return found


def read_arguments(words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments from the command line.

    >>> read_arguments(["f4[2,3]", "0.5", "axis=1"])
    ([ShapeDtype((2, 3), 'float32'), 0.5], {'axis': 1})
    """
    args, kwargs = [], {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = read_argument(value)
        else:
            args.append(read_argument(word))
    return args, kwargs


def read_argument(word: str) -> Any:
    """One argument: an array's dtype and shape, a literal, or a container of both."""
    if SPEC.fullmatch(word.strip()):
        return _array(word.strip())
    try:
        return _filled(ast.literal_eval(word))
    except (ValueError, SyntaxError):
        raise CliError(f"cannot read the argument {word!r}: {HELP}") from None


def _filled(value: Any) -> Any:
    if isinstance(value, str):
        return _array(value) if SPEC.fullmatch(value) else value
    if isinstance(value, dict):
        return {k: _filled(v) for k, v in value.items()}
    return type(value)([_filled(v) for v in value]) if isinstance(value, list | tuple) else value


def _array(text: str) -> ShapeDtype:
    match = SPEC.fullmatch(text)
    assert match is not None
    try:
        return ShapeDtype([int(n) for n in match[2].split(",") if n.strip()], match[1])
    except TypeError:
        raise CliError(f"{match[1]!r} in {text!r} is no dtype of NumPy: {HELP}") from None


def _graph(low: Lowered) -> Iterator[str]:
    yield f"# as written\n{low.traced.graph}\n\n# optimised\n{low.graph}\n"


def _source(low: Lowered) -> Iterator[str]:
    for kernel in low.kernels:
        ints = "".join([f", {k}={v}" for k, v in kernel.ints.items()])
        yield f"# kernel {kernel.name}: start=0, stop={kernel.rows}{ints}\n{kernel.source}"


def _explain(low: Lowered) -> Iterator[str]:
    if low.program is not None:
        yield f"{low}\n"
    yield str(low.explain())


_PARTS: dict[str, Callable[[Any], Iterator[str]]] = {
    "graph": _graph,
    "source": _source,
    "explain": _explain,
    "llvm": lambda low: (f"; kernel {k.name}\n{k.llvm}" for k in low.kernels),
    "asm": lambda low: (f"# kernel {k.name}\n{k.asm}" for k in low.kernels),
    "dot": lambda low: iter([low.dot()]),
}
