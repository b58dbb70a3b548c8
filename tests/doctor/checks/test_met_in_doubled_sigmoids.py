"""Sigmoids written out, splits that a loop only names, counts of all epochs, and scores named where they are printed:
faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import textwrap

import pytest
from test_source_checks import SCRIPT, found, values

from striate.doctor.checks.data.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import OwnRun, Rights

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
