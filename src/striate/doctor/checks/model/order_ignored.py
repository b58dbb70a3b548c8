"""`model.order-ignored`: does attention without positions, which cannot tell the order of a sequence, learn nothing?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import need_predictions
from striate.doctor.checks.model.variants import change_in_other_rows, eval_outputs
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import predict
from striate.doctor.setup.batch import leaves, mapped
from striate.observe.torch_calls import function_name, torch_functions
from striate.records import Finding

_FEWEST = 4
_SAME = 1e-3
_VARY = 1e-2


def _run(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence)
    found = evidence.after_training.quality
    if found is None or not found.guesses:
        return
    batch = evidence.train.raw[0]
    rows = next((tensor for _, tensor in leaves(batch) if _is_sequence(tensor)), None)
    if rows is None:
        raise NoEvidence("no input is a sequence")
    samples, positions = rows.shape[:2]
    order = torch.randperm(positions, generator=torch.Generator().manual_seed(0)).to(rows.device)
    moved = mapped(batch, lambda _, tensor: tensor[:, order] if tensor.shape[:2] == rows.shape[:2] else tensor)
    attends = False

    def called(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal attends
        value = function(*args, **kwargs)
        attention = function_name(function) in ("multi_head_attention_forward", "scaled_dot_product_attention")
        # Weights of each position for each, as in attention that is written out.
        weighs = function_name(function) == "softmax" and isinstance(value, torch.Tensor)
        attends = attends or attention or (weighs and value.shape[-2:] == (positions, positions))
        return value

    # In training mode, since in evaluation mode torch fuses attention layers into one call.
    with torch_functions(called):
        predict(evidence.setup, evidence.fresh, [batch], training=True)
    if not attends:
        raise NoEvidence("no attention was seen in the network")
    before, after = (eval_outputs(evidence, one) for one in (batch, moved))
    by_position = before.ndim > 1 and before.shape[:2] == (samples, positions)
    expected = before[:, order.cpu()] if by_position else before
    differ = before.std(0).mean()
    if before.shape != after.shape or samples < 2 or float(differ) <= _VARY * float(before.abs().mean()):
        raise NoEvidence("the outputs of the untrained network are nearly the same for all samples")
    if float((after - expected).abs().max()) > _SAME * float(differ):
        return
    by_row = change_in_other_rows(evidence, batch, before) > _SAME
    yield CHECK.finding(
        severity="warning",
        where="the network",
        measured="predictions are still at chance, and the outputs of the untrained network "
        + ("move along with" if by_position else "stay the same for")
        + f" the {positions} positions of an input in any other order",
        why="Attention treats its positions as a set: without an encoding of the position, the network cannot tell "
        "one order from another."
        + " What is added here depends on a sample's place in the batch: the encoding goes along the wrong axis."
        * by_row,
        remedy="take the encoding along the axis of the positions: with `self.pe` of shape (1, most, width), "
        "`x = x + self.pe[:, : x.shape[1]]`"
        if by_row
        else "add an embedding of the positions to that of the tokens: `self.positions = "
        f"nn.Embedding({positions}, width)`, and in forward `x = x + self.positions(torch.arange(x.shape[1], "
        "device=x.device))`",
    )


def _is_sequence(tensor: torch.Tensor) -> bool:
    """Whether a tensor is tokens (samples, positions), or features of positions (samples, positions, features)."""
    tokens = tensor.ndim == 2 and not tensor.is_floating_point() and tensor.dtype != torch.bool
    return (tokens or tensor.ndim == 3) and tensor.shape[1] >= _FEWEST


CHECK = Check(
    codes=("model.order-ignored",),
    threshold=f"the outputs differ by less than {_SAME:g} of their standard deviation over samples",
    run=_run,
    quick=False,
    explains="fit.*",
)
