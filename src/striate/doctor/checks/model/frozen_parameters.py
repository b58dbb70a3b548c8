"""`model.frozen-parameters`: are layers frozen that never learned anything?"""

from __future__ import annotations

from collections.abc import Iterator

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import written
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.model.remedies import said, tried
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.patient.copies import Double
from striate.records import Finding
from striate.wording import listed

CODE = "model.frozen-parameters"
SHARE = 0.2
"""Of the weights in use. A fixed first layer of filters is smaller, and often meant."""


def run(evidence: Evidence) -> Iterator[Finding]:
    model = evidence.patient.model
    used = {name: p for name, p in model.named_parameters() if name in evidence.flow.used and p.ndim > 1}
    frozen = {name: p for name, p in used.items() if not p.requires_grad}
    if not frozen:
        return
    share = sum(p.numel() for p in frozen.values()) / sum(p.numel() for p in used.values())
    if not any(parameter.requires_grad for parameter in model.parameters()):
        yield _finding("error", list(frozen), f"no parameter of {len(frozen)} weights requires a gradient", "")
        return
    if share < SHARE or not are_untrained(evidence.fresh.model, set(frozen)):
        return
    optimizer = evidence.patient.optimizer
    held = (
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        if isinstance(optimizer, Optimizer)
        else None
    )
    declared = held is not None and not any(id(p) in held for p in frozen.values())
    names = set(frozen)
    remedy = tried(evidence, "unfrozen", Change(prepare=lambda double: _unfreeze(double, names)))
    better = remedy is not None and remedy.better
    measured = (
        f"{len(frozen)} of {len(used)} weights in use, {share:.0%} of their numbers, do not require a gradient, "
        "and look as they were initialized"
    )
    loud = "warning" if declared else "error"
    yield _finding(loud if better else "note", list(frozen), measured, said(remedy, "with all of them trained"))


def _finding(severity: str, names: list[str], measured: str, gain: str) -> Finding:
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return Finding(
        code=CODE,
        severity="error" if severity == "error" else "warning" if severity == "warning" else "note",
        where=listed(layers),
        measured=f"{measured}{gain}",
        threshold=f"less than {SHARE:.0%} frozen, or weights that were trained before",
        why="A layer that is frozen while it is still random keeps giving random features.",
        remedy=f"`for p in {_model(layers[0])}.parameters(): p.requires_grad_(True)` before the optimizer is made; or "
        "load trained weights into what is frozen.",
    )


def _model(path: str) -> str:
    place = written(path)
    return f"model{place}" if place.startswith("[") else f"model.{place}"


def _unfreeze(double: Double, names: set[str]) -> None:
    known = {id(p) for group in double.optimizer.param_groups for p in group["params"]}
    fresh = []
    for name, parameter in double.model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
            if id(parameter) not in known:
                fresh.append(parameter)
    if fresh:
        double.optimizer.add_param_group({"params": fresh})


CHECK = Check(
    codes=(CODE,),
    question="Are layers frozen that never learned anything?",
    threshold=f"{SHARE:.0%} of the weights in use frozen, distributed as initializations are, and a training of all "
    "of them that gets a loss 1.25 times smaller",
    run=run,
    quick=False,
    explains=(
        "model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-low optim.no-step "
        "optim.parameters-missing fit.*"
    ),
)
