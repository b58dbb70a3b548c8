"""From a listing and its decoded samples to a `Dataset`: targets, splits, rows, fingerprint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from striate.data.config import Store
from striate.data.dataset import Dataset, Preparation, SampleFacts, Split, SplitRow
from striate.data.decode import Decoded
from striate.data.fingerprint import fingerprint_of
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.data.store.stored import Inputs, StoredInputs
from striate.errors import DataError
from striate.records import Finding

_IGNORED_PIXEL = 255


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


def assemble(
    listing: Listing,
    scan: Scan,
    preparation: Preparation,
    decoded: Decoded,
    split: dict[int, str],
    *,
    classes: tuple[str, ...],
    unreadable: dict[int, str],
    notes: tuple[str, ...],
    findings: tuple[Finding, ...],
    units: Mapping[int, bytes] | None = None,
    store: Store = "memory",
    known: str | None = None,
) -> Dataset:
    """The data set of the decoded samples; `split` names the split of each by id, `unreadable` the reasons of others,
    `units` what must stay together, `store` where the inputs are; `known` is the fingerprint to compare with, if any.

    Raises DataError for mask values that are not among `classes`.
    """
    if listing.annotation == "mask":
        targets = _mask_targets(listing, decoded, classes)
    else:
        assert listing.targets is not None
        targets = listing.targets[decoded.ids]
    names = np.array([split[i] for i in decoded.ids.tolist()])
    splits, contents, kept_together, facts = {}, {}, {}, {}
    for name in ("train", "val", "test", "all"):
        rows = np.flatnonzero(names == name)
        if len(rows):
            contents[name] = tuple(scan.contents[i].hex() for i in decoded.ids[rows].tolist())
            if units is not None:
                kept_together[name] = tuple(units[i].hex() for i in decoded.ids[rows].tolist())
            facts[name] = _facts(listing, scan, decoded.ids[rows].tolist())
            splits[name] = Split(
                _inputs_of(listing, decoded, rows),
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
        fingerprint=fingerprint_of(splits, contents, (classes, listing.target_names, preparation), store, known),
        features=listing.features,
        target_names=listing.target_names,
        notes=notes,
        findings=findings,
        contents=contents,
        units=kept_together,
        given=tuple(sorted({name for name in listing.given if name is not None})),
        store=store,
        facts=facts,
    )


def _facts(listing: Listing, scan: Scan, ids: list[int]) -> SampleFacts:
    """What else is known of the samples `ids`."""
    found = [listing.medium.size_of(scan.headers[i]) if i in scan.headers else None for i in ids]
    sizes = () if None in found else tuple(size for size in found if size is not None)
    columns = {name: tuple(values[i] for i in ids) for name, values in listing.columns.items()}
    if listing.groups:
        columns["group"] = tuple(listing.groups[i] or "" for i in ids)
    return SampleFacts(tuple(listing.paths[i] for i in ids), sizes, columns)


def _inputs_of(listing: Listing, decoded: Decoded, rows: np.ndarray) -> Inputs:
    if isinstance(decoded.inputs, StoredInputs):
        return decoded.inputs.take(rows)
    start, stop = int(rows[0]), int(rows[-1]) + 1
    together = listing.inputs is None and stop - start == len(rows)  # given arrays are not ours to share
    return torch.from_numpy(decoded.inputs[start:stop] if together else decoded.inputs[rows])


def mask_classes(listing: Listing, decoded: Decoded) -> tuple[str, ...]:
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
