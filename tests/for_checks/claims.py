"""Tables, counts and waiting times that tests of checks share, and the likelihoods that they are learned by."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked


class Claims(nn.Module):
    def __init__(self, squeezed: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kinds, self.head, self.squeezed = nn.Embedding(4, 2), nn.Linear(5, 1), squeezed

    def forward(self, kinds: Tensor, numbers: Tensor, exposure: Tensor) -> Tensor:
        found = self.head(torch.cat([self.kinds(kinds), numbers], 1))
        return (found.squeeze(1) if self.squeezed else found) + exposure


def policies(rows: slice, moved: float = 0.0) -> DataLoader[Any]:
    torch.manual_seed(0)
    numbers, kinds, exposure = torch.randn(240, 3), torch.randint(0, 4, (240,)), -torch.rand(240)
    claims = torch.poisson((numbers[:, 0] / 2 + 2 + exposure).exp())
    numbers[:, 2] = 0.2 * numbers[:, 2] + moved
    return DataLoader(TensorDataset(*(part[rows] for part in (kinds, numbers, exposure, claims))), 24)


def step_of_claims(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    *given, claims = batch
    loss = functional.poisson_nll_loss(model(*given), claims)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def of_claims(check: Any, model: nn.Module, val: Any = None) -> list[str]:
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    train = policies(slice(192), -3.0)
    return [one.code for one in asked(check, model, train, val=val, step=step_of_claims, optimizer=optimizer)]


class Graphs(NamedTuple):
    x: Tensor
    batch: Tensor
    y: Tensor
    num_graphs: int


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, data: Graphs) -> Tensor:
        return self.layer(torch.zeros(data.num_graphs, 4).index_add(0, data.batch, data.x))


def graphs_of_kinds(kinds: list[int], count: int) -> list[Graphs]:
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        y = torch.tensor(kinds * 4)
        owner = torch.arange(len(y)).repeat_interleave(5)
        found.append(Graphs(torch.randn(len(owner), 4) + functional.one_hot(y[owner], 4), owner, y, len(y)))
    return found


def codes_of_graphs(check: Any, kinds: list[int], **options: Any) -> list[str]:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.cross_entropy(model(batch), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = options.pop("model", None) or Pooled()
    return [one.code for one in asked(check, model, graphs_of_kinds(kinds, 6), step=step, **options)]


class Column(nn.Module):
    def __init__(self, squeezed: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.squeezed = squeezed

    def forward(self, x: Tensor) -> Tensor:
        column: Tensor = self.layers(x)
        return column.squeeze(1) if self.squeezed else column


class Scores(nn.Module):
    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 64), nn.Tanh()), nn.Linear(64, 1)
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(0 * x if self.blind else x))
        return scores.squeeze(1)


class Flow(nn.Module):
    """Affine couplings, whose network is asked by `log_prob` alone."""

    def __init__(self, sign: float = 1.0, depth: int = 5, dim: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sign = sign
        self.masks = [(torch.arange(dim) % 2 == number % 2).float() for number in range(depth)]
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2 * dim))
            for _ in self.masks
        )

    def log_prob(self, x: Tensor) -> Tensor:
        log_det = torch.zeros(len(x))
        for mask, net in zip(self.masks, self.nets, strict=True):
            shift, scale = net(x * mask).chunk(2, 1)
            scale = 2 * torch.tanh(scale / 2) * (1 - mask)
            x, log_det = x * scale.exp() + shift * (1 - mask), log_det + scale.sum(1)
        base = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)).sum(1)
        return base + self.sign * log_det


def sensors(standard: bool = True) -> DataLoader[Any]:
    """Six columns that two causes drive, in units of their own unless they are standardized."""
    generator = torch.Generator().manual_seed(0)
    causes = torch.rand(1280, 2, generator=generator)
    x = torch.cat([causes, causes**2, (3 * causes).sin()], 1) + 0.05 * torch.randn(1280, 6, generator=generator)
    x = (x - x.mean(0)) / x.std(0)
    units = torch.tensor([300.0, 9e4, 5.0, 1e-3, 20.0, 1.0])
    return DataLoader(TensorDataset(x if standard else (x + 3) * units), 64)


def likelihood(sign: float = -1.0) -> Any:
    """A step that clips gradients as flows' do, and gives back the log likelihood times `sign`."""

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value: Tensor = sign * model.log_prob(batch[0]).mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return value.detach()

    return step


def pinball(quantiles: list[float], turned: bool = False) -> Any:
    """A step of forecasts (N, 4, K), whose loss has its sides exchanged where it is `turned`."""
    wanted = torch.tensor(quantiles)

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        error = (batch[1].unsqueeze(-1) - model(batch[0])) * (-1 if turned else 1)
        value = torch.maximum(wanted * error, (wanted - 1) * error).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def forecasts(size: float = 1.0) -> DataLoader[Any]:
    """What follows a few hours, in units of `size`."""
    x = torch.randn(640, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, size * (x[:, :4] + 0.3 * x[:, 4:] + (6 if size > 1 else 0))), 32)


def patients(told: str = "", stacked: bool = False) -> DataLoader[Any]:
    """Covariates, durations and whether the event was seen, one beside the other or as a table of two."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 5, generator=generator)
    lifetimes = -torch.rand(512, generator=generator).log() * 20 * torch.exp(-x[:, 0])
    ends = 40 * torch.rand(512, generator=generator)
    durations, events = torch.minimum(lifetimes, ends), (lifetimes <= ends).float()
    if told:
        columns = {"rounded": durations.ceil(), "falling": -durations.log(), "noisy": durations + 9 * x[:, 1]}
        x = torch.cat([x, columns[told][:, None]], 1)
    parts = [torch.stack([events, durations], 1)] if stacked else [durations, events]
    return DataLoader(TensorDataset(x, *parts), 64, shuffle=True, generator=generator)


def sorted_cox(risks: Tensor, durations: Tensor, events: Tensor, descending: bool = True) -> Tensor:
    order = durations.argsort(descending=descending)
    risks, events = risks[order], events[order]
    return -((risks - risks.logcumsumexp(0)) * events).sum() / events.sum()


def said_of_times(check: Any, loss: Any, loader: DataLoader[Any], stacked: bool = False) -> list[str]:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, *rest = batch
        durations, events = (rest[0][:, 1], rest[0][:, 0]) if stacked else rest
        optimizer.zero_grad()
        value: Tensor = loss(model(x).squeeze(1), durations, events)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(next(iter(loader))[0].shape[1], 16), nn.ReLU(), nn.Linear(16, 1))
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    return [one.measured for one in asked(check, model, loader, **options)]


def hazards(outputs: Tensor, bins: Tensor, events: Tensor) -> Tensor:
    """The mean log-likelihood of a logistic hazard."""
    died, passed = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)
    earlier = (torch.arange(outputs.shape[1]) < bins[:, None]).float()
    last = torch.where(events == 1, died.gather(1, bins[:, None])[:, 0], passed.gather(1, bins[:, None])[:, 0])
    return ((passed * earlier).sum(1) + last).mean()


def hazard_step(loss: Any) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), *batch[1:])
        value.backward()
        optimizer.step()
        return value.detach()

    return step
