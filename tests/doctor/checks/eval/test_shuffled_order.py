"""`eval.wrong-count` of samples beside the labels of others, as a loader that shuffles gives them."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.eval.shuffled_order import SHUFFLED_ORDER
from striate.doctor.setup.script_source import ScriptSource


class Signs(Dataset[Any]):
    def __init__(self) -> None:
        self.images, self.labels = torch.zeros(40, 1, 8, 8), torch.arange(40) % 4

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> Any:
        return self.images[number], self.labels[number]


EXTRACT = """
def extract(model, batches):
    return torch.cat([model(images) for images, _ in tqdm(batches)])
def extract_both(model, batches):
    found, known = [], []
    for x, y in batches:
        found.append(model(x))
        known.append(y)
    return torch.cat(found), torch.cat(known)
def extract_in_place(model, batches):
    found = torch.zeros(40, 8)
    for x, number in batches:
        found[number] = torch.cat([model(x)])
    return found
def extract_mean(model, batches):
    return sum(model(images).mean() for images, _ in batches)
{lines}
"""
APPENDED = """
preds = []
for x, _ in gallery_loader:
    preds.append(model(x).argmax(1))
preds = torch.cat(preds)
{then}
print((preds == torch.tensor(gallery_set.labels)).float().mean())
"""
TOGETHER = """
preds, trues = [], []
for x, y in gallery_loader:
    preds.append(model(x).argmax(1))
    trues.append(y)
print((torch.cat(preds) == torch.cat(trues)).float().mean())
"""


def found_in(text: str, *, shuffle: bool) -> bool:
    data = Signs()
    names = {"torch": torch, "gallery_set": data, "gallery_loader": DataLoader(data, 8, shuffle=shuffle)}
    tree = ast.parse(EXTRACT.format(lines=text))
    evidence: Any = SimpleNamespace(source=ScriptSource({"script.py": tree}, names, ("script.py", 1, 2), None))
    return [finding.code for finding in SHUFFLED_ORDER.run(evidence)] == ["eval.wrong-count"]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("gallery = extract(model, gallery_loader)\nknn(query, gallery.cpu(), gallery_set.labels)", True),
        (
            "gallery = extract(model, gallery_loader)\nlabels = gallery_set.labels\nknn(gallery, labels=labels)",
            True,
        ),
        ("gallery, labels = extract_both(model, gallery_loader)\nknn(query, gallery, labels)", False),
        ("gallery = extract_in_place(model, gallery_loader)\nknn(query, gallery, gallery_set.labels)", False),
        ("mean = extract_mean(model, gallery_loader)\nshow(mean, gallery_set.labels)", False),
        ("gallery = extract(model, gallery_loader)\nshow(spread(gallery), gallery_set.labels)", False),
        ("gallery = extract(model, gallery_loader)[order]\nknn(query, gallery, gallery_set.labels)", False),
        (
            "gallery = extract(model, gallery_loader)\ny = torch.cat([y for _, y in gallery_loader])\n"
            "knn(query, gallery, y)",
            True,
        ),
        ("one = extract(model, gallery_loader)\ntwo = extract(model, gallery_loader)\nfit(one, two)", False),
        (APPENDED.format(then=""), True),
        (APPENDED.format(then="preds = preds[order]"), False),
        (APPENDED.format(then="preds = []\nfor x, _ in in_order:\n    preds.append(model(x))"), False),
        (TOGETHER, False),
        (
            "l = []\nfor x, y in gallery_loader:\n    l.append(f(x, y).item())\nshow(l, gallery_set.labels)",
            False,
        ),
        ("gallery = extract(model, gallery_loader)\nshow(gallery, gallery_set.images)", False),
    ],
)
def test_predictions_beside_labels_in_another_order(text: str, apart: bool, shuffle: bool) -> None:
    assert found_in(text, shuffle=shuffle) is (apart and shuffle)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("preds = extract(model, loader)\nshow(rmse(scores[val_idx], preds))", True),
        ("preds = extract(model, loader)\nshow(rmse(preds, y_true=held_out))", True),
        ("preds = extract(model, loader)\nshow(rmse(others[val_idx], preds))", False),
        ("preds = extract(model, loader)\nplt.hist(preds, scores[val_idx])", False),
        ("preds, held_out = extract_both(model, loader)\nheld_out = held_out.cpu()\nrmse(preds, held_out)", False),
        (
            "preds = extract(model, loader)\ntable = DataFrame({'id': ids, 'label': preds})\n"
            "rmse(held_out, table.label)",
            True,
        ),
        ("preds = extract(model, loader)\ntable['label'] = preds\nrmse(held_out, table['label'])", True),
        (
            "preds = extract(model, loader)\ntable = DataFrame({'id': held_out, 'label': preds})\n"
            "rmse(held_out, table.id)",
            False,
        ),
    ],
    ids=[
        "a selection",
        "a variable",
        "other values",
        "no pairs",
        "of the pass",
        "a column",
        "a new column",
        "the other",
    ],
)
def test_predictions_beside_the_targets_that_a_data_set_was_made_of(text: str, apart: bool, shuffle: bool) -> None:
    scores, val_idx = np.random.default_rng(0).normal(50, 10, 200), np.arange(0, 200, 2)
    targets = torch.tensor(scores[val_idx] / 100, dtype=torch.float32)
    names = {"scores": scores, "others": scores[::-1], "val_idx": val_idx, "held_out": scores[val_idx]}
    names["loader"] = DataLoader(TensorDataset(torch.zeros(100, 3), targets), 8, shuffle=shuffle)
    tree = ast.parse(EXTRACT.format(lines=text))
    evidence: Any = SimpleNamespace(source=ScriptSource({"script.py": tree}, names, ("script.py", 1, 2), None))
    assert len(list(SHUFFLED_ORDER.run(evidence))) == (apart and shuffle)


OVER_FOLDS = "preds = np.zeros((100, 3))\nfor fold in range(2):\n    preds += extract_each(model, loader).numpy() / 2\n"


OWN_SCORE = """
def score(known, given):
    guessed = given.argmax(1)
    return accuracy_score(known, guessed), (known == 0).mean()
def distances(known, given):
    return known.mean() - given.mean(), np.sort(known) - np.sort(given.argmax(1))
preds = extract_each(model, loader)
"""


class Unlabeled(Dataset[Any]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, number: int) -> Any:
        return torch.full((3,), float(number))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("text", "labeled", "apart"),
    [
        (f"{OVER_FOLDS}print(accuracy_score(y_test, preds.argmax(1)))", False, True),
        ("preds = extract_each(model, loader)\nprint((preds.argmax(1) == y_test).mean())", False, True),
        (f"{OVER_FOLDS}print(accuracy_score(y_train, preds.argmax(1)))", False, False),
        (f"{OVER_FOLDS}print(accuracy_score(y_test, preds.argmax(1)))", True, False),
        (f"{OVER_FOLDS}print(distance(y_test, preds.argmax(1)))", False, False),
        (f"{OVER_FOLDS}preds = preds[order]\nprint(accuracy_score(y_test, preds.argmax(1)))", False, False),
        (f"{OWN_SCORE}print(score(y_test, preds))", False, True),
        (f"{OWN_SCORE}print(score(given=preds, known=y_test))", False, True),
        (f"{OWN_SCORE}print(score(y_train, preds))", False, False),
        (f"{OWN_SCORE}print(distances(y_test, preds))", False, False),
    ],
    ids=[
        *("over folds", "a sign", "of other samples", "a data set with labels", "no pairs", "put in order"),
        *("in a function", "in a function by keywords", "of other samples in a function", "no pairs in a function"),
    ],
)
def test_predictions_of_a_data_set_without_targets_are_in_the_order_of_the_labels(
    text: str, labeled: bool, apart: bool, shuffle: bool
) -> None:
    data: Dataset[Any] = TensorDataset(torch.zeros(100, 3), torch.zeros(100)) if labeled else Unlabeled()
    names = {"np": np, "accuracy_score": accuracy_score, "y_test": np.arange(100) % 3, "y_train": np.arange(60) % 3}
    names |= {"distance": lambda one, other: len(one) - len(other), "loader": DataLoader(data, 8, shuffle=shuffle)}
    each = "def extract_each(model, batches):\n    found = []\n    for x in batches:\n        found.append(model(x))\n"
    tree = ast.parse(f"{each}    return torch.cat(found)\n{text}")
    evidence: Any = SimpleNamespace(source=ScriptSource({"script.py": tree}, names, ("script.py", 1, 2), None))
    assert len(list(SHUFFLED_ORDER.run(evidence))) == (apart and shuffle)
