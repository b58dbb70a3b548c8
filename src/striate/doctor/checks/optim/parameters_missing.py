"""Does the optimizer hold the parameters that are to learn?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Change
from striate.doctor.evidence.trial_variants import optimized, unmoved
from striate.doctor.patient.copies import Double
from striate.records import Finding
from striate.wording import listed

WORTH = 1.15
"""A trial's last losses differ by some percent by chance; so many times worse is more than that."""
LEARNED = 1.5
"""So many times worse a trial has to be, twice, once what was learned is put in another order."""
ALL = "optimizer = torch.optim.SGD(model.parameters(), lr=…)"


def run(evidence: Evidence) -> Iterator[Finding]:
    """Parameters that get gradients, are in no group of the optimizer, and nothing else moves either."""
    trial = evidence.trial
    if evidence.patient.own_optimizer or not trial.rows or trial.astray:
        return
    held = set(optimized(trial))
    gradients = dict(trial.first.gradients)
    gradients.update({name: value for name, value in trial.later.gradients.items() if value})
    missing = [name for name in unmoved(trial) if gradients.get(name) and name not in held]
    if not missing:
        return
    given = [p for group in trial.double.optimizer.param_groups for p in group["params"]]
    if not held and len(missing) == sum(value is not None for value in gradients.values()):
        if any(row.steps for row in trial.rows):
            yield _of_another_network(missing, len(given))
        return
    if len(trial.rows) >= FEWEST_TO_JUDGE:
        yield from _judged(evidence, missing)


def _of_another_network(missing: Sequence[str], given: int) -> Finding:
    return Finding(
        code="optim.parameters-missing",
        severity="error",
        where="the optimizer",
        measured=f"none of the {given} parameters that the optimizer holds is one of this network's; its own "
        f"{len(missing)}, which get gradients, never move",
        threshold="no parameter in common",
        why="The optimizer was made for another network, or for this one before it was replaced or copied.",
        remedy=f"Make the optimizer last, of the network that is trained: `{ALL}`.",
    )


def _judged(evidence: Evidence, missing: Sequence[str]) -> Iterator[Finding]:
    trial = evidence.trial
    sizes = {name: p.numel() for name, p in trial.double.model.named_parameters()}
    matrices = [name for name in missing if trial.double.twins[name].ndim > 1]
    complete = evidence.variant("optimizer of all parameters", Change(prepare=lambda double: _add(double, missing)))
    other, own = evidence.progress_of(complete), evidence.progress
    trained = bool(matrices) and _carry_what_was_learned(evidence, missing)
    helps = other.beats(own, WORTH)
    share = sum(sizes[name] for name in missing) / max(1, sum(sizes.values()))
    severity = "note" if trained or (not helps and not matrices) else ("error" if helps else "warning")
    meant = (
        " They were trained before: with their numbers in another order the network learns worse. If they are to stay "
        "as they are, say so with `requires_grad_(False)`; that saves their gradients, too."
        if trained
        else ""
    )
    yield Finding(
        code="optim.parameters-missing",
        severity=severity,  # type: ignore[arg-type]
        where=listed(missing),
        measured=f"{len(missing)} of {len(sizes)} parameters ({share:.0%} of all numbers) get gradients, are in no "
        "group of the "
        f"optimizer and never move; with them in it the loss after {other.steps} steps is {other} instead of {own}",
        threshold="a gradient in the first step, and no change in the whole trial",
        why=f"They stay what they were at the start.{meant}",
        remedy=f"Give the optimizer all of them, after the network is complete: `{ALL}`.",
    )


def _add(double: Double, missing: Sequence[str]) -> None:
    wanted = [p for name, p in double.model.named_parameters() if name in set(missing)]
    double.optimizer.add_param_group({"params": wanted})


def _carry_what_was_learned(evidence: Evidence, missing: Sequence[str]) -> bool:
    """Whether the numbers' order in them matters: of random ones it does not, but for a chance that two tries take
    away."""
    for seed in (1, 2):
        change = Change(prepare=lambda double, seed=seed: _mix(double, missing, seed))  # type: ignore[misc]
        mixed = evidence.variant(f"missing parameters mixed {seed}", change)
        if not evidence.progress.beats(evidence.progress_of(mixed), LEARNED):
            return False
    return True


def _mix(double: Double, missing: Sequence[str], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in double.model.named_parameters():
            if name in missing and parameter.ndim > 1:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.reshape(-1)[order].reshape(parameter.shape))


CHECK = Check(
    codes=("optim.parameters-missing",),
    question="Does every parameter that gets gradients belong to an optimizer?",
    threshold="In no group of the optimizer, with a gradient, and unchanged after the whole trial. A note where they "
    f"were trained before: with their numbers in another order the loss is {LEARNED:g} times higher.",
    run=run,
    quick=False,
    explains="model.collapsed model.too-small optim.lr-too-low fit.*",
)
