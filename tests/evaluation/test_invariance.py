"""How far features move: what a layer cannot see does not move it; definitions, and the verb."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.cli.main import main
from striate.evaluation.robustness import measure_invariance as measuring
from striate.evaluation.robustness.measure_invariance import measure_invariance
from striate.runs.directory import open_run
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data
from striate.visualize.inside import passes


class MeanAndPixels(nn.Module):
    """A ReLU of the pixels, then classes by the mean alone, which a shift within an even border cannot change."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.fc = nn.ReLU(), nn.Linear(1, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(x - x.min()).mean((2, 3))[:, :1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("moved") / "digits"
    model = "conv(4,3) relu pool(2) fc(10)"
    assert main(["train", "digits", "--out", str(out), "--model", model, "--epochs", "1", "--plan", "plain"]) == 0
    return out


@pytest.mark.slow
def test_the_verb_measures_writes_and_is_the_definition(run, capsys):
    capsys.readouterr()
    assert main(["eval", str(run), "--invariance", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((run / "invariance.json").read_text())
    assert (run / "plots" / "invariance.png").stat().st_size > 10_000
    assert (document["n"], document["layers"][-1]) == (200, "fc1")
    for curve in document["curves"]:
        for level in curve["levels"]:
            for found in (*level["distances"].values(), level["probability"]):
                assert found["interval"][0] <= found["mean"] <= found["interval"][1]
    small, large = (document["curves"][0]["levels"][k]["distances"]["relu1"]["mean"] for k in (0, -1))
    assert 0 < small < large
    found = striate.invariance(run, samples=30)
    assert found.layers == tuple(document["layers"])
    assert "p of the true class" in str(found)


@pytest.mark.slow
def test_what_a_layer_cannot_see_does_not_move_it(run):
    trained = striate.load(run)
    found = read_data(config_from_yaml(open_run(run).config))[1]
    test = found.splits["test"]
    inputs = torch.zeros_like(test.inputs[:40])
    inputs[:, :, 3:5, 3:5] = test.inputs[:40][:, :, 3:5, 3:5] // 2 + 60  # two pixels of border: shifts lose nothing
    held = replace(test, inputs=inputs, targets=test.targets[:40], ids=test.ids[:40])
    made = replace(found, splits=found.splits | {"test": held})
    blind = replace(trained, module=MeanAndPixels().eval())
    curve = measure_invariance(blind, made, "test").curves[0]
    assert curve.name == "shift"
    for level in curve.levels:
        pixels, classes = (mean for mean, *_ in level.distances)
        assert pixels > 0.2
        assert classes == pytest.approx(0, abs=1e-5)
        assert np.isfinite(level.probability[0])


def test_images_that_are_measured_one_at_a_time_move_as_far(run, monkeypatch):
    for name in ("_SCALES", "_ANGLES"):
        monkeypatch.setattr(measuring, name, getattr(measuring, name)[-1:])
    trained, found = striate.load(run), read_data(config_from_yaml(open_run(run).config))[1]
    together = measure_invariance(trained, found, "test", samples=4)
    monkeypatch.setattr(passes, "_NUMBERS", 1)
    alone = measure_invariance(trained, found, "test", samples=4)
    for one, other in zip(together.curves, alone.curves, strict=True):
        for level, same in zip(one.levels, other.levels, strict=True):
            assert np.allclose(level.distances, same.distances, rtol=1e-4)


def test_it_is_refused_beside_other_measurements(run, capsys):
    assert main(["eval", str(run), "--invariance", "--robustness"]) == 2
    assert "--robustness with --invariance" in capsys.readouterr().err
    assert main(["eval", str(run), "--weights", "x"]) == 2
    assert f"striate eval {run} --learning-curve --weights x" in capsys.readouterr().err
    assert main(["eval", str(run), "--learning-curve", "--counts", "1;2"]) == 2
    assert main(["eval", str(run), "--learning-curve", "--counts", "99999"]) == 2
    assert "at most" in capsys.readouterr().err
