"""Labels or target numbers that have nothing to do with the inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.as_held import labels_fit_as_held
from striate.doctor.checks.data.collated_apart import collated_apart
from striate.doctor.checks.data.input_values import bare_samples
from striate.doctor.checks.data.sources_apart import unrelated_sequences
from striate.doctor.evidence.answering import need_targets
from striate.doctor.evidence.answers import names_count
from striate.doctor.evidence.call_graph import CallGraph
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import channels_first, is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.graph_batches import graphs_described
from striate.doctor.evidence.held_samples import FEWEST_IN_CLASS, labeled_samples
from striate.doctor.evidence.nearness import copies_in
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.samples import Samples, class_numbers, gathered
from striate.doctor.evidence.simple_models import Reference, answers_belong, are_of_others, belonging, consult, related
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import dealt_anew, leaves, main_tensor, parts
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.wording import several

SIGMAS, _OF_WORDS, _OF_SEVERAL = 3.0, 2.0, 4.5
SLIGHT = 0.05
"""Part of what there is to gain over chance; less is met now and then by one of several models."""
LEAST = 0.12
LEAST_NUMBERS = 0.25
_FEWEST_APART = 6
_FEWEST, _FEWEST_MAPS, _MOST_NUMBERS, _ASKED_FOR = 60, 20, 16, 2
_TO_GAIN, _FEWEST_RANKED = 0.3, 10
_TURNED, _SURELY = 0.35, 5.0
"""Area under the ROC curve of the wrong way round, and standard errors."""
_COMMON = 0.35
"""How far from half of the samples a label may have to be asked about."""
_ASKED, _KNOWN = 1000, 0.4
"""Samples; of what there is to gain over chance, what models of validation know of it."""
_AT_CHANCE = f"no simple model is better than chance by {SIGMAS:g} standard errors on samples that it was not fitted to"
_WHY = (
    "There is nothing to learn: the loss can only fall by learning single samples by heart, and validation stays at "
    "chance."
)
_REMEDY = (
    "Look at ten samples beside their targets. Usual reasons: one of x and y was shuffled or sorted alone (`p = "
    "torch.randperm(len(x)); x, y = x[p], y[p]`, both), they are drawn with different numbers (`i = "
    "torch.randint(len(x), (32,)); x[i], y[i]`, one `i`), files and labels come from lists in different orders (take "
    "the label from the file's own row or folder), a join on the wrong column."
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    with suppress(NoEvidence):
        if (noise := _noise_apart(evidence)) is not None:
            return [noise]
    if (sequences := _sequences(evidence)) is not None:
        return [sequences]
    if (apart := _apart(evidence)) is not None:
        return [apart]
    return _of_samples(evidence)


def _noise_apart(evidence: Evidence) -> Finding | None:
    """Noise of a normal distribution that is asked for, as by diffusion, and that nothing was made of which the network
    is shown."""
    graph = evidence.graph
    for call, output, made in graph.noise_asked_for():
        wide = bool(call.given) and len(call.given[0]) > 1
        if not wide or made.index in _numbers_of(graph, output):
            continue
        return LABELS_RANDOM.finding(
            severity="error",
            where="the training step",
            measured=f"`{call.name}` compares what the network gives with numbers of `{made.name}` that are in nothing "
            "that it is shown",
            limit="a target of noise that the inputs do not have",
            why="Nobody can guess noise that was drawn elsewhere: the best prediction is its mean.",
            remedy="draw the noise once: `noise = torch.randn_like(x)`, add that one to the inputs, and ask for it",
        )
    return None


def _sequences(evidence: Evidence) -> Finding | None:
    """Sequences that are to be translated, beside translations of others."""
    measured = unrelated_sequences(evidence)
    if measured is None:
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="training targets",
        measured=measured,
        limit="tokens of sources go with those of their targets no more than with those of others of the same lengths",
        why="The translation lies beside another sentence: all that can be learned is what targets look like.",
        remedy="Keep each source and its target in one pair, and sort or shuffle pairs: `pairs = sorted(zip(sources, "
        "targets), key=lambda pair: len(pair[0]))`.",
    )


def _apart(evidence: Evidence) -> Finding | None:
    """Inputs and labels in different rows of the batches that the loader's collate function makes, where the network
    knows no more of validation than chance: a step may put them together again."""
    wrong, known = collated_apart(evidence.setup.train) or (0, 0)
    if wrong < _FEWEST_APART or _better_than_chance(_val(evidence)):
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="the collate function",
        measured=f"of {wrong} of {several(known, 'sample')} the input is in another row of the batch than the label",
        limit=f"{_FEWEST_APART} samples whose input and label change one other row of a batch each, and a network "
        "no better than chance at validation",
        why=_WHY,
        remedy="sort or shuffle the samples, not one part of them: `batch = sorted(batch, key=lambda item: "
        "len(item[0]), reverse=True)`",
    )


def _numbers_of(graph: CallGraph, index: int) -> set[int]:
    """The calls whose numbers go into a result; `randn_like` and its kind take nothing but a shape."""
    found: set[int] = set()
    awaiting = [index]
    while awaiting:
        at = awaiting.pop()
        if at >= 0 and at not in found:
            found.add(at)
            awaiting += () if graph.calls[at].name.endswith("_like") else graph.calls[at].inputs
    return found


def _of_samples(evidence: Evidence) -> Iterable[Finding]:
    if evidence.samples.maps is not None:
        return _maps(evidence, evidence.samples.maps)
    if not evidence.samples.alone and (linked := _linked(evidence.train.raw)) is not None:
        return _of_held(evidence, *linked, where="training labels", how="of images that pairs call the same")
    need_targets(evidence)
    try:
        labels = evidence.samples.labels
    except NoEvidence:
        held = labeled_samples(evidence.setup.train)
        return _numbers(evidence) if held is None else _of_held(evidence, *held)
    if len(labels) < _FEWEST:
        raise NoEvidence(
            f"{several(len(labels), 'sample is', 'samples are')} too few to tell labels at random from hard ones"
        )
    return _classes(evidence)


def _classes(evidence: Evidence) -> Iterable[Finding]:
    if (turned := _turned_in_validation(evidence)) is not None:
        yield turned
        return
    graphs = graphs_described(evidence.train.raw, evidence.samples.labels)
    torn = (_copies(evidence) or _beside_validation(evidence)) if graphs is None else None
    if torn is not None:
        if not labels_fit_as_held(evidence):
            yield torn
        return
    if _better_than_chance(_val(evidence)):
        return
    labels = evidence.samples.labels
    rows = _evened(labels) if graphs is None else None
    if rows is not None:
        reference = consult(evidence.samples.sole_inputs[rows], labels[rows], evidence.clock)
    else:
        reference = evidence.reference if graphs is None else consult(graphs, labels, evidence.clock)
    said = _at_chance(reference)
    if said is None:
        return
    network = _network(evidence, graphs is not None, ranked=rows is not None)
    if network is None or labels_fit_as_held(evidence):
        return
    yield LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"accuracy on samples that a model was not fitted to, {len(reference.labels):,} in all"
        f"{', as many of the commonest class as of the next' if rows is not None else ''}: {', '.join(said)}; the "
        f"network {network}",
        limit=f"{_AT_CHANCE}, though {LEAST:g} of accuracy would have shown, nor is the network",
        why=_WHY,
        remedy=_REMEDY,
    )


def _turned_in_validation(evidence: Evidence) -> Finding | None:
    """Labels of ids that say the opposite of those of validation: a network is right about samples of training that it
    was not trained on, and gets validation the wrong way round."""
    given = list(tensors_in(parts(evidence.train.raw[0])[0]))
    if any(part.ndim != 1 or part.is_floating_point() for part in given):
        return None
    area, sigmas = _area(_val(evidence))
    held = _held_out(evidence) if area < _TURNED and sigmas < -_SURELY else None
    if held is None:
        return None
    trial = evidence.variant("held out", Change(), batches=held[0])
    own, sure = _area(evidence.predictions_of(trial, held[1]))
    if own < 1 - _TURNED or sure < _SURELY:
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"samples labeled 1 get a higher output than others in {area:.0%} of the pairs of validation, and in "
        f"{own:.0%} of training samples that the network was not trained on",
        limit=f"of ids, less than {_TURNED:.0%} in validation by {_SURELY:g} standard errors, and more than "
        f"{1 - _TURNED:.0%} in training",
        why="What the network learns from training is the opposite of what validation asks for.",
        remedy=_REMEDY,
    )


def _area(predictions: Predictions | None) -> tuple[float, float]:
    """The area under the ROC curve of single outputs for labels of 0 and 1, and its distance from chance in standard
    errors; chance where outputs are no such thing."""
    labels = None if predictions is None else class_numbers(predictions.targets)
    if predictions is None or labels is None or predictions.outputs.numel() != len(labels):
        return 0.5, 0.0
    return _rank_sum(predictions.outputs.flatten().double(), labels == 1)


def _at_chance(reference: Reference) -> list[str] | None:
    """What simple models know of labels, and what chance does, in words; None where one is better, or may be. Raises
    NoEvidence where that would hardly show."""
    said, count = [], len(reference.labels)
    for name in reference.best:
        chance, got = reference.by_chance(name), reference.accuracy(name)
        error = (chance * (1 - chance) / count) ** 0.5
        if 1 - chance < _TO_GAIN:
            raise NoEvidence("nearly all samples are of one class: better than chance would hardly show")
        if got - chance >= max(SIGMAS * error, SLIGHT * (1 - chance)) or got - chance + 2 * error > LEAST:
            return None
        said.append(f"{name} {got:.2f} (chance {chance:.2f})")
    return said


def _linked(batches: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The images of pairs (N, C, H, W), each once, and by number which of them pairs link that are called the same
    (N,): parts of classes; None of other batches, and where images are others in each pair."""
    pictures, answers = ([path for path, t in leaves(batches[0]) if t.ndim == ndim] for ndim in (4, 1))
    if len(pictures) != 2 or len(answers) != 1:
        return None
    one, other, told = (gathered(batches, path) for path in (*pictures, *answers))
    if one is None or other is None or told is None or one.shape != other.shape:
        return None
    if sorted(told.unique().tolist()) != [0, 1]:
        return None
    images = torch.cat([one, other])
    first, count = copies_in(images), len(one)
    for value in (1, 0):  # some call 1 what is different
        same = (told == value).nonzero().flatten()
        links = coo_array((np.ones(len(same)), (first[same], first[same + count])), shape=(2 * count, 2 * count))
        parts_of = torch.from_numpy(connected_components(links, directed=False)[1]).long()
        rows = first.unique()
        numbers, sizes = parts_of[rows].unique(return_inverse=True, return_counts=True)[1:]
        kept = sizes[numbers] >= FEWEST_IN_CLASS
        if int(kept.sum()) >= max(_FEWEST, len(rows) // 2) and int(sizes.max()) < len(rows) // 2:
            return images[rows[kept]].float(), numbers[kept].unique(return_inverse=True)[1]
    return None


def _of_held(
    evidence: Evidence,
    images: torch.Tensor,
    labels: torch.Tensor,
    where: str = "the labels of the training data set",
    how: str = "by which it chooses what goes together",
) -> Iterable[Finding]:
    said = _at_chance(consult(images[:_ASKED], labels[:_ASKED], evidence.clock))
    if said is not None:
        yield LABELS_RANDOM.finding(
            severity="error",
            where=where,
            measured=f"classes {how}: accuracy on samples that a model was not fitted to, "
            f"{len(labels[:_ASKED]):,} in all: {', '.join(said)}",
            limit=f"{_AT_CHANCE}, though {LEAST:g} of accuracy would have shown",
            why=_WHY,
            remedy=_REMEDY,
        )


def _evened(labels: torch.Tensor) -> torch.Tensor | None:
    """Rows with no more of the commonest class than of the next, where nearly all are of that class: better than chance
    would hardly show. None elsewhere."""
    counts = torch.bincount(labels[labels >= 0])
    if len(counts) < 2 or 1 - float((counts / counts.sum()).square().sum()) >= _TO_GAIN:
        return None
    most = int(counts.argmax())
    order = torch.randperm(int(counts[most]), generator=torch.Generator().manual_seed(0))
    chosen = torch.nonzero(labels == most).flatten()[order[: int(counts.sort().values[-2])]]
    return torch.cat([chosen, torch.nonzero((labels >= 0) & (labels != most)).flatten()]).sort().values


def _copies(evidence: Evidence) -> Finding | None:
    """Images that are drawn several times, with a label that has nothing to do with the one before."""
    x, labels = evidence.samples.sole_inputs, evidence.samples.labels
    if not is_grid(x):
        return None
    first = copies_in(x)
    again = (first >= 0) & (first != torch.arange(len(x))) & ~bare_samples(x)
    count = int(again.sum())
    if count < _FEWEST:
        return None
    shares = torch.bincount(labels).double() / len(labels)
    chance = float(shares.square().sum())
    same = float((labels[again] == labels[first[again]]).double().mean())
    if 1 - chance < _TO_GAIN or same > chance + max(SIGMAS * (chance * (1 - chance) / count) ** 0.5, SLIGHT):
        return None
    if not names_count(evidence):
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"{several(count, 'image comes', 'images come')} again, with the same label in {same:.0%} of the "
        f"cases; by chance {chance:.0%}",
        limit=f"{_FEWEST} images come again, with the same label as often as by chance",
        why=_WHY,
        remedy=_REMEDY,
    )


def _even_part(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels, of two classes of which one is rare as many of each."""
    x, labels = samples.sole_inputs, samples.labels
    rows = _evened(labels)
    return (x, labels) if rows is None else (x[rows], labels[rows])


def _beside_validation(evidence: Evidence) -> Finding | None:
    """Labels that have nothing to do with what models of validation, which know its labels well, see in the inputs."""
    x, labels = _even_part(evidence.samples)
    x, labels = x[:_ASKED], labels[:_ASKED]
    try:
        known_x, known_labels = _even_part(evidence.val_samples)
        if min(len(known_labels), len(labels)) < _FEWEST or x.shape[1:] != known_x.shape[1:]:
            return None
        reference = consult(known_x, known_labels, evidence.clock)
    except NoEvidence:
        return None
    name = reference.best[0]
    known, chance = reference.accuracy(name), reference.by_chance(name)
    if known - chance < _KNOWN * (1 - chance) or not are_of_others(reference, x, labels):
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"a simple model ({name}) of validation tells {known:.0%} of its labels, each from others, and sees "
        f"the same things in {several(len(x), 'training sample')}; their labels go with these no more than by chance",
        limit=f"a model that knows {_KNOWN:.0%} of what there is to know of validation sees as clear things in "
        "training samples, with which their labels do not go",
        why=_WHY,
        remedy=_REMEDY,
    )


def _numbers(evidence: Evidence) -> Iterable[Finding]:
    columns = _columns(evidence)
    asked = evidence.first.loss_targets is not None or evidence.calls.losses
    if not asked and sum(1 for _ in leaves(evidence.train.raw[0])) > 2:
        raise NoEvidence("which tensors of a batch are targets is not known: the loss is none of torch's")
    if len(columns) < _FEWEST:
        raise NoEvidence(
            f"{several(len(columns), 'sample is', 'samples are')} too few to tell targets at random from hard ones"
        )
    if _better_than_chance(_val(evidence)):
        return
    certain = SIGMAS if columns.shape[1] == 1 else _OF_SEVERAL
    for values in columns.T[:_ASKED_FOR]:
        found = related(evidence.samples.sole_inputs, values, evidence.clock)
        error = found.count**-0.5
        if max(found.models.values()) >= min(certain * error, LEAST_NUMBERS) or 2 * error > LEAST_NUMBERS:
            return
    network = _network(evidence)
    if network is None:
        return
    said = ", ".join(f"{name} {value:.2f}" for name, value in found.models.items())
    which = "targets" if columns.shape[1] == 1 else f"second of {columns.shape[1]} targets"
    yield LABELS_RANDOM.finding(
        severity="error",
        where="training targets",
        measured=f"correlation with the {which} of samples that a model was not fitted to, {found.count:,} in all: "
        f"{said} (chance: 0 ± {error:.2f}); the network {network}",
        limit=f"{_AT_CHANCE}, though {LEAST_NUMBERS:g} of correlation would have shown, nor is the network",
        why=_WHY,
        remedy=_REMEDY,
    )


def _columns(evidence: Evidence) -> torch.Tensor:
    """The target numbers (N, K) as float64: one a sample, labels of which it may have several, or some of what is seen
    in images, such as a box or the logits of a teacher. Raises NoEvidence."""
    try:
        return evidence.samples.values[:, None]
    except NoEvidence:
        y = evidence.samples.y
        few = y is not None and y.is_floating_point() and y.ndim == 2 and 1 < y.shape[1] <= _MOST_NUMBERS
        if y is None or not few or bool((y.std(0) <= 0).any()):
            raise
        if bool(((y.sum(1) - 1).abs() < 1e-3).all()):
            raise  # shares of classes
        if not bool(((y == 0) | (y == 1)).all()):
            if not is_grid(evidence.samples.sole_inputs):
                raise
            return y.double()
        common = y[:, (y.mean(0) - 0.5).abs() <= _COMMON]  # labels of which a sample may have several
        if not common.numel():
            raise
        return common.double()


def _maps(evidence: Evidence, maps: torch.Tensor) -> Iterable[Finding]:
    """Maps of classes against inputs: do they fit their own better than those of other samples?"""
    x = channels_first(evidence.samples.sole_inputs)
    if x.shape[2:] != maps.shape[1:] or not x.is_floating_point():
        raise NoEvidence("the targets are maps of another size than the inputs")
    if len(maps) < _FEWEST_MAPS:
        raise NoEvidence(
            f"{several(len(maps), 'map is', 'maps are')} too few to tell whether they belong to their inputs"
        )
    own, others = belonging(x, maps)
    if not others or own > max(others) or _network_sees(evidence):
        return
    beaten = sum(other >= own for other in others)
    yield Finding(
        code="data.labels-random",
        severity="error",
        where="training targets",
        measured="brightness and texture tell the classes of positions apart no better than with the maps of other "
        "samples: "
        f"{beaten} of {len(others)} random pairings of {several(len(maps), 'input')} and maps fit as well or better",
        threshold="the own maps fit better than all random pairings",
        why=_WHY,
        remedy="Look at ten inputs with their maps drawn over them. Usual reasons: one of both was shuffled or "
        "sorted alone, "
        "files are listed in different orders (match them by their names), only one of both was flipped or cut.",
    )


def _network_sees(evidence: Evidence) -> bool:
    """Whether the trial's network predicts about maps that it was not trained on as if they belonged to their inputs:
    it may see more than brightness and texture."""
    predictions, maps = _val(evidence), None
    with suppress(NoEvidence):
        maps = evidence.val_samples.maps
    if predictions is None or maps is None:
        return False
    with suppress(NoEvidence):
        predicted = predictions.predicted
        return predicted.shape == maps[: len(predicted)].shape and answers_belong(predicted, maps[: len(predicted)])
    return False


def _val(evidence: Evidence) -> Predictions | None:
    try:
        return evidence.after_val
    except NoEvidence:
        return None


def _better_than_chance(predictions: Predictions | None) -> bool:
    """Whether predictions about samples that were not trained on have to do with their targets."""
    return predictions is not None and (_sigmas(predictions) or 0.0) >= SIGMAS


def _sigmas(predictions: Predictions) -> float | None:
    """By how many standard errors the predictions are better than chance; None where that is not known."""
    targets = predictions.targets
    if targets is None or not bool(torch.isfinite(predictions.outputs).all()):
        return None
    if targets.ndim == 2 and (numbers := class_numbers(targets)) is not None:  # one-hot, or shares of classes
        targets = numbers
        predictions = replace(predictions, targets=targets)
    try:
        predicted = predictions.predicted.flatten()
        wanted = targets.flatten().long()
    except NoEvidence:
        return _correlation(predictions.outputs, targets)
    size = int(max(predicted.max(), wanted.max())) + 1
    if int(wanted.min()) < 0:
        return None
    said, are = (torch.bincount(part, minlength=size).double() / len(part) for part in (predicted, wanted))
    chance = float((said * are).sum())
    got = float((predicted == wanted).double().mean())
    return (got - chance) / max(math.sqrt(chance * (1 - chance) / len(wanted)), 0.5 / len(wanted))


def _correlation(outputs: torch.Tensor, targets: torch.Tensor) -> float | None:
    if outputs.shape == targets.shape and 1 < targets[:1].numel() <= _MOST_NUMBERS and len(targets) > 2:
        pairs = zip(outputs.flatten(1).double().T, targets.flatten(1).double().T, strict=True)
        related_to = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]
        return max((value for value in related_to if value == value), default=0.0) * math.sqrt(len(targets))
    if targets.numel() != len(targets) or len(outputs) != len(targets) or len(targets) < 3:
        return None
    wanted = targets.flatten().double()
    columns = outputs.reshape(len(outputs), -1).double().T
    found = [
        float(torch.corrcoef(torch.stack([column, wanted]))[0, 1]) for column in columns if float(column.std()) > 0
    ]
    return max((value for value in found if value == value), default=0.0) * math.sqrt(len(wanted))


def _ranks(predictions: Predictions) -> float:
    """By how many standard errors samples of a class, of any, have higher outputs for it than others have: by the rank
    sum of Wilcoxon (1945), which shows what is known of a rare class that is never predicted."""
    outputs, labels = predictions.outputs, class_numbers(predictions.targets)
    outputs = outputs.reshape(len(outputs), -1).double()
    if labels is None or len(labels) != len(outputs):
        return 0.0
    outputs = torch.cat([-outputs, outputs], 1) if outputs.shape[1] == 1 else outputs
    outputs = outputs - outputs.mean(1, keepdim=True)
    return max(0.0, *(_rank_sum(column, labels == k)[1] for k, column in enumerate(outputs.T)))


def _rank_sum(outputs: torch.Tensor, wanted: torch.Tensor) -> tuple[float, float]:
    """The share of pairs whose wanted sample has the higher output, and its distance from a half in standard errors."""
    few, rest = int(wanted.sum()), int((~wanted).sum())
    if min(few, rest) < _FEWEST_RANKED:
        return 0.5, 0.0
    above = float(rankdata(outputs.numpy())[wanted.numpy()].sum()) - few * (few + 1) / 2
    return above / (few * rest), (above - few * rest / 2) / math.sqrt(few * rest * (few + rest + 1) / 12)


def _network(evidence: Evidence, graphs: bool = False, ranked: bool = False) -> str | None:
    """What the network, trained with a usual optimizer, makes of samples that it was not trained on, in words; None
    where it is better than chance or cannot be asked: networks may see more than simple models. Of `graphs` and of
    words it has to have learned those that it was trained on. `ranked`: its outputs are asked, not classes alone."""
    held = _held_out(evidence)
    if held is None:
        return None
    train, asked = held
    change = Change(
        optimizer=lambda model: torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    )
    sigmas, steps, fitted = [], 0, False
    given = main_tensor(parts(evidence.train.raw[0])[0])
    words = graphs or (given is not None and not given.is_floating_point())  # of whose order simple models see nothing
    enough = _OF_WORDS if words else SIGMAS
    for name, wanted in (("held out", Change()), ("held out, Adam", change)):
        trial = evidence.variant(name, wanted, batches=train)
        predictions = None if trial.error is not None else evidence.predictions_of(trial, asked)
        found = None if predictions is None else _sigmas(predictions)
        if predictions is None or found is None:
            continue
        found = max(found, _ranks(predictions)) if ranked else found
        sigmas.append(found)
        if found >= enough:
            return None
        steps = max(steps, len(trial.rows))
        fitted = fitted or _better_than_chance(evidence.predictions_of(trial, train))
    if not sigmas:
        return None
    if words and not fitted:
        raise NoEvidence(f"the network has not learned its training samples either in {several(steps, 'step')}")
    return f"is {max(sigmas):.1f} standard errors better than chance on samples held out"


def _once(evidence: Evidence) -> torch.Tensor | None:
    with suppress(NoEvidence):
        first = copies_in(evidence.samples.sole_inputs)
        return torch.nonzero(first == torch.arange(len(first))).flatten()
    return None


def _held_out(evidence: Evidence) -> tuple[list[object], list[object]] | None:
    """Batches to train on and others to ask about, each sample once, though a loop drew it twice; as they came where
    their tensors have several lengths."""
    batches = dealt_anew(evidence.train.raw, _once(evidence)) or list(evidence.train.raw)
    if len(batches) < 4:
        return None
    cut = max(1, round(0.7 * len(batches)))
    return batches[:cut], batches[cut:]


LABELS_RANDOM = Check(
    codes=("data.labels-random",),
    question="Have the targets anything to do with the inputs?",
    run=_run,
    quick=False,
    explains=(
        "data.label-noise data.shift loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low fit.*"
    ),
)
