"""Metrics that scripts compute themselves: what they count, and which way they get better."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
import torch
from test_source_checks import values
from test_source_of_validation import codes
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.shifted_tags import SHIFTED_TAGS
from striate.doctor.checks.eval.all_right import untrue_of_right
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.script.library_loop import _joined
from striate.doctor.setup.library_training import Judge, LibraryTraining
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

WORDS, TAGS = 12, 4


class Tagger(nn.Module):
    """A tag for each word, by the word and those beside it, or by the word alone."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, 16)
        self.net = nn.Conv1d(16, TAGS, width, padding=width // 2)

    def forward(self, words: Tensor) -> Any:
        return self.net(self.words(words).transpose(1, 2)).transpose(1, 2)


def sentences(count: int, seed: int) -> DataLoader[Any]:
    """Words and their tags, of different lengths, filled up with -100."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, WORDS, (count, 10), generator=generator)
    padding = torch.arange(10) >= torch.randint(3, 10, (count, 1), generator=generator)
    return DataLoader(TensorDataset(words.masked_fill(padding, 0), (words % TAGS).masked_fill(padding, -100)), 16)


def tagging(shift: int = 0) -> Any:
    """A step; with a shift, outputs are to tell the label behind."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        outputs = model(batch[0])[:, : batch[0].shape[1] - shift]
        value = functional.cross_entropy(outputs.flatten(0, 1), batch[1][:, shift:].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def evidence_of(model: nn.Module, step: Any, judge: Any = None) -> Evidence:
    judges = None if judge is None else Judge(predict, judge, "judge")
    library = LibraryTraining("a Trainer", 3, judge=judges)
    tree = ast.parse("def judge(outputs, labels):\n    pass")
    source = ScriptSource({"s.py": tree}, {}, ("s.py", 1, 1), 3, library=library)
    optimizer = torch.optim.Adam(model.parameters())
    setup = make_setup(model, sentences(64, 0), sentences(40, 1), step=step, source=source, optimizer=optimizer)
    return Evidence(setup, Clock(60.0))


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
    found = list(untrue_of_right(evidence_of(Tagger(), tagging(), judge)))
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


@pytest.mark.parametrize(
    ("width", "shift", "judge", "wrong"),
    [
        (3, 1, None, True),
        (3, 0, None, False),
        (1, 1, None, False),
        (1, 1, lambda outputs, labels: {"accuracy": shares(outputs, labels)["accuracy"]}, True),
    ],
)
def test_labels_of_words_are_not_shifted(width: int, shift: int, judge: Any, wrong: bool) -> None:
    found: list[Any] = []
    with suppress(NoEvidence):
        found = list(SHIFTED_TAGS.run(evidence_of(Tagger(width), tagging(shift), judge)))
    assert [f.code for f in found] == ["data.step-labels"] * wrong


KEEPING = """
def evaluate(x):
    return {returned}
best = 0.0
for x, y in loader:
    {name} = evaluate(x)
    if {name} {sign} best:
        best = {name}
"""


@pytest.mark.parametrize(
    ("returned", "name", "sign", "wrong"),
    [
        ("concordance(x, y)", "score", "<", True),
        ("concordance(x, y)", "score", ">", False),
        ("rank(x)", "c_index", "<", True),
        ("1 - cohen_kappa(x, y)", "kappa", "<", False),
        ("rank(x)", "neg_ndcg", "<", False),
        ("rank(x)", "score", "<", False),
        ("numbers[-1].ndcg", "value", "<", True),
    ],
)
def test_metrics_that_are_to_be_high_are_known_by_their_names(returned: str, name: str, sign: str, wrong: bool) -> None:
    text = KEEPING.format(returned=returned, name=name, sign=sign)
    assert codes(text, values(), WORST_KEPT) == ["eval.worst-kept"] * wrong
