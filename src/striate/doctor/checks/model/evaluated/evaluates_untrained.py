"""`model.evaluates-untrained`: does evaluation use the trained network, or an average that follows it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.evaluated.average_statistics import created_later_without_buffers
from striate.doctor.checks.model.evaluated.averages_in_code import assigned_to_variable, begins_too_late
from striate.doctor.checks.model.evaluated.code import CODE, average_remedy
from striate.doctor.checks.model.evaluated.created_again import created_in_each_epoch
from striate.doctor.checks.model.evaluated.never_updated import evaluated_unchanged
from striate.doctor.checks.model.evaluated.other_networks import evaluated_instead
from striate.doctor.checks.model.evaluated.unchanged_copies import unchanged_copies
from striate.doctor.checks.model.evaluated.validated_copies import validated_unchanged
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.model.variants import eval_outputs
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE
from striate.doctor.evidence.trial_variants import unchanged_parameters
from striate.models.preserved_state import preserved
from striate.records import Finding
from striate.wording import listed_names, several


def _run(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if len(trial.rows) < FEWEST_TO_JUDGE or len(unchanged_parameters(trial)) == len(trial.replica.originals):
        raise NoEvidence(f"fewer than {FEWEST_TO_JUDGE} steps, or no step that changes a weight")
    findings = list(_other_in_validation(evidence))
    findings = findings or list(_other_in_evaluation(evidence)) or list(_unchanged_buffers(evidence))
    findings = findings or list(unchanged_copies(evidence))
    yield from findings or _never_updated(evidence)


def _read(evidence: Evidence) -> Iterator[Finding]:
    """What the script's code shows without a long trial."""
    if len(unchanged_parameters(evidence.trial)) < len(evidence.trial.replica.originals):
        yield from _never_updated(evidence)


def _other_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    """Weights that evaluation uses, but the training loss does not, that no step changes, and that look untrained or
    are copies."""
    only = evidence.prediction_graph.used - evidence.graph.used_by_loss
    parameters = dict(evidence.setup.model.named_parameters())
    names = [name for name in unchanged_parameters(evidence.trial) if name in only and parameters[name].ndim > 1]
    if not names or not (are_untrained(evidence.fresh.model, set(names)) or _are_copies(parameters, names)):
        return
    known = dict(evidence.fresh.model.named_parameters())
    if not _matter(evidence, [known[name] for name in names]):
        return  # computed, but part of no prediction
    yield _without_training(
        evidence,
        names,
        f"in evaluation mode the network uses {_counted(parameters, names)} that the training loss does not use",
        "weights that evaluation uses, but that the training loss does not use and no step changes, and that look as "
        "initialized or are copies",
    )


def _other_in_validation(evidence: Evidence) -> Iterator[Finding]:
    """Weights that a library's validation uses in place of the trained ones, that no step changes, and that look
    untrained or are copies."""
    parameters = dict(evidence.setup.model.named_parameters())
    names = [name for name in validated_unchanged(evidence) if parameters[name].ndim > 1]
    if names and (are_untrained(evidence.fresh.model, set(names)) or _are_copies(parameters, names)):
        yield _without_training(
            evidence,
            names,
            f"validation uses {_counted(parameters, names)}, and none that is trained",
            "weights that no step changes, that look as initialized or are copies, and that validation uses in place "
            "of the trained ones",
        )


def _counted(parameters: Mapping[str, torch.Tensor], names: list[str]) -> str:
    numbers = sum(parameters[name].numel() for name in names)
    return f"{several(numbers, 'weight')} of {listed_names(_layers(names))}"


def _layers(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _without_training(evidence: Evidence, names: list[str], measured: str, limit: str) -> Finding:
    steps = several(len(evidence.trial.rows), "step")
    return CHECK.finding(
        severity="error",
        where=listed_names(_layers(names)),
        measured=f"{measured}: after {steps} they are unchanged",
        limit=limit,
        why="The weights that are evaluated have learned nothing.",
        remedy=f"evaluate the layers that are trained; or, for an average, {average_remedy('ema')}",
    )


def _unchanged_buffers(evidence: Evidence) -> Iterator[Finding]:
    """Buffers that begin as copies of weights, and that evaluation uses and no step changes, though steps change the
    weights."""
    model, trial = evidence.fresh.model, evidence.trial
    ended, unchanged = dict(trial.replica.model.named_buffers()), unchanged_parameters(trial)
    moving = [parameter for name, parameter in model.named_parameters() if name not in unchanged]
    stale = [
        name
        for name, buffer in model.named_buffers()
        if buffer.is_floating_point()
        and bool((buffer != buffer.flatten()[:1]).any())  # buffers of ones equal the weights of normalization layers
        and name in ended
        and torch.equal(ended[name], buffer)
        and any(own.shape == buffer.shape and torch.equal(own, buffer) for own in moving)
    ]
    if not stale:
        return
    if _matter(evidence, [model.get_buffer(name) for name in stale]):
        yield CHECK.finding(
            severity="error",
            where=listed_names(stale),
            measured="buffers that are copies of weights determine the predictions in evaluation mode: after "
            f"{several(len(trial.rows), 'step')} they are unchanged, but the weights have moved",
            limit="buffers that began as copies of weights, which evaluation uses and no step changes",
            why="The buffers that are evaluated have learned nothing.",
            remedy="write the average into the buffer, within `torch.no_grad()`: `average.mul_(decay).add_(weight, "
            "alpha=1 - decay)`; `average = ...` only assigns a variable",
        )


def _matter(evidence: Evidence, tensors: list[torch.Tensor]) -> bool:
    """Whether predictions in evaluation mode depend on these tensors of the network."""
    original = [tensor.detach().clone() for tensor in tensors]
    with preserved(evidence.fresh.model), torch.no_grad():
        own = eval_outputs(evidence, evidence.train.raw[0])
        try:
            for tensor in tensors:
                tensor.add_(torch.rand_like(tensor))
            changed = eval_outputs(evidence, evidence.train.raw[0])
        finally:
            for tensor, values in zip(tensors, original, strict=True):
                tensor.copy_(values)
    return own.shape != changed.shape or not torch.equal(own, changed)


def _are_copies(parameters: Mapping[str, torch.Tensor], names: list[str]) -> bool:
    others = [tensor for name, tensor in parameters.items() if name not in names]
    return all(
        any(tensor.shape == parameters[name].shape and torch.equal(tensor, parameters[name]) for tensor in others)
        for name in names
    )


def _never_updated(evidence: Evidence) -> Iterator[Finding]:
    """Copies that evaluation runs and that no line of the script changes; or averages that the code updates wrongly."""
    if evidence.setup.source is None:
        return
    if (anew := created_in_each_epoch(evidence)) is not None:
        yield anew
        return
    if (late := begins_too_late(evidence.source)) is not None:
        yield late
        return
    if (renamed := assigned_to_variable(evidence)) is not None:
        yield renamed
        return
    for name, where in evaluated_unchanged(evidence):
        yield CHECK.finding(
            severity="warning",
            where=where,
            measured=f"`{name}` is evaluated, but it is another network than the trained one, or a copy of it from "
            "before training, and no code changes it",
            limit="a copy of the network that is evaluated and that no code changes, while steps change the network",
            why="The network that is evaluated has learned nothing.",
            remedy=f"evaluate the network that is trained; or, for an average, {average_remedy(name)}",
        )
        return
    for name, trained, where in evaluated_instead(evidence):
        yield CHECK.finding(
            severity="warning",
            where=where,
            measured=f"the loop around the training loop runs `{name}`, which is not trained, and never `{trained}`, "
            "which is",
            limit="a loop around the training loop that runs another network and not the trained one",
            why="The results of this network say nothing about the trained one.",
            remedy=f"use `{trained}` in place of `{name}` there",
        )
        return
    yield from created_later_without_buffers(evidence)


_EXPLAINS = "model.unused-parameters model.frozen-parameters data.shift data.label-map fit.overfit fit.underfit"
READ = Check(
    codes=(CODE,),
    run=_read,
    of_source=True,
    explains=_EXPLAINS,
)
CHECK = Check(
    codes=(CODE,),
    run=_run,
    quick=False,
    explains=_EXPLAINS,
)
