"""What evaluation.json says, in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import classification, make_content, regression, task_of
from torch.nn import functional

from striate.data.annotations.captions import caption_rows
from striate.data.dataset import SampleFacts
from striate.records import Interval
from striate.report.finish import of_task
from striate.report.write import render_report
from striate.statistics.calibration import Calibration, ReliabilityBin, Temperature
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import wilson
from striate.tasks.assessment import Assessment, Gap, Slice, SplitMetrics
from striate.tasks.caption.baselines import captions_as_predictions
from striate.tasks.caption.task import Caption
from striate.tasks.classify.metrics import ClassificationMetrics, ClassMetrics, ConfusedPair, RankCurve
from striate.tasks.embed.task import Embed
from striate.tasks.evaluation import Evaluation
from striate.tasks.keypoints.task import Keypoints
from striate.tasks.reconstruct.task import Reconstruct
from striate.tasks.regress.metrics import NumberPrediction, RangeMetrics, RegressionMetrics, TargetMetrics
from striate.tasks.task import Task
from striate.visualize.page_parts import Section

SURE = Estimate(0.7, wilson(70, 100))
NASTY = "<script>alert(1)</script>"


def _calibration(ece: float) -> Calibration:
    bins = (ReliabilityBin(0.5, 1.0, 60, 0.9, SURE), ReliabilityBin(0.0, 0.5, 0, None, Estimate(None)))
    return Calibration(ece, (0.01, 0.05), 1.2, 0.4, bins)


def classified() -> ClassificationMetrics:
    names = (NASTY, "b")
    nothing = Estimate(None)
    rows = (ClassMetrics(NASTY, 30, 29, SURE, SURE, SURE, SURE, SURE), ClassMetrics("b", 30, 0, nothing, SURE, nothing))
    curves = tuple(
        RankCurve(name, (0.0, 0.1, 1.0), (0.0, 0.8, 1.0), (0.0, 0.6, 1.0), (1.0, 0.9, 0.5)) for name in names
    )
    slices = (
        Slice("brightness", "0 to 80", 30, SURE, 0.001, True),
        Slice("camera", NASTY, 30, Estimate(0.9, wilson(27, 30)), 0.4, False),
        Slice("class", "b", 30, SURE, 0.5, False),
    )
    return ClassificationMetrics(
        n=60,
        metrics={"accuracy": SURE, "balanced_accuracy": SURE},
        classes=rows,
        confusion=((25, 5), (5, 25)),
        confused=(ConfusedPair(NASTY, "b", 5, SURE),),
        curves=curves,
        calibration=_calibration(0.26),
        calibrated=_calibration(0.04),
        mistakes=(),
        unsure=(),
        slices=slices,
    )


def regressed() -> RegressionMetrics:
    figures = {name: Estimate(2.0, Interval(1.5, 2.5, 0.95, "bootstrap")) for name in ("rmse", "mae", "bias", "r2")}
    ranges = tuple(RangeMetrics(k, k + 1.0, 10, figures) for k in range(5))
    answers = (NumberPrediction(3, f"{NASTY}.png", "price", 10.0, 14.5, 4.5),)
    return RegressionMetrics(250, figures, (TargetMetrics("price", figures, ranges),), answers, ())


def assessed(figures: SplitMetrics, task: str) -> Assessment:
    temperature = Temperature(2.5, Interval(2.0, 3.0, 0.95, "profile likelihood"), "val", 25, 1.4, 1.0)
    gap = Gap("accuracy", SURE, 100, SURE, 20, Estimate(0.1, None), "Training 80 %, validation 70 %: a gap.")
    known = temperature if task == "classify" else None
    return Assessment(task, "flow<er>s", (), known, gap, {"test": figures})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    known = assessed(classified(), "classify")
    return render_report(make_content(tmp_path_factory.mktemp("plots"), classification(), assessment=known))


def test_every_part_is_there(page: str) -> None:
    for heading in ("Thresholds", "Calibration: how far to trust the probabilities", "Parts of the data", "Each class"):
        assert f">{heading}</h2>" in page
    for said in (
        "differ by 26.0 points on average",
        "the network is overconfident",
        "a temperature of 2.5 (95 % interval 2 to 3, fitted on val, n = 25) would make that 4.0 points",
        "These parts differ significantly from all other samples: brightness: 0 to 80 (70.0 %).",
        "Training 80 %, validation 70 %: a gap.",
        "Most confused pairs",
        "Averages over classes",
    ):
        assert said in page


def test_names_stay_text(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def sections_of(figures: dict[str, SplitMetrics]) -> tuple[Section, ...]:
    evaluation = classification()
    known = replace(assessed(classified(), "classify"), splits=figures)
    return of_task(task_of(evaluation), evaluation, known)["sections"]


def test_charts_have_their_numbers() -> None:
    sections = sections_of({"test": classified()})
    assert [len(section.charts) for section in sections] == [2, 1, 1]
    assert all(section.behind for section in sections)
    points = sections[0].behind[0].rows[0]
    known = (0.08, 0.4, 0.8, 1 - 0.1 * 0.5 / 0.6, 0.7, float(np.interp(0.95, [0.6, 1], [0.9, 0.5])))
    assert points[1:] == tuple(f"{100 * share:.1f} %" for share in known)


@pytest.mark.slow
def test_a_regression(tmp_path: Path) -> None:
    known = assessed(regressed(), "regress")
    page = render_report(make_content(tmp_path, regression(), assessment=known))
    assert ">Each number</h2>" in page
    assert "Largest errors, test split of flow&lt;er&gt;s, n = 250" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in page
    assert "How far to trust" not in page


def test_without_a_test_split_nothing_is_said() -> None:
    assert sections_of({}) == ()


def predictions_of(task: str) -> tuple[Task, torch.Tensor, torch.Tensor]:
    """A task, its predictions for 40 samples, and the targets."""
    draw, labels = torch.Generator().manual_seed(0), torch.arange(40) % 4
    if task == "caption":
        rows = np.stack([caption_rows([["a", "red", "box", "here"]], 8)] * 40)
        said = captions_as_predictions([["a", "box"]] * 40)
        return Caption(("a", "red", "box", "here")), said, torch.from_numpy(rows)
    if task == "embed":
        vectors = functional.normalize(torch.eye(8)[labels] + 0.1 * torch.rand(40, 8, generator=draw))
        return Embed(tuple("abcd"), (0,), 8), vectors, labels
    if task == "keypoints":
        points = torch.rand(40, 3, 4, generator=draw)
        return Keypoints(("left", "right", "nose"), (40, 60), 0.4), points[..., :3] + 0.01, points
    images = torch.randint(0, 256, (40, 1, 2, 2), generator=draw, dtype=torch.uint8)
    return Reconstruct((1, 2, 2), "squared"), images / 300, images


@pytest.mark.parametrize("name", ["caption", "embed", "keypoints", "reconstruct"])
def test_parts_of_the_data_stand_there_once(name: str) -> None:
    task, decoded, targets = predictions_of(name)
    evaluation = Evaluation(
        "made", "test", name, task.classes, 40, task.measure(decoded, targets), decoded.numpy(), targets.numpy(),
        np.arange(40), brightness=np.arange(40, dtype=np.float32),
    )  # fmt: skip
    figures = task.assess(evaluation, SampleFacts(tuple(map(str, range(40)))), None, ())
    known = Assessment(name, "made", (), None, None, {"test": figures})
    sections = of_task(task, evaluation, known)["sections"]
    assert [section.title for section in sections].count("Parts of the data") == 1
