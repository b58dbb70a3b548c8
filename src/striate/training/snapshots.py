"""A reader of the event stream that leaves snapshots for the page that shows a training: progress, first filters,
layers.

It takes at most a hundredth of the training's time, and nothing while nobody watches. No number of the run depends on
it.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import nn

from striate.account.signal.histograms import layer_histograms
from striate.account.signal.trace import evenly_spaced_batch, samples_of
from striate.runs.directory import RunDirectory
from striate.runs.watching import is_watched, write_snapshot
from striate.training.budget.deadline import TimeWatch
from striate.training.events import Event, StepDone
from striate.training.execution import training_part
from striate.training.prepare import Prepared

EVERY = 1.0
"""Least seconds between two snapshots."""
SHARE = 0.004
"""Share of the training's time for histograms of the layers; half as much for the filters, and again for the rest."""
LOSSES = 400
"""Most single steps in a snapshot; where there are more, every second one is dropped."""
FILTERS = 96
_BYTES = 150_000  # of filters in a snapshot


@dataclass
class SnapshotWriter:
    """Writes snapshots into the run while it is watched: JSON objects with `step steps epoch loss lr left losses`,
    `filters` and `layers`.

    `left`: about the seconds that are left. `losses`: `[step, loss]` of single training batches. `filters` are from
    step `filters_step`, `layers` (the records of `layer_histograms` for at most 64 training samples in fp32) from step
    `layers_step`; both are None until then. What takes longer is computed less often.
    """

    run: RunDirectory
    prepared: Prepared
    watch: TimeWatch | None = None
    _next_snapshot: float = 0.0
    _began: tuple[float, int] | None = None
    _next_filters: float = 0.0
    _filters: dict[str, Any] = field(default_factory=dict)
    _next_layers: float = 0.0
    _layers: dict[str, Any] = field(default_factory=lambda: {"layers": None, "layers_step": None})
    _losses: list[list[float]] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Write a snapshot after a step, if one is due and somebody watches."""
        now = monotonic()
        if now < self._next_snapshot or not isinstance(event, StepDone):
            return
        self._next_snapshot = now + EVERY
        if not is_watched(self.run):
            self._began = None
            return
        if self._began is None:  # the time of a step is measured until the next snapshot
            self._began = (now, event.step)
            return
        self._write(event, now)

    def _write(self, event: StepDone, now: float) -> None:
        assert self._began is not None
        since, first = self._began
        step_seconds = (now - since) / max(1, event.step - first)
        # The histograms take about as long as a step.
        if now >= self._next_layers and now - since > step_seconds / SHARE:
            self._layers = self._histograms(event.step)
            self._next_layers = now + (monotonic() - now) / SHARE
        began = monotonic()
        if began >= self._next_filters:
            self._filters = {"filters": first_filters(self.prepared), "filters_step": event.step}
            self._next_filters = began + 2 * (monotonic() - began) / SHARE
        began = monotonic()
        self._note_loss(event)
        seen = {
            "step": event.step,
            "steps": event.steps,
            "epoch": event.epoch,
            "loss": self._losses[-1][1],
            "lr": event.lr,
            "left": self._left(event, step_seconds),
            "losses": self._losses,
        }
        write_snapshot(self.run, seen | self._filters | self._layers)
        self._next_snapshot = max(self._next_snapshot, began + 2 * (monotonic() - began) / SHARE)

    def _left(self, event: StepDone, step_seconds: float) -> float:
        if self.watch is not None and self.watch.left is not None:
            return self.watch.left
        return step_seconds * (event.steps - event.step)

    def _note_loss(self, event: StepDone) -> None:
        self._losses.append([event.step, float(event.loss)])
        if len(self._losses) > LOSSES:
            self._losses = self._losses[::2]

    def _histograms(self, step: int) -> dict[str, Any]:
        prepared, config = self.prepared, self.prepared.config
        most = samples_of(prepared.data.input_shape)
        samples = min(training_part(config, most), config.batch or most)
        batch = evenly_spaced_batch(
            prepared.state.module, prepared.task, prepared.splits["train"], prepared.normalize, samples
        )
        layers = None
        with suppress(RuntimeError, NotImplementedError):  # the user's network does not allow it, or memory is short
            layers = [one.to_json() for one in layer_histograms(prepared.state.module, *batch)]
        return {"layers": layers, "layers_step": step}


def first_filters(prepared: Prepared) -> dict[str, Any] | None:
    """The first layer's kernels over image channels, or the rows of a matrix on images as images: at most 96.

    `shape` (K, C, H, W); `bytes`: base64 of uint8, 128 for a weight of 0, and 1 and 255 for −`most` and `most`; `of`:
    how many there are. None where the first layer has no such images.
    """
    shape = prepared.data.input_shape
    if len(shape) != 3:
        return None
    name, weight = _first_weight(prepared.state.module)
    if weight is not None and weight.ndim == 2 and weight.shape[1] == shape[0] * shape[1] * shape[2]:
        weight = weight.detach().reshape(-1, *shape)
    if weight is None or weight.ndim != 4 or weight.shape[1] not in (1, 3):
        return None
    of = len(weight)
    shown = weight.detach()[: max(1, min(FILTERS, _BYTES // weight[0].numel()))].float().cpu()
    most = float(shown.abs().max())
    scaled = (128 + 127 * shown / (most or 1.0)).round().clamp(1, 255).nan_to_num(128).to(torch.uint8)
    content = base64.b64encode(scaled.contiguous().numpy().tobytes()).decode("ascii")
    return {"layer": name, "of": of, "shape": list(scaled.shape), "most": most, "bytes": content}


def _first_weight(module: nn.Module) -> tuple[str, torch.Tensor | None]:
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            return name.removesuffix(".weight"), parameter
    return "", None
