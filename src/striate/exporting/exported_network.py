"""A network with its preprocessing and predictions as one module: from pictures of any size to the task's tensors."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from striate.data.media.every_medium import medium_of
from striate.errors import UsageError
from striate.exporting.input_forms import input_form_of
from striate.exporting.resize import AxisFit, resize, whole_axes
from striate.exporting.traceable import Traceable
from striate.inference.any_size import any_size_as_traced, multiple_of_sizes
from striate.inference.windows import InWindows
from striate.models.preserved_state import copied
from striate.tasks.exported import Frame
from striate.tasks.outputs import Outputs
from striate.tasks.views import mean_over_views
from striate.training.trained import Trained

_TRACED = (37, 53)
"""Pixels by which pictures exceed the inputs while the network is traced: no common size, which would become a
constant."""


class ExportedNetwork(Traceable):
    """A copy of a trained network in fp32, in eval mode, with preparation, normalization and predictions around it.

    Pictures are (N, H, W, C) uint8 of any N, H and W; clips, sounds and volumes as in `exporting.input_forms`; other
    inputs (N, *input_shape) float32 with the values of files, which are scaled to levels of the data's range here.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor
    gain: torch.Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        task, preparation = trained.task, trained.preparation
        if not task.exports:
            raise UsageError(
                "striate export",
                f"a run of the task {task.name}",
                task.why_no_export,
                "striate predict, or striate.load(run) in Python",
            )
        self.module = copied(trained.module).cpu().float().eval().requires_grad_(False)
        self.task, self.preparation, self.views = task, preparation, trained.views
        self.pictures = medium_of(preparation.kind).shows_itself
        self.whole = trained.reads_whole
        self.form = input_form_of(preparation, whole=self.whole)
        self.in_windows = self.module if isinstance(self.module, InWindows) and 2 in self.dynamic_axes else None
        self.any_side = self.in_windows is not None
        own: tuple[Any, Any, Any] = preparation.input_shape  # type: ignore[assignment]
        self.multiple = multiple_of_sizes(self.module, own) if self.whole and self.pictures else 1
        normalize = trained.normalization.on("cpu", len(preparation.input_shape) + 1)
        self.register_buffer("mean", normalize.mean, persistent=False)
        self.register_buffer("scale", normalize.scale, persistent=False)
        low, high = (torch.tensor(end).view(1, -1, 1, 1) for end in (preparation.low, preparation.high))
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("gain", 255 / (high - low), persistent=False)

    @property
    def input_name(self) -> str:
        """Name of the input."""
        if self.form is not None:
            return self.form.name
        return "image" if self.pictures else "input"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the task's outputs."""
        return self.task.exports

    def example(self, count: int = 2) -> torch.Tensor:
        """An input to trace the network with."""
        shape = self.preparation.input_shape
        if self.form is not None:
            return self.form.example(count)
        if not self.pictures:
            return torch.zeros(count, *shape)
        # Maps are enlarged by the factors of the inputs' size; padding needs a size at which it occurs.
        more = (0, 0) if self.whole and self.preparation.native and self.multiple == 1 else _TRACED
        height, width = (side + by for side, by in zip(shape[1:], more, strict=True))
        return torch.zeros(count, height, width, shape[0], dtype=torch.uint8)

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """The axes of the input that may have any length, and their names."""
        if self.form is not None:
            return self.form.axes
        return {0: "N", 1: "H", 2: "W"} if self.pictures else {0: "N"}

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors that the task exports."""
        prepared = self._numbers if not self.pictures else self._prepared
        x, frame = prepared(image) if self.form is None else self.form.prepared(image)
        network: Any = self.module if self.in_windows is None else self.in_windows.as_traced
        if self.multiple != 1:
            network = partial(any_size_as_traced, self.module, self.multiple)
        outputs: Outputs = mean_over_views(network, (x - self.mean) * self.scale, self.views, self.task.move_back)
        return self.task.export(outputs, frame)

    def _numbers(self, values: torch.Tensor) -> tuple[torch.Tensor, Frame | None]:
        """The values scaled to levels, and the frame, of pictures from instruments; of other inputs the values, and
        None."""
        if not self.preparation.low:
            return values, None
        known = torch.where(values.isnan() | values.isinf(), self.low, values)
        least, most = medium_of(self.preparation.kind).bounds or (None, None)
        return ((known - self.low) * self.gain).clamp(least, most), _frame(None, *self.preparation.input_shape[1:])

    def _prepared(self, image: torch.Tensor) -> tuple[torch.Tensor, Frame]:
        height, width = image.shape[1:3]
        own: tuple[Any, Any] = self.preparation.input_shape[1:]  # type: ignore[assignment]
        if self.whole:
            size = (height, width) if self.preparation.native else whole_axes(height, width, own, self.preparation.fit)
            x, axes = (
                resize(image, size, "stretch") if not self.preparation.native else (image.permute(0, 3, 1, 2), None)
            )
        else:
            x, axes = resize(image, own, self.preparation.fit)
        return x.float(), _frame(axes, height, width)


def _frame(axes: tuple[AxisFit, AxisFit] | None, height: Any, width: Any) -> Frame:
    size = torch.stack([torch.full((), side, dtype=torch.float32) for side in (width, height)])
    if axes is None:
        return Frame(torch.ones(2), torch.zeros(2), size, (height, width), resized=False)
    down, right = axes
    return Frame(torch.stack([right.scale, down.scale]), torch.stack([right.shift, down.shift]), size, (height, width))
