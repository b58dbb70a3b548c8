"""Points and peaks, noise, averages and samplers: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, perceptron
from test_met_in_vision_scripts import read
from test_points_in_pictures import blob
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.too_few import TOO_FEW
from striate.doctor.checks.eval.predicted import WRONG_AXIS
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

PEAKS = """
def decode(maps):
    index = maps.flatten(2).argmax(-1)
    y, x = {}
    return torch.stack([x, y], -1)
"""


@pytest.mark.parametrize("exchanged", [False, True])
def test_peaks_are_compared_with_points_whose_maps_the_step_draws(exchanged: bool) -> None:
    """Of as many points as images have colors."""
    points = 2 + 12 * torch.rand(64, 3, 2, generator=torch.Generator().manual_seed(0))
    maps = torch.stack(
        [torch.stack([blob(torch.arange(16).float(), x, y, 1.0) for x, y in p.tolist()]) for p in points]
    )
    loader = DataLoader(TensorDataset((255 * maps).byte(), points), 32)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, known = batch
        (dx, dy) = (known[..., axis, None] - torch.arange(16) for axis in (0, 1))
        drawn = torch.exp(-(dy[..., :, None] ** 2 + dx[..., None, :] ** 2) / 2)
        return stepped(functional.mse_loss(model(image / 255), drawn), optimizer)

    ways = ["index // 16, index % 16", "index % 16, index // 16"]
    source = ScriptSource({"train.py": ast.parse(PEAKS.format(ways[exchanged]))}, {}, ("train.py", 9, 9), 5)
    model = nn.Conv2d(3, 3, 3, padding=1)
    setup = make_setup(model, loader, loader, loss=nn.MSELoss(), task="regress", step=step, source=source)
    with state_preserved(setup):
        found = list(WRONG_AXIS.run(Evidence(setup, Clock(10.0))))
    assert [finding.code for finding in found] == ["eval.wrong-axis"] * exchanged


def stepped(loss: Tensor, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("way", ["the same", "another", "of each pair"])
def test_a_square_written_out_asks_for_noise_that_is_shown(way: str) -> None:
    """But codes may be brought near to numbers of a normal distribution, pair by pair."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        noise = torch.randn_like(batch[0])
        shown = noise if way == "the same" else torch.randn_like(noise)
        given = model(batch[0] + shown)
        apart = given[:, None] - noise[None] if way == "of each pair" else noise - given
        return stepped(apart.pow(2).mean(), optimizer)

    data = TensorDataset(torch.randn(96, 8), torch.zeros(96))
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(LABELS_RANDOM, nn.Linear(8, 8), DataLoader(data, 32), step=step)
    assert ["in nothing that it is shown" in one.measured for one in found] == [True] * (way == "another")


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_an_average_of_torch_forgets_its_beginning_in_time(decay: float) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 2), torch.randn(320, 8)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def step(net: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(functional.cross_entropy(net(batch[0]), batch[1]), optimizer)
        average.update_parameters(net)
        return loss

    text = "for epoch in range(20):\n    for batch in loader:\n        average.update_parameters(model)\n"
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32)
    found = read(text, EVALUATES_UNTRAINED, model, loader, **options)
    assert ["of the way" in one.measured for one in found] == [True] * (decay > 0.99)


class Dealer:
    """Batches of two of each class, of the first two in its list or of all."""

    def __init__(self, y: Tensor, first: bool) -> None:
        self.pools, self.first = [(y == k).nonzero().flatten() for k in range(10)], first

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(20):
            order = [torch.randperm(2 if self.first else len(pool))[:2] for pool in self.pools]
            yield torch.cat([pool[some] for pool, some in zip(self.pools, order, strict=True)]).tolist()


@pytest.mark.parametrize("first", [False, True])
def test_a_sampler_draws_from_all_samples(first: bool) -> None:
    torch.manual_seed(0)
    y = torch.arange(400) % 10
    data = TensorDataset(torch.randn(400, 1, 8, 8), y)
    found = asked(TOO_FEW, perceptron(), DataLoader(data, batch_sampler=Dealer(y, first)))  # type: ignore[arg-type]
    assert [(one.severity, one.code) for one in found] == [("error", "data.too-few")] * first


@pytest.mark.parametrize("gray", [0.0, 20.0, 5000.0])
def test_noise_of_bytes_is_added_before_they_are_scaled(gray: float) -> None:
    torch.manual_seed(0)
    x = (120 + 60 * torch.randn(320, 1, 3, 3)).repeat_interleave(4, 2).repeat_interleave(4, 3).clamp(0, 255).byte()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        given = (batch[0] + gray * torch.randn(batch[0].shape) - 120) / 60
        return stepped(functional.cross_entropy(model(given), batch[1]), optimizer)

    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    loader = DataLoader(TensorDataset(x, (x[:, 0, 0, 0] > 120).long()), 32)
    found = read("for x, y in loader:\n    pass\n", AUGMENTATION, model, loader, step=step)
    assert ["another with each draw" in one.measured for one in found] == [True] * (gray > 100)


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
