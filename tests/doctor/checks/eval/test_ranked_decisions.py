"""Metrics of a ranking, such as the area under a curve, that are given decisions instead of scores."""

from __future__ import annotations

import pytest

from for_checks.scripts import SCRIPT, found, values
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT

EVALUATED = """
def predict(batches):
    scores, decided, asked = [], [], []
    with torch.no_grad():
        for x, y in batches:
            outputs = model(x)
            _, highest = outputs.max(1)
            scores.append(outputs.softmax(1)[:, 1])
            decided.extend(highest.tolist())
            asked.append(y)
    return torch.cat(scores), decided, torch.cat(asked)

def measure(scores, decided, asked):
    predicted = (scores > 0.5).int().numpy()
    rounded = torch.round(scores, decimals=3)
    return {call}

scores, decided, asked = predict(val_loader)
print(measure(scores, {given}, asked > 4))
"""


@pytest.mark.parametrize(
    ("call", "given", "wrong"),
    [
        ("roc_auc_score(asked, scores)", "decided", False),
        ("roc_auc_score(asked, predicted)", "decided", True),
        ("average_precision_score(asked, y_score=predicted[:, 0])", "decided", True),
        ("metrics.roc_auc_score(asked, scores.numpy().round())", "decided", True),
        ("roc_auc_score(asked, rounded)", "decided", False),
        ("roc_auc_score(predicted, scores)", "decided", False),
        ("f1_score(asked, predicted)", "decided", False),
        ("roc_auc_score(asked, decided)", "decided", True),
        ("roc_auc_score(asked, decided)", "scores", False),
        ("roc_auc_score(asked, scores * predicted)", "decided", False),
        ("binary_auroc(predicted, asked)", "decided", True),
        ("binary_auroc(scores, predicted)", "decided", False),
    ],
)
def test_what_samples_are_ranked_by_is_no_decision(call: str, given: str, wrong: bool) -> None:
    text = SCRIPT + EVALUATED.format(call=call, given=given)
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


def test_a_function_of_the_scripts_own_may_take_decisions() -> None:
    own = "def roc_auc_score(asked, decided):\n    return (asked == decided).float().mean()\n"
    text = own + SCRIPT + EVALUATED.format(call="roc_auc_score(asked, predicted)", given="decided")
    assert list(found(text, values(), [WRONG_COUNT])) == []
