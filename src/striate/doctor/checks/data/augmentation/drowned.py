"""Noise that hides samples: added by the loader, or by the training step."""

from __future__ import annotations

from typing import Any

import torch

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.checks.model.variants import inputs_and_outputs
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import DRAWN
from striate.doctor.evidence.skill import skill
from striate.doctor.setup.batch import altered, main_tensor, parts
from striate.records import Finding
from striate.wording import percent

_LEARNED = 0.15
"""The skill, or gain over chance, from which on the samples still show something."""
_SMOOTH, _WHITE, _LESS_SMOOTH = 0.3, 0.1, 0.5
"""Correlations of neighboring values: at least that of images and signals, at most that of noise; the ratio of both."""
_NOISE, _MOSTLY = 3.0, 0.95
"""Multiples of the standard deviation of validation (shifts, crops and flips stay below 1), and of that of training."""
_OF_NOISE = 0.95
"""The share of the variance of draws that differs in each draw."""
_LEFT_OF_NOISE = 0.05
"""The tolerance of rounding, in standard deviations of a sample, once noise is subtracted again."""
_TO_RESTORE = " (the square root of the number of values, as the network restores the sample)"
_DRAWN_AWAY = f"{percent(_OF_NOISE, 0)} of the variance of the input is noise that differs in each draw and each value"
_FAR_APART = (
    f"draws of a sample differ by more than {_NOISE:g} times the standard deviation of validation and {_MOSTLY:g} "
    "times that of training"
)


def drowned_beside_validation(evidence: Evidence, x: torch.Tensor, plain: torch.Tensor) -> Finding | None:
    """Noise of the loader that is far above the values of validation; for sets of points or vectors (N, points,
    numbers) only if the network learned nothing. Raises NoEvidence where it is unknown whether draws differ."""
    if x.shape[1:] != plain.shape[1:]:
        return None
    if x.ndim == 3:
        return _noisy_sets(evidence, x, plain)
    apart, drawn, values = _deviation_of_draws(evidence), float(x.double().std()), float(plain.double().std())
    white, smooth = _neighbor_correlation(x), _neighbor_correlation(plain)
    # Noise leaves no value similar to its neighbor; otherwise only the scale of validation differs.
    noisy = white < max(_WHITE, _LESS_SMOOTH * smooth) and apart > _NOISE * values > 0 and apart > _MOSTLY * drawn
    if noisy:
        return _finding_of_draws(
            apart, drawn, values, f"{_FAR_APART}, and neighboring values correlate half as much as in validation"
        )
    # Noise that is clamped to the range of the images is no larger than they are.
    if abs(white) < _WHITE and smooth > _SMOOTH and apart**2 > _OF_NOISE * drawn**2:
        return _finding_of_draws(
            apart, drawn, values, f"{_DRAWN_AWAY}, while neighboring values of validation are similar"
        )
    return None


def _noisy_sets(evidence: Evidence, x: torch.Tensor, plain: torch.Tensor) -> Finding | None:
    """Noise far above the values of sets of points or vectors, from which the network learned nothing. Differing draws
    alone do not suffice: they may only differ in order."""
    white = max(abs(_neighbor_correlation(x)), abs(_neighbor_correlation(x.transpose(1, 2))))
    if not x.is_floating_point() or white > _WHITE:
        return None
    apart, drawn, values = _deviation_of_draws(evidence), float(x.double().std()), float(plain.double().std())
    if apart <= max(_NOISE * values, _MOSTLY * drawn) or values <= 0:
        return None
    learned = skill(evidence.after)
    if learned is None or learned >= _LEARNED:
        return None
    return _finding_of_draws(apart, drawn, values, f"{_FAR_APART}, and the trial's network learned nothing")


def _finding_of_draws(apart: float, drawn: float, values: float, threshold: str) -> Finding:
    return _finding(
        "loader",
        f"two draws of the same training sample differ by {apart:.3g} (root mean square, divided by the square root "
        f"of 2); the standard deviation of training is {drawn:.3g}, that of validation {values:.3g}",
        threshold,
        "No shift or crop changes a sample so much: the added noise hides it.",
    )


def drowned_by_step(evidence: Evidence) -> Finding | None:
    """Noise of the step that is far above the inputs; for networks that restore their inputs, so far that all values of
    a sample together show nothing."""
    inputs, targets = parts(evidence.train.raw[0])
    plain, target, given = main_tensor(inputs), main_tensor(targets), evidence.first.shown
    if plain is None or target is None or given is None or plain.ndim < 3:
        return None
    restores, bytes_read = target.shape[1:] == plain.shape[1:], not plain.is_floating_point()
    if given.shape != plain.shape or (restores and bytes_read):
        return None
    plain, given = plain.double(), given.detach().cpu().double()
    values, apart = float(plain.std()), float(given.std())
    smooth, white = _neighbor_correlation(plain), _neighbor_correlation(given)
    # Shifts, rotations and scaling keep neighboring values similar.
    if not (smooth > _SMOOTH and abs(white) < _WHITE):
        return None
    if bytes_read and not any(evidence.graph.noise_targets()) and _share_drawn(evidence) > _OF_NOISE:
        return _finding(
            "step",
            f"{percent(_OF_NOISE, 0)} or more of the variance of the network's input is noise that differs in each "
            f"draw and each value; neighboring values correlate by {smooth:.2f} in the samples and by {white:.2f} in "
            "the input",
            f"{_DRAWN_AWAY}, while neighboring values of the samples are similar",
        )
    least, times = (float(given.flatten(1).std(1).min()), plain[0].numel() ** 0.5) if restores else (apart, _NOISE)
    if bytes_read or not least > times * values > 0 or (restores and not _is_added(evidence)):
        return None
    return _finding(
        "step",
        f"the network's input has a standard deviation of {apart:.3g}, the samples one of {values:.3g}; neighboring "
        f"values correlate by {smooth:.2f} in the samples and by {white:.2f} in the input",
        f"an input with more than {times:.3g} times the standard deviation of the "
        f"samples{_TO_RESTORE if restores else ''}; neighboring values correlate in the samples, but not in the "
        "input",
    )


def _is_added(evidence: Evidence) -> bool:
    """Whether the input of the network is the sample plus noise that does not depend on it: for a blank sample, the
    noise alone."""
    batch = evidence.train.raw[0]
    plain, path = main_tensor(parts(batch)[0]), evidence.samples.x_path
    if plain is None or path is None:
        return False
    blank = altered(batch, path, torch.zeros_like)
    full, noise = (main_tensor(inputs_and_outputs(evidence, one, seed=0)[0]) for one in (batch, blank))
    if full is None or noise is None or full.shape != plain.shape:
        return False
    return torch.allclose((full - noise).cpu().double(), plain.double(), atol=_LEFT_OF_NOISE * float(plain.std()))


def _share_drawn(evidence: Evidence) -> float:
    """The share of the variance of the network's input that differs when the step gets the same batch again."""
    one, other = (main_tensor(inputs_and_outputs(evidence, evidence.train.raw[0], seed=seed)[0]) for seed in (0, 1))
    if one is None or other is None or one.shape != other.shape:
        return 0.0
    return float((one - other).double().var() / (2 * one.double().var()))


def drowned_when_drawn(evidence: Evidence) -> Finding | None:
    """Samples that differ in nearly every value, independently, when they are drawn again, where there is no validation
    to compare them with."""
    if evidence.setup.val is not None:
        return None
    x = evidence.samples.sole_inputs
    if x.ndim < 3 or not x.is_floating_point() or not evidence.inputs_vary:
        return None
    drawn, apart, white = float(x.double().std()), _deviation_of_draws(evidence), _neighbor_correlation(x.double())
    if apart**2 < _OF_NOISE * drawn**2 or abs(white) > _WHITE:
        return None
    best = evidence.reference.best[0]
    if evidence.reference.accuracy(best) - evidence.reference.by_chance(best) > _LEARNED:
        return None  # simple models still see the classes
    return _finding(
        "loader",
        f"two draws of a sample differ by {apart:.3g} in each value independently, and all values have a standard "
        f"deviation of {drawn:.3g}: almost nothing of the sample is left",
        _DRAWN_AWAY,
    )


def _neighbor_correlation(x: torch.Tensor) -> float:
    """The correlation of neighboring values along the last axis."""
    pairs = torch.stack([x[..., :-1].flatten(), x[..., 1:].flatten()])
    return float(torch.corrcoef(pairs)[0, 1]) if pairs.shape[1] > 1 else 0.0


def _deviation_of_draws(evidence: Evidence) -> float:
    """The standard deviation of a sample's values over draws, which augmentation causes."""
    data: Any = evidence.setup.train.dataset  # type: ignore[attr-defined]
    found = []
    for number in range(min(DRAWN, len(data))):
        one, other = (main_tensor(parts(data[number])[0]) for _ in range(2))
        if one is not None and other is not None and one.shape == other.shape:
            found.append((one.double() - other.double()).square().mean() / 2)
    return float(torch.stack(found).mean().sqrt()) if found else 0.0


def _finding(place: str, measured: str, threshold: str, why: str = "The added noise hides the sample.") -> Finding:
    return augmentation_finding(
        place,
        measured,
        why=why,
        remedy="add less noise: a tenth of the standard deviation of the samples, `x + 0.1 * x.std() * randn_like(x)`",
        threshold=threshold,
    )
