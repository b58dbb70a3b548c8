"""The loss of an answer that does not look at the input: what a network must get below to have learned anything."""

from __future__ import annotations

import torch

from striate.data.targets import Targets
from striate.tasks.outputs import Outputs, leaves, map_outputs
from striate.tasks.task import Task

_SAMPLES, _VALUES = 2048, 4_000_000  # at most: a mask has an answer for each pixel
_ITERATIONS = 60


def constant_answer_loss(task: Task, outputs: Outputs, targets: Targets) -> float:
    """The lowest loss on `targets` of outputs that are the same for every sample (and every pixel of a mask).

    `outputs`: any (N, K, …) of the network, or a tree of such, for their shape; of `targets` (M, …) up to 2,048 are
    used, fewer of masks.
    """
    numbers = sum(part[0].numel() for part in leaves(outputs))
    targets = targets[: max(1, min(_SAMPLES, _VALUES // numbers))]

    def constant(part: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(1, *part.shape[1:2], *(1 for _ in part.shape[2:]), device=targets.device)
        return zeros.requires_grad_()

    answer = map_outputs(constant, outputs)

    def expanded() -> Outputs:
        return map_outputs(lambda one, part: one.expand(len(targets), *part.shape[1:]), answer, outputs)

    optimizer = torch.optim.LBFGS(list(leaves(answer)), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.loss(expanded(), targets)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return float(task.loss(expanded(), targets))
