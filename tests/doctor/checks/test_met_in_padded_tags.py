"""Met in taggers of padded sentences and in networks of all nodes of a graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import loop
from test_met_in_graphs_and_mosaics import Graph
from test_met_in_second_heads import asked_or_silent
from test_source_checks import found, values
from test_source_of_validation import codes
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.shift.fitted_anew import FITTED_ANEW
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING

CHECKS = (PADDING_COUNTED, IGNORED_CLASS, BATCH_MIXING)

OF_ALL_NODES = """
class Graph(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)

def train(epoch):
    model.train()
    for x, y in loader:
        output = model(x)
    if not fast:
        model.eval()
        with torch.no_grad():
            output = model(nodes)
    loss_val = loss_fn(output[idx_val], labels[idx_val])

def test():
    model.eval()
    return model(nodes)[idx_test]

for epoch in range(5):
    train(epoch)
test()
"""


@pytest.mark.parametrize("switched", ["before", "never", "elsewhere"])
def test_a_function_that_trains_and_validates_switches_modes_though_another_does(switched: str) -> None:
    text = OF_ALL_NODES if switched == "before" else OF_ALL_NODES.replace("        model.eval()\n", "", 1)
    if switched == "elsewhere":  # who calls it has the mode, and nothing here puts the network into another
        text = text.replace("    model.train()\n", "")
    names = values() | {"model": Graph()}
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert list(found(text, names, [MODE])) == ["eval.mode"] * (switched == "never")


class Tagger(nn.Module):
    """Logarithms of probabilities of five tags for each position, all in a row."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out, self.axis = nn.Embedding(20, 16), nn.Linear(16, 5), axis

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.embed(tokens)).flatten(0, 1).log_softmax(self.axis)


@pytest.mark.parametrize(("axis", "filler"), [(1, -1), (1, 0), (0, -1)])
def test_tags_of_positions_that_a_loss_of_its_own_takes_in_a_row(axis: int, filler: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 20, (128, 10), generator=generator)
    known = torch.arange(10) < torch.randint(3, 11, (128, 1), generator=generator)
    data = DataLoader(TensorDataset(tokens * known, torch.where(known, tokens % 5, filler)), 16)

    def loss(outputs: Tensor, tags: Tensor) -> Tensor:
        tags = tags.flatten()
        mask = (tags >= 0).float()
        return -(outputs[range(len(tags)), tags % 5] * mask).sum() / mask.sum()

    step: Any = lambda model, batch, optimizer, _: loop(model, batch, optimizer, loss)  # noqa: E731
    said = [one.code for check in CHECKS for one in asked_or_silent(check, Tagger(axis), data, step=step)]
    assert said == ["loss.padding-counted"] * (filler == 0) + ["model.batch-mixing"] * (axis == 0)


NUMBERED = """
class Corpus:
    def __init__(self, train_words):
        self.vocab = self.build_vocab(train_words)

    @staticmethod
    def build_vocab(words):
        return {word: number for number, word in enumerate(dict.fromkeys(words))}

    def load(self, words, tags):
        vocab = self.build_vocab(words)
        return [vocab.get(word, 0) for word in words], tags

corpus = Corpus(train_raw[0])
train, val = (corpus.load(*raw) for raw in (train_raw, val_raw))
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("corpus", "corpus", True),
        ("*raw) for raw in (train_raw, val_raw)", "*raw) for raw in raws", False),
        ("self.build_vocab(words)", "self.vocab", False),
        ("vocab = self.build_vocab(words)", "vocab = self.vocab or self.build_vocab(words)", False),
        ("        vocab = ", "        if self.vocab:\n            return words\n        vocab = ", False),
        ("[vocab.get(word, 0) for word in words]", "len(vocab)", False),
        ("dict.fromkeys(words)", "sorted(set(words))", False),
        ("build_vocab", "make_scales", False),
    ],
)
def test_a_method_that_numbers_the_words_of_each_part_anew(old: str, new: str, wrong: bool) -> None:
    assert codes(NUMBERED.replace(old, new), values(), FITTED_ANEW) == ["data.shift"] * wrong
