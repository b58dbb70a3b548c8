"""`eval.wrong-count` in a search for neighbors: samples that are compared with all, themselves among them."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest

from striate.doctor.checks.eval.self_as_neighbor import SELF_AS_NEIGHBOR
from striate.doctor.setup.script_source import ScriptSource

PRODUCT = """
def evaluate(model, loader):
    z, labels = embed(model, loader)
    similarity = z @ z.T
    {line}
    nearest = similarity.argmax(dim=1)
    return (labels[nearest] == labels).float().mean()
"""


DISTANCES = """
def rank1(feats, ids):
    order = torch.cdist(feats, feats).argsort(dim=1){part}
    return (ids[order[:, 0]] == ids).float().mean().item()
"""


GALLERY = """
def recall(queries, gallery, labels, known, k=1):
    scores = queries @ gallery.t()
    found = scores.topk(k{more}, dim=1).indices
    return (known[found] == labels[:, None]).any(1).float().mean()
recall(a, {gallery}, ya, yb)
"""


MINING = """
def loss_of(z, labels, margin=0.3):
    distances = torch.cdist(z, z)
    same = labels[:, None] == labels[None]
    farthest = (distances * same).argmax(1)
    return (z - z[farthest]).norm(dim=1).mean()
"""


def found_in(text: str) -> bool:
    source = ScriptSource({"script.py": ast.parse(text)}, {}, ("script.py", 1, 2), None)
    evidence: Any = SimpleNamespace(source=source)
    return [finding.code for finding in SELF_AS_NEIGHBOR.run(evidence)] == ["eval.wrong-count"]


@pytest.mark.parametrize(
    ("text", "itself"),
    [
        (PRODUCT.format(line="pass"), True),
        (PRODUCT.format(line="similarity.fill_diagonal_(-1)"), False),
        (PRODUCT.format(line="similarity[range(len(z)), range(len(z))] = -1"), False),
        (PRODUCT.format(line="similarity = similarity - 2 * torch.eye(len(z))"), False),
        (DISTANCES.format(part=""), True),
        (DISTANCES.format(part="[:, 1:]"), False),
        (GALLERY.format(more="", gallery="a"), True),
        (GALLERY.format(more="", gallery="b"), False),
        (GALLERY.format(more=" + 1", gallery="a"), False),
        (MINING, False),
    ],
)
def test_samples_that_find_themselves(text: str, itself: bool) -> None:
    assert found_in(text) is itself
