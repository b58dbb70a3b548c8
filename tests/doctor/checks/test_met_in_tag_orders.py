"""Tags that are numbered or sorted apart from their words, and what else was met beside them: faults in scripts, and
their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_met_in_actors import Likes
from test_met_in_second_heads import stepped
from test_met_in_vision_scripts import read
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from striate.doctor.checks.data.labels.collated_apart import rows_apart
from striate.doctor.checks.data.labels.label_numbers import LABEL_MAP
from striate.doctor.checks.data.labels.too_few import TOO_FEW
from striate.doctor.checks.data.shift.fitted_anew import FITTED_ANEW
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW


class Prices(nn.Module):
    """Gives quantities as they are, around their mean."""

    def __init__(self, std: float, mean: float) -> None:
        super().__init__()
        self.hidden, self.head, self.std, self.mean = nn.Linear(8, 48), nn.Linear(48, 1), std, mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(x).relu()).squeeze(1) * self.std + self.mean


@pytest.mark.parametrize("lost", [True, False])
def test_an_error_of_large_numbers_that_is_divided_by_their_variance(lost: bool) -> None:
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
    y = 1e5 * (x.sum(1) + 3)
    torch.manual_seed(0)
    model, variance = Prices(float(y.std()), float(y.mean())), float(y.var())

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        loss = functional.mse_loss(model(batch[0]), batch[1]) / variance
        return stepped(model, 1e-8 * loss if lost else loss, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step, "task": "regress"}
    said = asked(LR_TOO_LOW, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in said] == ["optim.lr-too-low"] * lost


RETRIEVAL = """
def recall(model, loader, known, wanted):
    z, y = embedded(model, loader)
    {scores}
    return (wanted[scores.argmax(1)] == y).float().mean()

for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("scores", "wrong"),
    [
        ("scores = z @ z.T\n    scores.fill_diagonal_(-2.0)", False),
        ("scores = z @ z.T\n    scores[range(len(z)), range(len(z))] = -2.0", False),
        ("scores = z @ known.T", True),
    ],
)
def test_embeddings_that_are_compared_with_each_other_may_have_other_numbers(scores: str, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat(40)
    x = 6 * torch.eye(8)[y] + torch.randn(160, 8, generator=generator)
    train, val = (DataLoader(TensorDataset(x, (y + moved) % 4), 32) for moved in (0, 1))
    model = nn.Linear(8, 16)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        z = functional.normalize(model(batch[0]))
        same = batch[1][:, None] == batch[1]
        return stepped(model, -((5 * z @ z.T).log_softmax(1) * same).mean(), optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "step": step, "val": val}
    said = read(RETRIEVAL.format(scores=scores), LABEL_MAP, model, train, **options)
    assert [one.code for one in said] == ["data.label-map"] * wrong


NUMBERED = """
def {name}(corpus):
    return dict()

known, other = {name}(train_corpus), {name}({given})
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("build_tag_vocab", "dev_corpus", "data.label-map"),
        ("build_vocab", "dev_labels", "data.label-map"),
        ("build_stage_vocab", "dev_corpus", "data.shift"),
        ("build_tag_vocab", "train_corpus", ""),
    ],
)
def test_a_vocabulary_of_tags_numbers_labels(name: str, given: str, code: str) -> None:
    text = NUMBERED.format(name=name, given=given)
    assert [one.code for one in read(text, FITTED_ANEW, nn.Linear(8, 2), [])] == [code] * bool(code)


COLLECTED = """
def test():
    told = []
    for x, y in loader:
        out = model(x)
        told.extend({given}.tolist())
    told = np.array(told)
    return told > {limit}

for x, y in loader:
    pass
"""


@pytest.mark.parametrize(("given", "limit", "wrong"), [("out", "0", True), ("out", "0.3", False), ("x", "0", False)])
def test_probabilities_that_make_a_list_longer_are_above_zero(given: str, limit: str, wrong: bool) -> None:
    text = COLLECTED.format(given=given, limit=limit)
    x, model = torch.randn(64, 8), Likes()
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 32)
    said = read(text, THRESHOLD, model, data, loss=nn.BCELoss(), names={"model": model})
    assert [one.code for one in said] == ["eval.threshold"] * wrong


@pytest.mark.parametrize("of_classes", [True, False])
def test_a_sampler_with_a_weight_for_each_class_draws_the_first_samples(of_classes: bool) -> None:
    tokens = torch.randint(0, 12, (320, 6), generator=torch.Generator().manual_seed(0))
    y = torch.arange(320) % 2
    weights = torch.ones(2 if of_classes else 320)
    sampler = WeightedRandomSampler(weights.tolist(), 320, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(12, 8), nn.Flatten(), nn.Linear(48, 2))
    data: Any = TensorDataset(tokens, y)
    options: Any = {"val": DataLoader(data, 64), "optimizer": torch.optim.Adam(model.parameters(), 0.01)}
    said = [
        one
        for check in (TOO_FEW, SHIFT)
        for one in asked(check, model, DataLoader(data, 32, sampler=sampler), **options)
    ]
    assert [(one.code, one.severity) for one in said] == [("data.too-few", "error")] * of_classes


def sorted_words(batch: list[Any]) -> Any:
    words, tags = zip(*batch, strict=True)
    words = sorted(words, key=len, reverse=True)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-100)


def sorted_sentences(batch: list[Any]) -> Any:
    words, tags = zip(*sorted(batch, key=lambda item: -len(item[0])), strict=True)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-100)


def with_others_tags(batch: list[Any]) -> Any:
    words, tags = sorted_sentences(batch)
    return words, tags, tags.roll(1, 0)


@pytest.mark.parametrize(
    ("collate", "wrong"), [(sorted_words, True), (sorted_sentences, False), (with_others_tags, False)]
)
def test_a_collate_function_keeps_tags_beside_their_words(collate: Any, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    words = [torch.randint(1, 30, (int(n),), generator=generator) for n in torch.randperm(40, generator=generator) + 5]
    loader = DataLoader([(part, part % 3) for part in words], 8, collate_fn=collate)  # type: ignore[arg-type]
    found, _ = rows_apart(loader) or (0, 0)
    assert (found >= 12) if wrong else not found
