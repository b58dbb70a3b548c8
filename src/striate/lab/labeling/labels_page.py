"""The page Labels: the samples to check, with label and prediction; each correction is written at once."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Body, Query
from fastapi.responses import Response

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.listing import order_classes
from striate.data.sources.tree import read_file
from striate.errors import DataError, pasted
from striate.lab.exploring.run_samples import Samples, read_samples
from striate.lab.labeling.corrections_file import NAME, CorrectionsFile
from striate.lab.labeling.label_predictions import UNLABELED, LabelPredictions, predict_folder, predict_split
from striate.lab.page_images import MAX_PIXELS, RUN, as_png, reduce_picture, run_config
from striate.visualize.picture import read_picture_bytes
from striate.wording import percent

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

Which = Literal["doubtful", "unsure"]
AT_ONCE = 200
"""Largest number of samples that are listed at once."""
_EPOCHS = 5
_UNSURE = 0.5
"""A prediction is unsure if the probability of its class exceeds that of the next one by less."""
_DIGITS = "1234567890"


def keys_of(classes: tuple[str, ...]) -> list[str]:
    """A key for each class, "" where none is left: its name if that is one character, else the first free letter of its
    name, else a free digit."""
    keys = {name: name.lower() for name in classes if len(name) == 1 and name.isalnum()}
    if len(set(keys.values())) < len(keys):  # a and A
        keys = {name: name for name in keys}
    for name in classes:
        if name not in keys:
            wanted = [letter for letter in name.lower() if letter.isascii() and letter.isalpha()] + list(_DIGITS)
            keys[name] = next((letter for letter in wanted if letter not in keys.values()), "")
    return [keys[name] for name in classes]


@dataclass
class Labeling:
    """The samples of one lab whose labels are checked, and the table of corrections."""

    lab: Lab
    _found: dict[str, LabelPredictions] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def samples(self) -> Samples:
        """All samples of the run. Raises RunError; DataError, also where samples do not have one class each."""
        samples = read_samples(self.lab, "labels", "labels are to be checked")
        if not samples.classes:
            trained, kind = self.lab.trained, annotation_kind(samples.listing.annotation)
            task = "" if trained is None else f" (task {trained.task.name})"
            expected = "samples that have one class each: classify, or embed"
            raise DataError("labels", f"{kind.texts} as annotations{task}", expected, "open the page Explore")
        return samples

    @cached_property
    def table(self) -> CorrectionsFile:
        """The table beside the run."""
        earlier = run_config(self.lab).data.labels
        return CorrectionsFile(self.samples.run.path / NAME, None if earlier is None else Path(earlier))

    @cached_property
    def _label_and_split(self) -> dict[str, tuple[str, str]]:
        """Label and split of each sample of the run, by path."""
        labels, splits = self.samples.labels.tolist(), self.samples.splits.tolist()
        return dict(zip(self.samples.listing.paths, zip(labels, splits, strict=True), strict=True))

    @cached_property
    def _counts(self) -> Counter[tuple[str, str]]:
        return Counter(self._label_and_split.values())

    def _untrained(self, labels: dict[str, str]) -> list[str]:
        """The classes that samples have with the corrections `labels`, but no training sample has."""
        counts = Counter(self._counts)
        for path, label in labels.items():
            own, split = self._label_and_split.get(path, ("", "train"))  # further files are trained on
            counts[own, split] -= 1
            counts[label, split] += 1
        there = {label for (label, _), count in counts.items() if label and count > 0}
        return [name for name in order_classes(tuple(there)) if counts[name, "train"] < 1]

    def parts(self) -> list[dict[str, Any]]:
        """The parts that can be checked: the splits, the held-out ones first, and the unlabeled folder."""
        counts = self.samples.counts()
        named = {name: counts[name] for name in ("test", "val", "train") if name in counts}
        parts: list[dict[str, Any]] = [{"name": name, "n": n} for name, n in named.items()]
        return parts if self.lab.unlabeled is None else [*parts, {"name": UNLABELED, "n": None}]

    def predictions(self, part: str) -> LabelPredictions:
        """The cached predictions for a split, or the unlabeled folder. Raises DataError."""
        with self._lock:
            if part not in self._found:
                if part != UNLABELED:
                    self._found[part] = predict_split(self.lab, self.samples, part)
                elif self.lab.unlabeled is None or self.lab.trained is None:
                    remedy = "end the lab, and open it with --unlabeled FOLDER"
                    raise DataError("unlabeled pictures", "no folder", "one that the lab was opened with", remedy)
                else:
                    with self.lab.computing:
                        self._found[part] = predict_folder(self.lab.trained, self.lab.unlabeled)
            return self._found[part]

    def path_of(self, part: str, number: int) -> str:
        """The path of a sample in the table. Raises DataError for an unknown sample."""
        if part == UNLABELED:
            files = self.predictions(part).files
            if not 0 <= number < len(files):
                raise DataError("sample", str(number), f"a number from 0 to {len(files) - 1}", "load the page again")
            return str(Path(files[number]).absolute())
        if not 0 <= number < len(self.samples.listing):
            raise DataError("sample", str(number), "a sample of the run", "load the page again")
        return self.samples.listing.paths[number]

    def queue(self, part: str, which: Which, after: int | None = None) -> dict[str, Any]:
        """The samples to check next, without those in the table; only those that come after the sample `after`."""
        predictions, done = self.predictions(part), self.table.labels()
        by = -predictions.doubt if which == "doubtful" else predictions.lead
        order = np.argsort(by, kind="stable")
        if which == "doubtful":
            order = order[predictions.doubt[order] > 0]
        if after is not None:
            order = order[int(np.flatnonzero(predictions.ids[order] == after).max(initial=-1)) + 1 :]
        rows = [row for row in order.tolist() if self.path_of(part, int(predictions.ids[row])) not in done]
        listed = [self._record(predictions, row) for row in rows[:AT_ONCE]]
        return {
            "total": len(rows),
            "of": len(predictions.ids),
            "likely": int(predictions.likely.sum()),
            "by": predictions.by,
            "samples": listed,
        }

    def _record(self, predictions: LabelPredictions, row: int) -> dict[str, Any]:
        number, table = int(predictions.ids[row]), predictions.probabilities[row]
        top = [[self.samples.classes[k], float(table[k])] for k in np.argsort(-table, kind="stable")[:3].tolist()]
        label = None if predictions.labels[row] < 0 else self.samples.classes[int(predictions.labels[row])]
        record = {
            "sample": number,
            "part": predictions.split,
            "path": self.path_of(predictions.split, number),
            "image": None if predictions.files else f"{RUN}#{number}",
            "label": label,
            "top": top,
            "likely": bool(predictions.likely[row]),
        }
        first = f"{predictions.by} gives {top[0][0]} with {percent(top[0][1])}"
        if label is None or label == top[0][0]:
            how = "Unsure" if predictions.lead[row] < _UNSURE else "Hardly in doubt"
            return record | {
                "why": f"{how}: {first}" + "".join(f", {name} with {percent(p)}" for name, p in top[1:2]) + "."
            }
        own = percent(float(table[predictions.labels[row]]))
        doubt = "Likely wrong" if predictions.likely[row] else "Doubtful"
        return record | {"why": f"{doubt}: {first}, {label} with {own}."}

    def state(self) -> dict[str, Any]:
        """The classes with their keys, the counts of the table, and the command that trains further: None where nothing
        is corrected, or where classes are `untrained`, since no training sample has them."""
        labels, run = self.table.labels(), self.samples.run.path
        classes = order_classes((*self.samples.classes, *filter(None, labels.values())))
        left = sum(not label for label in labels.values())
        kept = sum(self._label_and_split.get(path, ("", ""))[0] == label for path, label in labels.items() if label)
        untrained, command = self._untrained(labels), None
        if len(labels) > kept and not untrained:
            command = f"striate train --from {pasted(run)} --labels {pasted(self.table.path)} --epochs {_EPOCHS}"
        return {
            "classes": [{"name": name, "key": key} for name, key in zip(classes, keys_of(classes), strict=True)],
            "file": str(self.table.path),
            "corrected": len(labels) - left - kept,
            "kept": kept,
            "left": left,
            "untrained": untrained,
            "command": command,
        }

    def picture(self, number: int) -> bytes:
        """A PNG of a picture of the unlabeled folder."""
        path = Path(self.path_of(UNLABELED, number))
        try:
            data = read_file(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"picture {path.name}", reason, "a file that can be read", "skip it") from None
        return as_png(reduce_picture(read_picture_bytes(data, path.name, MAX_PIXELS), 512))


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page Labels."""
    router, labeling = APIRouter(), Labeling(lab)

    @router.get("/about")
    def about() -> dict[str, Any]:
        """The parts that can be checked, and the state of the table."""
        listing = labeling.samples.listing
        return {"data": listing.name, "parts": labeling.parts(), **labeling.state()}

    @router.get("/queue")
    def queue(part: str, which: Which = "doubtful", after: int | None = None) -> dict[str, Any]:
        return labeling.queue(part, which, after)

    @router.post("/correct")
    def correct(
        part: Annotated[str, Body()], sample: Annotated[int, Body()], label: Annotated[str, Body(max_length=200)]
    ) -> dict[str, Any]:
        """Give a sample a label, "" to leave it out; the state of the table, with the label that the sample has
        `already`, and keeps, if another page has decided."""
        already = labeling.table.set(labeling.path_of(part, sample), label)
        return {"already": already, **labeling.state()}

    @router.post("/undo")
    def undo(path: Annotated[str | None, Body(embed=True)] = None) -> dict[str, Any]:
        """Undo the decision on the sample at `path`, or the latest one; its `path`, None without a decision."""
        return {"path": labeling.table.undo(path), **labeling.state()}

    @router.get("/picture")
    def picture(sample: Annotated[int, Query(ge=0)]) -> Response:
        return Response(labeling.picture(sample), media_type="image/png")

    return router
