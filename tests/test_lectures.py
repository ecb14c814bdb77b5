"""The lecture programs run, stay short, and end with the loss that they are expected to reach."""

import importlib
from pathlib import Path

import pytest
from test_sizes import code_lines

import kernels.lectures
from benchmarks import training

FOLDER = Path(kernels.lectures.__file__).parent
LECTURES = sorted(p.stem for p in FOLDER.glob("lecture*.py"))
FINAL = {  # lowest and highest loss at the end
    "lecture1_graph": (-12.31, -12.29),
    "lecture2_two_layer_net": (100, 187),
    "lecture3_autoencoder": (0, 0.4),
    "lecture4_digits": (0, 0.05),
    "lecture5_static_and_dynamic": (100, 750),
}


@pytest.mark.parametrize("name", LECTURES)
def test_the_loss_goes_down(name, capsys):
    if name == "lecture4_digits":
        pytest.importorskip("sklearn")
    losses = importlib.import_module(f"kernels.lectures.{name}").main()
    low, high = FINAL[name]
    assert low <= losses[-1] <= high
    assert losses[-1] < losses[len(losses) // 2] < losses[0]
    assert capsys.readouterr().out


def test_the_step_that_is_timed_is_right():
    arrays = training.data(8)
    wanted = training.step_in_numpy(*[a.astype("f8") for a in arrays])
    for name, way in training.with_fusec(arrays).items():
        assert training.works(name, way, wanted)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_lectures_are_short(path):
    assert code_lines(path.read_text()) < 40


@pytest.mark.parametrize("name", [
    "lecture4_digits", "lecture5_static_and_dynamic",
])  # fmt: skip
def test_what_is_missing_is_named(name, monkeypatch):
    module = importlib.import_module(f"kernels.lectures.{name}")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="pip install"):
        module.main()
