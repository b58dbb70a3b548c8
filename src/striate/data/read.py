"""A data set from a name or a path, step by step.

1. `list_source`: the source as a listing, one entry for each sample; nothing is decoded.
2. `scan_listing`: a digest of each sample's content, and its header.
3. `plan_inputs`: how each sample becomes an input (size, channels), decided from the headers.
4. `assign_membership`: the split of each sample, which follows from its content.
5. `materialize_samples`: the samples decoded into memory, into a pack, or again in each epoch.
6. `_assemble`: targets, splits, findings and the fingerprint as a `Dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.audit.leaks import find_training_samples
from striate.data.audit.masks import find_in_masks
from striate.data.audit.quick import find_all, find_before_training, quick_evidence
from striate.data.audit.unusable import refuse_unusable
from striate.data.config import DataConfig, Store
from striate.data.dataset import Dataset, Preparation, SampleFacts, Split, SplitRow
from striate.data.decode import Decoded
from striate.data.fingerprint import fingerprint_of
from striate.data.listing import Listing
from striate.data.materialize import Materialized, materialize_samples
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import ChooseSize
from striate.data.scan import Scan, placements, plan_inputs, scan_listing
from striate.data.sources.list_source import list_source, takes_layout
from striate.data.splits import assign_membership
from striate.data.store.stored import Inputs, StoredInputs
from striate.errors import DataError
from striate.records import Finding
from striate.wording import percent, several, several_of, show_shape


def load_dataset(
    config: DataConfig,
    *,
    annotation: str | None = None,
    announce: Callable[[str], None] | None = None,
    choose_size: ChooseSize | None = None,
) -> Dataset:
    """The data set that `config` names, decoded and split, ready for training.

    `annotation`: the kind of annotation to read (`class`, `number`, `mask`); None: the one that the source has.
    `announce` is called with a line of text about downloads and long work. `choose_size` decides the size of inputs
    where `config` has none, and pictures are large or have many sizes. Raises DataError or ConfigError.
    """
    listing = list_source(config, annotation, announce)
    scan = scan_listing(listing, range(len(listing)), config.max_pixels)
    preparation, samples, notes, resized = _plan_and_decode(listing, scan, config, announce, choose_size)
    decoded = samples.decoded
    unreadable = scan.unreadable | decoded.unreadable
    split, units = assign_membership(listing, scan.contents, sorted(decoded.ids.tolist()), config)
    refuse_unusable(listing, scan, unreadable, split, config)
    kind = annotation_kind(listing.annotation)
    listing = kind.named(listing, decoded.ids, decoded.masks)
    if decoded.masks is not None:
        resized = (*find_in_masks(listing, decoded.ids, decoded.masks, decoded.inputs, split), *resized)
    return _assemble(
        listing,
        scan,
        replace(
            preparation,
            values=listing.values,
            ignore=listing.ignore,
            colors=listing.colors,
            features=listing.features,
        ),
        decoded,
        split,
        classes=listing.classes,
        unreadable=unreadable,
        notes=(*listing.notes, *notes, *_split_notes(listing, config, split)),
        findings=(*find_before_training(quick_evidence(listing, scan, unreadable, split, config)), *resized),
        units=units,
        store=samples.store,
        known_fingerprint=config.fingerprint,
        annotated=kind.counted(listing, sorted(split)),
    )


def _plan_and_decode(
    listing: Listing,
    scan: Scan,
    config: DataConfig,
    announce: Callable[[str], None] | None,
    choose_size: ChooseSize | None,
) -> tuple[Preparation, Materialized, tuple[str, ...], tuple[Finding, ...]]:
    """The preparation, the samples decoded by it, notes and findings.

    If files turn out to be damaged when they are decoded, the preparation is planned again without them, and if it
    differs, the others are decoded again."""
    unreadable = dict(scan.unreadable)
    _refuse_if_all_unreadable(listing, scan, unreadable)
    preparation, notes, resized = plan_inputs(listing, scan, config, choose_size)
    ids = [i for i in range(len(listing)) if i not in unreadable]
    # Files are decoded into memory in the order of splits, so that a split is a slice, if all files can be decoded.
    split = assign_membership(listing, scan.contents, ids, config)[0] if listing.inputs is None else None
    samples = materialize_samples(listing, scan, ids, preparation, config, announce, split=split)
    if damaged := samples.decoded.unreadable:
        unreadable |= damaged
        _refuse_if_all_unreadable(listing, scan, unreadable)
        headers = {number: header for number, header in scan.headers.items() if number not in unreadable}
        planned, notes, resized = plan_inputs(listing, replace(scan, headers=headers), config, choose_size)
        if planned != preparation:
            preparation, ids = planned, sorted(samples.decoded.ids.tolist())
            samples = materialize_samples(listing, scan, ids, preparation, config, announce)
            decoded = samples.decoded
            samples = replace(samples, decoded=replace(decoded, unreadable=damaged | decoded.unreadable))
    return preparation, samples, (*notes, *samples.notes), resized


def _refuse_if_all_unreadable(listing: Listing, scan: Scan, unreadable: dict[int, str]) -> None:
    if len(unreadable) == len(listing):
        refuse_unusable(listing, scan, unreadable, {})


def load_for_evaluation(
    config: DataConfig,
    preparation: Preparation,
    classes: tuple[str, ...],
    annotation: str,
    *,
    targets: int | None = None,
    seen: Mapping[str, str] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Dataset:
    """Other data for a trained network, with the preparation of its training data, as one split.

    The split is the test split that the source gives, named `test`, else all samples, named `all`. Arrays are read in
    the layout of the training, unless `config` has another. Classes are matched by name to `classes`, and may be fewer;
    plain numbers that match no name are positions in `classes`. `targets`: the number of values that the network
    predicts. `seen`: the split, `train` or `val`, of each digest (`Dataset.contents`) that the network was trained or
    chosen on; samples among them are a finding. Raises DataError for a class that the network does not know, or inputs
    or targets of another shape.
    """
    if config.layout == "auto" and takes_layout(config.source):
        config = replace(config, layout=preparation.layout)
    medium = medium_of(preparation.kind)
    if medium.folders and config.view is None:  # a view of clips makes folders of frames clips
        view: Any = next(view for view, kind in medium.views.items() if kind == medium.name)
        config = replace(config, view=view)
    listing = _at_known_level(list_source(config, annotation, announce), config, annotation, classes)
    if preparation.kind in (*listing.medium.views.values(), *listing.medium.others):
        listing = replace(listing, kind=preparation.kind)
    _check_form(listing, preparation, targets)
    listing, renamed = annotation_kind(listing.annotation).match(listing, classes, preparation)
    name = "test" if "test" in listing.given else "all"
    ids = [i for i, given in enumerate(listing.given) if name == "all" or given == name]
    what = "the test split that the source gives"
    if name == "all":
        what = 'all samples, as the split "all", since the source gives no test split'
    note = f"Evaluated on {what} ({several(len(ids), 'sample')})."
    scan = scan_listing(listing, ids, preparation.max_pixels)
    readable = [i for i in ids if i not in scan.unreadable]
    if listing.has_masks:
        preparation = listing.medium.for_files(list(scan.headers.values()), preparation)
    samples = materialize_samples(listing, scan, readable, preparation, config, announce)
    decoded = samples.decoded
    unreadable = scan.unreadable | decoded.unreadable
    if not len(decoded.ids):
        refuse_unusable(listing, scan, unreadable, {})
    known = find_training_samples(listing, [scan.contents[i].hex() for i in decoded.ids.tolist()], seen or {})
    split = dict.fromkeys(decoded.ids.tolist(), name)
    return _assemble(
        listing,
        scan,
        preparation,
        decoded,
        split,
        classes=listing.classes if annotation_kind(listing.annotation).open_classes else classes,
        unreadable=unreadable,
        notes=(*listing.notes, note, *renamed, *_scaled(listing, scan, readable, preparation), *samples.notes),
        findings=(*known, *find_all(quick_evidence(listing, scan, unreadable, split, config))),
        store=samples.store,
    )


def _scaled(listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation) -> tuple[str, ...]:
    """A note where pictures have another size than the inputs of the network."""
    medium, size = listing.medium, preparation.input_shape[1:]
    if not medium.pictures:
        return ()
    if listing.inputs is not None:
        found = medium.describe(listing.inputs.shape[1:])
        other = len(ids) if listing.inputs.shape[2:] != size else 0
    else:
        found = medium.described([scan.headers[i] for i in ids])
        other = sum(medium.size_of(scan.headers[i]) not in (None, size) for i in ids)
    if not other:
        return ()
    how = f"scaled to {show_shape(size)} pixels, the size of the network's inputs"
    return (f"Size: {several_of(other, len(ids), 'image', 'were')} {how} (data.fit {preparation.fit}): {found}.",)


def _at_known_level(listing: Listing, config: DataConfig, annotation: str, classes: tuple[str, ...]) -> Listing:
    """The listing, with deeper folders as classes if the network knows their names."""
    if listing.class_level is None or set(listing.labels) <= set(classes):
        return listing
    levels = (level for level in range(2, 21) if set().union(*listing.folders_at(level).values()) & set(classes))
    level: int | Literal["path"] | None = "path" if any("/" in name for name in classes) else next(levels, None)
    if level is None:
        return listing
    found = list_source(replace(config, class_level=level), annotation)
    if level == "path" or not annotation_kind(annotation).open_classes:
        return found
    # A name that the network knows may be that of several classes: A/1 and B/1.
    apart = list_source(replace(config, class_level="path"), annotation)
    if len(apart.classes) == len(found.classes):
        return found
    folders, fewer = several(len(apart.classes), "folder"), len(apart.classes) - len(found.classes)
    note = (
        f"Classes: each of {folders} is a class, such as {apart.classes[0]}; the innermost folder names alone would"
        f" give {fewer:,} fewer."
    )
    return replace(apart, notes=(*apart.notes, note))


def _assemble(
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
    known_fingerprint: str | None = None,
    annotated: str = "",
) -> Dataset:
    """The data set of the decoded samples.

    By id: `split` has the split of each sample, `unreadable` the reasons of others, `units` the keys of samples that
    stay together. `store`: where the inputs are. `known_fingerprint`: the one to compare with, if any. `annotated`: see
    `Dataset`.

    Raises DataError for mask values that are not among `classes`, and for a split without a labeled pixel.
    """
    kind, place = annotation_kind(listing.annotation), placements(listing, scan, preparation)
    targets = kind.placed_targets(listing, decoded.ids, decoded.masks, classes, place)
    names = np.array([split[i] for i in decoded.ids.tolist()])
    splits, contents, unit_keys, facts = {}, {}, {}, {}
    texts: dict[bytes, str] = {}  # a sample is usually a unit of its own, so that both share a text

    def text_of(key: bytes) -> str:
        return texts.setdefault(key, key.hex())

    for name in ("train", "val", "test", "all"):
        rows = np.flatnonzero(names == name)
        if len(rows):
            contents[name] = tuple(text_of(scan.contents[i]) for i in decoded.ids[rows].tolist())
            if units is not None:
                unit_keys[name] = tuple(text_of(units[i]) for i in decoded.ids[rows].tolist())
            facts[name] = _facts(listing, scan, decoded.ids[rows].tolist())
            inputs = _inputs_of(listing, decoded, rows)
            own_targets = inputs if kind.is_input else torch.from_numpy(targets[rows])
            splits[name] = Split(inputs, own_targets, torch.from_numpy(decoded.ids[rows]))
    membership = split | dict.fromkeys(unreadable, "unreadable")
    of_files = store != "memory" or (listing.inputs is None and medium_of(preparation.kind).stored)
    data = Dataset(
        name=listing.name,
        source=listing.source,
        kind=preparation.kind,
        annotation=listing.annotation,
        splits=splits,
        classes=classes,
        preparation=preparation,
        rows=tuple(SplitRow(listing.paths[i], listing.labels[i], membership[i]) for i in sorted(membership)),
        fingerprint=fingerprint_of(
            splits, contents, (classes, listing.target_names, preparation), of_files, known_fingerprint
        ),
        features=listing.features,
        target_names=listing.target_names,
        notes=notes,
        findings=findings,
        contents=contents,
        units=unit_keys,
        given=tuple(sorted({name for name in listing.given if name is not None})),
        store=store,
        facts=facts,
        annotated=annotated,
        skeleton=listing.skeleton,
    )
    ids = {name: part.ids.numpy() for name, part in splits.items()}
    kind.check(listing, ids, {name: part.targets for name, part in splits.items()})
    return data


def _facts(listing: Listing, scan: Scan, ids: list[int]) -> SampleFacts:
    """Further facts about the samples `ids`."""
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
    together = listing.inputs is None and stop - start == len(rows)  # arrays that a caller gave are copied
    return torch.from_numpy(decoded.inputs[start:stop] if together else decoded.inputs[rows])


def _check_form(listing: Listing, preparation: Preparation, targets: int | None) -> None:
    where = f"data {listing.source}"
    if listing.kind != preparation.kind or (
        listing.inputs is not None
        and not medium_of(preparation.kind).any_size
        and listing.inputs.shape[1:] != preparation.input_shape
    ):
        shape = "" if listing.inputs is None else f" of shape {listing.inputs.shape[1:]}"
        raise DataError(
            where,
            f"{listing.kind} inputs{shape}",
            f"{preparation.kind} inputs of shape {preparation.input_shape}, which the network was trained on",
            "evaluate it on data of the same form",
        )
    if targets is not None:
        annotation_kind(listing.annotation).check_count(listing, targets)


def _split_notes(listing: Listing, config: DataConfig, split: Mapping[int, str]) -> tuple[str, ...]:
    fractions = {"val": config.validation_share, "test": config.test_fraction}
    lacking = {name: fraction for name, fraction in fractions.items() if name not in listing.given}
    cut = [f"{name} ({percent(fraction, 0)})" for name, fraction in lacking.items() if fraction > 0]
    kept = ""
    if "test" in lacking and config.fingerprint is None:  # the splits of a run are decided
        kept = " If you have separate test data: --data.test_fraction 0 for no test split."
    if lacking.get("test") == 0:
        kept = " No test split: striate eval RUN DATA evaluates on your separate test data."
    set_by_user = {
        "val": config.val_fraction is not None,
        "test": config.test_fraction not in (0, DataConfig.test_fraction),
    }
    ignored_fractions = tuple(
        f"--data.{name}_fraction has no effect: the data have a {name} split."
        for name, given in set_by_user.items()
        if given and name not in lacking
    )
    if not cut:
        return (*ignored_fractions, kept.strip()) if kept else ignored_fractions
    whole = "train" if any(listing.given) else "the data"
    groups, kind = len(set(filter(None, listing.groups))), annotation_kind(listing.annotation)
    if kind.open_classes:  # with few classes, shares differ from the requested ones
        made = [name for name, fraction in lacking.items() if fraction > 0]
        counts = [len({listing.labels[i] for i, of in split.items() if of == name}) for name in made]
        every = several(len(listing.classes), "class", "classes")
        cut = [f"{name} ({count} of {every})" for name, count in zip(made, counts, strict=True)]
    by_group = f"by group ({several(groups, 'group')}, none in two splits)"
    how = by_group if groups else kind.chosen
    taken = f"{' and '.join(cut)}{kind.share_of(listing)} taken from {whole}"
    return (*ignored_fractions, f"Splits: {taken}, chosen {how}.{kept}")
