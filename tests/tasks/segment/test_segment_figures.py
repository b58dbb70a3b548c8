"""The metrics of a segmentation: of classes, of pixels, and what is remembered of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score

from striate.data.annotations.masks import IGNORED
from striate.data.dataset import SampleFacts
from striate.statistics.calibration import measure_calibration
from striate.tasks.evaluation import Evaluation
from striate.tasks.segment import assess as pixels_module
from striate.tasks.segment.assess import SampledPixels
from striate.tasks.segment.task import Segment
from striate.visualize.drawn_file import with_legend

TASK = Segment(("ground", "disk", "square", "never"))


def made(n: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (n, 6, 7), generator=generator).to(torch.uint8)
    outputs = torch.randn(n, 4, 6, 7, generator=generator) + 2 * torch.nn.functional.one_hot(targets.long(), 4).movedim(
        -1, 1
    )
    outputs[:, 3] = -9
    targets[torch.rand(n, 6, 7, generator=generator) < 0.2] = IGNORED
    return outputs, targets


def evaluated(outputs: torch.Tensor, targets: torch.Tensor) -> Evaluation:
    collected = TASK.collector(len(targets))
    collected.update(outputs, targets)
    decoded, truth = TASK.decode(outputs).numpy(), targets.numpy()
    return Evaluation("made", "test", "segment", TASK.classes, len(truth), {}, decoded, truth,
                      np.arange(len(truth)), sampled=TASK.remembered(collected))  # fmt: skip


def test_the_legend_names_the_colors_that_a_drawn_mask_has() -> None:
    task, mask = Segment(("background", "disk", "square", "never")), np.zeros((40, 50), np.uint8)
    mask[:9], mask[20:30] = 1, 2
    (disk, color), (square, _) = task.legend(mask)
    assert (disk, square) == ("disk", "square")
    drawn = task.draw(np.full((3, 40, 50), 128, np.uint8), mask)
    assert drawn[0, 0].tolist() == pytest.approx(color, abs=1)
    picture = with_legend(drawn, task.legend(mask))
    assert picture[:280, :350].tolist() == drawn.repeat(7, 0).repeat(7, 1).tolist()
    assert (picture[284:] == color).all(-1).sum() > 50
    assert with_legend(drawn, task.legend(0 * mask)) is drawn


def test_figures_are_those_of_scikit_learn_and_an_absent_class_has_none() -> None:
    outputs, targets = made()
    evaluation = evaluated(outputs, targets)
    facts = SampleFacts(tuple(f"{k}.png" for k in range(24)))
    found = TASK.assess(evaluation, facts, None, ())
    labeled = targets != IGNORED
    truth, said = targets[labeled].numpy(), outputs.argmax(1)[labeled].numpy()
    each = jaccard_score(truth, said, average=None)
    assert [row.iou.value for row in found.classes[:3]] == pytest.approx(list(each))
    assert [row.dice.value for row in found.classes[:3]] == pytest.approx(list(f1_score(truth, said, average=None)))
    assert (found.classes[3].iou.value, found.classes[3].images) == (None, 0)
    assert found.metrics["pixel_accuracy"].value == pytest.approx((truth == said).mean())
    assert found.metrics["iou"].value == pytest.approx(each.mean())
    metrics = TASK.measure(TASK.decode(outputs), targets)
    assert metrics["iou_per_class"]["never"] is None
    assert metrics["dice"] == pytest.approx(found.metrics["dice"].value)
    for figure in found.metrics.values():
        assert figure.interval is not None
        assert figure.interval.low <= figure.value <= figure.interval.high
    alone = [TASK.measure(TASK.decode(outputs[k : k + 1]), targets[k : k + 1])["iou"] for k in range(24)]
    assert found.worst[0].path == f"{int(np.argmin(alone))}.png"
    assert found.worst[0].iou == pytest.approx(min(alone))
    probabilities = outputs.softmax(1).movedim(1, -1)[labeled].numpy()
    assert found.calibration.ece == pytest.approx(measure_calibration(truth, probabilities).ece, abs=1e-6)
    assert found.pixels == int(labeled.sum())


def test_a_class_that_is_predicted_but_does_not_occur_is_no_part_of_means() -> None:
    outputs, targets = made()
    outputs[0, 3, 0] = 99
    labeled = targets != IGNORED
    truth, said = targets[labeled].numpy(), outputs.argmax(1)[labeled].numpy()
    found = TASK.measure(TASK.decode(outputs), targets)
    assert (found["iou_per_class"]["never"], found["dice_per_class"]["never"]) == (None, None)
    mean = jaccard_score(truth, said, labels=[0, 1, 2], average="macro")
    assert found["iou"] == pytest.approx(mean)
    assert found["dice"] == pytest.approx(f1_score(truth, said, labels=[0, 1, 2], average="macro"))
    assert TASK.summarize(TASK.tally(outputs, targets))["iou"] == pytest.approx(mean)
    assert found["boundary_f1"] < TASK.measure(targets, targets)["boundary_f1"] == pytest.approx(1)
    assert found["pixel_accuracy"] == pytest.approx((truth == said).mean())


def test_without_kept_probabilities_calibration_is_left_out() -> None:
    outputs, targets = made()
    evaluation = evaluated(outputs, targets)
    kept = Evaluation("made", "test", "segment", TASK.classes, 24, {}, evaluation.decoded, evaluation.targets,
                      evaluation.ids)  # fmt: skip
    found = TASK.assess(kept, SampleFacts(tuple(map(str, range(24)))), None, ())
    assert found.calibration is None
    assert "No calibration: saved masks have no probabilities." in found.left_out
    assert TASK.fit_temperature(kept) is None
    assert all(len(line) <= 80 for part in found.lines(None) for line in part)


def test_the_temperature_of_pixels_undoes_a_scale() -> None:
    outputs, targets = made(40)
    outputs[:, 3] = torch.randn(40, 6, 7)
    plain, sharp = (TASK.fit_temperature(evaluated(scale * outputs, targets)) for scale in (1, 3))
    assert plain is not None
    assert sharp is not None
    assert sharp.value == pytest.approx(3 * plain.value, rel=0.01)


@pytest.mark.slow
@given(st.integers(1, 24), st.integers(1, 500))
def test_the_pixels_that_are_kept_do_not_depend_on_the_batches(batch: int, most: int) -> None:
    outputs, targets = made()
    before = pixels_module.MOST_PIXELS
    pixels_module.MOST_PIXELS = most
    try:
        whole, parts = (SampledPixels(TASK.tally, TASK.summarize, 24) for _ in range(2))
    finally:
        pixels_module.MOST_PIXELS = before
    whole.update(outputs, targets)
    for start in range(0, 24, batch):
        parts.update(outputs[start : start + batch], targets[start : start + batch])
    one, two = whole.pixels(), parts.pixels()
    assert np.array_equal(one.truth, two.truth)
    assert np.allclose(one.probabilities, two.probabilities)
    assert len(one.truth) <= max(most, 1)
    again = SampledPixels(TASK.tally, TASK.summarize, 24)
    again.load_state_dict(whole.state_dict())
    assert np.array_equal(again.pixels().truth, one.truth)
    assert again.compute() == whole.compute()
