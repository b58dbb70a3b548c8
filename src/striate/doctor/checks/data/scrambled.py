"""Images and signals whose numbers were dealt to the wrong places: `view` where `permute` was meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.looking import picture_of, score
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.entrance import Entrance, find_entrance
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.patient.batch import main_tensor
from striate.doctor.patient.copies import Double
from striate.records import Finding

SMOOTHER, SMOOTHER_IN_ALL = 0.8, 0.9
AGREE = 0.9
GAIN = 0.05
_SAMPLES = 64
THRESHOLD = (
    f"neighbors differ less than {SMOOTHER:g} times as much when the numbers are dealt to the axes in another order, "
    f"in {AGREE:.0%} of the samples; an error where the network then learns better by {GAIN:g}"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    given = main_tensor(list(evidence.first.arguments))
    entrance = find_entrance(evidence.patient, evidence.fresh, evidence.train.raw[0])
    x = entrance.x[:_SAMPLES]
    if x.ndim < 3 or len(x) < 4 or not bool(torch.isfinite(x).all()):
        raise NoEvidence("there are too few samples with places side by side, or their numbers are not finite")
    rough = roughness(x, entrance.channels)
    everywhere = roughness(x, None).clamp_min(1e-12)
    best: tuple[float, tuple[int, ...], torch.Tensor] | None = None
    for order, other in _orders(x):
        ratio = roughness(other, entrance.channels) / rough.clamp_min(1e-12)
        # Exchanged axes, each as smooth as before, are no scramble: rows of an image may be its channels.
        if float((roughness(other, None) / everywhere).median()) > SMOOTHER_IN_ALL:
            continue
        middle = float(ratio.median())
        if middle < SMOOTHER and float((ratio < 1).double().mean()) >= AGREE and (best is None or middle < best[0]):
            best = (middle, order, other)
    if best is None or float(rough.median()) <= 0:
        return
    gain, words = _tried(evidence, entrance, best[1])
    if gain is not None and gain < -GAIN:
        return
    drawn = picture_of("As the network sees it, and in another order", [x[0], best[2][0]], ["as it is", "read anew"])
    if drawn is not None:
        evidence.pictures["data.scrambled"] = drawn
    yield _told(entrance, given, best[1], float(rough.median()), best[0], gain, words)


def roughness(x: torch.Tensor, channels: int | None) -> torch.Tensor:
    """(N,) of grids (N, …): the mean difference of neighbors along all axes but that of channels (None:
    all), in standard deviations of all."""
    found = torch.zeros(len(x))
    axes = [axis for axis in range(1, x.ndim) if axis != channels and x.shape[axis] > 1]
    for axis in axes:
        found += x.diff(dim=axis).abs().flatten(1).mean(1) / len(axes)
    return found / x.flatten(1).std(1, correction=0).clamp_min(1e-12)


def _orders(x: torch.Tensor) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """The same numbers, read as lying in memory in other orders of the axes, and then put in the order they have."""
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
    """Take (N, …) for what was viewed in its shape, though it lay in memory with the axes in `order`."""
    back = [0, *(order.index(axis) + 1 for axis in range(1, x.ndim))]
    return x.reshape(len(x), *(x.shape[axis] for axis in order)).permute(back).contiguous()


def _tried(evidence: Evidence, entrance: Entrance, order: tuple[int, ...]) -> tuple[float | None, str]:
    """How much better the trial learns with the places put right, and that in words."""
    if entrance.name is None:  # a function, whose input cannot be changed
        return None, ""

    def prepare(double: Double) -> None:
        def read_anew(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return reread(args[0], order), *args[1:]

        assert entrance.name is not None
        double.model.get_submodule(entrance.name).register_forward_pre_hook(read_anew)

    try:
        trial = evidence.variant(f"reread {order}", Change(prepare=prepare))
        own, other = score(evidence.after), score(evidence.answers_of(trial, evidence.train.raw[:40]))
    except NoEvidence:
        return None, ""
    if trial.error is not None or own is None or other is None:
        return None, ""
    measure = "accuracy" if evidence.patient.classifies else "explained share"
    words = f"; read so, the {measure} after {len(trial.rows)} steps is {other:.2f} instead of {own:.2f}"
    return other - own, words


def _told(
    entrance: Entrance,
    given: torch.Tensor | None,
    order: tuple[int, ...],
    rough: float,
    ratio: float,
    gain: float | None,
    words: str,
) -> Finding:
    shape = tuple(entrance.x.shape[1:])
    lying = tuple(entrance.x.shape[axis] for axis in order)
    inside = given is not None and tuple(given.shape[1:]) != shape
    back = ", ".join(["0", *(str(order.index(axis) + 1) for axis in range(1, entrance.x.ndim))])
    before = f"`x = x.permute({back})`"
    whole = f"`x = x.reshape(-1, {', '.join(map(str, lying))}).permute({back})`"
    return Finding(
        code="data.scrambled",
        severity="error" if gain is not None and gain >= GAIN else "warning",
        where=f"forward, before {entrance.name or 'the first convolution'}" if inside else "inputs of the network",
        measured=f"neighbors differ by {rough:.2f} standard deviations; taken for numbers that lay in memory as "
        f"{_shown(lying)} and were only viewed as {_shown(shape)}, by {rough * ratio:.2f}{words}",
        threshold=THRESHOLD,
        why="`view` and `reshape` keep the order in memory: they do not exchange axes, but deal the numbers out "
        "anew, so that what lay side by side lies far apart.",
        remedy=f"Exchange axes with permute: of (N, {', '.join(map(str, lying))}) {before} gives (N, "
        f"{', '.join(map(str, shape))}), not `x.view(…)`. What was viewed already is mended by {whole}.",
    )


def _shown(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


CHECK = Check(
    codes=("data.scrambled",),
    question="Do numbers lie beside those that belong beside them?",
    threshold=THRESHOLD,
    run=_run,
    explains="data.constant-images data.labels-random data.shift model.receptive-field fit.*",
)
