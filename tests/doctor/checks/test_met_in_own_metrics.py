"""Metrics that scripts compute themselves: what they count, and which way they get better."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from test_source_checks import values
from test_source_of_validation import codes
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.eval.all_right import untrue_of_right
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.script.library_loop import _joined
from striate.doctor.setup.library_training import Judge, LibraryTraining
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

WORDS, TAGS = 12, 4


class Tagger(nn.Module):
    """A tag for each word, by the word alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(WORDS, 16), nn.Linear(16, TAGS))

    def forward(self, words: Tensor) -> Any:
        return self.net(words)


def sentences(count: int, seed: int) -> DataLoader[Any]:
    """Words and their tags, of different lengths, filled up with -100."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, WORDS, (count, 10), generator=generator)
    padding = torch.arange(10) >= torch.randint(3, 10, (count, 1), generator=generator)
    return DataLoader(TensorDataset(words.masked_fill(padding, 0), (words % TAGS).masked_fill(padding, -100)), 16)


def tag(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
    optimizer.zero_grad()
    value = functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())
    value.backward()
    optimizer.step()
    return value.detach()


def predict(model: nn.Module, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        pairs = [(model(words), labels) for words, labels in batches]
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


def shares(outputs: Tensor, labels: Tensor) -> dict[str, Any]:
    right, known = outputs.argmax(-1) == labels, labels != -100
    following = (outputs[:, :-1].argmax(-1) == labels[:, 1:])[known[:, 1:]]
    return {
        "accuracy": float(right.sum() / known.sum()),
        "next_token_accuracy": float(following.float().mean()),
        "token_accuracy": float(following.float().mean()),
        "precision_at_3": 1 / 3,
        "entity_accuracy": float(right[known].float().mean() * 100),
    }


def by_positions(outputs: Tensor, labels: Tensor) -> dict[str, Any]:
    return {"accuracy": float((outputs.argmax(-1) == labels).float().mean())}


@pytest.mark.parametrize(("judge", "named"), [(shares, ""), (by_positions, "accuracy")])
def test_a_trainers_metric_of_right_predictions_is_one(judge: Any, named: str) -> None:
    library = LibraryTraining("a Trainer", 3, judge=Judge(predict, judge, "judge"))
    source = ScriptSource(
        {"s.py": ast.parse("def judge(outputs, labels):\n    pass")}, {}, ("s.py", 1, 1), 3, library=library
    )
    model = Tagger()
    setup = make_setup(
        model,
        sentences(64, 0),
        sentences(40, 1),
        step=tag,
        source=source,
        optimizer=torch.optim.Adam(model.parameters()),
    )
    found = list(untrue_of_right(Evidence(setup, Clock(60.0))))
    assert [f"`{named}`" in f.measured and f.where == "line 1" for f in found] == [True] * bool(named)


def test_predictions_of_batches_are_filled_up() -> None:
    joined = _joined([torch.zeros(2, 3, 4), torch.zeros(1, 5, 4)])
    assert joined.shape == (3, 5, 4)
    assert bool((joined[:2, 3:] == -100).all())
    assert _joined([torch.zeros(2), torch.zeros(1)]).shape == (3,)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("return ((p == y) & known).sum() / known.sum()", False),
        ("return ((p == y) & known).sum() / y.numel()", True),
        ("return (p[..., :-1] == y[..., 1:]).sum() / known[..., 1:].sum()", False),
    ],
)
def test_an_accuracy_that_knows_padding_does_not_count_it(line: str, wrong: bool) -> None:
    text = f"def accuracy(outputs, y):\n    p, known = outputs.argmax(-1), y != -100\n    {line}\n"
    names = values()
    exec(text, names)
    assert codes(text + "for x, y in loader:\n    pass\n", names, WRONG_COUNT) == ["eval.wrong-count"] * wrong
