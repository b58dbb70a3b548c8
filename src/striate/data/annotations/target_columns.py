"""Several targets of one sample, each a column of a manifest with its own kind; any of them may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind, or_split
from striate.data.annotations.label_sets import rarest_label, separator_of, split_labels
from striate.data.dataset import Dataset, Split
from striate.data.listing import Listing, as_number, order_classes
from striate.data.media.medium import Preparation
from striate.errors import ConfigError, DataError, OtherClassesError, pasted
from striate.wording import listed, several

KINDS = {"number": "number", "class": "class", "multilabel": "labels"}
"""Words after the colon in `--targets`, and the kind of annotation of each."""
MISSING = frozenset(("", "nan", "na", "n/a", "none", "null"))
"""Texts in lower case that stand for an unknown value in a table."""


@dataclass(frozen=True)
class Column:
    """One target of several.

    In the targets of a sample it takes `width` values: first `known` (0 or 1), then its number, the number of its
    class, or 0 or 1 for each label; zeros where it is not known."""

    name: str
    kind: str
    """Its kind of annotation: a value of `KINDS`."""
    classes: tuple[str, ...] = ()
    """Names of its classes or labels; empty for a number."""

    @property
    def width(self) -> int:
        """The number of its values in the targets of a sample, including `known`."""
        return 1 + (len(self.classes) if self.kind == "labels" else 1)

    @property
    def word(self) -> str:
        """Its kind as written in `--targets`."""
        return next(word for word, kind in KINDS.items() if kind == self.kind)

    def native(self, values: torch.Tensor) -> torch.Tensor:
        """Targets as its kind of annotation has them, from (N, width): (N, 1) or (N, K) float32, or (N,) int64."""
        return values[:, 1].long() if self.kind == "class" else values[:, 1:]

    def text(self, values: NDArray[Any]) -> str:
        """One sample's value in words, of (width,)."""
        if not values[0]:
            return "not known"
        if self.kind == "labels":
            own = zip(self.classes, values[1:].tolist(), strict=True)
            return ", ".join(name for name, there in own if there) or "none"
        return self.classes[int(values[1])] if self.kind == "class" else f"{float(values[1]):g}"


def columns_of(target_names: Sequence[str], classes: Sequence[str]) -> tuple[Column, ...]:
    """The columns of a data set, whose `target_names` are `age:number`, and its `classes` `gender=f`."""
    found = []
    for entry in target_names:
        name, _, word = entry.rpartition(":")
        own = tuple(one.removeprefix(f"{name}=") for one in classes if one.startswith(f"{name}="))
        found.append(Column(name, KINDS[word], own))
    return tuple(found)


def parts_of(targets: torch.Tensor, columns: Sequence[Column]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each column, (N,) whether it is known, and its targets (`Column.native`), from the targets (N, M)."""
    sizes = [column.width for column in columns]
    parts = targets.split(sizes, dim=1)
    return [(part[:, 0] > 0, column.native(part)) for part, column in zip(parts, columns, strict=True)]


def occurring_classes(targets: NDArray[Any], columns: Sequence[Column]) -> NDArray[np.bool_]:
    """(N, K) whether a sample has a class or label of any column, in the order of the `classes` of a data set."""
    ends = np.cumsum([column.width for column in columns])[:-1]
    blocks = [np.zeros((len(targets), 0), np.bool_)]
    for column, block in zip(columns, np.split(targets, ends, axis=1), strict=True):
        if column.kind != "number":
            own = block[:, 1:] > 0 if column.kind == "labels" else block[:, 1:] == np.arange(len(column.classes))
            blocks.append(own & (block[:, :1] > 0))
    return np.concatenate(blocks, axis=1)


def data_of(data: Dataset, number: int, whole: Sequence[str] = ()) -> Dataset:
    """The data with column `number` as the only target. Samples for which it is unknown are left out, except in the
    splits `whole`."""
    columns = columns_of(data.target_names, data.classes)
    column, splits = columns[number], {}
    for name, split in data.splits.items():
        known, own = parts_of(split.targets, columns)[number]
        rows = torch.ones_like(known) if name in whole else known
        part = split.take(rows)
        splits[name] = Split(part.inputs, own[rows], part.ids)
    names = (column.name,) if column.kind == "number" else ()
    return replace(
        data, annotation=column.kind, splits=splits, classes=column.classes, target_names=names, facts={}, contents={}
    )


def parse_targets(text: str) -> dict[str, str]:
    """`age:number,gender:class` as a mapping from column to kind of annotation. Raises ConfigError."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, word = (words.strip() for words in part.rpartition(":"))
        if not name or "=" in name or word not in KINDS or name.lower() in found:
            known = "number, class or multilabel"
            raise ConfigError("data.targets", repr(part), f"COLUMN:KIND with {known}, each column once", _EXAMPLE)
        found[name.lower()] = KINDS[word]
    if not found:
        raise ConfigError("data.targets", repr(text), "COLUMN:KIND, with commas between", _EXAMPLE)
    return found


_EXAMPLE = "--targets age:number,gender:class"


def with_targets(listing: Listing, text: str) -> Listing:
    """The listing with the columns that `--targets` names as targets. Raises ConfigError for a missing column,
    DataError for a value that is not a number."""
    texts = dict(listing.columns)
    if listing.has_one_class_each and any(listing.labels):
        texts["label"] = listing.labels
    if not texts:
        expected = f"no targets for {listing.source}: only a manifest has columns to choose from"
        raise ConfigError("data.targets", text, expected, "leave out --targets")
    names, kinds, classes, blocks = [], parse_targets(text), [], []
    for name in kinds:
        if name not in texts:
            known = listed(list(texts), 12)
            remedy = f"add a column {name}; to train on other columns: {_guessed(texts) or _EXAMPLE}"
            raise ConfigError("data.targets", name, f"a column of the manifest: {known}", remedy)
    for name, kind in kinds.items():
        column, block = _read_column(listing, name, kind, texts.pop(name))
        names.append(f"{name}:{column.word}")
        classes += [f"{name}={one}" for one in column.classes]
        blocks.append(block)
    targets = np.concatenate(blocks, axis=1)
    rest = {name: texts[name] for name in listing.columns if name in texts}
    note = f"Columns of the manifest used only for slices of the evaluation: {listed(list(rest), 10)}."
    found = replace(
        listing,
        annotation=TargetColumns.name,
        targets=targets,
        classes=tuple(classes),
        target_names=tuple(names),
        indexed=False,
        class_level=None,
        columns=rest,
        notes=(*listing.notes, note) if rest else listing.notes,
    )
    return replace(found, labels=_labels(found))


def _read_column(listing: Listing, name: str, kind: str, texts: Sequence[str]) -> tuple[Column, NDArray[np.float32]]:
    """The column, and (N, width) its targets."""
    # For sets of labels, an empty field is an empty set; `nan` is unknown.
    known = np.array([t.strip().lower() not in MISSING or (kind == "labels" and not t.strip()) for t in texts])
    if not known.any():
        raise DataError(f"data {listing.source}, {name}", "no value in any row", "some values", "leave the column out")
    given = [text.strip() for text, there in zip(texts, known, strict=True) if there]
    if kind == "number":
        numbers = [as_number(text) for text in given]
        if None in numbers:
            place = int(np.flatnonzero(known)[numbers.index(None)])
            raise DataError(
                f"data {listing.source}, {listing.paths[place]}",
                f"{texts[place]!r} in the column {name}",
                "a finite number, or an empty field if it is unknown",
                f"correct it, or learn classes: --targets {pasted(f'{name}:class')}",
            )
        column, values = Column(name, kind), np.array(numbers, np.float32)[:, None]
    elif kind == "class":
        column = Column(name, kind, order_classes(given))
        values = np.array([[column.classes.index(text)] for text in given], np.float32)
    else:
        between = separator_of(given)
        sets = [split_labels(text, between) for text in given]
        column = Column(name, kind, order_classes({one for own in sets for one in own}))
        values = np.array([[one in own for one in column.classes] for own in sets], np.float32)
    if kind != "number" and len(column.classes) < (2 if kind == "class" else 1):
        got = f"{several(len(column.classes), 'value')} in the column {name}: {listed(list(column.classes))}"
        raise DataError(f"data {listing.source}", got, "values that differ", f"leave out {name}")
    block = np.zeros((len(texts), column.width), np.float32)
    block[known, 0] = 1
    block[known, 1:] = values
    return column, block


def _labels(listing: Listing) -> tuple[str, ...]:
    """`age=31; gender=f` for each sample."""
    columns = columns_of(listing.target_names, listing.classes)
    assert listing.targets is not None
    ends = np.cumsum([column.width for column in columns])[:-1]
    blocks = np.split(listing.targets, ends, axis=1)
    return tuple(
        "; ".join(f"{c.name}={c.text(block[row])}" for c, block in zip(columns, blocks, strict=True))
        for row in range(len(listing))
    )


def _guessed(texts: Mapping[str, Sequence[str]]) -> str:
    """The option that names all columns, with the kinds that their values suggest."""
    parts = []
    for name, values in texts.items():
        given = [text for text in values if text.strip().lower() not in MISSING]
        numbers = bool(given) and all(as_number(text) is not None for text in given)
        sets = any("|" in text for text in given)
        parts.append(f"{name}:{'multilabel' if sets else 'number' if numbers else 'class'}")
    return f"--targets {pasted(','.join(parts))}" if parts else ""


class TargetColumns(AnnotationKind):
    """(N, M) float32, the values of each `Column` one after the other."""

    name: ClassVar[str] = "columns"
    word: ClassVar[str] = "several columns"
    texts: ClassVar[str] = "several columns"
    task: ClassVar[str] = "several"
    layout: ClassVar[str] = " --targets age:number,gender:class, with the columns of a manifest"

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """Raises ConfigError: only --targets says which columns are meant."""
        del has
        guess = _guessed(listing.columns)
        got = "no --targets, which names the columns to predict"
        raise ConfigError("data.targets", got, "columns of a manifest, each with its kind", guess or _EXAMPLE)

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Each split needs a known value of each target."""
        del ids
        columns = columns_of(listing.target_names, listing.classes)
        for name, own in targets.items():
            for column, (known, _) in zip(columns, parts_of(own, columns), strict=True):
                if len(own) and not bool(known.any()):
                    raise DataError(
                        f"data {listing.source}",
                        f"no {column.name} in the {several(len(own), 'sample')} of {name}",
                        "at least one in each split",
                        f"fill in some, or leave this target out{or_split(listing, 'leave out the column split')}",
                    )

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`3 targets: age (12 known), gender (14 known: f 9, m 5)`."""
        columns, texts = columns_of(listing.target_names, listing.classes), []
        assert listing.targets is not None
        own = torch.from_numpy(listing.targets[list(ids)])
        for column, (known, values) in zip(columns, parts_of(own, columns), strict=True):
            text = f"{column.name} ({int(known.sum()):,} known"
            if column.kind == "class":
                counts = Counter(values[known].tolist())
                shown = [f"{name} {counts[k]:,}" for k, name in enumerate(column.classes[:4])]
                text += f": {', '.join(shown)}{', …' if column.classes[4:] else ''}"
            texts.append(f"{text})")
        return f"{several(len(columns), 'target')}: {', '.join(texts)}"

    def manifest_columns(self, listing: Listing) -> tuple[str, ...]:
        """One column for each target."""
        return tuple(name.rpartition(":")[0] for name in listing.target_names)

    def manifest_fields(self, listing: Listing, number: int) -> tuple[str, ...]:
        """Its values, empty where they are not known."""
        columns = columns_of(listing.target_names, listing.classes)
        assert listing.targets is not None
        ends = np.cumsum([column.width for column in columns])[:-1]
        blocks = np.split(listing.targets[number], ends)
        fields = []
        for column, own in zip(columns, blocks, strict=True):
            text = column.text(own).replace(", ", "|") if own[0] else "nan" if column.kind == "labels" else ""
            fields.append("" if column.kind == "labels" and text == "none" else text)
        return tuple(fields)

    def share_of(self, listing: Listing) -> str:
        """The first target that has classes decides; there may be none."""
        kinds = {column.kind for column in columns_of(listing.target_names, listing.classes)}
        return "" if kinds == {"number"} else " of the samples of each class (of the first target that has classes)"

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """The class of the first target that has classes, or the rarest of its labels."""
        columns = columns_of(listing.target_names, listing.classes)
        assert listing.targets is not None
        own = torch.from_numpy(listing.targets[list(ids)])
        for column, (known, values) in zip(columns, parts_of(own, columns), strict=True):
            if column.kind != "number":
                numbers = values.numpy() if column.kind == "class" else rarest_label(values.numpy())
                strata: list[int] = np.where(known.numpy(), numbers, len(column.classes) + 1).tolist()
                return strata
        return [0] * len(ids)

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """Classes of each target are matched by name."""
        del preparation
        unknown = [name for name in listing.classes if name not in classes]
        if unknown:
            raise OtherClassesError(
                f"data {listing.source}",
                f"classes that the network does not know: {', '.join(unknown[:5])}",
                f"some of {', '.join(classes[:10])}{', …' if classes[10:] else ''}",
                "rename these classes, or leave their fields empty",
            )
        assert listing.targets is not None
        before, after = (columns_of(listing.target_names, names) for names in (listing.classes, classes))
        blocks = np.split(listing.targets, np.cumsum([column.width for column in before])[:-1], axis=1)
        moved = [_moved(block, one, two) for block, one, two in zip(blocks, before, after, strict=True)]
        return replace(listing, targets=np.concatenate(moved, axis=1), classes=classes), ()

    def check_count(self, listing: Listing, targets: int) -> None:
        """Samples must have as many targets as the network."""
        if len(listing.target_names) != targets:
            raise DataError(
                f"data {listing.source}",
                several(len(listing.target_names), "target"),
                f"{targets}, as many as the network has",
                "evaluate it on data with the same columns",
            )


def _moved(block: NDArray[Any], before: Column, after: Column) -> NDArray[Any]:
    """The targets of one column with the classes of `after`."""
    if before.kind == "number" or before.classes == after.classes:
        return block
    places = [after.classes.index(name) for name in before.classes]
    found = np.zeros((len(block), after.width), np.float32)
    found[:, 0] = block[:, 0]
    if before.kind == "class":
        found[:, 1] = np.array(places)[block[:, 1].astype(np.int64)] * block[:, 0]
    else:
        found[:, [1 + place for place in places]] = block[:, 1:]
    return found
