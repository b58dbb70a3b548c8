"""Sigmoids written out, splits that a loop only names, counts of all epochs, and scores named where they are printed:
faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from test_of_a_perfect_network import codes as of_evaluation
from test_of_a_perfect_network import of
from test_source_checks import SCRIPT, found, values
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.eval.evaluated import named_numbers
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import OwnRun, Rights
from striate.doctor.setup.script_source import ScriptSource

SCORED = """
def infer(loader):
    outputs = []
    for x, _ in loader:
        outputs.append(model(x){squashed})
    return torch.cat(outputs).numpy()
def score(y, p, raw=False):
    {given}
    return ((p > 0.5) == y).mean()
held, kept = infer(val_loader), np.zeros((9, 3))
print(score(labels, held), score(labels[rows], {other}))
"""


@pytest.mark.parametrize(
    ("squashed", "given", "other", "wrong"),
    [
        (".sigmoid()", "p = 1 / (1 + np.exp(-p))", "kept[rows]", True),
        (".sigmoid()", "p = torch.sigmoid(p)", "kept[rows]", True),
        ("", "p = 1 / (1 + np.exp(-p))", "kept[rows]", False),
        (".sigmoid()", "pass", "kept[rows]", False),
        (".sigmoid()", "p = 1 / (1 + np.exp(-p)) if raw else p", "kept[rows]", False),
        (".sigmoid()", "p = torch.sigmoid(p) if raw else p", "held", False),
        (".sigmoid()", "p = 1 / (1 + np.exp(-p))", "model(x).numpy()", False),  # it is called with logits, too
        (".sigmoid()", "p = torch.sigmoid(p) if raw else torch.softmax(p, 1)", "kept[rows]", False),
    ],
)
def test_a_sigmoid_that_is_written_out_is_one(squashed: str, given: str, other: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(SCORED.format(squashed=squashed, given=given, other=other))
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * wrong


SPLITS = """
def get_batch(split):
    x, y = parts[split]
    return x[:8], y[:8]
@torch.no_grad()
def estimate():
    out = {{}}
    for split in {names}:
        reference = get_batch("train")[0].mean()
        x, y = {asked}
        value = (model(x - reference).argmax(1) == y).float().mean()
        {kept}
    return out
"""


@pytest.mark.parametrize(
    ("asked", "kept", "wrong"),
    [
        ('get_batch("train")', "out[split] = value", True),
        ("get_batch(split)", "out[split] = value", False),  # it has less than the mean of training samples
        ('parts["train"]', 'out[f"{split}_acc"] = value', True),
        ('get_batch("train" if split == "train" else "val")', "out[split] = value", False),
        ('get_batch("train")', 'print(f"{split}: {value}")', True),
        ('get_batch("train")', 'out["train"] = value', False),
    ],
)
def test_a_loop_over_splits_asks_for_each(asked: str, kept: str, wrong: bool) -> None:
    splits = "('train', 'val')" if "get" in asked else "parts"
    text = SCRIPT + textwrap.dedent(SPLITS.format(asked=asked, kept=kept, names=splits))
    names = values() | {"parts": {"train": None, "val": None}}
    assert list(found(text, names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * wrong


@pytest.mark.parametrize(("said", "wrong"), [("so far", True), ("each", False), ("both", False)])
def test_an_accuracy_of_all_evaluations_so_far(said: str, wrong: bool) -> None:
    right = {30: 40, 60: 80, 90: 96}
    so_far = {30: 0.4, 60: 0.6, 90: 0.72}
    shown = {"so far": "accuracy {0:.3f}", "each": "accuracy {1:.3f}", "both": "running {0:.3f}, accuracy {1:.3f}"}[
        said
    ]
    run = OwnRun(
        compared={0: {at: Rights([count], [100]) for at, count in right.items()}},
        said=[(at, shown.format(so_far[at], count / 100)) for at, count in right.items()],
    )
    assert [one.code for one in findings_of(run)] == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ('f"epoch {n}: loss {lost:.4f}, mean IoU {score:.4f}"', "mean IoU"),
        ('f"IoU: {score:.4f}"', "IoU"),
        ('f"{part} IoU {score:.4f}"', "n IoU"),  # of what is not known
        ('f"{score:.4f}"', ""),
    ],
)
def test_a_score_is_named_where_it_is_printed(printed: str, name: str) -> None:
    tree = ast.parse(f"score = evaluate(net, data)\nprint({printed})\nscore = other(net)\nprint(f'Dice {{score}}')\n")
    site = next(node for node in ast.walk(tree) if isinstance(node, ast.Call))
    source = ScriptSource({"script.py": tree}, {}, ("script.py", 1, 2), None)
    assert named_numbers(source, site, 0.5, "") == [("score", 0.5), (name, 0.5)]


OVERLAP = """
def evaluate(net, data):
    counts = torch.zeros(3, 3, dtype=torch.long)
    with torch.no_grad():
        for x, y in data:
            counts += torch.bincount((3 * y + {told}.argmax(1)).flatten(), minlength=9).reshape(3, 3)
    hits = counts.diag().float()
    return (hits / (counts.sum(0) + counts.sum(1){less})).mean().item()
"""


@pytest.mark.parametrize(
    ("told", "less", "wrong"),
    [
        ("net(x)", "", True),
        ("net(x)", " - hits", False),
        ("(net(x) + net(x.flip(-1)).flip(-1))", " - hits", False),  # a mirror image as well
    ],
)
def test_masks_that_are_mostly_background(told: str, less: str, wrong: bool) -> None:
    """A network that has learned to name the rest too often is hardly more often right than one that never does."""
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 1.3).long() + (x[:, 0] > 1.8)).long()
    train, val = (DataLoader(TensorDataset(x[a:b], y[a:b]), 16) for a, b in ((0, 64), (64, 96)))
    weighed = nn.CrossEntropyLoss(torch.tensor([0.1, 1.0, 1.0]))
    names: dict[str, Any] = of(nn.Conv2d(1, 3, 1), train, val, weighed)
    call = "score = evaluate(model, val_loader)\n    print(f'mean IoU {score:.3f}')"
    assert of_evaluation(OVERLAP.format(told=told, less=less), call, names) == ["eval.wrong-count"] * wrong
