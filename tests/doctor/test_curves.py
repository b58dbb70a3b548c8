"""What the curves of a run say: of made-up tables, each with one thing wrong, and of healthy ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from striate.doctor.run_curves import Curves, curve_findings
from striate.records import Remedy
from striate.runs.directory import RunDirectory


def curves(train: Sequence[float], val: Sequence[float], classes: int = 10, **columns: Sequence[float]) -> Curves:
    given = {"epoch": range(1, len(train) + 1), "train_loss": train, "val_loss": val, **columns}
    return Curves({name: tuple(map(float, values)) for name, values in given.items()}, (), classes)


def codes(given: Curves) -> list[str]:
    return [finding.code for finding in curve_findings(given)]


SOUND = [2.3 * 0.7**epoch for epoch in range(12)]


def test_a_sound_run_is_left_in_peace() -> None:
    assert codes(curves(SOUND, [loss + 0.05 for loss in SOUND], lr=[0.1] * 11 + [0.001])) == []


def test_full_marks_on_training_samples_with_good_validation_are_no_overfit() -> None:
    accuracy = {"train_accuracy": [1.0] * 12, "val_accuracy": [0.97] * 12}
    assert codes(curves([0.001] * 12, [0.1] * 6 + [0.13] * 6, **accuracy)) == []


def test_a_validation_loss_that_rises_while_the_gap_opens_is_overfit() -> None:
    accuracy = {"train_accuracy": [0.6] * 6 + [0.99] * 6, "val_accuracy": [0.6] * 12}
    given = curves(SOUND, [1.2, 1.0, 0.9, 0.9, 1.0, 1.1, 1.3, 1.5, 1.7, 1.8, 1.9, 2.0], **accuracy)
    [finding] = curve_findings(given)
    assert (finding.code, finding.severity) == ("fit.overfit", "warning")
    assert "validation loss 1.900 at the end, 0.933 around epoch 3" in finding.measured
    assert "accuracy 39 points below" in finding.measured


def test_a_run_that_ends_as_it_guessed_is_a_plateau() -> None:
    [finding] = curve_findings(curves([math.log(10)] * 5, [math.log(10)] * 5))
    assert (finding.code, finding.severity) == ("fit.plateau", "error")
    assert "ln 10 = 2.303" in finding.measured


def test_a_run_whose_loss_still_falls_at_a_constant_rate_was_too_short() -> None:
    falling = [2.3 - 0.1 * epoch for epoch in range(12)]
    assert codes(curves(falling, falling, lr=[0.01] * 12)) == ["fit.too-short"]
    assert codes(curves(falling, falling, lr=[0.01] * 6 + [0.0001] * 6)) == []


@pytest.mark.parametrize(("wait", "found"), [(0.4, ["speed.input-bound"]), (0.1, [])])
def test_steps_that_wait_for_data_are_told(wait: float, found: list[str]) -> None:
    assert codes(curves(SOUND, SOUND, data_wait=[0.9] + [wait] * 11)) == found


@pytest.mark.parametrize(
    ("store", "said"), [("stream", "striate data pack photos --size 8x16"), ("pack", "Augment"), ("memory", "Augment")]
)
def test_decoding_is_a_remedy_where_something_is_decoded(tmp_path: Path, store: str, said: str) -> None:
    run = RunDirectory(tmp_path)
    run.config.write_text(f"data: {{source: photos, size: [8, 16], store: {store}}}\n")
    [finding] = curve_findings(replace(curves(SOUND, SOUND, data_wait=[0.4] * 12), run=run))
    assert isinstance(finding.remedy, Remedy)
    assert said in finding.remedy.for_training("photos")


def test_a_number_that_is_none_is_told_with_its_step() -> None:
    event = {"event": "non-finite", "where": "layer conv1", "got": "a gradient of nan", "step": 1200, "remedy": "less"}
    [finding] = curve_findings(Curves({}, (event,), 10))
    assert (finding.code, finding.severity, finding.where) == ("loss.not-finite", "error", "layer conv1")
    assert "in step 1,200" in finding.measured


def finished(train: Sequence[float], val: Sequence[float], passes: float, **columns: Sequence[float]) -> Curves:
    return replace(curves(train, val, step=[30 * passes] * len(train), **columns), passes=passes)


def test_a_run_of_few_passes_hardly_trained() -> None:
    [finding] = curve_findings(finished([2.3], [2.3], 0.25))
    assert (finding.code, finding.severity) == ("fit.too-short", "warning")
    assert "0.25 epochs, in 7 steps" in finding.measured
    assert codes(finished([2.3, 1.0, 0.5, 0.3], [2.2, 1.1, 0.6, 0.4], 4)) == []
    # A few passes over a handful of samples are as good as none.
    assert codes(replace(finished([2.3] * 5, [2.3] * 5, 5), classes=0)) == []
    few = replace(finished([2.3] * 5, [2.3] * 5, 5, lr=[0.1] * 5), classes=0)
    assert codes(replace(few, columns={**few.columns, "step": (5.0,)})) == ["fit.too-short"]


def test_a_loss_that_fell_with_its_rate_tells_only_of_short_runs_that_have_more_to_learn() -> None:
    falling = [2.3 - 0.1 * epoch for epoch in range(12)]
    annealed = [0.01] * 6 + [0.0001] * 6
    assert codes(finished(falling, falling, 12, lr=annealed)) == ["fit.too-short"]
    assert codes(finished(falling, falling, 40, lr=annealed)) == []
    assert codes(finished(falling, [*falling[:8], 2.2, 2.2, 2.2, 2.2], 12, lr=annealed)) == []
    assert codes(finished(SOUND, SOUND, 12, lr=annealed)) == []
