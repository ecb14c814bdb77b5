"""The benchmark harness: it refuses wrong answers, counts right, and says what it found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kernels
from benchmarks import contenders, harness, page, report, suite, summary
from benchmarks.__main__ import main
from benchmarks.contenders import Contender

ROOT = Path(__file__).parents[1]
GELU = kernels.get("gelu")
NUMPY, FUSEC = contenders.CONTENDERS["numpy"], contenders.CONTENDERS["fusec"]


def fake(name, function):
    return Contender(name, "numpy", lambda kernel, device: lambda args: lambda: function(*args))


def row(kernel="k", size="L", dtype="f4", bound="memory", family="rows", copy=0.0, **ms):
    times = {name.replace("_", "-"): suite.Time(ms=value) for name, value in ms.items()}
    return suite.Row(kernel, family, bound, size, dtype, 1000, 10, copy_ms=copy, times=times)


@pytest.mark.parametrize(
    "name, function, word",
    [
        ("fusec", lambda x: GELU.function(x).astype("f8"), "float64 for float32"),
        ("fusec", lambda x: GELU.function(x) * np.float32(1.01), "off by"),
        ("fusec", lambda x: (GELU.function(x), x), "3 results for 2"),
        ("jax", lambda x: GELU.function(x)[:-1], "shape"),
        ("jax", lambda x: np.full_like(x, np.nan), "off by inf"),
        ("jax", lambda x: None, "off by"),
        ("jax", lambda x: 1 / [], "TypeError"),
    ],
)
def test_a_wrong_answer_is_never_timed(name, function, word):
    others = [NUMPY] if name == "fusec" else [FUSEC, NUMPY]
    found = suite.measure(GELU, "S", "f4", [*others, fake(name, function)], 0.01).times
    assert word in found[name].error
    assert found[name].ms == 0.0
    assert found["numpy"].ms > 0


def test_a_peer_may_use_other_dtypes_but_fusec_may_not():
    wide = fake("jax", lambda x: GELU.function(x).astype("f8"))
    assert not suite.measure(GELU, "S", "f4", [FUSEC, wide], 0.01).times["jax"].error


def test_arguments_updated_in_place_are_checked():
    kernel = kernels.get("momentum_inplace")
    idle = fake("fusec", lambda *args: None)
    assert "off by" in suite.measure(kernel, "S", "f4", [idle], 0.01).ours.error
    assert not suite.measure(kernel, "S", "f4", [FUSEC], 0.01).ours.error


def test_contenders_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = harness.alternate(calls, budget=0.0, least=3, most=3)
    assert [len(t.rounds) for t in times.values()] == [3, 3]
    turns = [name for k, name in enumerate(order) if k == 0 or order[k - 1] != name]
    assert turns == ["a", "b"] * 4  # first to learn how long a call takes, then three rounds


def test_ratios_and_best_peer():
    one = row(fusec=1.0, numpy=3.0, jax=2.0, numba_strict=0.5)
    assert one.best_peer(summary.RELAXED) == "jax"
    assert one.best_peer() == "numba-strict"
    assert summary.against_best(one) == 2.0
    assert one.ratio("torch") != one.ratio("torch")  # nan
    assert row(fusec=1.0).best_peer() == ""


def test_verdicts():
    rows = [
        row("fast", bound="arithmetic", fusec=1.0, jax=3.0),
        row("slow", bound="memory", fusec=1.0, jax=0.8, copy=0.9),
        replace(row("small", size="S", fusec=1.0, jax=0.5, numpy=2.0), operations=3),
        replace(row("one call", size="S", fusec=1.0, jax=0.2), operations=1),
    ]
    found = {v.what.partition(":")[0]: v for v in summary.verdicts(rows)}
    assert found["arithmetic"].passed
    assert found["arithmetic"].found == pytest.approx(3.0)
    assert not found["memory, latency, BLAS"].passed
    assert found["memory, L"].passed
    assert found["S"].worst == ("small S f4 0.50",)
    assert found["matrix products"].cells()[2] == "not measured"
    each = next(v for v in summary.verdicts(rows) if v.what.startswith("each"))
    assert (each.found, each.passed) == (0.8, False)


def test_comparison_goes_by_the_ratio_to_numpy():
    old = [row("a", fusec=1.0, numpy=2.0), row("b", fusec=1.0, numpy=2.0)]
    new = [row("a", fusec=2.0, numpy=4.0), row("b", fusec=2.0, numpy=2.0), row("c", fusec=1.0)]
    lines = report.compare(old, new)
    assert [(line[0], line[7]) for line in lines] == [("b", "0.50"), ("a", "1.00")]


def test_a_run_goes_to_a_file_and_back(tmp_path):
    rows = [replace(row(fusec=1.0, numpy=2.0), kernels=3)]
    report.save(rows, {"machine": {}, "roofs": {}}, tmp_path / "run.json")
    assert report.load(tmp_path / "run.json") == (rows, {"machine": {}, "roofs": {}})
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"bad\.json"):
        report.load(tmp_path / "bad.json")


def test_the_command_measures_writes_and_compares(tmp_path, capsys):
    out = tmp_path / "run.json"
    words = ["--kernel", "axpby", "--size", "S", "--dtype", "f4", "--seconds", "0.01"]
    assert main([*words, "--against", "numpy", "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    assert {"date", "machine", "roofs", "rows"} <= set(written)
    assert written["rows"][0]["times"]["fusec"]["ms"] > 0
    assert main(["--from", str(out), "--compare", str(out)]) == 0
    assert "1.00" in capsys.readouterr().out.rpartition("Against")[2]


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import plot

    rows = [row("a", fusec=1.0, numpy=2.0), row("b", bound="blas", fusec=1.0, numpy=0.5)]
    machine = {"processor": "p", "cpus": 2, "python": "3", "versions": {"numpy": "2"}}
    about = {"machine": machine, "roofs": {"copy": 1e10, "f4": 1e11}, "date": "today"}
    plot.write(rows, about, tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"ratios-L-f4.png", "roofline-L-f4.png", "index.html"}
    assert (tmp_path / "index.html").read_text().count("<svg") == 2


@pytest.mark.parametrize("words, text", [
    ([], "say --quick"),
    (["--kernel", "sofmax"], "no kernel"),
    (["--quick", "--against", "nobody"], "no contender"),
    (["--from", "missing.json"], "missing.json"),
])  # fmt: skip
def test_bad_words_are_explained(words, text, capsys):
    with pytest.raises(SystemExit) as error:
        main(words)
    assert text in str(error.value) + capsys.readouterr().err


def test_with_numpy_reaches_helpers():
    class Other:
        def __getattr__(self, name):
            return getattr(np, name)

        exp = staticmethod(lambda x: x * 0)

    kernel = kernels.get("black_scholes")
    args = kernel.args("S", "f8")
    changed = contenders.with_numpy(kernel.function, Other())(*args)
    assert not np.array_equal(changed[0], kernel.function(*args)[0])


def test_the_page_of_kernels_is_up_to_date():
    """`python -m benchmarks.page > docs/kernels.md` writes it."""
    assert (ROOT / "docs" / "kernels.md").read_text() == page.page().rstrip() + "\n"
