"""The own run of a script that tests of checks share: a classifier is trained and evaluated, and watched."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.evidence.own_run import OwnRun, Watcher, number_of_weights


class _Pass:
    """Stands for the iterator of a DataLoader."""


def watched_run(prepare: Callable[[Tensor], Tensor], decay: float = 0.5, steps: int = 120) -> OwnRun:
    """What is seen of a training on standardized samples whose evaluation, also of an average of the network with this
    decay, is given the samples as `prepare` makes them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(50)
    samples = torch.randn(4, 6, generator=generator)[labels] + 0.2 * torch.randn(200, 6, generator=generator)
    samples = (samples - samples.mean()) / samples.std()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))
    average = copy.deepcopy(model).requires_grad_(False)
    watcher = Watcher(float("inf"), {id(model): "model", id(average): "average"})
    watcher.of(model).first = [parameter.detach().clone() for parameter in model.parameters()]
    watcher.of(model).before = number_of_weights(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)

    def ask(network: nn.Module, x: Tensor) -> Tensor:
        watcher.enter(network, (x,))
        output: Tensor = network(x)
        watcher.leave(network, (x,), output)
        return output

    for step in range(steps):
        rows = torch.randint(200, (32,), generator=generator)
        loss = functional.cross_entropy(ask(model, samples[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        watcher.stepping(optimizer)
        optimizer.step()
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a.lerp_(p.detach(), 1 - decay)
        if step % 20 == 19:
            for network in (model, average):
                iterator, batch = _Pass(), [prepare(samples), labels]
                watcher.draws(iterator, batch)
                with torch.no_grad():
                    ask(network, batch[0])
                watcher.pass_ends(iterator, whole=True)
    return watcher.run
