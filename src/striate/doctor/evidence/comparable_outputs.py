"""Whether the network's outputs are predictions that the loader's targets can be compared with."""

from __future__ import annotations

import math
from contextlib import suppress

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler

from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.setup.batch import leaf, leaves, main_tensor, parts
from striate.doctor.setup.reached_objects import reached_values
from striate.observe.tensors import tensors_in
from striate.tasks.every import TASKS

_COMPARING = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_DRAWS = ("randn", "randn_like", "normal", "rand", "rand_like")
_SURE = 12.0
_ALIKE = 0.5
"""A correlation of inputs with the batch."""
_PARTS = 4
"""Shuffled loaders of as many data sets: training, validation and test are three."""


def predicts_targets(evidence: Evidence) -> bool:
    """Whether a loss compares outputs and targets, or there are as many outputs as classes: embeddings are not
    predictions, though they may have the shape of some; what a generator draws is none of its input."""
    outputs = main_tensor(evidence.first.outputs)
    inputs, wanted = parts(evidence.train.raw[0])
    targets = main_tensor(wanted)
    if outputs is None or targets is None or not targets.ndim:
        return False
    if wanted is inputs:
        return _reconstructs(evidence, targets)
    if _given_to_network(evidence, targets) or _gives_losses(evidence, outputs):
        return False
    if not evidence.setup.compares and targets.ndim < 2:
        return False  # class numbers beside embeddings
    own = evidence.setup.task in TASKS and not evidence.setup.compares
    if own and targets.ndim > 2 and not targets.is_floating_point():
        return False  # numbers of objects, not of classes
    compared = evidence.first.loss_targets
    if isinstance(compared, torch.Tensor) and 0 < compared.ndim <= outputs.ndim and len(compared) == len(targets):
        if compared.numel() == targets.numel():
            fits = _told_apart(compared, targets) and _wants_classes(evidence, outputs, compared)
            return fits and (_asked_for(evidence, targets) or evidence.targets_matter)
        return _are_shares(compared) or compared[0].numel() == outputs[0].numel() == targets[0].numel()
    calls = [call for call in evidence.calls.losses if call.target.ndim]
    if calls:  # others may be of other outputs
        alike = [call for call in calls if call.input.numel() == outputs.numel()]
        same = [call for call in alike if call.input.shape == outputs.shape and torch.equal(call.input, outputs)]
        seen = [call.target for call in same or alike or calls if not _of_other_scores(call, outputs)]
        return any(len(target) == len(targets) and _speaks_of(target, targets) for target in seen)
    classes = _classes(evidence)
    if not classes:
        return targets.shape == outputs.shape or targets.numel() == outputs.numel()
    return outputs.ndim == 1 or (outputs.ndim > 1 and outputs.shape[1] in (1, classes))


def _asked_for(evidence: Evidence, targets: torch.Tensor) -> bool:
    """Whether one of torch's losses is given a number for each target."""
    return any(
        call.target.numel() == targets.numel() and _told_apart(call.target, targets) for call in evidence.calls.losses
    )


def _gives_losses(evidence: Evidence, outputs: torch.Tensor) -> bool:
    """Whether the network gives one number a sample, whose mean or sum is the loss, and which no target changes: it is
    the error of something that the network itself asks for, as a noise that it draws."""
    loss, given = evidence.first.loss, outputs.detach().double()
    if loss is None or outputs.numel() not in (1, len(outputs) if outputs.ndim else 1):
        return False
    is_loss = any(math.isclose(loss, float(one), rel_tol=1e-4) for one in (given.mean(), given.sum()))
    return is_loss and not evidence.targets_matter


def need_targets(evidence: Evidence) -> None:
    """Raise NoEvidence where the network is given what stands in the place of targets."""
    path = evidence.samples.y_path
    targets = None if path is None else leaf(evidence.train.raw[0], path)
    if targets is not None and _given_to_network(evidence, targets):
        raise NoEvidence("what stands in the place of targets is given to the network")


def need_all_data(evidence: Evidence) -> None:
    """Raise NoEvidence where the training loader is one of several for parts of the data, as for the clients of
    federated learning (McMahan et al. 2017), each of which trains its share."""
    own, source = getattr(evidence.setup.train, "dataset", None), evidence.setup.source
    beside = {
        id(loader.dataset)
        for loader in reached_values({} if source is None else source.names)
        if isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler)
    }
    if len(beside) >= _PARTS and id(own) in beside:
        raise NoEvidence(f"the training loader is one of {len(beside)} for parts of the data")


def _given_to_network(evidence: Evidence, targets: torch.Tensor) -> bool:
    """Whether the network gets whole numbers that stand in the place of targets, as the items that a recommender
    compares with users; not for a loss within."""
    known = any(tensor.shape == targets.shape and torch.equal(tensor, targets) for tensor in evidence.first.given)
    return known and not any(torch.equal(call.target, targets) for call in evidence.calls.losses)


def _classes(evidence: Evidence) -> int:
    """How many classes the targets number; 0 where they are not class numbers."""
    with suppress(NoEvidence):
        return int(evidence.train.labels.max()) + 1
    return 0


def _reconstructs(evidence: Evidence, inputs: torch.Tensor) -> bool:
    """Whether the loss asks for the inputs again and for nothing beside them, without chance in between."""
    losses = evidence.calls.losses
    if any(call.name in _DRAWS and call.inside for call in evidence.graph.calls):
        return False
    return bool(losses) and all(call.name in _COMPARING and _speaks_of(call.target, inputs) for call in losses)


def _speaks_of(target: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether what a loss compares with is made of the loader's targets: a number for each, or shares of classes."""
    if target.numel() == targets.numel():
        return _told_apart(target, targets)
    return _are_shares(target) or target.shape == targets.shape


def _told_apart(compared: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether equal targets are compared with equal numbers and different ones with different ones, as with targets
    that were moved or scaled, but not with ones for `real`; in another order they are mixed, which is seen
    elsewhere."""
    one, other = (tensor.detach().cpu().double().flatten() for tensor in (compared, targets))
    if bool((one.sort().values == other.sort().values).all()):
        return True
    kinds = other.unique().numel()
    pairs = torch.stack([one, other], 1).unique(dim=0).shape[0]
    return bool(one.unique().numel() == kinds == pairs and kinds > 1)


def _of_other_scores(call: LossCall, outputs: torch.Tensor) -> bool:
    """Whether a loss asks for classes of other scores than the outputs, as of a probe of an encoder's code."""
    return call.name in CLASS_LOSSES and call.input.ndim > 1 and call.input.shape[1] not in outputs.shape


def _are_shares(compared: torch.Tensor) -> bool:
    """Whether targets (N, K, …) are one-hot or probabilities of classes, or several of them yes or no."""
    values = compared.detach().double()
    if values.ndim < 2 or bool((values < 0).any()) or bool((values > 1).any()):
        return False
    return float((values.sum(1) - 1).abs().max()) < 1e-3 or bool(((values == 0) | (values == 1)).all())


def _wants_classes(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Of class numbers beside more outputs than there are classes: whether the loss asks for the class's own output. A
    loss of embeddings is content where each class has some output of its own."""
    classes = _classes(evidence)
    if labels.is_floating_point() or outputs.ndim != 2 or not 1 < classes < outputs.shape[1] or labels.ndim != 1:
        return True
    with suppress(Exception):  # a loss of the user's, that may want another form
        scores = _SURE * functional.one_hot(labels.long().clamp(0, classes - 1), outputs.shape[1]).to(outputs)
        right, wrong = (
            float(next(tensors_in(evidence.fresh.loss(given.log_softmax(1), labels))))
            for given in (scores, scores.roll(1, 1))
        )
        return abs(right - wrong) > 1e-3 * max(abs(right), abs(wrong))
    return True


def are_of_batch(evidence: Evidence, given: torch.Tensor) -> bool:
    """Whether rows that the network is given are of the batch: of its tables, or its numbers in another shape."""
    for _, part in leaves(evidence.train.raw[0]):
        if part.ndim == 2 and part.is_floating_point():
            return True
        if part.numel() == given.numel():
            pair = torch.stack([part.detach().cpu().double().flatten(), given.double().flatten()])
            if abs(float(torch.corrcoef(pair)[0, 1])) > _ALIKE:
                return True
    return False
