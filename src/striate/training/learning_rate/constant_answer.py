"""The loss of an answer that does not look at the input: what a network must get below to have learned anything."""

from __future__ import annotations

import torch

from striate.tasks.task import Task

_SAMPLES, _VALUES = 2048, 4_000_000  # at most: a mask has an answer for each pixel
_ITERATIONS = 60


def constant_answer_loss(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The lowest loss on `targets` of outputs that are the same for every sample (and every pixel of a mask).

    `outputs`: any (N, K, …) of the network, for their shape; of `targets` (M, …) up to 2,048 are used, fewer of masks.
    """
    targets = targets[: max(1, min(_SAMPLES, _VALUES // outputs[0].numel()))]
    answer = torch.zeros(1, *outputs.shape[1:2], *(1 for _ in outputs.shape[2:]), device=targets.device)
    answer.requires_grad_()
    shape = (len(targets), *outputs.shape[1:])
    optimizer = torch.optim.LBFGS([answer], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.loss(answer.expand(shape), targets)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return float(task.loss(answer.expand(shape), targets))
