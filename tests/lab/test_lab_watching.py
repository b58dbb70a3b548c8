"""Watch's answers: one pass, kept; every layer's maps and numbers; what is wrong is told, and no network is changed."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

import striate
from striate.data.dataset import Preparation
from striate.data.normalize import Normalization
from striate.errors import ModelError
from striate.lab.watching.pass_recorder import run_pass
from striate.lab.watching.pointwise_arithmetic import explain_input
from striate.lab.watching.watch_page import map_pictures
from striate.lab.watching.watched_network import CachedPasses
from striate.lab.workbench import Lab
from striate.models.build import build_model
from striate.tasks.classify.task import Classify
from striate.training.trained import Trained

STRING = "conv(4,3,pad=1) bn relu pool(2) res[conv(4,3,pad=same) relu] gap fc(5)"
ASKED = {"model": STRING, "input": "1x12x12", "image": "mnist5k#17"}


def ask(client: TestClient, path: str, **values: Any) -> dict:
    answer = client.get(f"/api/watch/{path}", params={**ASKED, **values})
    assert answer.status_code == 200, answer.text
    found: dict = answer.json()
    return found


def test_every_layer_of_a_layer_string_can_be_stepped_through(client: TestClient) -> None:
    told = ask(client, "steps")
    kinds = [step["kind"] for step in told["steps"]]
    assert kinds == ["input", "conv", "bn", "relu", "pool", "conv", "relu", "add", "gap", "fc", "softmax"]
    assert [step["place"] for step in told["steps"]] == list(range(-1, 10))
    assert told["steps"][7]["sources"] == [3, 5]
    assert any("random initialization" in note for note in told["network"]["notes"])
    assert any("28 × 28 pixels is brought to 12 × 12" in note for note in told["network"]["notes"])
    assert sum(one["probability"] for one in told["answer"]) == pytest.approx(1)
    for step in told["steps"]:
        total, rows, columns = step["maps"]
        maps = ask(client, "maps", layer=step["place"], order="number")
        assert (maps["total"], len(maps["maps"])) == (total, total)
        unit = ask(client, "unit", layer=step["place"], map=total - 1, row=rows // 2, column=columns // 2)
        assert unit["unit"]["value"] == pytest.approx(unit["unit"]["output"], rel=1e-4, abs=1e-6)
        assert unit["seen"] is not None


def test_a_number_is_projected_back_to_the_image(client: TestClient) -> None:
    found = ask(client, "projections", layer=2, map=1, row=3, column=4)["projections"]
    assert [one["method"] for one in found] == ["deconvnet", "guided-backprop"]
    assert all(one["picture"].startswith("data:image/png;base64,") for one in found)
    first = ask(client, "projections", layer=0, map=1, row=3, column=4)["projections"]
    assert all("no ReLU between it and the image" in one["problem"] for one in first)
    last = ask(client, "projections", layer=8, map=2, row=0, column=0)["projections"]
    assert all("picture" in one for one in last)


def test_what_a_number_sees_is_the_receptive_field_of_the_ledger(client: TestClient) -> None:
    rows = striate.summarize(STRING, (1, 12, 12)).rows
    for place, row in enumerate(rows[:6]):
        seen = ask(client, "unit", layer=place, map=0, row=2, column=3)["seen"]
        assert [seen[axis][1] - seen[axis][0] + 1 for axis in ("rows", "columns")] == list(row.receptive_field)


def test_maps_are_bytes_with_their_range(client: TestClient) -> None:
    maps = ask(client, "maps", layer=0)["maps"]
    assert [one["activity"] for one in maps] == sorted((one["activity"] for one in maps), reverse=True)
    first = maps[0]
    values = np.frombuffer(b64decode(first["data"]), np.uint8).reshape(first["rows"], first["columns"])
    row, column = 4, 7
    number = ask(client, "unit", layer=0, map=first["unit"], row=row, column=column)["unit"]["output"]
    assert (float(values[row, column]) - 128) / 127 * first["scale"] == pytest.approx(number, abs=first["scale"] / 127)
    picture = ask(client, "picture", layer=0, map=first["unit"])
    assert picture["map"]["data"] == first["data"]
    assert (picture["filter"]["channels"], picture["filter"]["rows"]) == (1, 3)


def test_large_maps_are_drawn_small_and_one_by_one_in_full() -> None:
    maps = torch.zeros(2, 100, 130)
    maps[1, 99, 129] = float("nan")
    small, full = map_pictures(maps, [0, 1], small=True), map_pictures(maps, [1], small=False)
    assert [(one.rows, one.columns, one.finite) for one in small] == [(64, 64, True), (64, 64, False)]
    assert (full[0].rows, full[0].columns) == (100, 130)


def test_a_run_is_watched_with_its_own_preparation() -> None:
    module, classes = build_model("conv(4,3) relu pool(2) fc(3)", (1, 20, 24)).eval(), ("a", "b", "c")
    shape = Preparation("image", (1, 20, 24))
    task = Classify(classes)
    trained = Trained(module, task, shape, Normalization((33.0,), (78.0,)), classes, torch.device("cpu"), "mirror")
    lab = Lab(Path("run"))
    lab.__dict__["trained"] = trained  # as if it had been loaded
    watched = CachedPasses(lab).watched("run", "", "mnist5k#5")
    image = Image.fromarray(watched.image.picture.values[..., 0])
    answer = replace(trained, views="none").predict(image)
    assert watched.probabilities is not None
    assert watched.probabilities.output[0].tolist() == pytest.approx(answer.decoded.tolist(), abs=1e-6)
    assert watched.probabilities.labels == classes
    assert "test-time augmentation" in watched.network.notes[0]
    found, seen = explain_input(watched, (0, 12, 10))
    assert found.value == pytest.approx(found.output, abs=1e-6)
    assert seen.rows == (12, 12)


def test_a_run_on_a_table_is_refused() -> None:
    lab = Lab(Path("run"))
    table = Preparation("table", (4,))
    module = nn.Linear(4, 2)
    lab.__dict__["trained"] = Trained(
        module, Classify(("a", "b")), table, Normalization((0.0,) * 4, (1.0,) * 4), ("a", "b"), torch.device("cpu")
    )
    with pytest.raises(ModelError, match="a run on rows of"):
        CachedPasses(lab).watched("run", "", "mnist5k#5")


def test_a_pass_is_computed_once_and_room_is_made_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = CachedPasses(Lab())
    first = passes.watched(STRING, "1x12x12", "mnist5k#1")
    assert passes.watched(STRING, "1x12x12", "mnist5k#1") is first
    monkeypatch.setattr("striate.lab.watching.watched_network.LARGEST_PASS", first.bytes)
    passes.watched(STRING, "1x12x12", "mnist5k#2")
    assert passes.watched(STRING, "1x12x12", "mnist5k#1") is not first


def test_watching_changes_nothing_in_a_network() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    run_pass(module, x)
    with pytest.raises(ModelError, match="feature maps"):
        run_pass(module, x, limit=100)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, kept)
    assert all(part.training and not part._forward_hooks and not part._forward_pre_hooks for part in module.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"model": "conv(4,3) relo"}, "layer string, character 11"),
        ({"model": "/etc/passwd"}, "the network"),
        ({"model": "network.py:build"}, "the network"),
        ({"input": "4x12x12"}, "the input"),
        ({"input": "3x9000x9000"}, "the input"),
        ({"model": "vgg16(width=200)", "input": "3x32x32"}, None),
        ({"image": "mnist5k#99999"}, "image mnist5k#99999"),
        ({"image": "upload:0123"}, "upload:0123"),
        ({"layer": 99}, "layer"),
        ({"layer": 0, "map": 4}, "conv1"),
        ({"layer": -1, "row": 12}, "input"),
        ({"layer": "first"}, "layer"),
    ],
)
def test_what_cannot_be_watched_is_told(client: TestClient, values: dict, where: str | None) -> None:
    asked = {**ASKED, "layer": 0, "map": 0, "row": 0, "column": 0, **values}
    answer = client.get("/api/watch/unit", params=asked)
    assert answer.status_code == 422
    record = answer.json()["error"]
    assert set(record) >= {"where", "got", "expected", "remedy"}
    assert where is None or record["where"] == where
