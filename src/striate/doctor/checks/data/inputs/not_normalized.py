"""`data.not-normalized`: do the inputs have a scale that the network can learn from?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import score
from striate.doctor.checks.loss.degenerate.flow_likelihood import is_flow
from striate.doctor.checks.loss.initial_off import INITIAL_OFF
from striate.doctor.checks.model.mode import never_measured
from striate.doctor.checks.model.saturated import SATURATED
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import are_of_batch, predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.predictions import output_of
from striate.doctor.evidence.rates import at_rate, first_movement, rates_are_users
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import altered, copied, main_tensor
from striate.doctor.setup.replicas import Replica
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.interventions import change_inputs
from striate.observe.module_calls import ModuleCall, module_calls
from striate.records import Finding
from striate.wording import percent, python_name, several

LARGE, SMALL, UNEVEN = 10.0, 0.03, 50.0
GAIN = 0.1
_COLUMNS, _UNSEEN = 4, 0.01
"""The fewest columns of a table; and the share of all squares in the smaller half of its columns (half if
standardized)."""
LITTLE, BETTER = 0.05, 2.0
FAR_OFF, NEAR, LOWER = 3.0, 1.0, 0.85
"""First losses, in nats above that of a constant prediction; a share of the mean loss of the trial."""
_TWICE, _WHOLE = 1.01, 0.05
_SCALED = 0.9999
"""The correlation of values that are only scaled and shifted."""
LONG = 0.1
"""The size of a step, as a share of the norm of the parameters: inputs of usual size do not need it."""
_ODD = (
    f"a root mean square of a channel or column above {LARGE:g} or all below {SMALL:g}, a mean {LARGE:g} times the "
    f"standard deviation, or a column {UNEVEN:g} times the median one"
)


@dataclass(frozen=True)
class _Scales:
    """Mean and standard deviation of each channel or column."""

    mean: torch.Tensor
    """In a shape that broadcasts to the inputs."""
    deviation: torch.Tensor
    """Standard deviation, in the same shape."""
    of: str
    """channel or column."""

    def standardized(self, part: torch.Tensor) -> torch.Tensor:
        """Inputs (N, …) with mean 0 and standard deviation 1, in floating point."""
        kind = part.dtype if part.is_floating_point() else torch.get_default_dtype()
        return ((part.cpu().double() - self.mean) / self.deviation).to(part.device, kind)

    @property
    def _faint(self) -> bool:
        """Whether all standard deviations are below 0.1; in flattened images only those of the border are."""
        return float(self.deviation.max()) < 1 / LARGE

    @property
    def large(self) -> bool:
        """Whether the root mean square of a channel or column is."""
        return float((self.mean.square() + self.deviation.square()).max()) > LARGE**2

    @property
    def odd(self) -> bool:
        """Whether means are far from 0 or standard deviations far from 1."""
        mean, deviation = self.mean.flatten(), self.deviation.flatten()
        size = (mean.square() + deviation.square()).sqrt()
        varying = deviation > 1e-6 * size.clamp_min(1e-30)
        if not bool(varying.any()):
            return False
        mean, deviation, size = mean[varying], deviation[varying], size[varying]
        apart = self.of == "column" and float(deviation.max()) > UNEVEN * float(deviation.median())
        offset = bool((mean.abs() > LARGE * deviation).any()) and (float(size.max()) > 1 or self._faint)
        return bool(size.max() > LARGE) or bool(size.max() < SMALL) or apart or offset


def _find_not_normalized(evidence: Evidence) -> Iterable[Finding]:
    given = main_tensor(list(evidence.first.arguments))
    if given is None and is_flow(evidence):
        yield from _of_flow(evidence)
        return
    if given is None or not (given.is_floating_point() or given.dtype == torch.uint8) or given.ndim < 2:
        raise NoEvidence("the network's inputs are not numbers that can be scaled")
    if found := list(_with_added_noise(evidence, given.cpu().double())):
        yield from found
        return
    inputs = _all_inputs(evidence, given.cpu())
    if _divided_twice(inputs):
        yield _of_divided(float(inputs.max()))
        return
    scales, place = _scales(inputs), ""
    if not scales.odd:
        rescaled = _rescaled(evidence)
        if rescaled is None or not (scales := _scales(rescaled[1])).odd:
            return
        place = rescaled[0]
    if _normalizes_first(evidence):
        raise NoEvidence("a batch norm would normalize the inputs first, but it is in evaluation mode from the start")
    if scales.of == "column" and not are_of_batch(evidence, given.cpu()):
        raise NoEvidence("the network's input is computed by another network: it is not columns of the data")
    own, fixed, trial = _trial_standardized(evidence, scales, place)
    known = own is not None and fixed is not None
    own, fixed = own or 0.0, fixed or 0.0
    gain = f"predictions that are better by {GAIN:g} after as many steps"
    if by_loss := fixed - own < GAIN:
        endless = min(evidence.trial.losses, default=0.0) < 0 or not predicts_targets(evidence)
        by_zeros = known and not evidence.setup.rivals and endless
        gain = "a loss that is lower by more than its standard deviation, while zeros as inputs hardly lower it"
        gain = gain if by_zeros else f"a loss {BETTER:g} times lower, if almost nothing is learned without"
        by_loss = _sees_nothing(evidence, scales, place, trial) if by_zeros else _far_better(evidence, trial)
    if fixed - own < GAIN and not by_loss:
        far_off = list(_starts_far_off(evidence, scales, trial)) if known else []
        yield from far_off or _of_restored(evidence, scales, given, answered=known)
        return
    if not by_loss and (fixed < 2 * GAIN or _steps_too_long(evidence, scales, fixed)):
        return
    means, deviations = f"means of {_range(scales.mean)}", f"deviations of {_range(scales.deviation)}"
    measure = "accuracy" if evidence.setup.classifies else "explained share"
    if by_loss:  # where nearly all are of one class, few are wrong whatever is predicted
        measure, own, fixed = "loss", evidence.trial.level(), trial.level()
    yield NOT_NORMALIZED.finding(
        severity="error" if fixed - own >= 3 * GAIN or by_loss else "warning",
        where=f"inputs of {python_name(place)}, after the network's own scaling" if place else "inputs of the network",
        measured=f"{scales.of}s with {means} and {deviations}; with standardized inputs the {measure} after "
        f"{several(len(trial.rows), 'step')} is {fixed:.2f} instead of {own:.2f}",
        limit=f"{_ODD}; and standardized inputs bring {gain}",
        why="Initialization and usual learning rates assume inputs of mean 0 and variance 1. Other inputs saturate "
        "units, or make the loss far steeper in some directions than in others.",
        remedy=_remedy(scales)
        if not place
        else f"Scale once, so that {python_name(place)} gets inputs of mean 0 and variance 1: remove the scaling in "
        "the network, or the one before it, such as a division by 255.",
    )


def _with_added_noise(evidence: Evidence, given: torch.Tensor) -> Iterable[Finding]:
    """Images with added noise of variance 1 that the loss compares with outputs, as for diffusion. With standardized
    images and the same noise the loss has to be half as high."""
    x, path = evidence.samples.x, evidence.samples.x_path
    if x is None or path is None or not is_grid(x) or not any(evidence.graph.noise_targets()):
        return
    scales = _scales(x.double())
    if not scales.large or not _scales(given).large:  # the step may scale images before it adds noise
        return
    batches = [altered(batch, path, scales.standardized) for batch in evidence.train.raw]
    trial = evidence.variant("standardized images", Change(), batches=batches)
    own, other = evidence.progress, evidence.progress_of(trial)
    if trial.error is not None or not other.beats(own, BETTER):
        return
    yield NOT_NORMALIZED.finding(
        severity="error",
        where="inputs of the network",
        measured=f"{scales.of}s with means of {_range(scales.mean)} and standard deviations of "
        f"{_range(scales.deviation)}; the targets are the added noise of variance 1: after "
        f"{several(len(trial.rows), 'step')} it is {own}, and {other} with standardized images",
        limit=f"a root mean square above {LARGE:g}, and a loss {BETTER:g} times lower with standardized images",
        why="Compared with such inputs the noise is tiny: the network hardly sees what it should predict, and "
        "sampling starts from pure noise, which it has never seen.",
        remedy=_remedy(scales),
    )


def _of_flow(evidence: Evidence) -> Iterable[Finding]:
    """A table that a normalizing flow gets by another method than `forward`. To compare likelihoods of the same values,
    the logarithms of the standard deviations are added to the loss of the standardized table."""
    x, path = evidence.samples.x, evidence.samples.x_path
    if x is None or path is None or x.ndim != 2 or not x.is_floating_point() or not (scales := _scales(x.double())).odd:
        return

    batches = [altered(batch, path, scales.standardized) for batch in evidence.train.raw]
    trial = evidence.variant("standardized table", Change(), batches=batches)
    own, other = evidence.trial.level(), trial.level() + max(0.0, float(scales.deviation.log().sum()))
    if trial.error is not None or not 0 < other * BETTER < (own if math.isfinite(own) else math.inf):
        return
    yield NOT_NORMALIZED.finding(
        severity="error",
        where="inputs of the network",
        measured=f"columns with means of {_range(scales.mean)} and standard deviations of "
        f"{_range(scales.deviation)}; after {several(len(trial.rows), 'step')} the negative log-likelihood is "
        f"{own:.3g}, and {other:.3g} with standardized inputs (converted to the same units)",
        limit=f"{_ODD}; and a negative log-likelihood {BETTER:g} times lower with a standardized table (converted "
        "to the same units)",
        why="A flow begins near the identity, and its base distribution has mean 0 and variance 1. Unscaled "
        "columns are thousands of standard deviations away, too far for the steps of the optimizer.",
        remedy=_remedy(scales),
    )


def _of_restored(evidence: Evidence, scales: _Scales, given: torch.Tensor, *, answered: bool) -> Iterable[Finding]:
    """A reconstructed table whose loss consists of a few large columns; or large inputs that saturate units, where no
    score shows the effect."""
    variances = scales.deviation.flatten().square().sort().values
    share = float(variances[: len(variances) // 2].sum() / variances.sum())
    restored = any(
        call.target.shape == given.shape and torch.equal(call.target, given) for call in evidence.calls.losses
    )
    if restored and scales.of == "column" and scales.large and len(variances) >= _COLUMNS and share < _UNSEEN:
        measured = f"the smaller half of the columns makes up {share:.2g} of the squares that the loss adds up"
        limit = f"half of the columns of a reconstructed table have less than {percent(_UNSEEN, 0)} of all squares"
    elif not answered and scales.large and (saturated := next(iter(SATURATED.run(evidence)), None)) is not None:
        measured = saturated.measured.partition(",")[0]
        limit = f"a root mean square above {LARGE:g}, and saturated units: {saturated.threshold}"
    else:
        return
    yield NOT_NORMALIZED.finding(
        severity="warning",
        where="inputs of the network",
        measured=f"{scales.of}s with means of {_range(scales.mean)} and standard deviations of "
        f"{_range(scales.deviation)}; {measured}",
        limit=limit,
        why="Initialization and losses assume inputs of mean 0 and variance 1. With other inputs the loss only "
        "sees the large columns, or units saturate.",
        remedy=_remedy(scales),
    )


def _normalizes_first(evidence: Evidence) -> bool:
    """Whether the first layer with weights is a batch norm in evaluation mode with its initial statistics."""
    layers = ((name, part) for name, part in evidence.fresh.model.named_modules())
    first = next(
        ((name, part) for name, part in layers if isinstance(getattr(part, "weight", None), nn.Parameter)), None
    )
    return first is not None and evidence.first.modes.get(first[0]) is False and never_measured(first[1])


def _rescaled(evidence: Evidence) -> tuple[str, torch.Tensor] | None:
    """The name of the first layer with weights, and its input for the first batch, if the network scales its inputs
    before; else None."""
    model, seen = evidence.fresh.model, list[tuple[str, torch.Tensor]]()
    parts_named = ((name, part) for name, part in model.named_modules() if name)
    layers = {name: part for name, part in parts_named if isinstance(getattr(part, "weight", None), nn.Parameter)}

    def note(call: ModuleCall) -> None:
        if (given := main_tensor(call.args)) is not None:
            seen.append((call.name, given.detach().cpu().double()))

    with preserved(model), same_random_state(), torch.no_grad(), module_calls(layers, note):
        output_of(evidence.setup, evidence.fresh, copied(evidence.train.raw[0]), training=False)
    given = main_tensor(list(evidence.first.arguments))
    if not seen or given is None or seen[0][1].numel() != given.numel() or seen[0][1].ndim != given.ndim:
        return None
    pair = torch.stack([given.detach().cpu().double().flatten(), seen[0][1].flatten()])
    scaled = not torch.equal(*pair) and abs(float(torch.corrcoef(pair)[0, 1])) > _SCALED
    return seen[0] if scaled else None


def _divided_twice(x: torch.Tensor) -> bool:
    """Whether images are bytes divided by 255 twice: at most 1/255, and integers if multiplied by 255 twice."""
    if not is_grid(x) or not 0 < float(x.max()) <= _TWICE / 255 or float(x.min()) < 0:
        return False
    whole = x.flatten()[:: max(1, x.numel() // 10_000)] * 255**2
    return float((whole - whole.round()).abs().max()) < _WHOLE and len(whole.round().unique()) > 2


def _of_divided(largest: float) -> Finding:
    return NOT_NORMALIZED.finding(
        severity="error",
        where="inputs of the network",
        measured=f"all values are between 0 and {largest:.2g}, and integers if multiplied by 255 twice",
        limit="pixels divided by 255 twice",
        why="Pixels are divided by 255 twice: to the network all images look black.",
        remedy="divide once: `x = image.float() / 255`, unless the reader (`ToTensor`) already does it",
    )


def _starts_far_off(evidence: Evidence, scales: _Scales, trial: Trial) -> Iterable[Finding]:
    """Inputs so large that the first loss is far above that of a constant prediction, unlike with standardized inputs,
    although the network learns as much in the end."""
    own, other = evidence.trial.losses, trial.losses
    if not evidence.setup.classifies or not own or not other or not all(map(math.isfinite, [*own, *other])):
        return
    chance = min(evidence.progress.chance, other[0])  # the first loss where no constant prediction is known
    mean, lower = (sum(losses) / len(losses) for losses in (own, other))
    if own[0] < chance + FAR_OFF or other[0] > chance + NEAR:
        return
    # Report it if the start does harm, or if outputs are too large, which the inputs cause.
    if lower > LOWER * mean and not any(INITIAL_OFF.run(evidence)):
        return
    yield NOT_NORMALIZED.finding(
        severity="warning",
        where="inputs of the network",
        measured=f"{scales.of}s with means of {_range(scales.mean)} and standard deviations of "
        f"{_range(scales.deviation)}: the first loss is {own[0]:.3g}, and {other[0]:.3g} with standardized inputs",
        limit=f"{_ODD}; and a first loss {FAR_OFF:g} nats above that of a constant prediction, but at most {NEAR:g} "
        "with standardized inputs",
        why="Initialization assumes inputs of mean 0 and variance 1. With other inputs the first predictions are "
        "confident and wrong, and the first steps only undo that.",
        remedy=_remedy(scales),
    )


def _far_better(evidence: Evidence, trial: Trial) -> bool:
    """Whether the network learned nothing, but reaches a far lower loss with standardized inputs."""
    own, other = evidence.progress, evidence.progress_of(trial)
    return own.share < LITTLE and other.beats(own, BETTER) and other.share > max(own.share, 0.0) + GAIN


def _sees_nothing(evidence: Evidence, scales: _Scales, place: str, trial: Trial) -> bool:
    """For losses without a minimum, or outputs that are not predictions: whether the network comes nearly as far with
    zeros as with its inputs, and much further with standardized inputs."""
    zeros = replace(scales, deviation=torch.full_like(scales.deviation, math.inf))
    blind = _trial_with(evidence, zeros, place, "zeros")
    gain, deviation = blind.level() - trial.level(), statistics.pstdev(blind.losses[-10:] or [0.0])
    return gain > deviation and blind.level() - evidence.trial.level() < GAIN * gain


def _steps_too_long(evidence: Evidence, scales: _Scales, fixed: float) -> bool:
    """For inputs of usual size with columns that hardly vary, such as the border of images: whether steps are far too
    long, and shorter ones do as well as standardized inputs."""
    size = float((scales.mean.square() + scales.deviation.square()).max()) ** 0.5
    if size > LARGE or not rates_are_users(evidence) or (first_movement(evidence.trial) or 0.0) < LONG:
        return False
    tried = (
        evidence.predictions_of(at_rate(evidence, factor), evidence.train.raw[:40]) for factor in (1e-2, 1e-3, 1e-4)
    )
    return any((score(found) or 0.0) >= fixed for found in tried)


def _range(values: torch.Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g} to {high:.3g}" if values.numel() > 1 else f"{low:.3g}"


def _remedy(scales: _Scales) -> str:
    if scales.of == "channel" and scales.mean.numel() <= 4:
        mean, deviation = (
            ", ".join(f"{v:.4g}" for v in part.flatten().tolist()) for part in (scales.mean, scales.deviation)
        )
        shape = "[:, None, None]" if scales.mean.numel() > 1 else ""
        values = (
            (f"torch.tensor([{mean}]){shape}", f"torch.tensor([{deviation}]){shape}") if shape else (mean, deviation)
        )
        return f"Standardize in the data set, for training and validation alike: `x = (x - {values[0]}) / {values[1]}`."
    return (
        "Standardize each column with mean and standard deviation of training, for validation too: `mean, std = "
        "x_train.mean(0), x_train.std(0); x_train = (x_train - mean) / std; x_val = (x_val - mean) / std`."
    )


def _all_inputs(evidence: Evidence, given: torch.Tensor) -> torch.Tensor:
    """All samples that were read, if the network gets them unchanged; else the inputs of the first step."""
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
    mean, deviation = x.mean(axes, keepdim=True), x.std(axes, keepdim=True, correction=0)
    return _Scales(mean, torch.where(deviation > 1e-12, deviation, torch.ones(())), of)


def _trial_with(evidence: Evidence, scales: _Scales, place: str, name: str) -> Trial:
    """A trial with standardized inputs of the module `place`."""
    dtype = next((p.dtype for p in evidence.setup.model.parameters()), torch.float32)

    def prepare(replica: Replica) -> None:
        def standardize(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            x = main_tensor(list(args))  # if codes are a second input, the numbers
            if x is None:
                return None
            kind = x.dtype if x.is_floating_point() else dtype
            place = x.device
            scaled = ((x.double() - scales.mean.to(place)) / scales.deviation.to(place)).to(kind)
            return tuple(scaled if given is x else given for given in args)

        change_inputs(replica.model.get_submodule(place), standardize)

    return evidence.variant(f"{name} {place}", Change(prepare=prepare))


def _trial_standardized(evidence: Evidence, scales: _Scales, place: str) -> tuple[float | None, float | None, Trial]:
    """The score of the trial's network, that of a trial with standardized inputs, and that trial."""
    trial = _trial_with(evidence, scales, place, "standardized")
    if trial.error is not None:
        raise NoEvidence("the network cannot be run with standardized inputs")
    own = 0.0 if evidence.trial.error is not None else score(evidence.after)
    return own, score(evidence.predictions_of(trial, evidence.train.raw[:40])), trial


NOT_NORMALIZED = Check(
    codes=("data.not-normalized",),
    run=_find_not_normalized,
    explains=(
        "loss.initial-off loss.not-finite model.collapsed model.dead-units model.exploding-gradient "
        "model.saturated model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
