"""`model.batch-mixing`: does the prediction for a sample depend on the others in its batch?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import (
    adam,
    asked,
    asked_in_script,
    digits,
    loop,
    perceptron,
    quick_adam,
    read,
    rows_in_batches,
    said,
    stepped,
)
from for_checks.networks import Middle
from for_checks.pictures import Clips
from striate import diagnose
from striate.doctor.checks.loss.counted.ignored_class import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.model.batch_mixing import BATCH_MIXING
from striate.doctor.evidence.clock import NoEvidence


class OfRecords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, records: Any) -> Tensor:
        scores: Tensor = self.layer(torch.stack([record["image"] for record in records])).amax((2, 3))
        return scores


def test_channels_of_a_record_are_no_samples() -> None:
    records = [{"image": torch.randn(3, 8, 8), "point": torch.randn(4)} for _ in range(16)]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        value = (model(batch) - torch.stack([record["point"] for record in batch])).square().mean()
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(cast("Any", records), 8, collate_fn=list)
    with pytest.raises(NoEvidence, match="record"):
        asked(BATCH_MIXING, OfRecords(), loader, step=step, task="regress")


def clips() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(64, 5, 16), torch.arange(64) % 3), 16)


@pytest.mark.parametrize("mixing", [False, True])
def test_a_layer_with_batch_first_may_be_given_frames_of_others(mixing: bool) -> None:
    remedies = [str(one.remedy) for one in asked(BATCH_MIXING, Clips(mixing), clips(), loss=nn.CrossEntropyLoss())]
    assert ["x.view(n, t, -1)" in remedy and "batch_first" not in remedy for remedy in remedies] == [True] * mixing


X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))


class Divided(nn.Module):
    def __init__(self, by_size: bool) -> None:
        super().__init__()
        self.layer, self.by_size = nn.Linear(8, 4), by_size

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / (len(x) if self.by_size else 8)


@pytest.mark.parametrize("by_size", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_numbers_drawn_by_numpy_are_no_others_in_the_batch(by_size: bool, drawn: bool) -> None:
    """A step that draws scales and then shifts gives the samples of half a batch other shifts."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        if drawn:
            scales, shifts = np.random.uniform(0.9, 1.1, (len(x), 1)), np.random.uniform(-0.1, 0.1, (len(x), 1))
            x = x * torch.from_numpy(scales).float() + torch.from_numpy(shifts).float()
        return stepped(functional.cross_entropy(model(x), y), optimizer)

    model = Divided(by_size)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    findings = asked_in_script(BATCH_MIXING, model, DataLoader(TensorDataset(X, torch.arange(96) % 4), 16), **options)
    assert [one.code for one in findings] == ["model.batch-mixing"] * (by_size and not drawn)


LOSS = nn.CrossEntropyLoss()


class Patches(nn.Module):
    """Rows of a picture as a sequence behind a token of its own, whose answer alone is read."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.cat([self.token.expand(len(x), 1, 8), x[:, 0]], 1)
        return self.head(self.attention(rows, rows, rows)[0][:, 0])


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_runs_along_positions(batch_first: bool) -> None:
    findings = said(BATCH_MIXING, Patches(batch_first), digits(), loss=LOSS)
    assert [finding.code for finding in findings] == ["model.batch-mixing"] * (not batch_first)


class Attending(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_along_samples_that_the_step_blends(batch_first: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 6, 8), torch.arange(64) % 3

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        share, order = float(torch.rand(())), torch.randperm(len(batch[0]))
        outputs = model(share * batch[0] + (1 - share) * batch[0][order])
        return stepped(share * loss(outputs, batch[1]) + (1 - share) * loss(outputs, batch[1][order]), optimizer)

    model = Attending(batch_first)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "loss": nn.CrossEntropyLoss(), "step": step}
    findings = asked(BATCH_MIXING, model, rows_in_batches(x, y), **options)
    assert [one.code for one in findings] == ["model.batch-mixing"] * (not batch_first)
    assert all("attention" in one.where for one in findings)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][-1])


def test_a_step_that_puts_time_first_blends_nothing() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 8, 8), torch.arange(64) % 3

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return stepped(loss(model(batch[0].transpose(0, 1)), batch[1]), optimizer)

    model = TimeFirst()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "loss": nn.CrossEntropyLoss(), "step": step}
    assert not asked_in_script(BATCH_MIXING, model, rows_in_batches(x, y), **options)


LOOP = "for x, y in loader:\n    pass\n"


class Embedding(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.layer, self.axis = nn.Linear(64, 8), axis

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(x.flatten(1)), dim=self.axis)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("interleaved", [False, True])
def test_samples_of_three_images_in_one_batch_are_kept_apart(axis: int, interleaved: bool) -> None:
    torch.manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        together = torch.stack(batch, 1).flatten(0, 1) if interleaved else torch.cat(batch)
        found = model(together)
        parts = found.unflatten(0, (-1, 3)).unbind(1) if interleaved else found.chunk(3)
        return stepped(functional.triplet_margin_loss(*parts), optimizer)

    model = Embedding(axis)
    train = DataLoader(TensorDataset(*torch.randn(3, 48, 1, 8, 8)), 12)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    assert [one.code for one in read(LOOP, BATCH_MIXING, model, train, **options)] == ["model.batch-mixing"] * (
        not axis
    )


class ClipNet(nn.Module):
    """Frames (N, T, D) to the last state of a recurrence; `mixing`: (N·T, D) is viewed as (T, N, D)."""

    def __init__(self, mixing: bool) -> None:
        super().__init__()
        self.mixing, self.embed, self.score = mixing, nn.Linear(4, 8), nn.Linear(8, 3)
        self.rnn = nn.GRU(8, 8, batch_first=not mixing)

    def forward(self, clips: Tensor) -> Tensor:
        samples, times = clips.shape[:2]
        h = self.embed(clips.flatten(0, 1))
        out, _ = self.rnn(h.view(times, samples, -1) if self.mixing else h.view(samples, times, -1))
        return self.score(out[-1] if self.mixing else out[:, -1])


@pytest.mark.parametrize("mixing", [False, True])
def test_what_a_generator_of_the_step_draws_is_no_blend(mixing: bool) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        gain = 0.8 + 0.4 * torch.rand(len(batch[0]), 1, 1, generator=generator)
        return stepped(functional.cross_entropy(model(gain * batch[0]), batch[1]), optimizer)

    model, data = ClipNet(mixing), TensorDataset(torch.randn(64, 5, 4), torch.arange(64) % 3)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "step": step}
    findings = asked_in_script(BATCH_MIXING, model, DataLoader(data, 16), **options)
    assert [one.code for one in findings] == ["model.batch-mixing"] * mixing


class Reader(nn.Module):
    def __init__(self, mixes: bool, width: int) -> None:
        super().__init__()
        self.mixes, self.width, self.conv, self.head = mixes, width, nn.Conv1d(8, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x[:, 0, :, : self.width])  # N, C, W
        n, c, w = features.shape
        told: Tensor = self.head(features.reshape(w, n, c) if self.mixes else features.permute(2, 0, 1))
        return told


@pytest.mark.parametrize(("mixes", "width"), [(True, 6), (False, 6), (False, 8)])
def test_outputs_by_time_keep_samples_apart(mixes: bool, width: int) -> None:
    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(net(batch[0]).mean(0), batch[1] % 5)
        value.backward()
        optimizer.step()
        return value.detach()

    model = Reader(mixes, width)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = said(BATCH_MIXING, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
    assert bool(found) is mixes


CHECKS = (PADDING_COUNTED, IGNORED_CLASS, BATCH_MIXING)


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
    codes = [one.code for check in CHECKS for one in asked_in_script(check, Tagger(axis), data, step=step)]
    assert codes == ["loss.padding-counted"] * (filler == 0) + ["model.batch-mixing"] * (axis == 0)


@pytest.mark.parametrize(("axis", "of_features"), [(1, False), (0, False), (0, True)])
def test_embeddings_are_compared_at_unit_length(axis: int, of_features: bool) -> None:
    """But features may be, each over the samples, as where they are to be told apart."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        z = functional.normalize(model(batch[0]), dim=axis)
        scores = z.T @ z if of_features else 2.0 * z @ z.T
        return stepped((scores - torch.eye(len(scores))).square().mean(), optimizer)

    loader = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 10), 32)
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(BATCH_MIXING, perceptron(), loader, step=step)
    assert [one.code for one in found] == ["model.batch-mixing"] * (axis == 0 and not of_features)


@pytest.mark.parametrize("by_size", [False, True])
def test_numbers_drawn_by_a_generator_are_no_others_in_the_batch(by_size: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        if not by_size:
            x = x * torch.rand(len(x), 1, generator=generator) + torch.rand(len(x), 1, generator=generator)
        return stepped(functional.cross_entropy(model(x), y), optimizer)

    model = Divided(by_size)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 8), torch.arange(96) % 4), 16)
    findings = asked_in_script(BATCH_MIXING, model, train, **options)
    assert [one.code for one in findings] == ["model.batch-mixing"] * by_size


class Packed(nn.Module):
    """States of a bidirectional GRU on packed sequences, put side by side or dealt out anew."""

    def __init__(self, *, dealt: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.gru = nn.Embedding(30, 12), nn.GRU(12, 16, batch_first=True, bidirectional=True)
        self.head, self.dealt = nn.Linear(32, 3), dealt

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True)
        states = self.gru(packed)[1]
        together = states.reshape(len(tokens), -1) if self.dealt else torch.cat([states[0], states[1]], 1)
        scores: Tensor = self.head(together)
        return scores


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("dealt", [True, False])
def test_rows_with_sorted_lengths_are_checked_too(dealt: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(6):
        lengths = torch.randint(4, 12, (24,), generator=generator).sort(descending=True).values
        tokens = torch.randint(1, 30, (24, int(lengths.max())), generator=generator)
        tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
        batches.append((tokens, lengths, tokens[:, 0] % 3))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model(batch[0], batch[1]), batch[2])
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(BATCH_MIXING, Packed(dealt=dealt), batches, step=step, optimizer=adam)
    assert [f.code for f in found] == ["model.batch-mixing"] * dealt


class Masked(nn.Module):
    """Says the next of 12 words by attention under a mask of fixed size, or by a graph of the samples."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(20, 16), nn.Linear(16, 20)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=kind == "along positions")
        self.neighbors = torch.eye(12).roll(1, 0) if kind == "graph" else None
        self.hidden = torch.ones(12, 12, dtype=torch.bool).triu(1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        if self.neighbors is not None:
            x = torch.einsum("ij,j...->i...", self.neighbors, x)
        else:
            x = x + self.attention(x, x, x, attn_mask=self.hidden, need_weights=False)[0]
        return self.last(x).transpose(1, 2)


@pytest.mark.parametrize("kind", ["along positions", "along samples", "graph"])
def test_attention_whose_mask_is_applied_to_the_samples_mixes_them(kind: str) -> None:
    torch.manual_seed(0)
    text = torch.randint(20, (120, 13))
    loader = DataLoader(TensorDataset(text[:, :-1], text[:, 1:]), 12)
    found = said(BATCH_MIXING, Masked(kind), loader, loss=nn.CrossEntropyLoss())
    assert [f.where for f in found] == ["attention"] * (kind == "along samples")


class Rows(nn.Module):
    """A recurrent network over the rows of a digit, or, with the wrong axis first, over the digits."""

    def __init__(self, first: bool, *, swap: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.over, self.last, self.swap = nn.LSTM(8, 16, batch_first=first), nn.Linear(16, 10), swap

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0]
        steps = self.over(rows.transpose(0, 1))[0].transpose(0, 1) if self.swap else self.over(rows)[0]
        return self.last(steps[:, -1])


@pytest.mark.parametrize(
    "network",
    [
        lambda: Rows(False),
        lambda: Middle(lambda x: x - x.mean(0)),
        lambda: Middle(lambda x: x.softmax(0)),
        lambda: Middle(lambda x: functional.normalize(x, dim=0)),
        lambda: Middle(lambda x: x.reshape(24, -1).T),
        lambda: Middle(lambda x: x / len(x)),
        lambda: Middle(lambda x: x + x.roll(1, 0)),
        lambda: Middle(lambda x: x / x.abs().max()),
    ],
)
def test_samples_that_know_of_each_other(network: Any) -> None:
    (found,) = asked(BATCH_MIXING, network(), digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.batch-mixing", "error")


def test_the_place_where_samples_are_mixed_is_named() -> None:
    (found,) = asked(BATCH_MIXING, Rows(False), digits(), optimizer=quick_adam)
    assert found.where == "over"
    assert "batch_first=True" in found.remedy
    (norm,) = asked(BATCH_MIXING, Middle(nn.BatchNorm1d(24, track_running_stats=False)), digits(), optimizer=quick_adam)
    assert (norm.severity, norm.where) == ("warning", "act")


def test_predictions_that_are_the_same_for_a_whole_batch_are_not_blamed_on_the_loss() -> None:
    model = Middle(lambda x: x.mean(0).expand(len(x), -1))
    found = diagnose(model, digits(), optimizer=quick_adam(model.parameters()), loss=nn.CrossEntropyLoss())
    assert [one.code for one in found.findings if one.severity == "error"] == ["model.batch-mixing"]


@pytest.mark.parametrize(
    "network",
    [
        lambda: Rows(True),
        lambda: Rows(False, swap=True),
        lambda: Middle(nn.BatchNorm1d(24)),
        lambda: Middle(nn.LayerNorm(24)),
        lambda: Middle(nn.Dropout(0.5)),
        lambda: Middle(lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)),
    ],
)
def test_samples_by_themselves(network: Any) -> None:
    assert not asked(BATCH_MIXING, network(), digits(), optimizer=quick_adam)


def blended(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    x, y = batch
    return loop(model, (0.7 * x + 0.3 * x.flip(0), y), optimizer, loss)


def test_inputs_that_are_nan_are_not_taken_for_blends() -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    x = x.clone()
    x[:, 0, 0, 0] = torch.nan
    assert not asked(BATCH_MIXING, perceptron(), DataLoader(TensorDataset(x, y), 32), optimizer=quick_adam)


def test_a_step_that_blends_samples_is_not_the_network() -> None:
    assert not asked(BATCH_MIXING, perceptron(), digits(), step=blended, optimizer=quick_adam)


def test_a_softmax_over_the_samples_in_the_network_is_named() -> None:
    model = nn.Sequential(*perceptron(), nn.LogSoftmax(0))
    (one,) = asked(BATCH_MIXING, model, digits(), loss=nn.NLLLoss())
    assert (one.where.split(" in ")[0], one.threshold) == ("log_softmax", "no operation over axis 0")
    assert "over the classes" in one.remedy


@pytest.mark.parametrize("next_values", [True, False])
def test_a_series_of_which_the_next_values_are_predicted_goes_along_axis_0(next_values: bool) -> None:
    class Forecaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.out = nn.LSTM(1, 16), nn.Linear(16, 1)

        def forward(self, x: Tensor) -> Tensor:
            told: Tensor = self.out(self.rnn(x)[0])
            return told

    series = torch.randn(200, 8, 1, generator=torch.Generator().manual_seed(0))
    x = series[:-1]
    y = series[1:] if next_values else x.flip(1)
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 180, 20)]
    found: list[Any] = []
    with suppress(NoEvidence):
        found = said(BATCH_MIXING, Forecaster(), batches, loss=nn.MSELoss())
    assert bool(found) is not next_values


@pytest.mark.parametrize(("joined", "severity"), [(True, "note"), (False, "warning")])
def test_batch_norm_of_an_episode_is_a_note(joined: bool, severity: str) -> None:
    """Its examples and queries go through the network together, on purpose."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(), nn.Flatten())

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x = torch.cat([batch[0], batch[0].flip(-1)]) if joined else batch[0]
        z = model(x)
        value: Tensor = loss(-torch.cdist(z[: len(batch[0])], z[-len(batch[0]) :]), torch.arange(len(batch[0])))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(BATCH_MIXING, net, digits(), loss=nn.CrossEntropyLoss(), step=step)
    assert [one.severity for one in found] == [severity]


class Stateful(nn.Module):
    """A recurrent network that begins with the state of the batch before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.state = nn.RNN(2, 16, batch_first=True), nn.Linear(16, 2), None

    def forward(self, x: Tensor) -> Tensor:
        out, state = self.rnn(x, self.state)
        self.state = state.detach()
        told: Tensor = self.out(out[:, -1])
        return told


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_state_of_unrelated_sequences_is_not_kept(shuffle: bool) -> None:
    x = torch.randn(320, 4, 2, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, (x.sum((1, 2)) > 0).long()), 32, shuffle=shuffle)
    network = Stateful()
    network(x[:32])  # as after the first batch of a script
    found = said(BATCH_MIXING, network, loader, loss=nn.CrossEntropyLoss())
    assert [one.where == "`model.state`" for one in found] == [True] * shuffle


@pytest.mark.parametrize("along", ["samples", "positions"])
def test_an_encoding_goes_along_the_positions(along: str) -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.head = nn.Embedding(12, 16), nn.Linear(16, 2)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, tokens: Tensor) -> Tensor:
            x: Tensor = self.embed(tokens)
            places = torch.linspace(-1, 1, x.shape[0 if along == "samples" else 1])
            x = x + (places[:, None, None] if along == "samples" else places[None, :, None])
            out: Tensor = self.head(self.layer(x).mean(1))
            return out

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 12, (320, 9), generator=generator)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > x[:, 8]).long()), 32)
    found = said(BATCH_MIXING, Reader(), loader, loss=nn.CrossEntropyLoss())
    assert ["other rows" in one.measured for one in found] == [True] * (along == "samples")
