"""Losses between two distributions: is the right one the target, and are both distributions?"""

from __future__ import annotations

import torch

from striate.doctor.checks.loss.task.wrong import BINARY, Wrong
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import form_of, log_probabilities
from striate.wording import show_shape


def divergence_from_scores(_: Evidence, call: LossCall) -> Wrong | None:
    """A Kullback-Leibler divergence whose target is not a distribution."""
    if call.name != "kl_div" or call.target.ndim < 2 or _are_probabilities(call):
        return None
    low, high = float(call.target.min()), float(call.target.max())
    logarithms = not call.log_target and _sums_to_one(call.target.double().exp())
    return Wrong(
        "error",
        f"the target of kl_div is {'log probabilities' if logarithms else 'values'} from {low:.3g} to {high:.3g}, not "
        "probabilities that sum to 1",
        "The loss multiplies the difference of the logarithms by the target: a target below zero reverses its sign.",
        "`F.kl_div(log_p, log_q, log_target=True)`" if logarithms else "pass `torch.softmax(targets, 1)`",
        limit="a target of kl_div that is not a distribution",
    )


def divergence_of_scores(_: Evidence, call: LossCall) -> Wrong | None:
    """A Kullback-Leibler divergence whose input is not log probabilities."""
    if call.name != "kl_div" or call.input.ndim < 2 or _log_probabilities_of(call):
        return None
    off = float((call.input.double() - log_probabilities(call.input)).abs().mean())
    return Wrong(
        "error",
        f"the input of kl_div differs from log probabilities by {off:.3g} on average",
        "The loss expects log probabilities as its first argument, and has no minimum for other values.",
        "pass `torch.log_softmax(outputs, 1)`",
        limit="an input of kl_div that is not log probabilities",
    )


def exchanged(_: Evidence, call: LossCall) -> Wrong | None:
    """A loss whose input and target are exchanged, where the order matters."""
    if not call.exchanged or call.name not in (*BINARY, "cross_entropy", "kl_div"):
        return None
    if call.name == "kl_div" and _log_probabilities_of(call) and _are_probabilities(call):
        return None  # the reverse divergence, which is a valid loss, too
    return Wrong(
        "error",
        f"{call.name} gets the network's outputs {show_shape(call.target.shape)} as the target, and as the input a "
        f"tensor {show_shape(call.input.shape)} that needs no gradient",
        "The loss takes predictions first and targets second. In the other order it is another loss.",
        f"exchange its arguments: `F.{call.name}(outputs, targets)`"
        + (", for scores `F.kl_div(outputs.log_softmax(1), targets.softmax(1))`" if call.name == "kl_div" else ""),
        limit="outputs passed as targets",
    )


def _log_probabilities_of(call: LossCall) -> bool:
    return form_of(call.input) == "log probabilities" or _sums_to_one(call.input.double().exp())


def _are_probabilities(call: LossCall) -> bool:
    """Whether the target of a divergence is a distribution, or its logarithm where `log_target` is set."""
    return _sums_to_one(call.target.double().exp() if call.log_target else call.target.double())


def _sums_to_one(values: torch.Tensor) -> bool:
    """Whether values sum to 1 over the second axis, the last axis, or all positions of a map; in most places, since
    padding may be zero."""
    sums = [values.sum(1), values.sum(-1), values.flatten(1).sum(1), values.flatten(min(2, values.ndim - 1)).sum(-1)]
    return bool((values >= 0).all()) and any(float(((s - 1).abs() < 1e-2).double().mean()) > 0.5 for s in sums)
