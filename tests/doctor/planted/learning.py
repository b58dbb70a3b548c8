"""A plain training loop for cases, as whoever wrote them would have run it, and two scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from planted.case import Case


def usual_step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    """Forward, backward, update."""
    x, y = batch
    optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
    return value.detach()


def optimizer_of(case: Case) -> Any:
    """The case's optimizer, made if it is only described."""
    if case.optimizer is None:
        return torch.optim.Adam(case.model.parameters(), lr=1e-3)
    return (
        case.optimizer if isinstance(case.optimizer, torch.optim.Optimizer) else case.optimizer(case.model.parameters())
    )


def learn(case: Case, epochs: int) -> list[float]:
    """Train the case's model for some epochs in place; the mean loss of each epoch."""
    optimizer, step = optimizer_of(case), case.step or usual_step
    loader: Iterable[Any] = case.train
    if isinstance(case.train, tuple):
        loader = DataLoader(TensorDataset(*case.train), batch_size=32, shuffle=True)
    case.model.train()
    means = []
    for _ in range(epochs):
        values = [float(step(case.model, batch, optimizer, case.loss)) for batch in loader]
        means.append(sum(values) / len(values))
    return means


def answers(case: Case, data: Any) -> tuple[Tensor, Tensor]:
    """Outputs in evaluation mode, and targets, of a loader or a pair."""
    loader = [data] if isinstance(data, tuple) else data
    outputs, targets = [], []
    case.model.eval()
    with torch.no_grad():
        for batch in loader:
            x, y = batch.values() if isinstance(batch, dict) else batch
            outputs.append(case.model(x))
            targets.append(y)
    return torch.cat(outputs), torch.cat(targets)


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Mean over classes of the share that is right; one output a sample is a logit, or a number to be rounded."""
    outputs = outputs.squeeze(1) if outputs.dim() == 2 and outputs.shape[1] == 1 else outputs
    targets = targets.squeeze(1) if targets.dim() == 2 else targets
    if outputs.dim() == 2:
        guessed = outputs.argmax(1)
    elif targets.max() > 1:
        guessed = outputs.round()
    else:
        guessed = torch.where(outputs > 0, targets.max(), targets.min())
    right = (guessed == targets).float()
    return float(torch.stack([right[targets == k].mean() for k in targets.unique()]).mean())


def explained(outputs: Tensor, targets: Tensor) -> float:
    """The share of the targets' variance that the first output explains, R²."""
    outputs = outputs.reshape(len(targets), -1)[:, 0] if targets.dim() == 1 else outputs
    targets = targets.reshape(outputs.shape)
    error = (outputs - targets).pow(2).mean()
    return float(1 - error / (targets - targets.mean(0)).pow(2).mean())
