"""Whether the network's outputs are predictions that the loader's targets can be compared with."""

from __future__ import annotations

import math
from contextlib import suppress

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler

from striate.doctor.evidence.call_graph import REGRESSION, SUMS
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import form_of, quality
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.setup.batch import is_binary, leaf, leaves, main_tensor, parts
from striate.doctor.setup.reached_objects import reached_values
from striate.observe.tensors import tensors_in
from striate.tasks.every import TASKS

_OF_LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")
_DRAWS = ("randn", "randn_like", "normal", "rand", "rand_like")
_SURE = 12.0
_ALIKE = 0.5
"""A correlation of inputs with the batch."""
_PARTS = 4
"""Shuffled loaders of as many data sets: training, validation and test are three."""


def predicts_targets(evidence: Evidence) -> bool:
    """Whether a loss compares outputs with targets, or there are as many outputs as classes. Embeddings are no
    predictions, even of the same shape; nor are the random outputs of a generator."""
    outputs = main_tensor(evidence.first.outputs)
    inputs, target_part = parts(evidence.train.raw[0])
    targets = main_tensor(target_part)
    if outputs is None or targets is None or not targets.ndim or _is_change_of_input(evidence):
        return False
    if target_part is inputs:
        return _reconstructs(evidence, targets)
    if _given_to_network(evidence, targets) or _gives_losses(evidence, outputs):
        return False
    if not evidence.setup.compares and targets.ndim < 2:
        return False  # embeddings with class numbers
    own = evidence.setup.task in TASKS and not evidence.setup.compares
    if own and targets.ndim > 2 and not targets.is_floating_point():
        return False  # numbers of objects, not of classes
    compared = evidence.first.loss_targets
    if isinstance(compared, torch.Tensor) and 0 < compared.ndim <= outputs.ndim and len(compared) == len(targets):
        if compared.numel() == targets.numel():
            fits = _distinguishes(compared, targets) and _needs_class_outputs(evidence, outputs, compared)
            return fits and (_a_loss_gets(evidence, targets) or evidence.targets_matter)
        return _are_probabilities(compared) or compared[0].numel() == outputs[0].numel() == targets[0].numel()
    calls = [call for call in evidence.calls.losses if call.target.ndim]
    if calls:  # some may be losses of other outputs
        alike = [call for call in calls if call.input.numel() == outputs.numel()]
        same = [call for call in alike if call.input.shape == outputs.shape and torch.equal(call.input, outputs)]
        seen = [call.target for call in same or alike or calls if not _of_other_scores(call, outputs)]
        return any(len(target) == len(targets) and _is_made_of(target, targets) for target in seen)
    classes = _classes(evidence)
    if not classes:
        return targets.shape == outputs.shape or targets.numel() == outputs.numel()
    return outputs.ndim == 1 or (outputs.ndim > 1 and outputs.shape[1] in (1, classes))


def ignores_targets(evidence: Evidence) -> bool:
    """Whether the network has an output for each of the loader's classes (or numbers), and a step gives the same loss
    and gradients with the targets of other samples."""
    outputs, y, path = main_tensor(evidence.first.outputs), evidence.samples.y, evidence.samples.y_path
    if outputs is None or y is None or path in (None, evidence.samples.x_path):
        return False
    targets = leaf(evidence.train.raw[0], path)
    if targets is None or targets.numel() < 2 or quality(outputs, targets) is None:
        return False
    if torch.allclose(outputs, outputs[:1].expand_as(outputs), rtol=1e-5):
        return False  # samples with equal outputs may exchange their targets
    if y.is_floating_point():
        fits = evidence.setup.compares and outputs.numel() == targets.numel()
    else:
        labels = y[y != evidence.setup.unlabeled] if evidence.setup.unlabeled is not None else y
        classes = int(labels.max()) + 1 if labels.numel() else 0
        fits = classes == (outputs.shape[1] if outputs.numel() > targets.numel() else 2)
    given = _given_to_network(evidence, targets) or _gives_losses(evidence, outputs)
    return fits and not given and not evidence.targets_matter


def are_read_as_probabilities(evidence: Evidence, outputs: torch.Tensor) -> bool:
    """Whether all outputs lie in 0 to 1 (and those of several classes sum to 1), and no loss of the step reads them as
    logits. The logits of an untrained network may lie in that range by chance."""
    if any(call.name in _OF_LOGITS and call.input.numel() == outputs.numel() for call in evidence.calls.losses):
        return False
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return within and (outputs.ndim < 2 or outputs.shape[1] == 1 or form_of(outputs) == "probabilities")


def _a_loss_gets(evidence: Evidence, targets: torch.Tensor) -> bool:
    """Whether one of torch's losses receives these targets, perhaps shifted or scaled."""
    return any(
        call.target.numel() == targets.numel() and _distinguishes(call.target, targets)
        for call in evidence.calls.losses
    )


def _gives_losses(evidence: Evidence, outputs: torch.Tensor) -> bool:
    """Whether the network returns losses: one number for each sample, whose mean or sum is the loss, and which targets
    do not change. It is the error of a target that the network makes itself, such as noise."""
    loss, given = evidence.first.loss, outputs.detach().double()
    if loss is None or outputs.numel() not in (1, len(outputs) if outputs.ndim else 1):
        return False
    is_loss = any(math.isclose(loss, float(one), rel_tol=1e-4) for one in (given.mean(), given.sum()))
    return is_loss and not evidence.targets_matter


def need_targets(evidence: Evidence) -> None:
    """Raise NoEvidence where the network receives the tensor in the place of the targets."""
    path = evidence.samples.y_path
    targets = None if path is None else leaf(evidence.train.raw[0], path)
    if targets is not None and _given_to_network(evidence, targets):
        raise NoEvidence("the network receives the tensor in the place of the targets")


def need_all_data(evidence: Evidence) -> None:
    """Raise NoEvidence where the training loader is one of several that each load a part of the data, as the clients of
    federated learning do (McMahan et al. 2017)."""
    own, source = getattr(evidence.setup.train, "dataset", None), evidence.setup.source
    data_sets = {
        id(loader.dataset)
        for loader in reached_values({} if source is None else source.names)
        if isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler)
    }
    if len(data_sets) >= _PARTS and id(own) in data_sets:
        raise NoEvidence(f"the training loader is one of {len(data_sets)} that each load a part of the data")


def _given_to_network(evidence: Evidence, targets: torch.Tensor) -> bool:
    """Whether the network receives the integers in the place of the targets, such as the items that a recommender
    compares with users; False where it computes a loss with them."""
    return evidence.first.gets(targets) and not any(torch.equal(call.target, targets) for call in evidence.calls.losses)


def _classes(evidence: Evidence) -> int:
    """The number of classes by the targets; 0 where they are not class numbers."""
    with suppress(NoEvidence):
        return int(evidence.train.labels.max()) + 1
    return 0


def _reconstructs(evidence: Evidence, inputs: torch.Tensor) -> bool:
    """Whether all targets of the losses are the inputs, and the network draws no noise."""
    losses = evidence.calls.losses
    if any(call.name in _DRAWS and call.inside for call in evidence.graph.calls):
        return False
    return bool(losses) and all(call.name in REGRESSION and _is_made_of(call.target, inputs) for call in losses)


def _is_change_of_input(evidence: Evidence) -> bool:
    """Whether the step adds the network's output to its input, or subtracts one from the other, before a loss compares
    the result with the targets: `mse_loss(noisy - model(noisy), clean)`."""
    if not any(call.name in REGRESSION for call in evidence.calls.losses):
        return False
    graph = evidence.graph
    output = None if graph.output is None else graph.origin(graph.output)
    compared = (graph.origin(i) for head in graph.heads if head.call.name in REGRESSION for i in head.call.inputs)
    changed = (call for call in compared if call is not None and call.name in SUMS and "" not in call.inside)
    changed = (call for call in changed if len(set(call.input_shapes)) == 1)  # not a constant for all samples
    return output is not None and any(
        output in parts and any(part is None or (part.from_batch and not part.output_requires_grad) for part in parts)
        for parts in ([graph.origin(index) for index in call.inputs] for call in changed)
    )


def _is_made_of(target: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether the target of a loss was computed from the loader's targets: a number for each, or class
    probabilities."""
    if target.numel() == targets.numel():
        return _distinguishes(target, targets)
    return _are_probabilities(target) or target.shape == targets.shape


def _distinguishes(compared: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether `compared` has one value for each value of the targets, as targets that were shifted or scaled, unlike
    the ones for `real` of a GAN. True also for targets in another order, which another check finds."""
    one, other = (tensor.detach().cpu().double().flatten() for tensor in (compared, targets))
    if bool((one.sort().values == other.sort().values).all()):
        return True
    kinds = other.unique().numel()
    pairs = torch.stack([one, other], 1).unique(dim=0).shape[0]
    return bool(one.unique().numel() == kinds == pairs and kinds > 1)


def _of_other_scores(call: LossCall, outputs: torch.Tensor) -> bool:
    """Whether a classification loss receives other scores than the outputs, as those of a probe on an encoder."""
    return call.name in CLASS_LOSSES and call.input.ndim > 1 and call.input.shape[1] not in outputs.shape


def _are_probabilities(compared: torch.Tensor) -> bool:
    """Whether targets (N, K, …) are one-hot, class probabilities, or several binary labels."""
    values = compared.detach().double()
    if values.ndim < 2 or bool((values < 0).any()) or bool((values > 1).any()):
        return False
    return float((values.sum(1) - 1).abs().max()) < 1e-3 or is_binary(values)


def _needs_class_outputs(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Where there are more outputs than classes, whether the loss needs output k to be the largest for class k. A loss
    of embeddings is as low with any other output for each class. True where there are as many outputs as classes."""
    classes = _classes(evidence)
    if labels.is_floating_point() or outputs.ndim != 2 or not 1 < classes < outputs.shape[1] or labels.ndim != 1:
        return True
    with suppress(Exception):  # the user's loss may need another form
        scores = _SURE * functional.one_hot(labels.long().clamp(0, classes - 1), outputs.shape[1]).to(outputs)
        right, wrong = (
            float(next(tensors_in(evidence.fresh.loss(given.log_softmax(1), labels))))
            for given in (scores, scores.roll(1, 1))
        )
        return abs(right - wrong) > 1e-3 * max(abs(right), abs(wrong))
    return True


def are_of_batch(evidence: Evidence, given: torch.Tensor) -> bool:
    """Whether the network's input comes from the batch: from one of its tables, or as its numbers in another shape."""
    for _, part in leaves(evidence.train.raw[0]):
        if part.ndim == 2 and part.is_floating_point():
            return True
        if part.numel() == given.numel():
            pair = torch.stack([part.detach().cpu().double().flatten(), given.double().flatten()])
            if abs(float(torch.corrcoef(pair)[0, 1])) > _ALIKE:
                return True
    return False
