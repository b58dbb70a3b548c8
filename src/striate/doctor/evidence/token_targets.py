"""Targets of token sequences, and which tokens of the input they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import Path, leaves, main_tensor, parts

CLASS_LOSSES = ("cross_entropy", "nll_loss")
SAME = 0.9
"""Least share of the counted targets that are tokens of the input at the same shift."""
_FEWEST = 32


def class_losses(evidence: Evidence) -> Iterator[LossCall]:
    """The calls of losses with class numbers as targets, in a step."""
    for call in evidence.calls.losses:
        if call.name in CLASS_LOSSES and not call.target.is_floating_point():
            yield call


def token_inputs(evidence: Evidence) -> Iterator[tuple[Any, Path, torch.Tensor]]:
    """Integer tensors (samples, positions) of the first batch: the batch, the tensor's place and the tensor."""
    batch = evidence.train.raw[0]
    for path, tensor in leaves(batch):
        if tensor.ndim == 2 and tensor.shape[1] > 2 and not tensor.is_floating_point() and tensor.dtype != torch.bool:
            yield batch, path, tensor.detach().cpu()


def by_position(call: LossCall, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int] | None:
    """The targets of a loss and whether they are counted, both as (samples, positions), and how many positions fewer
    than the tokens they have (0 or 1); None where the targets have another size."""
    target, (samples, length) = call.target.detach().cpu(), tokens.shape
    for short in (0, 1):
        if target.shape == (samples, length - short) or (
            target.ndim == 1 and len(target) == samples * (length - short)
        ):
            target = target.reshape(samples, length - short)
            return target, target != call.ignored, short
    return None


def goes_along_first_axis(evidence: Evidence) -> bool:
    """Whether inputs are (positions, samples, …): the targets are their next tokens or values along axis 0."""
    x, y = (main_tensor(part) for part in parts(evidence.train.raw[0]))
    alike = x is not None and y is not None and x.shape == y.shape and x.ndim > 1 and min(x.shape[:2]) > 2
    if alike and torch.equal(x[1:], y[:-1]) and not torch.equal(x[:, 1:], y[:, :-1]):  # type: ignore[index]
        return True
    for call in class_losses(evidence):
        for _, _, tokens in token_inputs(evidence):
            if call.target.numel() == tokens.numel():
                targets = call.target.detach().cpu().reshape(tokens.shape)
                same = (targets[:-1] == tokens[1:]).float().mean()
                if float(same) >= SAME > float((targets[:, :-1] == tokens[:, 1:]).float().mean()):
                    return True
    return False


def next_token_targets(evidence: Evidence, *, own: bool = False) -> tuple[Any, Path, torch.Tensor] | None:
    """The batch, place and tokens of an input whose next tokens (or `own` ones, at the same position) are the targets
    of the loss; None where there is none."""
    for call in class_losses(evidence):
        for batch, path, tokens in token_inputs(evidence):
            placed = by_position(call, tokens)
            if placed is None:
                continue
            target, counted, _ = placed
            known = counted[:, : tokens.shape[1] - 1]
            same = (target[:, : tokens.shape[1] - 1] == tokens[:, 1:])[known]
            here = (target == tokens[:, : target.shape[1]])[counted]
            if len(same) < _FEWEST:
                continue
            wanted, other = (float(one.float().mean()) for one in ((here, same) if own else (same, here)))
            if wanted >= SAME >= other:
                return batch, path, tokens
    return None
