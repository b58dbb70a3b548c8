"""`striate.explain`, of runs, of networks, and of what it cannot explain."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.api import write_explanation
from striate.errors import DataError, ModelError, UsageError
from striate.visualize.attribution.change import Covering
from striate.visualize.attribution.explanation_record import covering_line

PLAIN = {"execution.plan": "plain"}


@pytest.fixture(scope="module")
def run(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("explained") / "run"
    striate.train(same_photos, "conv(8,3) bn relu gap fc(3)", epochs=12, lr=0.03, out=place, set=PLAIN)
    return place


@pytest.mark.slow
def test_a_picture_of_a_run(run: Path, same_photos: Path, tmp_path: Path) -> None:
    image = same_photos / "green" / "000.png"
    said = list[str]()
    explained = striate.explain(run, image, announce=said.append)
    assert isinstance(explained, striate.Explanation)
    assert len(said) == 1
    trained = striate.load(run)
    answer = trained.predict(image)
    assert (explained.label, explained.fields["probability"]) == (answer.label, answer.probability)
    assert explained.subject == "000.png"
    assert explained.input.shape == (3, 16, 16)
    assert [one.label for one in explained.nearest.neighbors] == ["green"] * 6
    similar = [one.similarity for one in explained.nearest.neighbors]
    assert similar == sorted(similar, reverse=True)
    if explained.nudge is not None:
        assert trained.predict(explained.nudge.changed).probability < 0.9
    document = explained.to_json()
    assert document["label"] == answer.label
    assert document["maps"][0]["method"] == document["method"]
    assert {"covering", "nudge"} == set(document["change"])
    write_explanation(explained, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "green" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


@pytest.mark.slow
def test_the_same_twice(run: Path, same_photos: Path) -> None:
    one, two = (striate.explain(run, same_photos / "red" / "001.png") for _ in range(2))
    assert one.to_json() == two.to_json()
    for a, b in zip(one.maps.maps, two.maps.maps, strict=True):
        assert np.array_equal(a.values, b.values)


def test_the_sides_of_a_square_are_both_written() -> None:
    explained = striate.explain(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), torch.randn(1, 6, 6), "saliency")
    found = replace(explained, covering=Covering((2, 1), (3, 3), 0.25, 1, 0.5))
    assert covering_line(found).startswith("Blurring a rectangle of 3×3 at row 2, column 1")


def test_a_network_without_its_run_knows_no_data(run: Path) -> None:
    explained = striate.explain(striate.load(run), np.zeros((3, 16, 16), np.uint8), "saliency")
    assert explained.nearest.neighbors == ()
    assert "name its run" in explained.nearest.missing
    assert [one.method for one in explained.maps.maps] == ["saliency"]


def test_data_that_are_gone_are_said(run: Path, same_photos: Path, tmp_path: Path) -> None:
    config = (run / "config.yaml").read_text()
    other = tmp_path / "run"
    (other / "checkpoints").mkdir(parents=True)
    (other / "checkpoints" / "best.pt").write_bytes((run / "checkpoints" / "best.pt").read_bytes())
    (other / "config.yaml").write_text(config.replace(str(same_photos), str(tmp_path / "gone")))
    explained = striate.explain(other, same_photos / "red" / "000.png", "saliency")
    assert explained.label is not None
    assert explained.nearest.missing.startswith("No training samples to compare with: ")


def test_a_table_and_its_numbers(tmp_path: Path) -> None:
    made = striate.train("iris", epochs=8, out=tmp_path / "iris", set=PLAIN)
    explained = striate.explain(made, "5.1,3.5,1.4,0.2")
    assert explained.subject == "a row of 4 numbers"
    assert len(explained.features) == 4
    assert explained.features[0] != "feature 0"
    assert all(one.values.shape == (4,) for one in explained.maps.maps)
    assert explained.maps.left_out[0].startswith("grad-cam: ")
    write_explanation(explained, tmp_path / "page.html")
    assert explained.features[0] in (tmp_path / "page.html").read_text()
    for wrong in ("5.1,3.5", "a,b,c,d", "1,2,3,nan"):
        with pytest.raises(UsageError, match="4 numbers, separated by commas"):
            striate.explain(made, wrong)


def test_a_number_of_a_network() -> None:
    explained = striate.explain(nn.Linear(3, 1), torch.ones(3))
    assert set(explained.fields) == {"value"}
    assert (explained.label, explained.runner_up, explained.covering, explained.nudge) == (None, None, None, None)
    assert "value" in explained.to_json()
    assert str(explained)


def test_what_cannot_be_explained(run: Path) -> None:
    with pytest.raises(UsageError, match="method"):
        striate.explain(run, "x.png", "gradcam")
    with pytest.raises(DataError, match="no such file"):
        striate.explain(run, "x.png")
    with pytest.raises(UsageError, match="a run whose predictions have such parts"):
        striate.explain(run, "x.png", box=1)
    with pytest.raises(UsageError, match="one part of the prediction"):
        striate.explain(run, "x.png", box=1, point="nose")
    with pytest.raises(ModelError, match="inputs that the network takes"):
        striate.explain(nn.Linear(3, 2), np.zeros((2, 3, 4)))
    for wrong, advice in (
        (np.zeros((2, 3, 4), np.uint8), "image / 255 of bytes"),
        (np.full((2, 3, 4), np.nan, np.float32), "nan_to_num"),
        ("x.png", r"striate\.explain\(run, image\)"),
    ):
        with pytest.raises(DataError, match=f"one normalized input(.|\n)*{advice}"):
            striate.explain(nn.Linear(3, 2), wrong)
    with pytest.raises(DataError, match="a tensor of 2×3×4,"):
        striate.explain(nn.Linear(3, 2), np.zeros((2, 3, 4), np.uint8))
    for rule in ({"cost": {"ill": 9}}, {"threshold": {"ill": 0.2}}):
        with pytest.raises(UsageError, match="for an nn"):
            striate.explain(nn.Linear(3, 2), torch.ones(3), **rule)


@pytest.mark.parametrize("shape", [(1, 12), (3, 12), (1, 8, 8), (1, 5, 5, 5), (2, 5, 5, 5)])
@pytest.mark.parametrize("batch", [False, True])
def test_a_module_takes_one_input_of_any_number_of_axes(shape: tuple[int, ...], batch: bool) -> None:
    """A leading 1 may be the channel or the batch."""
    layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(shape) - 1]
    torch.manual_seed(0)
    network = nn.Sequential(layer(shape[0], 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * prod(shape[1:]), 3))
    x = torch.rand((1, *shape) if batch else shape)
    explained = striate.explain(network, x, "saliency")
    assert explained.input.shape == shape


def test_a_module_in_half_precision_is_explained() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).bfloat16()
    assert striate.explain(network, torch.rand(3, 8, 8), "saliency").label
