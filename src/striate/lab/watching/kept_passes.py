"""Passes that pages look at: computed once, and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from striate.errors import UsageError
from striate.lab.watching.passing import LARGEST_PASS, run_pass
from striate.lab.watching.step import Step, softmax_step, steps_of
from striate.lab.watching.subject import Subject, find_subject

if TYPE_CHECKING:
    from striate.lab.images import NamedImage
    from striate.lab.workbench import Lab

_MOST_SUBJECTS = 3


@dataclass(frozen=True, eq=False)
class Watched:
    """One network at work on one image: `raw` as the picture was prepared, (channels, rows, columns) in bytes; `x`,
    what the network got of it, (1, channels, rows, columns); the steps; the bytes that they hold."""

    subject: Subject
    image: NamedImage
    raw: np.ndarray
    x: torch.Tensor
    steps: tuple[Step, ...]
    bytes: int

    def step(self, layer: int) -> Step:
        """The step of that place. Raises UsageError."""
        if not 0 <= layer < len(self.steps):
            expected = f"0 to {len(self.steps) - 1}"
            raise UsageError("layer", str(layer), expected, "choose a layer of the list")
        return self.steps[layer]

    @property
    def probabilities(self) -> Step | None:
        """The last step, where it gives probabilities of classes."""
        last = self.steps[-1]
        return last if last.kind == "softmax" and last.maps.shape[1:] == (1, 1) else None


class KeptPasses:
    """The networks and passes of one lab that were looked at last."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._subjects: OrderedDict[tuple[str, str, bool], Subject] = OrderedDict()
        self._passes: OrderedDict[tuple[str, str, str], Watched] = OrderedDict()

    def watched(self, model: str, shape: str, image: str) -> Watched:
        """The network `model` for inputs of `shape` at work on the image of that name. Raises StriateError."""
        key = model.strip(), shape.strip(), image
        found = self._kept(key)
        if found is not None:  # without waiting for what others compute
            return found
        named = self._lab.images.find(image)
        with self._lab.computing:
            found = self._kept(key)  # several pages may have waited for the same pass
            if found is None:
                found = _watch(self._subject(key[0], key[1], named), named)
                self._keep(key, found)
            return found

    def _kept(self, key: tuple[str, str, str]) -> Watched | None:
        with self._lock:
            if key in self._passes:
                self._passes.move_to_end(key)
            return self._passes.get(key)

    def _subject(self, model: str, shape: str, image: NamedImage) -> Subject:
        key = (model, shape, len(image.picture.channels) == 1)
        if key not in self._subjects:
            self._subjects[key] = find_subject(self._lab, model, shape, image.picture)
            while len(self._subjects) > _MOST_SUBJECTS:
                _, gone = self._subjects.popitem(last=False)
                with self._lock:  # passes hold the weights of their network
                    for old in [key for key, kept in self._passes.items() if kept.subject is gone]:
                        del self._passes[old]
        self._subjects.move_to_end(key)
        return self._subjects[key]

    def _keep(self, key: tuple[str, str, str], found: Watched) -> None:
        with self._lock:
            self._passes[key] = found
            while len(self._passes) > 1 and sum(kept.bytes for kept in self._passes.values()) > LARGEST_PASS:
                self._passes.popitem(last=False)


def _watch(subject: Subject, image: NamedImage) -> Watched:
    raw = subject.prepare(image.picture, image.title)
    x = subject.normalize(raw)
    passing, _ = run_pass(subject.module, x)
    steps = steps_of(passing, subject.classes)
    last = steps[-1]
    # Behind a softmax of its own there is nothing to add.
    several = last.maps.shape[0] > 1
    if several and last.kind not in ("softmax", "log_softmax") and (subject.probable or last.output.ndim == 2):
        steps = (*steps, softmax_step(steps, subject.classes))
    return Watched(subject, image, raw, x, steps, passing.kept.bytes)


def input_step(watched: Watched) -> Step:
    """What goes in, as a step: the channels of the image after normalization."""
    shape = tuple(watched.x.shape[1:])
    words = (
        "The image as the network gets it: of every number the mean is subtracted, and the rest divided by the spread."
    )
    return Step(-1, "input", "input", words, shape, shape, (), watched.x)


def step_at(watched: Watched, layer: int) -> Step:
    """The step of that place, −1 the input. Raises UsageError."""
    return input_step(watched) if layer < 0 else watched.step(layer)
