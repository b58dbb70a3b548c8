"""Triplets of sounds, times that are ranked, decoders apart from their encoders, graphs; and their twins."""

from __future__ import annotations

import ast
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.inputs.axes_dealt import _of_scores
from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.metric_functions import _picks
from striate.doctor.checks.eval.predicted import WRONG_AXIS
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.pairs import _are_signals, far_apart
from striate.doctor.script.drawn_batches import drawn_once
from striate.doctor.script.validation_data import _as_tensor, _is_validation_pair
from striate.doctor.setup.reward_code import origins
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


def tones(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A tone of each of four pitches, begun at any time, in noise."""
    phase = 6.3 * torch.rand(len(labels), 1, generator=generator)
    sound = torch.sin(0.1 * (1 + labels[:, None]) * torch.arange(256) + phase)
    return sound + 0.3 * torch.randn(len(labels), 256, generator=generator)


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(129, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(torch.fft.rfft(x).abs().log1p())


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [False, True])
def test_sounds_are_compared_by_what_they_sound_like(swapped: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 4
    sounds = [tones((labels + k) % 4, generator) for k in (0, 0, 1)]
    loader = DataLoader(TensorDataset(*sounds), batch_size=32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        anchor, near, far = model(torch.cat(list(batch))).chunk(3)
        others = (far, near) if swapped else (near, far)
        value = functional.triplet_margin_loss(anchor, *others)
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, Listener(), loader, step=step, optimizer=adam)
    assert [one.code for one in found] == ["loss.pairs-swapped"] * swapped


def test_spectra_are_of_signals_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    one, again, other = (tones(torch.full((8,), k), generator) for k in (1, 1, 2))
    assert float(far_apart(one, again).max()) < float(far_apart(one, other).min())
    assert _are_signals(one)
    assert not _are_signals(torch.randn(64, 256, generator=generator))
    assert not _are_signals(one[:, :100])


@pytest.mark.parametrize("given", [False, True])
def test_a_time_that_is_ranked_is_not_among_the_inputs(given: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 6, generator=generator)
    time, seen = torch.rand(512, generator=generator), torch.arange(512) % 3 > 0
    x = torch.cat([x, (time[:, None] - 0.5) / 0.3], dim=1) if given else x
    loader = DataLoader(TensorDataset(x, time, seen.float()), batch_size=128)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        order = batch[1].argsort(descending=True)
        risk = model(batch[0]).squeeze(1)[order]
        value = -((risk - risk.logcumsumexp(0)) * batch[2][order]).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(TARGET_IN_INPUT, nn.Linear(x.shape[1], 1), loader, step=step, optimizer=adam)
    assert [one.severity for one in found] == ["warning"] * given
    assert all("number 6 of the 7 input numbers" in one.measured for one in found)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.embed(words).mean(1, keepdim=True))


class Writer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)

    def forward(self, words: Tensor, memory: Tensor) -> Tensor:
        return self.out(self.embed(words) + memory)


@pytest.mark.parametrize("shifted", [True, False])
def test_a_second_network_is_not_given_the_words_that_it_is_to_write(shifted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randint(1, 12, (128, length), generator=generator) for length in (7, 5))
    reader, writer = Reader(), Writer()
    both = [*reader.parameters(), *writer.parameters()]
    optimizer = torch.optim.Adam(both, lr=0.01)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        words = torch.cat([torch.zeros_like(batch[1][:, :1]), batch[1][:, :-1]], 1) if shifted else batch[1]
        scores = writer(words, model(batch[0]))
        value = functional.cross_entropy(scores.transpose(1, 2), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(TensorDataset(source, target), batch_size=32)
    found = said(TARGET_IN_INPUT, reader, loader, step=step, optimizer=optimizer)
    assert len(found) == (not shifted)


def test_validation_stands_in_tuples_of_tensors() -> None:
    x, time, seen = torch.rand(9, 3), torch.rand(9), torch.ones(9)
    assert _is_validation_pair("val_data", (x, time, seen))
    assert _is_validation_pair("val_data", (x, time))
    assert not _is_validation_pair("train_data", (x, time, seen))
    assert not _is_validation_pair("val_data", (x, time[:4], seen))
    assert not _is_validation_pair("val_sizes", (torch.tensor(3), torch.tensor(4)))


def test_arrays_that_run_backward_are_no_tensors() -> None:
    backward = np.arange(4.0)[::-1]
    assert _as_tensor(backward) is backward
    assert isinstance(_as_tensor(np.arange(4.0)), Tensor)


@pytest.mark.parametrize(("source", "again"), [("torch.Generator().manual_seed(0)", False), ("None", True)])
def test_data_that_a_call_makes_alike_each_time_are_not_drawn(source: str, again: bool, tmp_path: Path) -> None:
    text = f"""import torch
def made():
    return torch.rand(8, 2, generator={source}), torch.arange(8)
x, y = made()
x = (x - x.mean(0)) / x.std(0)
"""
    file = tmp_path / "script.py"
    file.write_text(text)
    names: dict[str, Any] = {"__name__": "script_of_a_user"}
    exec(compile(text, str(file), "exec"), names)
    assert drawn_once(str(file), ["x", "y"], names) == ("x, y = made()" if again else "")


def test_rows_that_a_metric_looks_at_are_no_targets() -> None:
    def picks(text: str) -> bool:
        (node,) = ast.parse(text).body
        assert isinstance(node, ast.FunctionDef)
        return _picks(node)

    assert picks("def accuracy(logits, index):\n    return (logits[index].argmax(1) == labels[index]).float().mean()")
    assert not picks("def accuracy(logits, labels):\n    return (logits.argmax(1) == labels).float().mean()")


@pytest.mark.parametrize("scaled", [True, False])
def test_a_table_that_is_restored_is_to_be_scaled(scaled: bool) -> None:
    torch.manual_seed(0)
    rows = torch.randn(256, 8) * (1 if scaled else 10 ** torch.linspace(-1, 3, 8))
    loader = DataLoader(TensorDataset(rows), batch_size=32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(batch[0]), batch[0])
        value.backward()
        optimizer.step()
        return value.detach()

    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
    found = said(NOT_NORMALIZED, model, loader, step=step, optimizer=adam)
    assert ["of the squares" in one.measured for one in found] == [True] * (not scaled)


@pytest.mark.parametrize(("call", "wrong"), [("logits.argmax(dim=1)", True), ("(logits > 0).long()", False)])
def test_the_only_output_is_no_class_to_choose_from(call: str, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    text = f"def evaluate(loader):\n    for x, y in loader:\n        logits = model(x)\n        right = {call} == y"
    x, y = torch.randn(64, 4), torch.arange(64).float()[:, None] % 2
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    source = ScriptSource({"train.py": ast.parse(text)}, {"model": model}, ("train.py", 1, 1), 3)
    found = said(WRONG_AXIS, model, loader, loss=nn.BCEWithLogitsLoss(), source=source)
    assert ["an axis of one number" in one.measured for one in found] == [True] * wrong


def test_scores_are_read_for_a_loss_along_their_own_axes() -> None:
    assert _of_scores((64, 11, 38), (64, 38, 11)) == ("as if classes were put before positions", "x.transpose(1, 2)")
    assert _of_scores((64, 11, 38), (64, 11, 38)) is None
    assert _of_scores((64, 11, 1), (64, 1, 11)) is None


def test_what_says_which_place_is_written_is_no_part_of_it() -> None:
    text = """
def collect():
    for t in range(9):
        values[t] = model(x)
        done[t] = ended
        targets[finished] = 0
    for t in range(9):
        target = reward[t] + gamma * values[t]
    return target, targets
"""
    (function,) = ast.parse(text).body
    statements = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    target = next(node for node in statements if ast.unparse(node).startswith("target ="))
    names = {part.id for part in origins(function, target) if isinstance(part, ast.Name)}
    assert {"model", "x"} <= names
    assert not {"ended", "done", "finished"} & names
    last = next(node for node in statements if isinstance(node, ast.Return))
    assert "finished" in {part.id for part in origins(function, last) if isinstance(part, ast.Name)}
