"""data.augmentation: does what augmentation leaves of training inputs still show what is asked?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import combinations
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.as_held import labels_fit_as_held
from striate.doctor.checks.data.color_orders import colors_exchanged
from striate.doctor.checks.data.erased import erased, erased_by_step
from striate.doctor.checks.data.exchanged import EXCHANGED, TAKEN, exchanged, moved_back
from striate.doctor.checks.data.views_of_nothing import views_of_nothing
from striate.doctor.checks.model.variants import question
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.evidence.changed_by_asking import Changed
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.reading import DRAWN, collated_anew
from striate.doctor.evidence.simple_models import Reference, Whole, are_of_others, consult, related
from striate.doctor.evidence.trial import Change
from striate.doctor.evidence.way_gone import way_gone
from striate.doctor.setup.batch import altered, main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in
from striate.records import Finding, Severity
from striate.wording import several, show_shape

_GAP, _SHARE = 0.25, 0.7
_LEARNED = 0.15
"""So near to simple models of validation, the network has learned all the same, as from samples that are blended."""
_LABELS, _RARE, _KNOWN = 20, 0.15, 0.4
"""Labels of a sample that are looked at; the share of samples that has one, or has it not; of what there is to know."""
_TOLD, _MORE_LEFT, _HALF = 0.8, 2.5, 0.5
"""Of a quantity: the correlation in validation; how much more is left unexplained of training; the part of the variance
that the network has not learned."""
_TURNED, _CONFUSED, _TELLS = 0.25, 0.08, 0.75
_FEWEST_IN_CLASS, _ASKED = 12, 1000
_FEWEST, _PAIRS = 100, 4
_BATCHES = 24
_SMOOTH, _WHITE, _LESS_SMOOTH = 0.3, 0.1, 0.5
"""Correlations of values with those beside them: of pictures and signals, and of noise; what noise leaves of them."""
_OF_NOISE = 0.95
"""Of the variance of what is drawn: what is another with each draw."""
_LEFT_OF_NOISE = 0.05
"""Of a sample's deviation: where noise is taken off again, what rounding leaves."""
_TO_RESTORE = " and are to be restored, the square root of how many each has"
_DRAWN_AWAY = f"{_OF_NOISE:.0%} of the variance of what is shown is another with each draw, each value by itself"
_LESS_NOISE = (
    "What is added drowns the sample.",
    "add less noise: a tenth of the standard deviation of the samples, `x + 0.1 * x.std() * randn_like(x)`",
)
_LESS_OF_A_QUANTITY = (
    "What is left after augmentation hardly shows the number that is asked for: a size is another one in a picture "
    "that is zoomed, a count in one that is cut.",
    "leave out the change that the number does not follow, such as crops that are brought to full size; or change the "
    "number with it",
)
_CROPPED, _NOISE, _MOSTLY = 0.1, 3.0, 0.95
"""Of the area of validation; of the deviation of its values: moves, crops and flips stay below once; of that of
training."""
_FAR_APART = (
    f"draws of a sample differ by more than {_NOISE:g} times the deviation of validation and {_MOSTLY:g} times that of "
    "training"
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    changed = evidence.changed_by_asking
    if changed is not None and not changed.same:
        yield _piling_up(changed)
        return
    views = (
        _views_that_are_one(evidence)
        or views_of_nothing(evidence)
        or colors_exchanged(evidence)
        or erased(evidence)
        or erased_by_step(evidence)
        or _drowned(evidence)
        or _other_with_each_draw(evidence)
    )
    if views is not None:
        yield views
        return
    val = evidence.val_samples
    destroyed = _destroyed(evidence)
    if destroyed is not None:
        yield destroyed
        return
    if (several_labels := _told_apart(evidence)) is not None:
        yield from _of_labels(evidence, *several_labels)
        return
    with suppress(NoEvidence):
        if (said := _of_quantity(evidence)) is not None:
            yield _finding(
                "loader",
                said,
                *_LESS_OF_A_QUANTITY,
                limit=f"simple models, whose answers correlate by {_TOLD:g} with a number in validation, leave "
                f"{_MORE_LEFT:g} times as much of its variance in training samples as they are shown",
            )
            return
    given, labels, place = _given(evidence)
    if len(given) < _FEWEST or len(val.labels) < _FEWEST:
        raise NoEvidence(f"fewer than {_FEWEST} samples to compare")
    anew, unknown = _is_drawn_anew(evidence) if place == "loader" else (True, None)
    if not anew:
        if (swapped := _moved_once(evidence, given, labels)) is not None:
            words, one, other = swapped
            yield _of_a_move(
                place,
                words,
                f"{TAKEN:.0%} or more of the training samples of class {one} look like class {other} of validation to "
                f"a simple model, and of {other} like {one}; {words}, they look like their own",
                f"{TAKEN:.0%} of each of two classes, as shown, look like the other one until they are flipped or "
                "turned back",
            )
        elif unknown is not None:
            raise unknown
        return
    shown = consult(given, labels, evidence.clock)
    plain = consult(val.sole_inputs, val.labels, evidence.clock)
    seen, there = _best(shown), _best(plain)
    alike = given.shape[1:] == val.sole_inputs.shape[1:] and val.sole_inputs.ndim >= 3
    turned = _turned(given, labels, shown, plain) if alike else None
    if turned is not None and _confuses(evidence, *turned[:2]):
        one, other, share = turned
        yield _finding(
            place,
            f"{share:.0%} of the training samples of class {one}, as they are shown, look like class {other} of "
            f"validation, and as many of class {other} like class {one}, to a simple model that confuses "
            f"{_CONFUSED:.0%} of them at most in validation",
            "Augmentation makes samples of one class into those of another, and leaves their labels.",
            "leave out the change that exchanges the two, such as a turn or a flip; or change the label with it",
            limit=f"{_TURNED:.0%} of each of two classes, as shown, look like the other one",
        )
        return
    if alike and (swapped := exchanged(evidence, plain, given, place)) is not None:
        words, one, other = swapped
        yield _of_a_move(
            place,
            words,
            f"some of the training images are {words}; once validation is, simple models take {EXCHANGED:.0%} or more "
            f"of class {one} for class {other}, and of {other} for {one}",
            f"{EXCHANGED:.0%} of each of two classes look like the other one once validation is flipped or turned as "
            "training is",
        )
        return
    if there - seen < _GAP or seen > _SHARE * there or _learned(evidence) > there - _LEARNED:
        return
    if place == "step" and there - _best(evidence.reference) > _GAP:
        return  # it is the loader's samples themselves
    if alike and are_of_others(plain, given[:_ASKED], labels[:_ASKED]) and not labels_fit_as_held(evidence):
        return  # it is the labels
    yield _finding(
        place,
        f"of {several(len(shown.labels), 'training sample')} as they are shown "
        f"({show_shape(given.shape[1:])}) simple models predict {seen:.0%} of those left out, "
        f"of {several(len(plain.labels), 'validation sample')} "
        f"({show_shape(val.inputs.shape[1:])}) {there:.0%}",
        "What is left after augmentation hardly shows what the label says: a person could not tell it either.",
        "look at a batch as it is trained on, and augment less: crops of most of the image (such as "
        "`F.pad(x, [2] * 4)` and a crop of the full size, or a scale from 0.5 on), turns by few degrees, less noise",
        limit=f"simple models predict {_GAP:.0%} less, and less than {_SHARE:.0%} as much, of training samples as they "
        f"are shown than of validation samples, each from others, and the trial's network {_LEARNED:.0%} less of "
        "validation than they do",
    )


def _learned(evidence: Evidence) -> float:
    """The network's accuracy in validation after the trial; 0 where it names no classes, as of embeddings."""
    try:
        return evidence.after_val.accuracy
    except NoEvidence:
        if predicts_targets(evidence):
            raise
        return 0.0


def _told_apart(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Labels of training and of validation (N, K), of which a sample may have several; None where it has one."""
    y, other = evidence.samples.y, evidence.val_samples.y
    if y is None or other is None or y.ndim != 2 or y.shape[1:] != other.shape[1:] or not 1 < y.shape[1] <= _LABELS:
        return None
    whole = torch.cat([y, other]).double()
    if not bool(((whole == 0) | (whole == 1)).all()) or bool((whole.sum(1) == 1).all()):
        return None
    return y.long(), other.long()


def _of_quantity(evidence: Evidence) -> str | None:
    """What says that simple models tell a number of validation images, and much less of training images as they are
    drawn, as of a size beside pictures that are zoomed; nor has the network learned it."""
    samples, val = evidence.samples, evidence.val_samples
    (x, y), (plain_x, plain_y) = ((part.sole_inputs, part.values) for part in (samples, val))
    if min(len(x), len(plain_x)) < _FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.drawn_anew:
        return None
    there = max(related(plain_x, plain_y, evidence.clock).models.values())
    after = quality(evidence.after_val.outputs, evidence.after_val.targets)
    if there < _TOLD or after is None or after.loss < _HALF * after.constant:
        return None
    seen = max(related(x, y, evidence.clock).models.values())
    if 1 - seen**2 < _MORE_LEFT * (1 - there**2):
        return None
    return (
        f"predictions of simple models correlate with the targets of {several(len(x), 'training sample')} as they are "
        f"shown by {seen:.2f}, each left out, and with those of {several(len(plain_x), 'validation sample')} by "
        f"{there:.2f}"
    )


def _of_labels(evidence: Evidence, y: torch.Tensor, other: torch.Tensor) -> Iterator[Finding]:
    """One of several labels that simple models tell of validation samples, and not of training samples as they are
    drawn; nor has the network learned it."""
    x, plain_x, after = evidence.samples.sole_inputs, evidence.val_samples.sole_inputs, evidence.after_val
    if min(len(x), len(plain_x)) < _FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.drawn_anew:
        return
    for label in range(y.shape[1]):
        shares = [float(part[:, label].double().mean()) for part in (y, other)]
        if min(shares) < _RARE or max(shares) > 1 - _RARE:
            continue
        plain = consult(plain_x, other[:, label], evidence.clock)
        there = _skill(_best(plain), shares[1])
        if there < _KNOWN:
            continue
        seen = _skill(_best(consult(x, y[:, label], evidence.clock)), shares[0])
        if there - seen < _GAP or seen > _SHARE * there or after.outputs.shape[1:] != y.shape[1:]:
            continue
        told = (after.outputs[:, label] > 0).long() == other[: len(after.outputs), label]
        if _skill(float(told.double().mean()), shares[1]) > there - _GAP:
            continue
        yield _finding(
            "loader",
            f"of label {label} of {y.shape[1]} simple models tell {there:.0%} of what there is to know from "
            f"{several(len(plain_x), 'validation sample')}, and {max(seen, 0):.0%} from "
            f"{several(len(x), 'training sample')} as they are drawn, each from others",
            "What is left after augmentation hardly shows this label: a person could not tell it either.",
            "leave out the change that takes it away, such as channels in another order where colors tell the label",
            limit=f"of what there is to know of a label, {_KNOWN:.0%} in validation by simple models, and {_GAP:.0%} "
            f"less, and less than {_SHARE:.0%} as much, in training samples as they are shown",
        )
        return


def _skill(accuracy: float, share: float) -> float:
    """Of what there is to know of a label that this share of samples has: 0 for saying what is more frequent."""
    most = max(share, 1 - share)
    return (accuracy - most) / (1 - most)


def _views_that_are_one(evidence: Evidence) -> Finding | None:
    """Several views of each sample, to be compared with each other, that are equal number for number: as the loader
    yields them, or one set behind the other as the network is given them."""
    inputs, second = parts(evidence.train.raw[0])
    runs = sum(call.module is evidence.setup.model or not call.name for call in evidence.graph.modules)
    if runs > 1 and evidence.drawn_anew:  # each view by itself: the second stands where a target would
        inputs = [inputs, second]
    views = [t for t in tensors_in(inputs) if isinstance(t, torch.Tensor) and t.ndim > 2]
    shown = evidence.first.shown
    if len(views) < 2 and shown is not None and shown.ndim > 2 and len(shown) >= _PAIRS and len(shown) % 2 == 0:
        views = list(shown.detach().cpu().chunk(2))
    alike = (a.shape == b.shape and torch.equal(a, b) for a, b in combinations(views, 2))
    if not any(alike) or not float(views[0].double().std()) > 0:
        return None
    return _finding(
        "loader",
        f"the views of each of {several(len(views[0]), 'sample')} are equal, number for number",
        "To find that two copies agree teaches nothing: views are to differ in what does not matter.",
        "draw each view by a call of its own: `[transform(image) for _ in range(2)]`, not `[transform(image)] * 2`",
        limit="views of each sample that are equal",
    )


def _destroyed(evidence: Evidence) -> Finding | None:
    """What no label can be told from, whatever it says: crops of next to nothing, noise far above the signal."""
    x, plain = evidence.samples.x, evidence.val_samples.x
    if x is None or plain is None or x.ndim not in (3, 4) or plain.ndim != x.ndim or not evidence.drawn_anew:
        return None
    if x.ndim == 3:
        return _noisy_sets(evidence, x, plain)
    y = evidence.samples.y
    area = x.shape[2] * x.shape[3] / (plain.shape[2] * plain.shape[3])
    if area < _CROPPED and x.shape[1] == plain.shape[1] and y is not None and y.ndim <= 2:
        return _finding(
            "loader",
            f"training samples are {show_shape(x.shape[2:])}, validation samples {show_shape(plain.shape[2:])}: "
            f"{area:.0%} of the area",
            "So small a part hardly shows what the label of the whole says.",
            "crop most of the image: `F.pad(x, [2] * 4)` and a crop of the full size, or a scale from 0.5 on",
            limit=f"samples have less than {_CROPPED:.0%} of the area of those of validation",
        )
    apart, drawn, values = _between_draws(evidence), float(x.double().std()), float(plain.double().std())
    white, smooth = _with_neighbor(x), _with_neighbor(plain)
    # Else it is the scale of validation that differs, not noise that hides all: that leaves no value like its neighbor.
    noisy = white < max(_WHITE, _LESS_SMOOTH * smooth) and apart > _NOISE * values > 0 and apart > _MOSTLY * drawn
    # Where noise is clamped to the range of the images, it is no larger than they are.
    clamped = abs(white) < _WHITE and smooth > _SMOOTH and apart**2 > _OF_NOISE * drawn**2
    if x.shape[1:] == plain.shape[1:] and (noisy or clamped):
        far = f"{_FAR_APART}, and values are half as like those beside them as in validation"
        return _told_of_noise(apart, drawn, values, far if noisy else f"{_DRAWN_AWAY}, and that of validation is not")
    return None


def _noisy_sets(evidence: Evidence, x: torch.Tensor, plain: torch.Tensor) -> Finding | None:
    """Noise far above sets of points or vectors, of which the network learned nothing: as a set may be drawn in another
    order, draws that differ are not enough."""
    white = max(abs(_with_neighbor(x)), abs(_with_neighbor(x.transpose(1, 2))))
    if not x.is_floating_point() or x.shape[1:] != plain.shape[1:] or white > _WHITE:
        return None
    apart, drawn, values = _between_draws(evidence), float(x.double().std()), float(plain.double().std())
    if apart <= max(_NOISE * values, _MOSTLY * drawn) or values <= 0:
        return None
    learned = way_gone(evidence.after)
    if learned is None or learned >= _LEARNED:
        return None
    return _told_of_noise(apart, drawn, values, f"{_FAR_APART}, and the trial's network learned nothing")


def _told_of_noise(apart: float, drawn: float, values: float, limit: str) -> Finding:
    return _finding(
        "loader",
        f"two draws of the same training sample differ by {apart:.3g} (root mean square, over the square root of "
        f"2), all values of training by {drawn:.3g} and of validation by {values:.3g}",
        "No move or crop of a sample changes it so much: what is added drowns it.",
        _LESS_NOISE[1],
        limit=limit,
    )


def _drowned(evidence: Evidence) -> Finding | None:
    """Noise that the step adds to inputs, far above them; where something like them is to be made of it, so far that
    all numbers of a sample together tell nothing."""
    inputs, targets = parts(evidence.train.raw[0])
    plain, wanted, given = main_tensor(inputs), main_tensor(targets), evidence.first.shown
    if plain is None or wanted is None or given is None or plain.ndim < 3:
        return None
    restores, bytes_read = wanted.shape[1:] == plain.shape[1:], not plain.is_floating_point()
    if given.shape != plain.shape or (restores and bytes_read):
        return None
    plain, given = plain.double(), given.detach().cpu().double()
    values, apart = float(plain.std()), float(given.std())
    smooth, white = _with_neighbor(plain), _with_neighbor(given)
    # What is moved, turned or scaled keeps its neighbors alike.
    if not (smooth > _SMOOTH and abs(white) < _WHITE):
        return None
    if bytes_read and not any(evidence.graph.noise_asked_for()) and _share_drawn(evidence) > _OF_NOISE:
        return _finding(
            "step",
            f"the network is given values of which {_OF_NOISE:.0%} of the variance and more is another with each draw, "
            f"each by itself, of samples whose values are like those beside them (correlation {smooth:.2f}, as given "
            f"{white:.2f})",
            *_LESS_NOISE,
            limit=f"{_DRAWN_AWAY}, of samples whose values are like those beside them",
        )
    least, times = (float(given.flatten(1).std(1).min()), plain[0].numel() ** 0.5) if restores else (apart, _NOISE)
    if bytes_read or not least > times * values > 0 or (restores and not _is_added(evidence)):
        return None
    return _finding(
        "step",
        f"the network is given values that differ by {apart:.3g}, each by itself, of samples whose values differ by "
        f"{values:.3g} and are like those beside them (correlation {smooth:.2f}, as given {white:.2f})",
        *_LESS_NOISE,
        limit=f"{times:.3g} times the deviation of samples whose values are like those beside them"
        f"{_TO_RESTORE if restores else ''}, and no value is like the one beside it",
    )


def _is_added(evidence: Evidence) -> bool:
    """Whether the network is given a sample and what does not depend on it: of a blank one that alone, as noise."""
    batch = evidence.train.raw[0]
    plain, path = main_tensor(parts(batch)[0]), evidence.samples.x_path
    if plain is None or path is None:
        return False
    blank = altered(batch, path, torch.zeros_like)
    full, noise = (main_tensor(question(evidence, one, seed=0)[0]) for one in (batch, blank))
    if full is None or noise is None or full.shape != plain.shape:
        return False
    return torch.allclose((full - noise).cpu().double(), plain.double(), atol=_LEFT_OF_NOISE * float(plain.std()))


def _share_drawn(evidence: Evidence) -> float:
    """The share of the variance of what the step gives the network that is another when it is given the batch again."""
    one, other = (main_tensor(question(evidence, evidence.train.raw[0], seed=seed)[0]) for seed in (0, 1))
    if one is None or other is None or one.shape != other.shape:
        return 0.0
    return float((one - other).double().var() / (2 * one.double().var()))


def _other_with_each_draw(evidence: Evidence) -> Finding | None:
    """Samples of which next to nothing stays when they are drawn again, each value by itself, as under noise; where
    there is no validation to show what they were."""
    if evidence.setup.val is not None:
        return None
    x = evidence.samples.sole_inputs
    if x.ndim < 3 or not x.is_floating_point() or not evidence.drawn_anew:
        return None
    drawn, apart, white = float(x.double().std()), _between_draws(evidence), _with_neighbor(x.double())
    if apart**2 < _OF_NOISE * drawn**2 or abs(white) > _WHITE:
        return None
    best = evidence.reference.best[0]
    if evidence.reference.accuracy(best) - evidence.reference.by_chance(best) > _LEARNED:
        return None  # what is drawn is no noise to them
    return _finding(
        "loader",
        f"a sample drawn again differs by {apart:.3g} in each value by itself, where all values differ by {drawn:.3g}: "
        "next to nothing of it stays",
        *_LESS_NOISE,
        limit=_DRAWN_AWAY,
    )


def _with_neighbor(x: torch.Tensor) -> float:
    """The correlation of values with those beside them along the last axis."""
    pairs = torch.stack([x[..., :-1].flatten(), x[..., 1:].flatten()])
    return float(torch.corrcoef(pairs)[0, 1]) if pairs.shape[1] > 1 else 0.0


def _between_draws(evidence: Evidence) -> float:
    """The deviation of a sample's numbers over draws: that of what augmentation adds."""
    data: Any = evidence.setup.train.dataset  # type: ignore[attr-defined]
    found = []
    for number in range(min(DRAWN, len(data))):
        one, other = (main_tensor(parts(data[number])[0]) for _ in range(2))
        if one is not None and other is not None and one.shape == other.shape:
            found.append((one.double() - other.double()).square().mean() / 2)
    return float(torch.stack(found).mean().sqrt()) if found else 0.0


def _finding(place: str, measured: str, why: str, remedy: str, *, limit: str, severity: Severity = "error") -> Finding:
    return AUGMENTATION.finding(
        severity=severity,
        where="the augmentation of training inputs" + (", in the training step" if place == "step" else ""),
        measured=measured,
        limit=limit,
        why=why,
        remedy=remedy,
    )


def _piling_up(changed: Changed) -> Finding:
    return _finding(
        "loader",
        f"the data set was asked for {several(changed.asked, 'sample')}, and what it holds of {changed.spoiled} of "
        "them was another afterwards",
        "Noise and moves are written into the stored samples and pile up from epoch to epoch.",
        "change a copy: `image = self.images[index].clone()` (`.copy()` of NumPy), or `image = image + noise` in "
        "place of `image += noise`",
        limit="what the data set holds of a sample is another one once it was asked for it",
    )


def _of_a_move(place: str, words: str, measured: str, limit: str) -> Finding:
    return _finding(
        place,
        measured,
        "Augmentation makes samples of one class into those of another, and leaves their labels.",
        f"leave out the change: images {words} are of another class here",
        limit=limit,
        severity="warning",
    )


def _is_drawn_anew(evidence: Evidence) -> tuple[bool, NoEvidence | None]:
    """Whether samples are drawn anew each time, and why that is not known."""
    try:
        return evidence.drawn_anew or collated_anew(evidence.setup.train), None
    except NoEvidence as reason:
        return False, reason


def _moved_once(evidence: Evidence, given: torch.Tensor, labels: torch.Tensor) -> tuple[str, int, int] | None:
    """As `moved_back`, of samples of which no second draw can be compared."""
    val = evidence.val_samples
    if given.shape[1:] != val.sole_inputs.shape[1:] or given.ndim != 4:
        return None
    plain = consult(val.sole_inputs, val.labels, evidence.clock)
    return moved_back(plain, given[:_ASKED], labels[:_ASKED])


def _turned(
    given: torch.Tensor, labels: torch.Tensor, shown: Reference, plain: Reference
) -> tuple[int, int, float] | None:
    """Two classes some of each of which are taken for the other in training, by a model of validation that tells them
    apart, and by one of training: where validation numbers classes otherwise, training tells them apart."""
    name, mine = plain.best[0], shown.best[0]
    if plain.accuracy(name) < _TELLS:
        return None
    told = plain.ask(given[:_ASKED], name), labels[:_ASKED].numpy()
    known = plain.opinions[name].predictions, plain.labels
    own = shown.opinions[mine].predictions, shown.labels
    classes = sorted(set(plain.labels.tolist()))
    for one, other in combinations(classes, 2):
        ways = [(one, other), (other, one)]
        shares = [_taken(told, a, b) for a, b in ways]
        confused = max(_taken(own, a, b) for a, b in ways) >= _TURNED
        if confused and min(shares) >= _TURNED and max(_taken(known, a, b) for a, b in ways) <= _CONFUSED:
            return one, other, min(shares)
    return None


def _confuses(evidence: Evidence, one: int, other: int) -> bool:
    """Whether the trial's network takes some of validation of one class for the other, or of training where the step
    cannot be given validation."""
    try:
        after = evidence.after_val
    except NoEvidence as reason:
        if isinstance(reason, OutOfTime):
            raise
        after = evidence.after
    predicted, targets = after.predicted, after.targets
    if targets is None or predicted.ndim != 1:
        return False
    told = predicted.numpy().astype("int64"), targets.reshape(-1).numpy().astype("int64")
    return max(_taken(told, one, other), _taken(told, other, one)) >= _TURNED


def _taken(told: tuple[Whole, Whole], label: int, other: int) -> float:
    """The share of samples of a class that is taken for another one, of predictions and labels."""
    found = told[0][told[1] == label]
    return float((found == other).mean()) if len(found) >= _FEWEST_IN_CLASS else 0.0


def _best(reference: Reference) -> float:
    return reference.accuracy(reference.best[0])


def _given(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor, str]:
    """What the network is given in training steps (N, …), its labels (N,), and who made that of the samples."""
    first, inputs = evidence.first, main_tensor(parts(evidence.train.raw[0])[0])
    shown = first.shown
    if shown is None or inputs is None or (shown.shape == inputs.shape and torch.equal(shown.cpu(), inputs.cpu())):
        return evidence.samples.sole_inputs, evidence.samples.labels, "loader"
    if first.blended or evidence.blended or not _asks_plainly(evidence) or len(shown) != len(inputs):
        if not evidence.drawn_anew:
            raise NoEvidence("the step gives the loss other targets than the loader yields")
        return evidence.samples.sole_inputs, evidence.samples.labels, "loader"
    kept: list[torch.Tensor] = []

    def prepare(replica: Replica) -> None:
        step = replica.step

        def watched(model: Any, batch: Any, optimizer: Any, loss: Any) -> Any:
            seen: list[torch.Tensor] = []

            def note(call: ModuleCall) -> None:
                tensor = main_tensor(call.args)
                if tensor is not None:
                    seen.append(tensor.detach().cpu().clone())

            with module_calls({"": model}, note):
                value = step(model, batch, optimizer, loss)
            kept.extend(seen[:1])
            return value

        steps.append(watched)

    steps: list[Any] = []
    batches = evidence.train.raw[:_BATCHES]
    change = Change(step=lambda *given: steps[0](*given), prepare=prepare, notes=kept)
    kept = evidence.variant("inputs of the network", change, batches=batches, steps=len(batches)).notes
    sizes = evidence.train.sizes[: len(kept)]
    if [len(tensor) for tensor in kept] != list(sizes) or len({tensor.shape[1:] for tensor in kept}) != 1:
        raise NoEvidence("the network is not given one input a sample")
    return torch.cat(kept), evidence.samples.labels[: sum(sizes)], "step"


def _asks_plainly(evidence: Evidence) -> bool:
    """Whether the loss is given the labels that the loader yields, also where it is none of the setup's but torch's."""
    plain, labels = evidence.samples.plain, main_tensor(parts(evidence.train.raw[0])[1])
    if plain is not None or labels is None:
        return bool(plain)
    return any(torch.equal(call.target.cpu(), labels.cpu()) for call in evidence.calls.losses)


AUGMENTATION = Check(
    codes=("data.augmentation",),
    question="Does what augmentation leaves of training inputs still show what is asked?",
    run=_run,
    quick=False,
    explains="data.constant-images data.labels-random data.label-map "
    "data.label-noise data.shift data.not-normalized model.receptive-field "
    "model.collapsed model.too-small model.shrinks-too-fast optim.lr-too-low optim.lr-too-high fit.*",
)
