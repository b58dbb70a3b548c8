"""Predictions that were made up, among them those of a classifier whose calibration is known."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from striate.data.dataset import Dataset, Preparation, SampleFacts
from striate.evaluation.assessment import assess_split
from striate.tasks.classify.task import Classify
from striate.tasks.evaluation import Evaluation
from striate.tasks.regress.task import Regress
from striate.tasks.task import Task


def calibrated(n=4000, classes=5, *, seed=0, sharpness=1.0, strength=2.0):
    """Labels drawn from the probabilities themselves, which are then sharpened: the true temperature is `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, strength, (n, classes))
    true = softmax(logits, axis=1)
    labels = (true.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=classes - 1)
    return labels, softmax(logits * sharpness, axis=1).astype(np.float32)


def evaluated(truth, decoded, *, task="classify", split="test", brightness=None, classes=None):
    names = classes or tuple(f"class {k}" for k in range(decoded.shape[1]))
    classify = Classify(names) if task == "classify" else None
    confusion, rows = (None, ()) if classify is None else classify.table_of_classes(decoded, truth)
    return Evaluation(
        "made",
        split,
        task,
        names if task == "classify" else (),
        len(truth),
        {"n": len(truth), "loss": 0.5},
        decoded,
        truth,
        np.arange(len(truth)) + 100,
        confusion,
        rows,
        brightness=brightness,
        predicted=None if classify is None else classify.predicted(decoded),
        shown=(Classify if task == "classify" else Regress).metrics,
    )


def task_of(evaluation) -> Task:
    """The task whose predictions `evaluated` holds."""
    if evaluation.task == "classify":
        return Classify(evaluation.classes)
    numbers = evaluation.decoded.reshape(evaluation.n, -1).shape[1]
    return Regress(tuple(f"number {k}" for k in range(numbers)), (0.0,) * numbers, (1.0,) * numbers)


def data_of(n, *, sizes=(), columns=None, split="test", names=()):
    facts = SampleFacts(tuple(f"{split}/{i}.png" for i in range(n)), sizes, columns or {})
    preparation = Preparation("image", (1, 8, 8))
    return Dataset(
        "made", "made", "image", "class", {}, (), preparation, (), "", target_names=names, facts={split: facts}
    )


def assessed(truth, decoded, temperature=None, *, brightness=None, columns=None, sizes=()):
    evaluation = evaluated(truth, decoded, brightness=brightness)
    return assess_split(task_of(evaluation), evaluation, data_of(len(truth), sizes=sizes, columns=columns), temperature)
