"""Any number of labels per sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind, or_split
from striate.data.listing import Listing, order_classes
from striate.data.media.medium import Preparation
from striate.errors import DataError, OtherClassesError
from striate.wording import several

BETWEEN = "|"
"""Separates the labels of a sample."""


class LabelSets(AnnotationKind):
    """(N, K) float32, 1 where a sample has the label, else 0."""

    name: ClassVar[str] = "labels"
    word: ClassVar[str] = "sets of labels"
    texts: ClassVar[str] = "sets of labels"
    task: ClassVar[str] = "multilabel"
    layout: ClassVar[str] = ", or a manifest with the columns path,labels (one|two|three)"
    share: ClassVar[str] = " of the samples with each label (a sample counts for its rarest)"

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """Labels: the classes that occur in each sample. Raises DataError where annotations have no classes."""
        listing = has.present_classes(listing)
        assert listing.annotation == self.name
        return listing

    def targets(self, listing: Listing, ids: NDArray[np.int64], masks: Any, classes: tuple[str, ...]) -> NDArray[Any]:
        """(N, K) of the samples `ids`."""
        return super().targets(listing, ids, masks, classes).astype(np.float32)

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Samples must differ in their labels, and each split needs a label."""
        del ids
        train = targets.get("train")
        if train is not None and bool((train == train[:1]).all()):
            raise DataError(
                f"data {listing.source}",
                f"the same labels for each of {several(len(train), 'training sample')}: "
                + (", ".join(np.array(listing.classes)[train[0].numpy() > 0]) or "none"),
                "labels that differ between samples",
                "add samples without these labels",
            )
        for name, own in targets.items():
            if len(own) and not bool(own.any()):
                raise DataError(
                    f"data {listing.source}",
                    f"no label in the {several(len(own), 'sample')} of {name}",
                    "at least one in each split",
                    f"label some of them{or_split(listing, 'leave out the column split')}",
                )

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`4 labels, 1.8 per sample: cat (12), dog (9), …`, and how many samples have none."""
        assert listing.targets is not None
        own = listing.targets[list(ids)]
        counts = Counter(dict(zip(listing.classes, own.sum(0).astype(int).tolist(), strict=True)))
        named = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(10))
        more = f", … and {len(counts) - 10} more" if len(counts) > 10 else ""
        none = int((own.sum(1) == 0).sum())
        bare = f"; {several(none, 'sample has', 'samples have')} none" if none else ""
        return f"{several(len(counts), 'label')}, {own.sum(1).mean():.2g} per sample: {named}{more}{bare}"

    def manifest_columns(self, listing: Listing) -> tuple[str, ...]:
        """The column of sets."""
        del listing
        return ("labels",)

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """The rarest label of each sample, so that each split gets its share of every label, the rare ones first. This
        is the first step of iterative stratification (Sechidis et al. 2011); it does not depend on the order of
        samples."""
        assert listing.targets is not None
        found: list[int] = rarest_label(listing.targets[list(ids)]).tolist()
        return found

    def strata(self, targets: NDArray[Any], folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
        """The rarest label of each sample; labels that occur less often than there are folds join the samples without
        one."""
        del units
        found = rarest_label(targets)
        few = np.bincount(found, minlength=targets.shape[1] + 1)[found] < folds
        return np.where(few, targets.shape[1], found)

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """By name."""
        del preparation
        unknown = [name for name in listing.classes if name not in classes]
        if unknown:
            raise OtherClassesError(
                f"data {listing.source}",
                f"labels that the network does not know: {', '.join(unknown[:5])}",
                f"some of its {several(len(classes), 'label')}: {', '.join(classes[:10])}",
                "rename these labels, or leave them out",
            )
        assert listing.targets is not None
        targets = np.zeros((len(listing), len(classes)), np.float32)
        targets[:, [classes.index(name) for name in listing.classes]] = listing.targets
        return replace(listing, targets=targets, classes=classes), ()


def rarest_label(targets: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) the rarest label of each sample of (N, K); K where it has none."""
    counts = targets.sum(0)
    rarity = np.where(targets > 0, counts, np.inf)
    return np.asarray(np.where(np.isfinite(rarity).any(1), rarity.argmin(1), targets.shape[1]), np.int64)


def split_labels(text: str, between: str = BETWEEN) -> list[str]:
    """The labels of `cat|dog`, each once; none for an empty text."""
    return list(dict.fromkeys(filter(None, (part.strip() for part in text.split(between)))))


def with_label_sets(listing: Listing, sets: Sequence[Collection[str]], names: Sequence[str] = ()) -> Listing:
    """The listing with these labels of each sample; `names` of labels where their order is known."""
    classes = tuple(names) or order_classes({name for one in sets for name in one})
    place = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(sets), len(classes)), np.float32)
    for row, one in enumerate(sets):
        targets[row, [place[name] for name in one]] = 1
    if not targets.any():
        raise DataError(
            f"data {listing.source}",
            f"{several(len(sets), 'sample')} without any label",
            "at least one sample with labels, such as one|two|three",
            "fill in the column labels",
        )
    return replace(
        listing,
        annotation=LabelSets.name,
        labels=tuple(BETWEEN.join(name for name in classes if name in one) for one in sets),
        targets=targets,
        classes=classes,
        indexed=False,
        target_names=(),
        class_level=None,
        read_mask=None,
        boxes=(),
    )


def joined_classes(classes: Sequence[str], between: str = BETWEEN) -> list[str]:
    """Names of classes that may be several labels: `cat|dog`."""
    return [name for name in classes if re.search(rf"\w\s*{re.escape(between)}\s*\w", name)]


def are_label_sets(classes: Sequence[str], between: str = BETWEEN) -> bool:
    """Whether these names of classes are certainly sets of labels: some join several, and each of those shares a label
    with another name."""
    joined = joined_classes(classes, between)
    uses = Counter(label for name in classes for label in split_labels(name, between))
    return bool(joined) and all(any(uses[label] > 1 for label in split_labels(name, between)) for name in joined)


def separator_of(texts: Collection[str]) -> str:
    """The separator of the labels of a set: `|`, or `;` or `,` where no text has `|` and the texts are certainly sets
    with that."""
    if any(BETWEEN in text for text in texts):
        return BETWEEN
    different = list(dict.fromkeys(texts))
    return next((other for other in (";", ",") if are_label_sets(different, other)), BETWEEN)
