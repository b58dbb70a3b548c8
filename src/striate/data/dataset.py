"""What a data set is once it has been read: whole tensors, a split each, with sample ids."""

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
    """Samples as whole tensors.

    `inputs`: (N, C, *spatial) uint8 for images, (N, C, *spatial) or (N, F) float32 otherwise; images that are not in
    memory are `StoredInputs`, indexed in the same way.
    `targets`: (N,) int64 class numbers, (N, T) float32 numbers, (N, H, W) uint8 class masks (255 = ignored), or
    the inputs themselves.
    `ids`: (N,) int64, the position of the sample in the source's listing, the same in every run; always in memory.
    """

    inputs: Inputs
    targets: Targets
    ids: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: torch.Tensor) -> Split:
        """The samples at `rows`, positions or a mask; images that are not in memory are not read."""
        inputs, ids = take_rows(self.inputs, rows), self.ids[rows.to(self.ids.device)]
        return Split(inputs, inputs if self.of_inputs else self.targets[rows], ids)

    def all_targets(self) -> Targets:
        """The targets of all samples, in memory."""
        targets = self.targets.cpu()
        return targets[:] if isinstance(targets, StoredInputs) else targets

    @property
    def of_inputs(self) -> bool:
        """Whether the targets are the inputs themselves, held once."""
        return self.targets is self.inputs


def join_splits(parts: Sequence[Split]) -> Split:
    """The samples of splits of one data set, one after the other."""
    inputs = join_inputs([part.inputs for part in parts])
    own = all(part.of_inputs for part in parts)
    targets = inputs if own else join_targets([part.targets for part in parts])
    return Split(inputs, targets, torch.cat([part.ids for part in parts]))


@dataclass(frozen=True, slots=True)  # there may be millions
class SplitRow:
    """One row of split.csv. `path` is relative to the source, or the sample id where there are no files;
    `split` is `train`, `val`, `test`, `all` or `unreadable`; `label` is text (class name, number, or mask's path)."""

    path: str
    label: str
    split: str


@dataclass(frozen=True)
class SampleFacts:
    """What is known of the samples of one split beside input and target, one entry a sample, in its order.

    `paths` are those of split.csv; `sizes` (height, width) of the picture files in pixels, empty where there are none;
    `columns` the texts of the further columns of a manifest, and of `group`; empty texts where nothing is known.
    """

    paths: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def part(self, rows: Sequence[int]) -> SampleFacts:
        """Of these samples only."""
        columns = {name: tuple(texts[k] for k in rows) for name, texts in self.columns.items()}
        sizes = tuple(self.sizes[k] for k in rows) if self.sizes else ()
        return SampleFacts(tuple(self.paths[k] for k in rows), sizes, columns)


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training.

    `splits` maps `train`, `val`, `test` to samples (or `all`, where a network is measured on data without a test
    split), and `contents` the same names to digests of what each sample's file or array holds, equal for equal bytes
    and the same whatever the size of the input; `classes` are names in the order of class numbers (empty for
    numbers); `features` and `target_names` name the columns of a table; `notes` say in a sentence each what was
    decided for the user; `findings` what was noticed (unreadable or ignored files, leaks in given splits). `units`
    maps the same names to keys of what must stay together (equal contents, one group), and is empty where nothing is
    split; `given` names the splits that the source itself has samples of. `store` is where the inputs lie. `facts` has
    for each split what else is known of its samples, and is empty where the splits were dealt anew. `annotated` says
    in a line how often each class occurs, and is empty for numbers and masks. `skeleton`: pairs of points that are
    joined, where the source says it.
    """

    name: str
    source: str
    kind: Kind
    annotation: Annotation
    splits: dict[str, Split]
    classes: tuple[str, ...]
    preparation: Preparation
    rows: tuple[SplitRow, ...]
    fingerprint: str
    features: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    contents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    units: dict[str, tuple[str, ...]] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    store: Store = "memory"
    facts: dict[str, SampleFacts] = field(default_factory=dict)
    annotated: str = ""
    skeleton: tuple[tuple[int, int], ...] = ()

    @property
    def has_one_class_each(self) -> bool:
        """Whether each sample has one class: targets (N,) int64."""
        return self.annotation in ("class", "identity")

    @property
    def open_classes(self) -> bool:
        """Whether no class lies in two splits, so that classes of `val` and `test` are unseen."""
        return self.annotation == "identity"

    @property
    def has_masks(self) -> bool:
        """Whether targets lie on the grid of the image: (N, H, W) uint8."""
        return self.annotation == "mask"

    def target_text(self, target: Any) -> str:
        """One sample's target in words: its class, its numbers; nothing for what lies in the image."""
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
        """What a sample is."""
        return medium_of(self.kind)

    @property
    def inputs_in_words(self) -> str:
        """Shape of the inputs, and in which order of axes arrays were read where that was given or is in doubt."""
        read = "" if self.preparation.layout == "auto" else f", read as {self.preparation.layout}"
        return self.medium.describe(self.input_shape) + read

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch: (C, *spatial) or (F,)."""
        return self.preparation.input_shape
