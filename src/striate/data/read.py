"""A data set from a name or a path: parse the source into a listing, plan, decode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from striate.data.audit import find_all, refuse_unusable
from striate.data.config import DataConfig
from striate.data.dataset import Annotation, Dataset, Preparation, Split, SplitRow
from striate.data.decode import Decoded, decode_samples
from striate.data.inputs import ReadInput, list_inputs, read_inputs
from striate.data.listing import Listing, class_numbers
from striate.data.plan import plan_inputs
from striate.data.scan import scan_listing
from striate.data.sources.choose import list_source
from striate.data.splits import assign_splits
from striate.errors import DataError
from striate.records import Finding

__all__ = ["ReadInput", "list_inputs", "load_dataset", "load_for_evaluation", "read_inputs"]

_IGNORED_PIXEL = 255
_TASKS: dict[Annotation, str] = {"class": "classify", "number": "regress", "mask": "segment"}


def load_dataset(config: DataConfig, *, task: str = "auto", announce: Callable[[str], None] | None = None) -> Dataset:
    """The data set that `config` names, decoded and split, ready for training.

    `task` (`auto`, `classify`, `regress`, `segment`) says how labels are read where that is open; `announce` is told
    of a download before it starts. Raises DataError or ConfigError.
    """
    listing = list_source(config, task, announce)
    ids = range(len(listing))
    scan = scan_listing(listing, ids, config.max_pixels)
    if len(scan.unreadable) == len(listing):
        refuse_unusable(listing, scan, scan.unreadable, {})
    preparation, notes, resized = plan_inputs(listing, scan, config)
    decoded = decode_samples(listing, [i for i in ids if i not in scan.unreadable], preparation)
    unreadable = scan.unreadable | decoded.unreadable
    kept = decoded.ids.tolist()
    names = assign_splits(
        [scan.contents[i] for i in kept],
        _split_classes(listing, kept),
        [listing.given[i] for i in kept],
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )
    split = dict(zip(kept, names, strict=True))
    refuse_unusable(listing, scan, unreadable, split)
    classes = _mask_classes(listing, decoded) if listing.annotation == "mask" else listing.classes
    return _assemble(
        listing,
        preparation,
        decoded,
        split,
        classes=classes,
        unreadable=unreadable,
        notes=(*listing.notes, *notes, *_split_notes(listing, config)),
        findings=(*find_all(listing, scan, unreadable), *resized),
    )


def load_for_evaluation(
    config: DataConfig,
    preparation: Preparation,
    classes: tuple[str, ...],
    annotation: Annotation,
    *,
    announce: Callable[[str], None] | None = None,
) -> Dataset:
    """Other data, prepared as a trained network's were, as one split `test`; nothing is split here.

    It is the test split that the source gives, else all of it. Classes are matched by name to `classes`, and may be
    fewer; bare numbers that match no name are positions in `classes`. Raises DataError for a class that the network
    does not know, or inputs of another shape.
    """
    listing = list_source(config, _TASKS[annotation], announce)
    listing, renamed = _match_classes(listing, classes)
    has_test = "test" in listing.given
    ids = [i for i, name in enumerate(listing.given) if not has_test or name == "test"]
    what = "the test split that the source gives" if has_test else "everything: the source gives no test split"
    note = f"Evaluated on {what} ({len(ids):,} samples)."
    if listing.kind != preparation.kind or (
        listing.inputs is not None
        and preparation.kind != "image"
        and listing.inputs.shape[1:] != preparation.input_shape
    ):
        shape = "" if listing.inputs is None else f" of shape {listing.inputs.shape[1:]}"
        raise DataError(
            f"data {listing.source}",
            f"{listing.kind} inputs{shape}",
            f"{preparation.kind} inputs of shape {preparation.input_shape}, which the network was trained on",
            "evaluate it on data of the same form",
        )
    scan = scan_listing(listing, ids, preparation.max_pixels)
    decoded = decode_samples(listing, [i for i in ids if i not in scan.unreadable], preparation)
    unreadable = scan.unreadable | decoded.unreadable
    if not len(decoded.ids):
        refuse_unusable(listing, scan, unreadable, {})
    return _assemble(
        listing,
        preparation,
        decoded,
        dict.fromkeys(decoded.ids.tolist(), "test"),
        classes=classes,
        unreadable=unreadable,
        notes=(*listing.notes, note, *renamed),
        findings=find_all(listing, scan, unreadable),
    )


def _split_classes(listing: Listing, ids: Sequence[int]) -> list[int]:
    if listing.annotation != "class":
        return [0] * len(ids)
    assert listing.targets is not None
    numbers: list[int] = listing.targets[ids].tolist()
    return numbers


def _split_notes(listing: Listing, config: DataConfig) -> tuple[str, ...]:
    fractions = {"val": config.val_fraction, "test": config.test_fraction}
    cut = [f"{name} ({fraction:.0%})" for name, fraction in fractions.items() if name not in listing.given]
    if not cut:
        return ()
    whole = "train" if any(listing.given) else "the data"
    each = " of each class" if listing.annotation == "class" else ""
    return (f"Splits: {' and '.join(cut)}{each} cut from {whole} by content.",)


def _match_classes(listing: Listing, classes: tuple[str, ...]) -> tuple[Listing, tuple[str, ...]]:
    """The listing with class numbers as positions in `classes`."""
    if listing.annotation != "class":
        return listing, ()
    labels = listing.labels
    notes: tuple[str, ...] = ()
    if listing.indexed and not set(classes) & set(listing.classes):
        positions = {name: int(name) for name in listing.classes}
        if all(0 <= number < len(classes) for number in positions.values()):
            labels = tuple(classes[positions[label]] for label in labels)
            notes = (f"The labels are bare numbers, read as positions: 0 is {classes[0]}.",)
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DataError(
            f"data {listing.source}",
            f"classes that the network does not know: {', '.join(unknown[:5])}"
            + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
            f"some of its {len(classes)} classes: {', '.join(classes[:10])}{', …' if classes[10:] else ''}",
            "rename the classes, or leave those out",
        )
    return replace(listing, labels=labels, targets=class_numbers(labels, classes), classes=classes), notes


def _mask_classes(listing: Listing, decoded: Decoded) -> tuple[str, ...]:
    """Values of the masks; 255 is "ignored" where the others number more than one."""
    values = set(decoded.mask_values)
    if len(values - {_IGNORED_PIXEL}) > 1:
        values.discard(_IGNORED_PIXEL)
    if len(values) < 2:
        raise DataError(
            f"data {listing.source}, masks",
            f"the one value {', '.join(map(str, values))} in all masks",
            "two values or more, one for each class",
            "check that the masks were saved with their class numbers",
        )
    return tuple(str(value) for value in sorted(values))


def _mask_targets(listing: Listing, decoded: Decoded, classes: tuple[str, ...]) -> np.ndarray:
    assert decoded.masks is not None
    to_class = np.full(257, _IGNORED_PIXEL, np.uint8)  # at value + 1, since -1 is border
    for number, name in enumerate(classes):
        to_class[int(name) + 1] = number
    unknown = sorted({str(v) for v in decoded.mask_values} - set(classes) - {str(_IGNORED_PIXEL)})
    if unknown:
        raise DataError(
            f"data {listing.source}, masks",
            f"values that the network does not know: {', '.join(unknown[:10])}",
            f"some of {', '.join(classes)}, or 255 for ignored pixels",
            "renumber the masks",
        )
    targets: np.ndarray = to_class[decoded.masks + 1]
    return targets


def _assemble(
    listing: Listing,
    preparation: Preparation,
    decoded: Decoded,
    split: dict[int, str],
    *,
    classes: tuple[str, ...],
    unreadable: dict[int, str],
    notes: tuple[str, ...],
    findings: tuple[Finding, ...],
) -> Dataset:
    if listing.annotation == "mask":
        targets = _mask_targets(listing, decoded, classes)
    else:
        assert listing.targets is not None
        targets = listing.targets[decoded.ids]
    names = np.array([split[i] for i in decoded.ids.tolist()])
    splits = {}
    for name in ("train", "val", "test"):
        rows = np.flatnonzero(names == name)
        if len(rows):
            splits[name] = Split(
                torch.from_numpy(decoded.inputs[rows]),
                torch.from_numpy(targets[rows]),
                torch.from_numpy(decoded.ids[rows]),
            )
    membership = split | dict.fromkeys(unreadable, "unreadable")
    return Dataset(
        name=listing.name,
        source=listing.source,
        kind=listing.kind,
        annotation=listing.annotation,
        splits=splits,
        classes=classes,
        preparation=preparation,
        rows=tuple(SplitRow(listing.paths[i], listing.labels[i], membership[i]) for i in sorted(membership)),
        fingerprint=_fingerprint(splits),
        features=listing.features,
        target_names=listing.target_names,
        notes=notes,
        findings=findings,
    )


def _fingerprint(splits: dict[str, Split]) -> str:
    """SHA-256 over inputs, targets and membership of every split."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        for tensor in (split.inputs, split.targets):
            values = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{name} {values.dtype} {values.shape};".encode())
            digest.update(values.data)
    return digest.hexdigest()
