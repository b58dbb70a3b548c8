"""What the network of a run answered for each sample of a split: kept by the run, or computed when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.decode import decode_samples
from striate.errors import DataError, StriateError
from striate.inference.answering import batch_size
from striate.lab.exploring.samples import Samples
from striate.runs.predictions import read_predictions
from striate.tasks.classify.metrics import runner_up

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

AT_ONCE = 512  # images decoded at once
MOST = 100_000
"""Samples of a split at most that are answered here; a run keeps the answers for larger ones."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Of one split of a classification, in the order of `ids` (N,): class numbers `true` and `said`, the `probability`
    of the class said, and the `lead` of it over the next. `kept`: by the run, at the end of its training."""

    split: str
    ids: NDArray[np.int64]
    true: NDArray[np.int64]
    said: NDArray[np.int64]
    probability: NDArray[np.float32]
    lead: NDArray[np.float32]
    kept: bool

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Which are right."""
        return np.equal(self.true, self.said)


def find_answers(lab: Lab, samples: Samples, split: str) -> Answers:
    """The answers for a split. Raises DataError for other tasks than classification, and for too large a split that the
    run keeps no answers for; RunError."""
    ids = samples.of_split(split)
    if not samples.classes:
        raise DataError("answers", "data without classes", "a classification", "striate eval RUN")
    if lab.trained is None or tuple(lab.trained.classes) != samples.classes:
        raise DataError("answers", "classes of another network", ", ".join(samples.classes)[:200], "open another run")
    kept = read_predictions(samples.run, split)
    same = kept is not None and kept.classes == samples.classes and set(kept.ids.tolist()) <= set(ids.tolist())
    if kept is not None and kept.predicted is not None and same:
        return _answers(split, kept.ids, kept.targets, kept.answers, kept.predicted, kept=True)
    if len(ids) > MOST:
        got = f"{len(ids):,} samples without kept answers"
        raise DataError(f"answers for {split}", got, f"at most {MOST:,}", "choose another split")
    return new_answers(split, samples, *compute_answers(lab, samples, ids))


def new_answers(split: str, samples: Samples, ids: NDArray[np.int64], probabilities: NDArray[Any]) -> Answers:
    """The answers for `ids` of a split, whose `probabilities` (N, K) were computed just now."""
    order = {name: number for number, name in enumerate(samples.classes)}
    true = np.array([order[samples.labels[k]] for k in ids.tolist()], np.int64)
    return _answers(split, ids, true, probabilities, probabilities.argmax(1), kept=False)


def compute_answers(lab: Lab, samples: Samples, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The ids that can be read, and what the network answers for them."""
    trained = lab.trained
    assert trained is not None, "samples are of a run"
    read, answers = [], []
    at_once = min(AT_ONCE, batch_size(trained.preparation.input_shape))
    for start in range(0, len(ids), at_once):
        if lab.ending.is_set():
            raise StriateError("the lab", "its end", "a lab that goes on", "open it again")
        part, inputs = read_inputs(lab, samples, ids[start : start + at_once])
        with lab.computing:
            answers.append(trained.decode(inputs).numpy())
        read.append(part)
    return np.concatenate(read), np.concatenate(answers)


def read_inputs(lab: Lab, samples: Samples, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor]:
    """The ids that can be read, and their images as the network gets them, before standardization: uint8 (N, C, H, W).
    Raises DataError where none can."""
    assert lab.trained is not None, "samples are of a run"
    decoded = decode_samples(samples.listing, ids.tolist(), lab.trained.preparation)
    if not len(decoded.ids):
        got = next(iter(decoded.unreadable.values()), "no images")
        raise DataError("images", got, "at least one that can be read", "put the files back")
    return decoded.ids, torch.from_numpy(np.ascontiguousarray(decoded.inputs))


def _answers(
    split: str,
    ids: NDArray[np.int64],
    true: NDArray[np.int64],
    probabilities: NDArray[Any],
    said: NDArray[np.int64],
    *,
    kept: bool,
) -> Answers:
    own = probabilities[np.arange(len(ids)), said]
    return Answers(split, ids, true, said, own, own - runner_up(probabilities, said)[1], kept)
