"""A made-up run whose classes try to break out of the page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from striate.records import Finding
from striate.report.content import ModelFacts, ReportContent
from striate.report.finish import of_task
from striate.report.pictures import draw_curves
from striate.statistics.intervals import wilson
from striate.tasks.assessment import Assessment
from striate.tasks.classify.task import Classify
from striate.tasks.evaluation import ClassRow, Evaluation
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import Segment
from striate.tasks.show import drawable_images
from striate.visualize.page_parts import Table

NASTY = ("<script>alert(1)</script>", '"><img src=http://evil.example/x.png>', r"$\alpha_1$ & Co", "plain")


def classification(names=NASTY, n=60, right=0.7):
    made = np.random.default_rng(0)
    count = len(names)
    targets = np.arange(n) % count
    said = np.where(made.random(n) < right, targets, made.integers(0, count, n))
    decoded = np.full((n, count), 0.3 / count, np.float32)
    decoded[np.arange(n), said] += 0.7
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (targets, said), 1)
    rows = []
    for k, name in enumerate(names):
        total, answered, hits = int(confusion[k].sum()), int(confusion[:, k].sum()), int(confusion[k, k])
        precision = hits / answered if answered else None
        f1 = 2 * hits / (total + answered)
        rows.append(ClassRow(name, total, precision, hits / total, f1, wilson(hits, total)))
    hits = int(np.trace(confusion))
    interval = wilson(hits, n)
    metrics = {"n": n, "loss": 0.5, "accuracy": hits / n, "top5": 1.0, "macro_f1": 0.71}
    metrics["accuracy_interval"] = [interval.low, interval.high]
    ids = np.arange(n)
    return Evaluation(
        "flow<er>s",
        "test",
        "classify",
        names,
        n,
        metrics,
        decoded,
        targets,
        ids,
        confusion,
        tuple(rows),
        shown=Classify.metrics,
        predicted=decoded.argmax(1),
    )


def regression(n=250):
    made = np.random.default_rng(0)
    targets = made.normal(20, 5, (n, 1)).astype(np.float32)
    decoded = targets + made.normal(0, 2, (n, 1)).astype(np.float32)
    metrics = {"n": n, "loss": 0.2, "rmse": 2.013, "mae": 1.6, "r2": 0.8412}
    return Evaluation(
        "boston", "test", "regress", (), n, metrics, decoded, targets, np.arange(n), shown=Regress.metrics
    )


def segmentation(n=6):
    targets = np.zeros((n, 12, 12), np.uint8)  # as large as `images`
    targets[:, 2:5, 2:5] = 1
    metrics = {"n": n, "loss": 0.2, "iou": 0.912, "pixel_accuracy": 0.98}
    decoded = np.roll(targets, 1, 1)
    names, ids = ("ground", "$disc"), np.arange(n)
    return Evaluation("shapes", "test", "segment", names, n, metrics, decoded, targets, ids, shown=Segment.metrics)


def task_of(evaluation, target="price"):
    """The task whose predictions these are."""
    if evaluation.task == "regress":
        return Regress((target,), (0.0,), (1.0,))
    return (Classify if evaluation.task == "classify" else Segment)(evaluation.classes)


def draw_answers(folder, evaluation, inputs=None, **names):
    """The pictures of the predictions, as the end of a run draws them."""
    return task_of(evaluation).pictures(folder, evaluation, drawable_images(inputs), **names)


def images(n, channels=3, side=12):
    return np.random.default_rng(1).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def not_assessed(evaluation):
    """The record of a run of which nothing but the metrics is known."""
    return Assessment(evaluation.task, evaluation.data, evaluation.classes, None, None, {})


def make_content(folder, evaluation, inputs="images", assessment=None, target="price", **changes):
    task = task_of(evaluation, target)
    followed = task.headline
    history = [
        {"epoch": e, "lr": 0.1, "train_loss": 1 / e, "val_loss": None if e == 2 else 1.1 / e, f"val_{followed}": 0.5}
        for e in range(1, 4)
    ]
    if isinstance(inputs, str):
        inputs = None if evaluation.task == "regress" else images(evaluation.n)
    sizes = {"train": 100, "val": 20}
    pictures = (
        draw_curves(folder, history, metric=task.metrics[0], data=evaluation.data, sizes=sizes, best_epoch=3),
        *draw_answers(folder, evaluation, inputs),
    )
    layers = Table(
        "Layers", ("name", "output shape", "parameters"), (("conv<1>", "16 × 24 × 24", 416), ("fc", "4", 12))
    )
    made = ReportContent(
        title="mnist-cnn on flow<er>s",
        created="2026-01-02 03:04 UTC",
        task=evaluation.task,
        data=("250 photos & more.",),
        splits=Table("Samples", ("split", "samples"), (("train", 100), ("val", 20), ("test", evaluation.n))),
        model=ModelFacts("mnist-cnn", "Chosen by auto.", 35330, 1234567, layers),
        metrics={"test": evaluation.metrics},
        evaluation=evaluation,
        history=history,
        config="data:\n  source: <b>\n",
        environment={"torch": "2.13.0", "os": "</td>"},
        command="striate train --config 'a b/config.yaml'",
        findings=(Finding("data.leak", "warning", "val", "2 images", "0", "Too rosy.", "striate data check"),),
        notes=("Images were made gray.",),
        pictures=pictures,
        assessment=assessment,
        **of_task(task, evaluation, assessment or not_assessed(evaluation)),
    )
    return replace(made, **changes)
