"""A data set that has been read: for each split a tensor of inputs, the targets, and sample ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from striate.data.config import Store
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Kind as Kind
from striate.data.media.medium import Medium
from striate.data.media.medium import Preparation as Preparation
from striate.data.store.stored import Inputs, StoredInputs, join_inputs, take_rows
from striate.data.targets import Targets, join_targets
from striate.errors import DataError
from striate.records import Finding

Annotation = str
"""The name of a kind of annotation: `striate.data.annotations.annotation_kinds`."""


@dataclass(frozen=True)
class Split:
    """N samples of a data set."""

    inputs: Inputs
    """(N, C, *spatial) uint8 for images, (N, C, *spatial) or (N, F) float32 otherwise. Images that are not in memory
    are `StoredInputs`, which are indexed in the same way."""
    targets: Targets
    """(N,) int64 class numbers, (N, T) float32 numbers, (N, H, W) uint8 class masks (255 = ignored), `Ragged` entries,
    or the inputs themselves."""
    ids: torch.Tensor
    """(N,) int64: the position of the sample in the source's listing, the same in every run; always in memory."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: torch.Tensor) -> Split:
        """The samples at `rows`, which are positions or a mask. Images that are not in memory are not read."""
        inputs, ids = take_rows(self.inputs, rows), self.ids[rows.to(self.ids.device)]
        return Split(inputs, inputs if self.of_inputs else self.targets[rows], ids)

    def all_targets(self) -> Targets:
        """The targets of all samples, in memory."""
        targets = self.targets.cpu()
        return targets[:] if isinstance(targets, StoredInputs) else targets

    @property
    def of_inputs(self) -> bool:
        """Whether the targets are the same object as the inputs."""
        return self.targets is self.inputs


def join_splits(parts: Sequence[Split]) -> Split:
    """The samples of splits of one data set, one after the other."""
    inputs = join_inputs([part.inputs for part in parts])
    own = all(part.of_inputs for part in parts)
    targets = inputs if own else join_targets([part.targets for part in parts])
    return Split(inputs, targets, torch.cat([part.ids for part in parts]))


@dataclass(frozen=True, slots=True)  # there may be millions
class SplitRow:
    """One row of split.csv."""

    path: str
    """Relative to the source; the sample id where there are no files."""
    label: str
    """Class name, number, or path of the mask, as text."""
    split: str
    """`train`, `val`, `test`, `all` or `unreadable`."""


@dataclass(frozen=True)
class SampleFacts:
    """Further facts about the samples of one split: one entry for each sample, in the order of the split."""

    paths: tuple[str, ...]
    """Paths as in split.csv."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(height, width) of the picture files in pixels; empty where there are none."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts of the further columns of a manifest, and of `group`; an empty text where a value is unknown."""

    def part(self, rows: Sequence[int]) -> SampleFacts:
        """The facts about the samples at `rows`."""
        columns = {name: tuple(texts[k] for k in rows) for name, texts in self.columns.items()}
        sizes = tuple(self.sizes[k] for k in rows) if self.sizes else ()
        return SampleFacts(tuple(self.paths[k] for k in rows), sizes, columns)


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training. The keys of dicts are names of splits."""

    name: str
    source: str
    """The data argument: a name, or a path."""
    kind: Kind
    """The name of the medium."""
    annotation: Annotation
    splits: dict[str, Split]
    """`train`, `val`, `test`; or `all`, where a network is evaluated on data without a test split."""
    classes: tuple[str, ...]
    """Names in the order of class numbers; empty for numbers."""
    preparation: Preparation
    """How a file becomes an input."""
    rows: tuple[SplitRow, ...]
    """The rows of split.csv."""
    fingerprint: str
    """Digest of the samples, their splits, the classes and the preparation."""
    features: tuple[str, ...] = ()
    """Names of the input columns of a table."""
    target_names: tuple[str, ...] = ()
    """Names of the target columns, or of the points."""
    notes: tuple[str, ...] = ()
    """What was decided for the user, one sentence each."""
    findings: tuple[Finding, ...] = ()
    """What was noticed while reading: unreadable or ignored files, leaks in given splits."""
    contents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For each sample, a digest of its file or array: equal for equal bytes, whatever the size of the input."""
    units: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For each sample, the key of the unit that a split must not divide: equal contents, or one group. Empty where
    nothing is split."""
    given: tuple[str, ...] = ()
    """Names of the splits that the source itself gives."""
    store: Store = "memory"
    """Where the inputs lie."""
    facts: dict[str, SampleFacts] = field(default_factory=dict)
    """Further facts about the samples of each split; empty where the samples were split again."""
    annotated: str = ""
    """How often each class occurs, in one line; empty for numbers and masks."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Pairs of points that a line connects, where the source names them."""

    @property
    def has_one_class_each(self) -> bool:
        """Whether each sample has one class: targets (N,) int64."""
        return self.annotation in ("class", "identity")

    @property
    def open_classes(self) -> bool:
        """Whether the splits share no class, so that the classes of `val` and `test` are unseen in training."""
        return self.annotation == "identity"

    @property
    def has_masks(self) -> bool:
        """Whether targets lie on the grid of the image: (N, H, W) uint8."""
        return self.annotation == "mask"

    def target_text(self, target: Any) -> str:
        """One sample's target in words: its class or its numbers; empty for targets that are places in the image."""
        if self.has_masks or self.annotation == "columns" or getattr(target, "ndim", 0) > 1:
            return ""
        if self.annotation == "labels":
            return ", ".join(name for name, there in zip(self.classes, target.tolist(), strict=True) if there) or "none"
        return self.classes[int(target)] if self.has_one_class_each else ", ".join(f"{v:g}" for v in target.tolist())

    @property
    def held_out(self) -> str:
        """The split that a finished network is measured on: `test`, or `val` where no test split was cut."""
        return "test" if "test" in self.splits else "val"

    def require_test(self, what: str) -> None:
        """Raise DataError where there is no test split, which `what` measures on."""
        if "test" not in self.splits:
            raise DataError(
                f"{what}, data {self.source}",
                "no test split: data.test_fraction is 0",
                "a test split that was not used for training or model selection",
                "train with --data.test_fraction 0.2",
            )

    @property
    def medium(self) -> Medium:
        """The medium of the samples."""
        return medium_of(self.kind)

    @property
    def inputs_in_words(self) -> str:
        """Shape of the inputs in words; also the order of axes in which arrays were read, where that was given or is in
        doubt."""
        read = "" if self.preparation.layout == "auto" else f", read as {self.preparation.layout}"
        return self.medium.describe(self.input_shape) + read

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch: (C, *spatial) or (F,)."""
        return self.preparation.input_shape
