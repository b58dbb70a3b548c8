"""Samples that loops draw twice, Adam with the rate of SGD, blends that are not blended in every step, inputs of which
some kinds are easier, scores taken from one; and their twins."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.scrambled import SCRAMBLED
from striate.doctor.checks.data.labels.blends import blended_batches, swapped_shares
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.shift.judges import Judge
from striate.doctor.checks.data.shift.shift import _best
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.corrections import corrections
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

LOSS = functional.cross_entropy


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_what_is_drawn_twice_is_held_out_once(apart: bool) -> None:
    """A loop draws its batches with replacement: a network that knows the training samples by heart knows most of those
    that were held out, whatever their labels say."""
    x, y = digits(most=400).dataset.tensors  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    y = y[torch.randperm(len(y), generator=generator)] if apart else y
    drawn = torch.randint(len(x), (40 * 32,), generator=generator)
    batches = [(x[rows], y[rows]) for rows in drawn.split(32)]
    model = perceptron(256)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    found = asked(LABELS_RANDOM, model, batches, loss=LOSS, optimizer=optimizer, step=loop)
    assert len(found) == apart


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.003])
def test_adam_with_the_rate_of_gradient_descent_learns_something(rate: float) -> None:
    model = perceptron(64, depth=2)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    found = asked(LR_TOO_HIGH, model, digits(), loss=LOSS, optimizer=optimizer, step=loop)
    assert len(found) == (rate > 0.01)


@pytest.mark.parametrize("swapped", [True, False])
def test_some_batches_are_not_blended(swapped: bool) -> None:
    """With a share of 1 the labels of such are those of the partners alone, where shares are exchanged."""
    drawn = iter([1.0, 0.7, 1.0, 0.8, 1.0, 1.0, 1.0, 1.0] * 4)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        part = next(drawn)
        one, other = (functional.one_hot(labels, 10).float() for labels in (y, y.flip(0)))
        shares = (1 - part) * one + part * other if swapped else part * one + (1 - part) * other
        optimizer.zero_grad()
        value = -(shares * net(part * x + (1 - part) * x.flip(0)).log_softmax(1)).sum(1).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = perceptron()
    setup = make_setup(model, digits(), None, optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    assert (swapped_shares(blended_batches(Evidence(setup, Clock(120.0)))) is not None) is swapped


@pytest.mark.parametrize("squares", ["((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum()", "(p - t).square().mean()"])
def test_the_share_that_is_explained_is_taken_from_one(squares: str) -> None:
    """`1 - …` is a loss where a score is taken from it, and a score where an error is."""
    text = f"def r2(p, t):\n    return 1 - {squares}\n\nfor x, y in loader:\n    step(x, y)\n"
    names = dict[str, Any]()
    exec(text.split("\n\n")[0], names)
    source = ScriptSource({"s.py": ast.parse(text)}, names, ("s.py", 4, 5), 5)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 16)
    found = list[Any]()
    with suppress(NoEvidence):
        found = asked(WRONG_COUNT, nn.Linear(4, 1), loader, loss=functional.mse_loss, val=loader, source=source)
    assert found == []


@pytest.mark.parametrize(("gained", "told"), [(-0.1, True), (0.1, False)])
def test_what_helps_training_inputs_too_undoes_nothing(gained: float, told: bool) -> None:
    """A network that is better at enlarged inputs, of training and of validation, was not shown other ones."""
    ways = [way for way in corrections(torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)) if "cropped" in way.what]
    plain = torch.zeros(300)
    plain[:100] = 1
    judge = Judge("the network", 0.6, lambda _: plain + 0.3 * (plain == 0), lambda _: gained)
    assert (_best(judge, plain, ways) is not None) is told


def test_a_likelihood_without_its_minus_is_the_loss_of_its_task() -> None:
    """Its sign is wrong, which another check tells."""

    def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.log_softmax(1).gather(1, targets[:, None]).mean()

    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    assert asked(WRONG_FOR_TASK, model, digits(), loss=likelihood, optimizer=optimizer, step=loop) == []


@pytest.mark.slow
def test_a_recurrence_along_the_samples_has_no_places_to_exchange() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.out = nn.GRU(8, 8), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.gru(x[:, 0])[0][:, -1])

    model = Rows()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with pytest.raises(NoEvidence, match="along the samples"):
        asked(SCRAMBLED, model, digits(), loss=LOSS, optimizer=optimizer, step=loop)
