"""A training that is watched leaves looks, costs next to nothing, and ends with the same bits."""

from __future__ import annotations

import base64
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.short_runs import asked_for, events_of, parameters

from striate.runs.directory import RunDirectory
from striate.runs.watching import is_watched, read_snapshot, request_snapshots
from striate.training import snapshots
from striate.training.events import StepDone
from striate.training.prepare import Prepared, prepare
from striate.training.snapshots import SnapshotWriter, first_filters

NETWORK = "conv(6,3) bn relu dropout(0.3) pool(2) fc(10)"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def train_with(prepared: Prepared, reader: SnapshotWriter | None) -> Prepared:
    for event in events_of(prepared):
        if reader is not None:
            reader(event)
    return prepared


def always(patch: pytest.MonkeyPatch) -> None:
    """Look after every step."""
    patch.setattr(snapshots, "EVERY", 0.0)
    patch.setattr(snapshots, "SHARE", 1e9)


@pytest.mark.slow
def test_a_watched_training_ends_with_the_same_bits(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    config = asked_for(model__name=NETWORK, execution__plan="plain")
    alone = train_with(prepare(config), None)
    request_snapshots(run)
    prepared = prepare(config)
    watched = train_with(prepared, SnapshotWriter(run, prepared))
    one, two = parameters(alone), parameters(watched)
    assert all(torch.equal(one[name], two[name]) for name in one)
    look = read_snapshot(run)
    assert look is not None
    assert look["step"] == look["layers_step"] == look["steps"] == prepared.config.budget.steps
    assert [layer["kind"] for layer in look["layers"]] == ["weights", "relu", "weights"]
    assert look["losses"][-1] == [look["step"], look["loss"]]
    assert look["left"] == 0


def test_nothing_is_written_where_nobody_watches(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    prepared = prepare(asked_for())
    train_with(prepared, SnapshotWriter(run, prepared))
    assert not is_watched(run)
    assert list(run.path.iterdir()) == []


def test_figures_come_oftener_than_the_filters_that_take_longer(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(monkeypatch)
    request_snapshots(run)
    prepared = prepare(asked_for(budget__epochs=1))
    reader = SnapshotWriter(run, prepared, _next_filters=0.0)
    events = [event for event in events_of(prepared) if isinstance(event, StepDone)]
    for event in events[:3]:
        reader(event)
        monkeypatch.setattr(reader, "_next_filters", inf if event.step == 2 else 0.0)
    look = read_snapshot(run)
    assert look is not None
    assert (look["step"], look["filters_step"], look["losses"][-1][0]) == (3, 2, 3)
    assert look["filters"] is not None


def test_filters_are_the_weights(run: RunDirectory) -> None:
    prepared = prepare(asked_for())
    shown = first_filters(prepared)
    assert shown is not None
    weight = dict(prepared.state.module.named_parameters())[f"{shown['layer']}.weight"].detach().numpy()
    read = np.frombuffer(base64.b64decode(shown["bytes"]), np.uint8).reshape(shown["shape"])
    assert shown["of"] == len(weight)
    np.testing.assert_allclose((read - 128.0) / 127 * shown["most"], weight, atol=shown["most"] / 127)


def test_rows_of_a_matrix_on_images_are_images() -> None:
    shown = first_filters(prepare(asked_for(model__name="mlp(12)")))
    assert shown is not None
    assert shown["shape"] == [12, 1, 8, 8]


def test_a_table_has_no_filters() -> None:
    assert first_filters(prepare(asked_for("iris"))) is None


@pytest.mark.slow
def test_losses_of_a_long_training_stay_few(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LOSSES", 20)
    always(monkeypatch)
    request_snapshots(run)
    prepared = prepare(asked_for())
    train_with(prepared, SnapshotWriter(run, prepared))
    look = read_snapshot(run)
    assert look is not None
    assert 10 <= len(look["losses"]) <= 20
    assert [step for step, _ in look["losses"]] == sorted({step for step, _ in look["losses"]})
