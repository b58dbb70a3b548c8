"""The image itself, from what a network makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from striate.data.dataset import Dataset
from striate.errors import ModelError
from striate.models.preserved_state import preserved
from striate.models.reconstructing import Reconstructing
from striate.runs.predictions import Predictions as KeptPredictions
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.headline import Rows
from striate.tasks.reconstruct.metrics import METRICS, psnr, squared_errors
from striate.tasks.task import Explained, Task
from striate.wording import show_shape

_CROSS_ENTROPY, _SQUARED = "binary-cross-entropy", "squared"
_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    _CROSS_ENTROPY: functional.binary_cross_entropy_with_logits,
    _SQUARED: functional.mse_loss,
}


@dataclass(frozen=True)
class Reconstruct(Task):
    """Reconstruction of images of `shape` (C, H, W); targets (N, C, H, W) uint8, the images themselves, predictions
    (N, C, H, W) float32 with pixels from 0 to 1.

    Outputs are as many numbers a sample, in this order and any shape: logits of pixels for `binary-cross-entropy`,
    pixels for `squared`. The loss is the mean over pixels, channels and samples.
    """

    shape: tuple[int, ...]
    loss_name: str = _CROSS_ENTROPY

    name: ClassVar[str] = "reconstruct"
    annotation: ClassVar[str] = "input"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = tuple(_LOSSES)
    learns_inputs: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("reconstruction",)
    refused_augmentation: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("mixup", "cutmix"), "images that are their own targets: a blend of two would have two"
    )

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """For images of this shape."""
        del config
        return cls(data.input_shape, loss)

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"shape": list(self.shape), "loss_name": self.loss_name}

    @property
    def outputs(self) -> int:
        """One output a pixel and channel."""
        return math.prod(self.shape)

    @property
    def built_outputs(self) -> int | None:
        """Whatever the network gives: `attach` looks at it."""
        return None

    @classmethod
    def usual_network(cls, input_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """A code of 32 numbers between layers of 512."""
        return f"fc(512) relu fc(32) fc(512) relu fc({math.prod(input_shape)})", "a code of 32 numbers"

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network as it is, or in the form that reconstructs, where it has one. Raises ModelError where it gives
        another number of outputs than there are pixels."""
        if isinstance(network, Reconstructing):
            network = network.for_reconstruction(logits=self.loss_name == _CROSS_ENTROPY)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        with preserved(network), torch.no_grad():
            given = network(torch.zeros(2, *input_shape, device=device))
        found = tuple(given.shape[1:]) if isinstance(given, torch.Tensor) else ()
        if math.prod(found) != self.outputs or not found:
            raise ModelError(
                "model",
                f"a network that gives {show_shape(found)}" if found else "a network that gives several tensors",
                f"as many numbers as the image {show_shape(input_shape)} has: {self.outputs:,}",
                f"end it with fc({self.outputs})",
            )
        return network

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples of the mean over pixels and channels."""
        truth = targets.reshape(outputs.shape).float() / 255
        return _LOSSES[self.loss_name](outputs.float(), truth, reduction="sum") / self.outputs

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 pixels; those of the squared error may lie outside 0 to 1."""
        pixels = outputs.float().reshape(len(outputs), *self.shape)
        return pixels.sigmoid() if self.loss_name == _CROSS_ENTROPY else pixels

    # Metrics

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(3,) samples, summed loss, summed mean squared error."""
        tally = torch.full((3,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        tally[1] = self.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        errors = self.decode(outputs) - targets.reshape(len(targets), *self.shape).float() / 255
        tally[2] = errors.square().double().sum() / self.outputs
        return tally

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss`, `mse` and `squared_error`."""
        count, total, squared = tally.tolist()
        return {"loss": total / count, "mse": squared / count, "squared_error": self.outputs * squared / count}

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`mse` (mean over pixels, channels and images), `psnr` of it in dB, and `squared_error` (the sum over pixels
        and channels, mean over images)."""
        mse = float(squared_errors(decoded.cpu().numpy(), targets.cpu().numpy()).mean())
        return {"mse": mse, "psnr": psnr(mse), "squared_error": self.outputs * mse}

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N,) mean squared error of each image."""
        del classes
        return squared_errors(decoded, targets)

    @classmethod
    def made(cls, kept: KeptPredictions) -> bool:
        """Whether there is an image for each image."""
        return kept.predicted is None and kept.answers.shape == kept.targets.shape and kept.targets.dtype == np.uint8

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The mean image; principal components."""
        from striate.tasks.reconstruct.baselines import reconstruct_methods  # scikit-learn loads only where needed

        return reconstruct_methods(data)

    # Predictions

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """Nothing: the error follows from the input, too."""
        del decoded
        return {}

    def describe_beside_input(self, decoded: torch.Tensor, raw: torch.Tensor) -> dict[str, Any]:
        """`mse`: the mean squared error of this image."""
        return {"mse": float(squared_errors(decoded[None].numpy(), raw[None].numpy())[0])}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The mean squared error."""
        return f"mean squared error {fields['mse']:.4g}"

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The mean of the reconstruction."""
        del decoded
        return Explained(lambda outputs: outputs.flatten(1).mean(1, keepdim=True), 0, "number")
