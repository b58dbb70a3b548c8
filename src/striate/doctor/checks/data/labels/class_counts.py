"""The number of samples of each class, if the loss is one of classes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch

from striate.doctor.checks.data.common import are_tokens
from striate.doctor.evidence.call_graph import REGRESSION
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import need_all_data, need_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import are_directions
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.setup.batch import main_tensor, parts

_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class ClassCounts:
    """The number of samples of each class; for class maps, the number of maps that contain the class."""

    train: torch.Tensor
    """(classes,)."""
    val: torch.Tensor | None
    """(classes,); None without validation labels."""
    outputs: int | None
    """Classes that the network has outputs for; None if unknown, or if the step numbers classes differently."""
    positions: torch.Tensor | None = None
    """Positions of each class in the training maps (classes,); None unless targets are maps."""

    @property
    def things(self) -> str:
        """The unit of the counts, in words."""
        return "samples" if self.positions is None else "maps"


def class_counts(evidence: Evidence) -> ClassCounts:
    """Count the samples that were read. Raises NoEvidence if the targets are not classes, or other data are trained on,
    too."""
    need_all_data(evidence)
    outputs = _outputs(evidence)
    if evidence.samples.maps is not None:
        return _of_maps(evidence, evidence.samples.maps, outputs)
    labels = evidence.samples.labels
    need_class_loss(evidence)
    need_targets(evidence)
    _need_no_lookups(evidence)
    if _are_dealt_by_class(evidence):
        raise NoEvidence("each batch has equally many samples of a few classes: they do not occur as in the data")
    if are_tokens(evidence, labels):
        raise NoEvidence("the classes are tokens, some of which are rare in any text")
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.labels
    known = [labels[labels >= 0]] + ([val[val >= 0]] if val is not None else [])
    size = max([int(part.max()) + 1 for part in known if len(part)] + [outputs or 0])
    if size > _MOST_CLASSES or not len(known[0]):
        raise NoEvidence("the targets are not class numbers")
    counted = [torch.bincount(part, minlength=size) for part in known]
    return ClassCounts(counted[0], counted[1] if len(counted) > 1 else None, outputs)


def need_class_loss(evidence: Evidence) -> None:
    """Raise NoEvidence if all losses of the step compare numbers, such as for batches with actions and ends of
    episodes, whose last tensor is not a class; or if it calls none of torch's, and has not one number a sample."""
    losses = evidence.calls.losses
    if losses and all(call.name in REGRESSION and len(call.target.unique()) > 2 for call in losses):
        raise NoEvidence("the loss compares numbers, not classes")
    x, y = (main_tensor(part) for part in parts(evidence.train.raw[0]))
    if not losses and x is not None and y is not None and x.shape[:1] != y.shape[:1]:
        raise NoEvidence("there is not one whole number for each sample: these may be positions, not classes")


def _need_no_lookups(evidence: Evidence) -> None:
    """Raise NoEvidence if the step looks up the presumed classes in an embedding, and no loss gets them."""
    calls, labels = evidence.calls, main_tensor(parts(evidence.train.raw[0])[1])
    if labels is not None and not calls.losses and any(torch.equal(one, labels.cpu()) for one in calls.entries):
        raise NoEvidence("the class numbers are looked up in a table, like the items of users")


def need_used_targets(evidence: Evidence) -> None:
    """Raise NoEvidence if the targets do not change the loss, such as for contrastive learning."""
    if not evidence.targets_matter:
        raise NoEvidence("the loss is the same with other targets")


def _are_dealt_by_class(evidence: Evidence) -> bool:
    """Whether the network embeds, and each batch has the same number of samples of each of its classes, which are not
    all classes, as batches for triplets."""
    if not _embeds(evidence):
        return False
    labels, batches = evidence.samples.labels, evidence.samples.batch
    counts = [labels[batches == number].unique(return_counts=True)[1] for number in batches.unique()]
    few = max(map(len, counts)) < len(labels.unique())
    return few and all(len(one.unique()) == 1 and int(one[0]) > 1 for one in counts)


def _outputs(evidence: Evidence) -> int | None:
    plain = evidence.samples.plain
    if plain is None:  # no loss of a known name was called
        plain = evidence.setup.own_step or _asks_for_labels(evidence)
    return evidence.classes if plain and evidence.setup.classifies and not _embeds(evidence) else None


def _embeds(evidence: Evidence) -> bool:
    """Whether the network's outputs are vectors of length 1."""
    outputs = main_tensor(evidence.first.outputs)
    return outputs is not None and are_directions(outputs)


def _asks_for_labels(evidence: Evidence) -> bool:
    """Whether a cross entropy of the step gets the targets of the batch unchanged."""
    targets = main_tensor(parts(evidence.train.raw[0])[1])
    calls = [call.target for call in evidence.calls.losses if call.name in CLASS_LOSSES]
    return targets is not None and any(torch.equal(given.cpu(), targets.cpu()) for given in calls)


def _of_maps(evidence: Evidence, maps: torch.Tensor, outputs: int | None) -> ClassCounts:
    """Counts for class maps: positions of one map are not independent samples."""
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.maps
    size = max(int(maps.max()) + 1, 0 if val is None else int(val.max()) + 1, outputs or 0)
    if size > _MOST_CLASSES or not bool((maps >= 0).any()):
        raise NoEvidence("the targets are not class numbers")
    positions = torch.bincount(maps[maps >= 0], minlength=size)
    return ClassCounts(_maps_having(maps, size), None if val is None else _maps_having(val, size), outputs, positions)


def _maps_having(maps: torch.Tensor, size: int) -> torch.Tensor:
    """(size,) how many maps have each class."""
    flat = maps.flatten(1)
    rows = torch.arange(len(flat))[:, None].expand_as(flat)
    known = flat >= 0
    return torch.bincount(torch.unique(rows[known] * size + flat[known]) % size, minlength=size)
