"""Compare the predictions of an exported file with those of the run, for samples of the run's data, at several sizes
and in batches of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from striate.data.dataset import Dataset, Split
from striate.data.media.every_medium import medium_of
from striate.exporting.export_format import Runner
from striate.exporting.input_forms import InputForm, input_form_of
from striate.exporting.resize import sizes_around
from striate.training.trained import Prediction, Trained
from striate.wording import several

BATCHES = (1, 3, 8)
"""Sizes of the batches."""
LIMIT = 1e-4
"""The largest difference that counts as rounding, in the units of `Task.disparity`."""


@dataclass(frozen=True)
class Parity:
    """How a file's predictions compare with the run's."""

    n: int
    """Number of predictions that were compared."""
    sizes: tuple[tuple[int, ...], ...]
    """(height, width) of the inputs."""
    same: int
    """Number of predictions that say the same."""
    differences: Mapping[str, float]
    """The largest difference of each runtime."""
    batches: tuple[int, ...] = BATCHES
    """Sizes of the batches."""
    limit: float = LIMIT
    """The largest difference that counts as rounding."""

    @property
    def max_difference(self) -> float:
        """The largest difference of all runtimes."""
        return max(self.differences.values())

    @property
    def holds(self) -> bool:
        """Whether predictions differ by rounding at most."""
        return self.same == self.n and self.max_difference <= self.limit

    def to_json(self) -> dict[str, Any]:
        """The part `parity` of `striate export --json`."""
        return {
            "n": self.n,
            "sizes": [list(size) for size in self.sizes],
            "batches": list(self.batches),
            "max_difference": self.max_difference,
            "same_answers": self.same == self.n,
            "runtimes": dict(self.differences),
        }

    def text(self) -> str:
        """The comparison in a line."""
        each = ", ".join(f"{name} {difference:.2g}" for name, difference in self.differences.items())
        sizes = f" at {several(len(self.sizes), 'size')} and" if self.sizes else ""
        return (
            f"{self.same:,} of {several(self.n, 'prediction')} equal those of the run{sizes} in batches of "
            f"{', '.join(map(str, self.batches))}; largest difference: {each} (at most {self.limit:g})"
        )


def _spread(data: Dataset, count: int) -> Split:
    split = next(data.splits[name] for name in ("test", "val", "train") if len(data.splits.get(name, ())))
    count = min(count, len(split))
    return split.take(torch.arange(count) * len(split) // count)


def spread_inputs(data: Dataset, count: int) -> torch.Tensor:
    """`count` raw inputs (N, *input_shape), evenly spaced in the test split, or else in validation or training."""
    part = _spread(data, count)
    inputs: torch.Tensor = part.inputs[torch.arange(len(part))]
    return inputs.cpu()


def spread_ids(data: Dataset, count: int) -> list[int]:
    """The ids of the same samples."""
    return [int(number) for number in _spread(data, count).ids]


def measure_parity(
    trained: Trained, data: Dataset, runners: Mapping[str, Runner], read: Callable[[int], bytes] | None = None
) -> Parity:
    """Compare the predictions of the runners with those of `Trained.predict` in plain fp32. `read` returns the file of
    a sample by its id; networks of spectrograms need it, since their inputs do not contain the waveform."""
    count, same = 0, 0
    worst = dict.fromkeys(runners, 0.0)
    sizes = []
    form = input_form_of(trained.preparation, whole=trained.reads_whole)
    cases = (
        _cases(trained, spread_inputs(data, max(BATCHES))) if form is None else _form_cases(trained, form, data, read)
    )
    for size, batch, predictions in cases:
        if size is not None:
            sizes.append(size)
        right = [_in_file(trained, prediction) for prediction in predictions]
        for name, run in runners.items():
            for at_once in BATCHES:
                part = batch[:at_once]
                found = trained.task.from_exported(run(part), size if form is None else None)  # type: ignore[arg-type]
                for one, other in zip(right, found, strict=False):
                    difference, equal = trained.task.disparity(one, other)
                    worst[name] = max(worst[name], difference)
                    same += equal
                count += len(part)
                if len(found) != len(part):
                    worst[name] = float("inf")
    limit = LIMIT if form is None else form.rounding
    return Parity(count, tuple(sizes), same, worst, limit=limit)


def _form_cases(
    trained: Trained, form: InputForm, data: Dataset, read: Callable[[int], bytes] | None
) -> Iterator[tuple[tuple[int, ...], NDArray[Any], list[Prediction]]]:
    """For each size, the samples in the form that the file takes, and the run's predictions for them."""
    medium, preparation = medium_of(trained.preparation.kind), trained.preparation
    if read is not None:
        ids = spread_ids(data, max(BATCHES))
        samples = [medium.as_given(read(number), f"sample {number}", preparation) for number in ids]
    else:
        samples = list(form.samples_of(spread_inputs(data, max(BATCHES)).numpy()))
    for size, batch in form.cases(samples):
        if form.whole:  # samples are neither cropped nor padded
            preparation = replace(preparation, input_shape=batch.shape[1:])
        yield (
            size,
            batch,
            trained.predict_prepared([medium.from_given(one, preparation) for one in batch], plan="plain"),
        )


def _cases(
    trained: Trained, inputs: torch.Tensor
) -> Iterator[tuple[tuple[int, int] | None, NDArray[Any], list[Prediction]]]:
    """For each size, the inputs as the file takes them, and the run's predictions for them."""
    raw = inputs.numpy()
    medium = medium_of(trained.preparation.kind)
    if not medium.shows_itself:
        yield None, medium.as_in_files(raw, trained.preparation), trained.predict_prepared(list(raw), plan="plain")
        return
    channels, *own = trained.preparation.input_shape
    if channels not in (1, 3):  # Pillow does not support them: they are arrays of the inputs' size
        yield (
            tuple(own),
            np.ascontiguousarray(np.moveaxis(raw, 1, -1)),
            trained.predict_prepared(list(raw), plan="plain"),
        )  # type: ignore[misc]
        return
    pictures = [Image.fromarray(x[0] if channels == 1 else np.ascontiguousarray(np.moveaxis(x, 0, -1))) for x in raw]
    for size in sizes_around((own[0], own[1])):
        scaled = [picture.resize(size[::-1], Image.Resampling.BICUBIC) for picture in pictures]
        batch = np.stack([np.asarray(picture).reshape(*size, channels) for picture in scaled])
        yield size, batch, trained.predict(list(scaled), plan="plain")


def _in_file(trained: Trained, prediction: Prediction) -> NDArray[Any]:
    decoded = prediction.decoded
    if prediction.placed is not None:
        decoded = trained.task.in_file(decoded, prediction.placed)
    return np.asarray(decoded)
