"""Classification agrees with torch, scikit-learn and the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score
from torch.nn import functional

from striate.tasks.classify.task import Classify
from striate.tasks.losses import with_loss

CLASSES = tuple("abcdefg")


def answers(n: int = 40, k: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator), torch.randint(k, (n,), generator=generator)


def test_cross_entropy_is_that_of_torch_with_smoothing_and_weights() -> None:
    logits, targets = answers()
    weights = tuple(0.5 + 0.25 * k for k in range(7))
    task = Classify(CLASSES, label_smoothing=0.1, class_weights=weights)
    expected = functional.cross_entropy(logits, targets, weight=torch.tensor(weights), label_smoothing=0.1)
    assert torch.allclose(task.loss(logits, targets), expected)


def test_the_loss_of_a_guess_is_known_of_plain_cross_entropy_alone() -> None:
    logits, targets = answers()
    weights = tuple(0.5 + 0.25 * k for k in range(7))
    for task in (Classify(CLASSES, label_smoothing=0.1), Classify(CLASSES, class_weights=weights)):
        assert float(task.loss(0 * logits, targets)) == pytest.approx(np.log(task.guessed_classes))
    others = Classify(CLASSES, label_smoothing=0.1, class_weights=weights), Classify(CLASSES, label_smoothing=0.9)
    for task in (*others, Classify(CLASSES, "hinge"), with_loss(Classify(CLASSES), "own.py:loss")):
        assert task.guessed_classes == 0


def test_a_temperature_changes_probabilities_and_nothing_else() -> None:
    logits, targets = answers()
    raw, warm = Classify(CLASSES), Classify(CLASSES, temperature=2.5)
    assert torch.allclose(warm.decode(logits), (logits / 2.5).softmax(1))
    assert torch.equal(raw.decode(logits), logits.softmax(1))
    assert torch.equal(warm.tally(logits, targets), raw.tally(logits, targets))
    assert warm.state() == raw.state()


def test_hinge_sums_over_wrong_classes_and_averages_over_samples() -> None:
    logits, targets = answers()
    x, y = logits.numpy().astype(float), targets.numpy()
    own = x[np.arange(len(y)), y][:, None]
    terms = np.maximum(0, 2.0 - own + x)
    terms[np.arange(len(y)), y] = 0
    loss = Classify(CLASSES, loss_name="hinge", margin=2.0).loss(logits, targets)
    assert float(loss) == pytest.approx(terms.sum(1).mean(), rel=1e-6)


@given(split=st.integers(1, 39), smoothing=st.sampled_from([0.0, 0.2]), weighted=st.booleans())
def test_tallies_of_parts_add_up_to_the_whole(split: int, smoothing: float, weighted: bool) -> None:
    logits, targets = answers()
    weights = tuple(1.0 + k for k in range(7)) if weighted else None
    task = Classify(CLASSES, label_smoothing=smoothing, class_weights=weights)
    parts = task.tally(logits[:split], targets[:split]) + task.tally(logits[split:], targets[split:])
    whole = task.summarize(parts)
    unsmoothed = Classify(CLASSES, class_weights=weights)  # what answers are measured by
    assert whole["loss"] == pytest.approx(float(unsmoothed.loss(logits, targets)), rel=1e-6)
    training = task.tally(logits, targets, task.loss_sum(logits, targets))
    assert task.summarize(training)["loss"] == pytest.approx(float(task.loss(logits, targets)), rel=1e-6)
    assert whole["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).float().mean()))


def test_metrics_are_those_of_scikit_learn() -> None:
    logits, targets = answers()
    task = Classify(CLASSES)
    metrics = task.measure(task.decode(logits), targets)
    predicted = logits.argmax(1).numpy()
    assert metrics["accuracy"] == accuracy_score(targets, predicted)
    assert metrics["macro_f1"] == pytest.approx(f1_score(targets, predicted, average="macro", zero_division=0))
    assert metrics["top5"] == pytest.approx(top_k_accuracy_score(targets, logits.numpy(), k=5, labels=range(7)))


def test_top5_of_three_classes_counts_all_three() -> None:
    logits, targets = answers(k=3)
    task = Classify(("a", "b", "c"))
    assert task.measure(task.decode(logits), targets)["top5"] == 1.0


def test_describe_gives_the_fields_of_a_predict_line() -> None:
    task = Classify(("a", "b", "c"))
    line = task.describe(torch.tensor([0.2, 0.7, 0.1]))
    assert line["label"] == "b"
    assert line["probability"] == pytest.approx(0.7)
    assert [label for label, _ in line["top"]] == ["b", "a", "c"]


def test_best_is_the_higher_accuracy_then_the_lower_loss() -> None:
    task = Classify(CLASSES)
    assert task.score({"accuracy": 0.9, "loss": 2.0}) > task.score({"accuracy": 0.8, "loss": 0.1})
    assert task.score({"accuracy": 0.9, "loss": 0.1}) > task.score({"accuracy": 0.9, "loss": 0.2})
