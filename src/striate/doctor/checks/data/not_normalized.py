"""Inputs far from mean 0 and variance 1, where that hurts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.looking import score
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.patient.batch import main_tensor
from striate.doctor.patient.copies import Double
from striate.records import Finding

LARGE, SMALL, UNEVEN = 10.0, 0.03, 50.0
GAIN = 0.1
THRESHOLD = (
    f"a root mean square of a channel or column above {LARGE:g} or all below {SMALL:g}, a mean {LARGE:g} times the "
    f"deviation, a column {UNEVEN:g} times the middle one; and standardized inputs must bring {GAIN:g} more after as "
    "many steps"
)


@dataclass(frozen=True)
class _Scales:
    """Mean and deviation of each channel, or column of a table, shaped for the inputs; `of` names them."""

    mean: torch.Tensor
    spread: torch.Tensor
    of: str

    @property
    def odd(self) -> bool:
        """Whether they are far from 0 and 1 in any way."""
        mean, spread = self.mean.flatten(), self.spread.flatten()
        size = (mean.square() + spread.square()).sqrt()
        varying = spread > 1e-6 * size.clamp_min(1e-30)
        if not bool(varying.any()):
            return False
        mean, spread, size = mean[varying], spread[varying], size[varying]
        apart = self.of == "column" and float(spread.max()) > UNEVEN * float(spread.median())
        offset = bool((mean.abs() > LARGE * spread).any()) and float(size.max()) > 1
        return bool(size.max() > LARGE) or bool(size.max() < SMALL) or apart or offset


def _run(evidence: Evidence) -> Iterable[Finding]:
    given = main_tensor(list(evidence.first.arguments))
    if given is None or not (given.is_floating_point() or given.dtype == torch.uint8) or given.ndim < 2:
        raise NoEvidence("the network's inputs are not numbers that can be scaled")
    scales = _scales(_all_inputs(evidence, given.cpu()))
    if not scales.odd:
        return
    own, mended, trial = _tried(evidence, scales)
    if own is None or mended is None or mended - own < GAIN or mended < 2 * GAIN:
        return
    means, spreads = f"means of {_range(scales.mean)}", f"deviations of {_range(scales.spread)}"
    measure = "accuracy" if evidence.patient.classifies else "explained share"
    yield Finding(
        code="data.not-normalized",
        severity="error" if mended - own >= 3 * GAIN else "warning",
        where="inputs of the network",
        measured=f"{scales.of}s with {means} and {spreads}; with standardized inputs the {measure} after "
        f"{len(trial.rows)} steps is {mended:.2f} instead of {own:.2f}",
        threshold=THRESHOLD,
        why="Weights are initialized, and rates chosen, for inputs of mean 0 and variance 1: others saturate units, or "
        "make some directions far steeper than others.",
        remedy=_remedy(scales),
    )


def _range(values: torch.Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g} to {high:.3g}" if values.numel() > 1 else f"{low:.3g}"


def _remedy(scales: _Scales) -> str:
    if scales.of == "channel" and scales.mean.numel() <= 4:
        mean, spread = (", ".join(f"{v:.4g}" for v in part.flatten().tolist()) for part in (scales.mean, scales.spread))
        shape = "[:, None, None]" if scales.mean.numel() > 1 else ""
        values = (f"torch.tensor([{mean}]){shape}", f"torch.tensor([{spread}]){shape}") if shape else (mean, spread)
        return f"Standardize in the data set, for training and validation alike: `x = (x - {values[0]}) / {values[1]}`."
    return (
        "Standardize each column with the figures of training, for validation too: `mean, std = x_train.mean(0), "
        "x_train.std(0); x_train = (x_train - mean) / std; x_val = (x_val - mean) / std`."
    )


def _all_inputs(evidence: Evidence, given: torch.Tensor) -> torch.Tensor:
    """All that was read, where the network is given it as it is; else what it was given in the first step."""
    x = evidence.samples.x
    same = x is not None and x.shape[1:] == given.shape[1:] and torch.equal(x[: len(given)].to(given.dtype), given)
    found = x if same and x is not None else given
    finite = found.isfinite() if found.is_floating_point() else torch.ones((), dtype=torch.bool)
    return torch.where(finite, found, torch.zeros((), dtype=found.dtype)).double()


def _scales(x: torch.Tensor) -> _Scales:
    if is_grid(x):
        last = x.ndim >= 4 and x.shape[-1] <= 4 < x.shape[1]
        axes = tuple(range(x.ndim - 1)) if last else (0, *range(2, x.ndim))
        of = "channel"
    else:
        axes, of = (0,), "column"
    mean, spread = x.mean(axes, keepdim=True), x.std(axes, keepdim=True, correction=0)
    return _Scales(mean, torch.where(spread > 1e-12, spread, torch.ones(())), of)


def _tried(evidence: Evidence, scales: _Scales) -> tuple[float | None, float | None, Trial]:
    """How good the trial's network is, and that of a trial with standardized inputs."""
    dtype = next((p.dtype for p in evidence.patient.model.parameters()), torch.float32)

    def prepare(double: Double) -> None:
        def standardize(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not args or not isinstance(args[0], torch.Tensor):
                return None
            x = args[0]
            wanted = x.dtype if x.is_floating_point() else dtype
            place = x.device
            return ((x.double() - scales.mean.to(place)) / scales.spread.to(place)).to(wanted), *args[1:]

        double.model.register_forward_pre_hook(standardize)

    trial = evidence.variant("standardized", Change(prepare=prepare))
    if trial.error is not None:
        raise NoEvidence("the network cannot be run with standardized inputs")
    own = 0.0 if evidence.trial.error is not None else score(evidence.after)
    return own, score(evidence.answers_of(trial, evidence.train.raw[:40])), trial


CHECK = Check(
    codes=("data.not-normalized",),
    question="Have the inputs a scale that the network learns from?",
    threshold=THRESHOLD,
    run=_run,
    explains=(
        "loss.initial-off loss.not-finite model.collapsed model.dead-units model.exploding-gradient "
        "model.saturated model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
