"""`data.label-range`: does the network have an output for every label?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.errors import one_line
from striate.records import Finding
from striate.wording import several

_THRESHOLD = "0 to K − 1 for K outputs, 0 or 1 for one; values that the loss ignores (`ignore_index`) are accepted"
_FAR = 30.0
_BEYOND = re.compile(r"Target -?\d+ is out of bounds|Class values must be (smaller than num_classes|non-negative)")


def _find_label_range(evidence: Evidence) -> Iterable[Finding]:
    if not evidence.setup.classifies:
        raise NoEvidence(f"the task is {evidence.setup.task}")
    outputs = evidence.first.loss_outputs if evidence.first.loss_outputs is not None else evidence.first.outputs
    y = evidence.samples.y
    if not isinstance(outputs, torch.Tensor) or y is None or not outputs.ndim:
        raise NoEvidence("no outputs and targets were recorded")
    if y.is_floating_point():
        return _fractions(evidence, outputs, y)
    return list(_integers(evidence, outputs, y)) or _made_by_step(evidence, outputs, y)


def _made_by_step(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor) -> Iterable[Finding]:
    """A label without an output that the loader does not yield: the step creates it."""
    text = one_line(str(evidence.trial.error or ""))
    found = _BEYOND.search(text)
    if found is None or evidence.trial.rows or not y.numel() or outputs.ndim < 2:
        return
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= outputs.shape[1]:
        return
    yield LABEL_RANGE.finding(
        severity="error",
        where="the training step",
        measured=f"the first step raises {type(evidence.trial.error).__name__}: {text[:120]}; the loader's labels "
        f"are {low} to {high} for {several(int(outputs.shape[1]), 'output')}, so the step changes them",
        why="No output belongs to such a class: training stops.",
        remedy="pass the loss the labels of the loader unchanged: `loss = criterion(model(x), y)`",
    )


def _integers(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor) -> Iterable[Finding]:
    if y.ndim == 2 and y.shape[1] == 1 and outputs.ndim == 2:
        y = y[:, 0]
    if outputs.ndim != y.ndim + 1 or outputs.shape[1] < 2:
        return
    if evidence.samples.plain is False:  # the step changes labels: judge these, if it fails
        seen = evidence.first.loss_targets
        if evidence.trial.error is None or not isinstance(seen, torch.Tensor) or seen.is_floating_point():
            return
        y = seen.cpu()
    classes = int(outputs.shape[1])
    odd = y[(y < 0) | (y >= classes)]
    for value in odd.unique().tolist():
        what = _effect_of(evidence, outputs, y, int(value))
        if what:
            yield _finding(y, classes, f"the loss {what}")
            return


def _effect_of(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor, value: int) -> str:
    """What the loss does with a label: empty if it ignores the label, else that it raises an error or confuses
    classes."""
    error = evidence.trial.error
    raised = f"raises {type(error).__name__}: {one_line(str(error))[:120]}" if error is not None else ""
    if not evidence.setup.own_step and evidence.samples.plain is None:
        return raised  # the loss of the step cannot be called
    made = torch.zeros((2, *outputs.shape[1:]), dtype=outputs.dtype)
    shape = (2, *y.shape[1:])
    good = _loss(evidence, made, torch.zeros(shape, dtype=y.dtype))
    bad = _loss(evidence, made, torch.full(shape, value, dtype=y.dtype))
    if isinstance(good, Exception):
        return raised
    if isinstance(bad, Exception):
        return f"raises {type(bad).__name__}: {one_line(str(bad))[:120]}"
    if not math.isfinite(bad) or bad == 0:
        return ""
    made = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(outputs.dtype)
    odd, *others = (_loss(evidence, made, torch.full(shape, k, dtype=y.dtype)) for k in (value, *range(made.shape[1])))
    # otherwise a separate class, as for ordinal thresholds
    taken = isinstance(odd, float) and any(math.isclose(odd, k, rel_tol=1e-5) for k in others if isinstance(k, float))
    return "takes it for another class" if taken else ""


def _loss(evidence: Evidence, outputs: torch.Tensor, targets: torch.Tensor) -> float | Exception:
    place = evidence.setup.device
    try:
        with torch.no_grad():
            return float(evidence.fresh.loss(outputs.to(place), targets.to(place)))
    except Exception as error:  # the result is the error that the user's loss raises
        return error


def _fractions(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor) -> Iterable[Finding]:
    """Targets of a binary cross entropy, which has no minimum for targets outside 0 to 1."""
    odd = y[(y < 0) | (y > 1)]
    if not odd.numel() or outputs.numel() / len(outputs) != y.numel() / len(y) or evidence.samples.plain is False:
        return
    rows = ((y < 0) | (y > 1)).reshape(len(y), -1).any(1)
    targets = y[rows][:64]
    share = bool(((outputs >= 0) & (outputs <= 1)).all())
    prediction = (targets > 0.5).to(outputs.dtype) if share else _FAR * (targets - 0.5).sign().to(outputs.dtype)
    value = _loss(evidence, prediction.reshape(len(prediction), *outputs.shape[1:]), targets.to(outputs.dtype))
    if isinstance(value, float) and value < -0.1:
        found = ", ".join(f"{v:g}" for v in odd.unique().tolist()[:5])
        yield _finding(y, 2, f"falls to {value:.3g} for confident predictions of them ({found})")


def _finding(y: torch.Tensor, classes: int, what: str) -> Finding:
    whole = not y.is_floating_point()
    low, high = (f"{float(v):g}" for v in (y.min(), y.max()))
    odd = (y < 0) | (y >= classes) if whole else (y < 0) | (y > 1)
    count = int(odd.reshape(len(y), -1).any(1).sum())
    outputs = several(classes, "output") if whole else "one output"
    if whole and int(y.min()) == 1 and int(y.max()) == classes:
        remedy = "Classes count from 0: `y = y - 1` in the data set."
    elif not whole and float(y.min()) == -1:
        remedy = "Use 0 and 1: `y = (y + 1) / 2`."
    elif not whole:
        remedy = f"Use 0 and 1: `y = (y - {low}) / ({high} - {low})`."
    elif int(y.min()) < 0 and int(y.max()) < classes:
        remedy = (
            "Remove such samples (`keep = y >= 0`), or let the loss ignore them: "
            f"`CrossEntropyLoss(ignore_index={low})`."
        )
    elif int(y.min()) == 0 and len(y.unique()) == int(y.max()) + 1:
        remedy = f"Give the last layer {several(int(y.max()) + 1, 'output')}."
    else:
        remedy = (
            "Number the classes from 0 (`names = sorted(set(y.tolist())); y = [names.index(v) for v in y.tolist()]`), "
            f"or give the last layer {several(int(y.max()) + 1, 'output')}."
        )
    return LABEL_RANGE.finding(
        severity="error",
        where="training targets",
        measured=f"targets from {low} to {high} for {outputs}; {several(count, 'sample is', 'samples are')} out of "
        f"range; {what}",
        why="No output belongs to such a class: training stops, or trains the wrong output.",
        remedy=remedy,
    )


LABEL_RANGE = Check(
    codes=("data.label-range",),
    threshold=_THRESHOLD,
    run=_find_label_range,
    explains=(
        "data.imbalance data.label-noise data.labels-random data.missing-class loss.degenerate "
        "loss.not-finite loss.sign model.collapsed fit.*"
    ),
)
