"""From a listing and its decoded samples to a `Dataset`: targets, splits, rows, fingerprint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from striate.data.annotations.every import annotation_kind
from striate.data.config import Store
from striate.data.dataset import Dataset, Preparation, SampleFacts, Split, SplitRow
from striate.data.decode import Decoded
from striate.data.fingerprint import fingerprint_of
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.data.store.stored import Inputs, StoredInputs
from striate.records import Finding


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
    targets = annotation_kind(listing.annotation).targets(listing, decoded.ids, decoded.masks, classes)
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
