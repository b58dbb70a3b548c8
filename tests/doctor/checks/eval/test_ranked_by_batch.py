"""`eval.batch-means` of metrics that no mean over batches gives: what ranks samples, or is a ratio of sums."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from for_checks.scripts import SCRIPT, codes_of_script, found, values
from striate.doctor.checks.eval.ranked_by_batch import RANKED_BY_BATCH

METRIC = """
class MacroF1:
    def accumulate(self, out, y):
        self.told.append(out.argmax(1))
        self.true.append(y)
    def value(self):
        {value}
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("scores = [f1_score(t, p) for t, p in zip(self.true, self.told)]\n        return np.mean(scores)", True),
        ("return f1_score(np.concatenate(self.true), np.concatenate(self.told))", False),
    ],
)
def test_lists_that_batches_were_added_to_are_joined_first(value: str, wrong: bool) -> None:
    assert list(found(METRIC.format(value=value), values(), [RANKED_BY_BATCH])) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(("metric", "named"), [("f1_score", True), ("hits", False)])
def test_a_mean_of_metrics_of_batches_is_not_that_of_all(metric: str, named: bool) -> None:
    text = f"def get_score(y, predicted):\n    return {metric}(y, predicted, average='macro')\n" + SCRIPT.replace(
        "correct += (predicted == y).sum().item()", "scores.update(get_score(y, predicted), len(y))"
    )
    assert list(found(text, values(), [RANKED_BY_BATCH])) == ["eval.batch-means"] * named


LOOP = """
for x, y in loader:
    pass
def evaluate():
    {total}
    for x, y in val_loader:
        {line}
    return {mean}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("total", "line", "mean", "wrong"),
    [
        ("total = 0", "total += average_precision_score(y, net(x))", "total / len(val_loader)", True),
        ("found = []", "found.append(roc_auc_score(y, net(x)))", "sum(found) / len(found)", True),
        ("found = []", "f1 = f1_score(y, net(x))\n        found.append(f1)", "np.mean(found)", True),
        ("found = []", "found.append(net(x))", "roc_auc_score(targets, torch.cat(found))", False),
        ("total = 0", "total += map_values(net(x)).sum()", "total", False),
        ("found = []", "found.append(accuracy_of(y, net(x)) * len(x))", "sum(found) / len(found)", False),
    ],
)
def test_what_ranks_samples_is_computed_of_all(total: str, line: str, mean: str, wrong: bool) -> None:
    names = values() | {"val_loader": DataLoader(TensorDataset(torch.randn(60, 3), torch.zeros(60)), 20)}
    text = LOOP.format(total=total, line=line, mean=mean)
    assert codes_of_script(text, names, RANKED_BY_BATCH) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize("mean", ["sum(parts) / len(parts)", "parts"])
def test_what_ranks_samples_is_not_computed_of_parts(mean: str) -> None:
    line = "parts = [auc(s, t) for s, t in zip(scores.split(12), truth.split(12))]"
    text = f"for x, y in loader:\n    pass\ndef score(scores, truth):\n    {line}\n    return {mean}\n"
    assert codes_of_script(text, values(), RANKED_BY_BATCH) == ["eval.batch-means"] * (mean != "parts")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("recall = np.mean([recall_score(b, net(a)) for a, b in val_loader])", True),
        ("recall = np.mean([recall_score(b, net(a)) for a, b in loader])", False),
        ("hits = np.mean([accuracy_score(b, net(a)) for a, b in val_loader])", False),
        ("recall = recall_score(labels, np.concatenate([net(a) for a, _ in val_loader]))", False),
    ],
)
def test_what_is_no_mean_over_samples_is_not_computed_in_a_list_of_batches(line: str, wrong: bool) -> None:
    names = values() | {"val_loader": DataLoader(TensorDataset(torch.randn(60, 3), torch.zeros(60)), 20)}
    text = f"for x, y in loader:\n    pass\n{line}\n"
    assert codes_of_script(text, names, RANKED_BY_BATCH) == ["eval.batch-means"] * wrong
