"""`data.scrambled`: values at wrong positions, as by `view` where `permute` was meant, or in other samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import picture_of, score
from striate.doctor.checks.data.inputs.constant_images import blank_samples
from striate.doctor.checks.data.labels.labels_random import SLIGHT
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import channels_first, is_grid
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import main_tensor, parts, size_of
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import TrainingSetup
from striate.observe.interventions import change_inputs
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.torch_calls import torch_functions
from striate.records import Finding
from striate.wording import percent, several

_CONVOLUTIONS = nn.modules.conv._ConvNd


@dataclass(frozen=True)
class Entrance:
    """The first layer that uses neighboring positions (a convolution or a recurrent layer), and its input."""

    name: str | None
    """Name of the module; None for a function."""
    x: torch.Tensor
    """(N, …)."""
    channels: int
    """The axis of channels: 1, or the last one for a recurrent layer."""


def find_entrance(setup: TrainingSetup, replica: Replica, batch: Any, *, training: bool = False) -> Entrance:
    """Find the entrance of the replica for a batch, in evaluation mode or in training mode, which may use other layers.
    Raises NoEvidence if no layer uses neighboring positions."""
    caught: list[Entrance] = []
    layers = {
        name: part for name, part in replica.model.named_modules() if isinstance(part, _CONVOLUTIONS | nn.RNNBase)
    }

    def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # The first convolution may be a function, not a module.
        if not caught and getattr(func, "__name__", "") in ("conv1d", "conv2d", "conv3d") and args:
            caught.append(Entrance(None, args[0].detach().cpu().float().clone(), 1))
        return func(*args, **kwargs)

    with module_calls(layers, lambda call: _catch(call, caught)), torch_functions(around):
        predict(setup, replica, [batch], training=training)
    if caught:
        return caught[0]
    raise NoEvidence("no layer of the network gets inputs with neighboring positions")


def _catch(call: ModuleCall, caught: list[Entrance]) -> None:
    name, part, args = call.name, call.module, call.args
    if caught or not args or not isinstance(args[0], torch.Tensor):
        return
    x = args[0].detach().cpu().float()
    if isinstance(part, nn.RNNBase):
        x = x if part.batch_first else x.transpose(0, 1)
        caught.append(Entrance(name, x.clone(), x.ndim - 1))
    else:
        caught.append(Entrance(name, x.clone(), 1))


SMOOTHER, SMOOTHER_IN_ALL = 0.8, 0.9
AGREE = 0.9
GAIN = 0.05
INTERLEAVED, _COLORS = 0.7, 3
_SAMPLES = 64
_CLIPS, _SMOOTHER_FRAMES, _BY_CHANCE = 5, 0.95, 0.2
"""The axes of a batch of clips; the largest ratio of roughness of single frames; an accuracy that reordered clips may
lose by chance."""
_COLORS_LAST = (2, 3, 1)
_SMOOTHER_SIGNALS, _FEWEST_SIGNALS, _TURNS = 0.97, 16, 10.0
"""For signals, which may be mostly noise: the largest ratio of roughness, the fewest samples, and how many times the
usual variance the period of the channels has."""
_NOISY, _SMOOTHER_BY, _ERRORS = 0.9, 0.03, 8.0
"""The roughness from which on an image is mostly noise (1.13 for pure noise); by how much interleaved colors lower it,
and by how many standard errors."""
_SMOOTH_ANEW = (
    f"neighbors differ less than {SMOOTHER:g} times as much if the values are read with the axes in another order, "
    f"in {percent(AGREE, 0)} of the samples; an error if the network then learns better by {GAIN:g}"
)
_INTERLEAVED_COLORS = f"neighbors differ {INTERLEAVED:g} times as much if the values are read as interleaved colors"
_NOISY_COLORS = (
    f"in noisy images, neighbors differ less by {_ERRORS:g} standard errors if the values are read as "
    "interleaved colors"
)
_IN_TURNS = (
    f"in {percent(AGREE, 0)} of the signals, neighbors differ less than {_SMOOTHER_SIGNALS:g} times as much if "
    "channels and positions are read in the other order, values repeat with the number of channels, and the network "
    f"learns no less; an error if it learns better by {GAIN:g}"
)
_ROWS_VIEWED = f"a batch that is viewed instead of transposed, and learned better by {2 * GAIN:g} if that is undone"


def _find_scrambled(evidence: Evidence) -> Iterable[Finding]:
    given = main_tensor(list(evidence.first.arguments))
    entrance = find_entrance(evidence.setup, evidence.fresh, evidence.train.raw[0])
    size = size_of(evidence.train.raw[0])
    if entrance.channels != 1 and len(entrance.x) != size == entrance.x.shape[1]:
        raise NoEvidence("the first layer convolves along the axis of samples")
    found = list(_scrambled_at(evidence, entrance, given)) or list(_scrambled_clips(evidence, entrance, given))
    yield from found or _viewed(evidence, entrance, given)


def _viewed(evidence: Evidence, entrance: Entrance, given: torch.Tensor | None) -> Iterable[Finding]:
    """Rows (N, positions, numbers) that are viewed as (N, numbers, positions) instead of transposed, such as points,
    which have no order."""
    came, x = main_tensor(parts(evidence.train.raw[0])[0]), entrance.x
    if came is None or given is None or x.ndim != 3 or came.shape != x.transpose(1, 2).shape:
        return
    if came.shape[1] == came.shape[2] or not torch.equal(came.detach().cpu().float().reshape(x.shape), x):
        return
    whole = torch.equal(given.detach().cpu(), x)
    gain, words = _gain_reread(evidence, Entrance("", x, 1) if whole else entrance, (2, 1))
    if gain is not None and gain >= 2 * GAIN:
        rough, other = (float(roughness(part, 1).median()) for part in (x, reread(x, (2, 1))))
        yield _finding(entrance, given, (2, 1), rough, other / rough, gain, words, _ROWS_VIEWED)


def _scrambled_clips(evidence: Evidence, entrance: Entrance, given: torch.Tensor | None) -> Iterable[Finding]:
    """Clips (N, T, C, H, W) whose frames the first layer gets one by one, and clips (N, T, C, H, W) or (N, C, T, H, W)
    whose frames it gets as channels: their time axis is examined, too."""
    if given is None or given.ndim != _CLIPS:
        return
    x = given.detach().cpu().float()
    as_channels = torch.equal(x.flatten(1, 2), entrance.x)
    if as_channels or torch.equal(x.flatten(0, 1), entrance.x):
        channels = 1 if as_channels and x.shape[1] in (1, _COLORS) else 2
        yield from _scrambled_at(evidence, Entrance("", x, channels), given)


def _scrambled_at(evidence: Evidence, entrance: Entrance, given: torch.Tensor | None) -> Iterable[Finding]:
    x = entrance.x[:_SAMPLES]
    if x.ndim < 3 or len(x) < 4 or not bool(torch.isfinite(x).all()):
        raise NoEvidence("there are too few samples with neighboring positions, or they contain NaN or Inf")
    rough = roughness(x, entrance.channels)
    everywhere = roughness(x, None).clamp_min(1e-12)
    best: tuple[float, tuple[int, ...], torch.Tensor] | None = None
    turns = entrance.channels == 1 and _are_interleaved(x)
    clips = x.ndim == _CLIPS and not entrance.name
    least, limit = -GAIN, _SMOOTH_ANEW
    if (noisy := _colors_in_noise(x, rough)) is not None:
        yield _finding(entrance, given, _COLORS_LAST, float(rough.median()), noisy, None, "", _NOISY_COLORS)
        return
    for order, other in _orders(x):
        ratio = roughness(other, entrance.channels) / rough.clamp_min(1e-12)
        # If axes are exchanged and each is as smooth as before, nothing is scrambled, unless the network learns far
        # more: rows of an image may be its channels.
        exchanged = float((roughness(other, None) / everywhere).median()) > SMOOTHER_IN_ALL
        if exchanged and x.ndim > 3:
            continue
        if clips and not _frames_smoother(x, other, entrance.channels):
            continue
        middle = float(ratio.median())
        agree = float((ratio < 1).double().mean()) >= AGREE and (best is None or middle < best[0])
        if middle < SMOOTHER and agree:
            least = 2 * GAIN if exchanged else -GAIN
            best, least = (middle, order, other), -_BY_CHANCE if turns else least
        elif middle < _SMOOTHER_SIGNALS and agree and turns:
            best, least, limit = (middle, order, other), 0.0, _IN_TURNS
    if best is None or float(rough.median()) <= 0:
        return
    gain, words = _gain_reread(evidence, entrance, best[1])
    if clips and gain is not None and -_BY_CHANCE < gain < GAIN:
        gain, words = None, ""  # a few steps show little: no frame of an intact clip becomes smoother
    if (gain if gain is not None else 0.0) < least:
        if best[0] > INTERLEAVED or x.ndim != 4 or x.shape[best[1][-1]] != _COLORS or best[1][-1] != 1:
            return
        # A few steps show little: the colors of each pixel are interleaved.
        gain, words, limit = None, "", _INTERLEAVED_COLORS
    drawn = picture_of("Input of the network, unchanged and reordered", [x[0], best[2][0]], ["unchanged", "reordered"])
    if drawn is not None:
        evidence.pictures["data.scrambled"] = drawn
    yield _finding(entrance, given, best[1], float(rough.median()), best[0], gain, words, limit)


def _frames_smoother(x: torch.Tensor, other: torch.Tensor, channels: int) -> bool:
    """Whether single frames of clips, (N, T, C, H, W) or (N, C, T, H, W), are smoother in another order. For unrelated
    images only the presumed time axis may become smoother."""
    own, new = (roughness(part.movedim(channels, 2).flatten(0, 1), 1) for part in (x, other))
    ratio = new / own.clamp_min(1e-12)
    return float(ratio.median()) < _SMOOTHER_FRAMES and float((ratio < 1).double().mean()) >= AGREE


def _colors_in_noise(x: torch.Tensor, rough: torch.Tensor) -> float | None:
    """The ratio of roughness of images that are mostly noise, if their values are read as interleaved colors; None if
    they are not smoother beyond chance."""
    if x.ndim != 4 or x.shape[1] != _COLORS or float(rough.median()) < _NOISY:
        return None
    other = roughness(reread(x, _COLORS_LAST), 1)
    gained = rough - other
    error = float(gained.std()) / len(gained) ** 0.5
    certain = float(gained.mean()) > max(_SMOOTHER_BY, _ERRORS * error)
    return float((other / rough).median()) if certain else None


def _are_interleaved(x: torch.Tensor) -> bool:
    """Whether the channels of signals (N, C, T) are interleaved: the products of neighboring values depend on their
    position modulo C, and not modulo other periods."""
    if x.ndim != 3 or len(x) < _FEWEST_SIGNALS or x.shape[1] < 2 or x.shape[2] < 4:
        return False
    flat = x.flatten(1)
    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-12)
    products, channels = flat[:, :-1] * flat[:, 1:], x.shape[1]

    def variance(period: int) -> float:
        whole = products[:, : products.shape[1] // period * period]
        return float(whole.unflatten(1, (-1, period)).mean((0, 1)).var())

    return variance(channels) > _TURNS * max(variance(channels + 1), variance(2 * channels + 1))


def roughness(x: torch.Tensor, channels: int | None) -> torch.Tensor:
    """(N,) the mean absolute difference of neighbors in grids (N, …) along all axes but that of channels (None: along
    all), in standard deviations of the grid."""
    found = torch.zeros(len(x))
    axes = [axis for axis in range(1, x.ndim) if axis != channels and x.shape[axis] > 1]
    for axis in axes:
        found += x.diff(dim=axis).abs().flatten(1).mean(1) / len(axes)
    return found / x.flatten(1).std(1, correction=0).clamp_min(1e-12)


def _orders(x: torch.Tensor) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """The same values, read as if memory held the axes in other orders, and permuted back to the given order."""
    own = tuple(range(1, x.ndim))
    seen = [x]
    for order in permutations(own):
        if order == own:
            continue
        other = reread(x, order)
        if not any(torch.equal(other, known) for known in seen):
            seen.append(other)
            yield order, other


def reread(x: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Undo a view: read (N, …) as memory that holds the axes in `order`, and permute them to the given order."""
    back = [0, *(order.index(axis) + 1 for axis in range(1, x.ndim))]
    return x.reshape(len(x), *(x.shape[axis] for axis in order)).permute(back).contiguous()


def _gain_reread(evidence: Evidence, entrance: Entrance, order: tuple[int, ...]) -> tuple[float | None, str]:
    """By how much the score of the trial rises with reordered inputs, and that in words; None where unknown."""
    if entrance.name is None:  # the input of a function cannot be changed
        return None, ""

    def prepare(replica: Replica) -> None:
        def read_anew(args: tuple[Any, ...]) -> tuple[Any, ...]:
            return reread(args[0], order), *args[1:]

        for name in names:
            change_inputs(replica.model.get_submodule(name), read_anew)

    names = {entrance.name}
    try:
        if entrance.name:  # an average of the weights may predict in evaluation
            trained = find_entrance(evidence.setup, evidence.fresh, evidence.train.raw[0], training=True)
            names |= {trained.name} if trained.name and trained.x.shape == entrance.x.shape else set()
        trial = evidence.variant(f"reread {order}", Change(prepare=prepare))
        own, other = score(evidence.after), score(evidence.predictions_of(trial, evidence.train.raw[:40]))
    except NoEvidence:
        return None, ""
    if trial.error is not None or own is None or other is None:
        return None, ""
    measure = "accuracy" if evidence.setup.classifies else "explained share"
    words = (
        f"; in that order the {measure} after {several(len(trial.rows), 'step')} is {other:.2f} instead of {own:.2f}"
    )
    return other - own, words


def _finding(
    entrance: Entrance,
    given: torch.Tensor | None,
    order: tuple[int, ...],
    rough: float,
    ratio: float,
    gain: float | None,
    words: str,
    limit: str,
) -> Finding:
    shape = tuple(entrance.x.shape[1:])
    lying = tuple(entrance.x.shape[axis] for axis in order)
    inside = given is not None and tuple(given.shape[1:]) != shape
    back = ", ".join(["0", *(str(order.index(axis) + 1) for axis in range(1, entrance.x.ndim))])
    before = f"`x = x.permute({back})`"
    whole = f"`x = x.reshape(-1, {', '.join(map(str, lying))}).permute({back})`"
    return SCRAMBLED.finding(
        severity="error" if gain is not None and gain >= GAIN else "warning",
        where=f"forward, before {entrance.name or 'the first convolution'}" if inside else "inputs of the network",
        measured=f"neighbors differ by {rough:.2f} standard deviations, and by {rough * ratio:.2f} if the values "
        f"are read in memory order {_shape_text(lying)} instead of {_shape_text(shape)}{words}",
        limit=limit,
        why="`view` and `reshape` keep the order in memory: they do not exchange axes, so neighboring values end "
        "up far apart.",
        remedy=f"Exchange axes with permute, not `x.view(…)`: of (N, {', '.join(map(str, lying))}) {before} gives "
        f"(N, {', '.join(map(str, shape))}). This fixes inputs that are already viewed: {whole}.",
    )


def _shape_text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


SCRAMBLED = Check(
    codes=("data.scrambled",),
    run=_find_scrambled,
    explains="data.augmentation data.constant-images data.labels-random data.shift model.receptive-field fit.*",
)


ALIKE, APART, SIGMAS = 0.05, 20.0, 3.0
_MOST, _FEWEST = 512, 60
MIXED_UP_THRESHOLD = (
    f"neighbors in a sample correlate by less than {ALIKE:g}, the variance of means of samples is {APART:g} times "
    f"that of means of independent values, and no simple model is better than chance by {SIGMAS:g} standard errors"
)


def _find_mixed_up(evidence: Evidence) -> Iterable[Finding]:
    samples = evidence.samples
    x = samples.sole_inputs
    if not is_grid(x) or not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise NoEvidence("the inputs have no neighboring positions, or contain NaN or Inf")
    x = channels_first(x[~blank_samples(samples)][:_MOST]).float()
    if len(x) < _FEWEST:
        raise NoEvidence("there are too few samples with content")
    alike, apart = neighbors_alike(x), means_apart(x)
    if alike >= ALIKE or apart < APART or _learned(evidence):
        return
    drawn = picture_of("Samples from the loader", list(x[:4]), ["sample"] * 4)
    if drawn is not None:
        evidence.pictures["data.scrambled"] = drawn
    yield MIXED_UP.finding(
        severity="error",
        where="inputs of the network",
        measured=f"neighbors in a sample correlate by {alike:.2f}, as in noise, but means of samples differ "
        f"{apart:.0f} times as much as those of noise; simple models are no better than chance",
        why="This happens if each sample holds one position of very many samples: `reshape` keeps the order in "
        "memory and does not move the axis of samples to the front.",
        remedy="For an array (H, W, N), or (H, W, C, N) as MATLAB writes it: `x = np.moveaxis(x, -1, 0)`, not "
        "`x.reshape(N, …)`; then look at a few samples.",
    )


def neighbors_alike(x: torch.Tensor) -> float:
    """The largest correlation of neighbors along a spatial axis of grids (N, C, …), less the means of samples."""
    centered = x - x.flatten(2).mean(2).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    found = [0.0]
    for axis in range(2, x.ndim):
        if x.shape[axis] < 2:
            continue
        one, other = centered.narrow(axis, 0, x.shape[axis] - 1), centered.narrow(axis, 1, x.shape[axis] - 1)
        scale = float((one.square().sum() * other.square().sum()).sqrt())
        found.append(abs(float((one * other).sum())) / scale if scale > 0 else 1.0)
    return max(found)


def means_apart(x: torch.Tensor) -> float:
    """The variance of the means of samples, as a multiple of that of means of independent values."""
    flat = x[:, 0].flatten(1).double()
    within = float(flat.var(1).mean())
    return float(flat.mean(1).var()) * flat.shape[1] / within if within > 0 else 0.0


def _learned(evidence: Evidence) -> bool:
    reference = evidence.reference
    for name in reference.best:
        chance = reference.by_chance(name)
        error = (chance * (1 - chance) / len(reference.labels)) ** 0.5
        if reference.accuracy(name) - chance >= max(SIGMAS * error, SLIGHT * (1 - chance)):
            return True
    return False


MIXED_UP = Check(
    codes=("data.scrambled",),
    threshold=MIXED_UP_THRESHOLD,
    run=_find_mixed_up,
    quick=False,
    explains="data.constant-images data.labels-random data.shift model.receptive-field fit.*",
)
