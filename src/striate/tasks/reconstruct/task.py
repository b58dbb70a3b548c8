"""The task of reconstructing an image from a code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.layers.code import code_layer
from striate.records import Finding
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.tasks.assessment import SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.evaluation import Evaluation
from striate.tasks.headline import Rows
from striate.tasks.reconstruct.doctor import reconstruction_findings
from striate.tasks.reconstruct.head import CodedNetwork, as_autoencoder, encoder_layers
from striate.tasks.reconstruct.metrics import METRICS, psnr, squared_errors
from striate.tasks.task import Explained, Task
from striate.visualize.page_parts import Picture
from striate.wording import number, several

CODE = 32
"""Default dimension of a code."""
_CROSS_ENTROPY, _SQUARED = "binary-cross-entropy", "squared"
_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    _CROSS_ENTROPY: functional.binary_cross_entropy_with_logits,
    _SQUARED: functional.mse_loss,
}


@dataclass(frozen=True)
class Reconstruct(Task):
    """Reconstruction of images: targets (N, C, H, W) uint8 are the images themselves, predictions (N, C, H, W) float32
    have values from 0 to 1.

    Outputs have as many numbers a sample as an image, in the same order and any shape: logits of pixels for
    `binary-cross-entropy`, pixels for `squared`. The loss is the mean over pixels, channels and samples.
    """

    shape: tuple[int, ...]
    """(C, H, W) of the images."""
    loss_name: str = _CROSS_ENTROPY
    """`binary-cross-entropy` or `squared`."""
    code: int = CODE
    """Dimension of the code, for a network that has no code layer."""
    components: int | None = None
    """Number of principal components of the baseline; None for its default."""

    name: ClassVar[str] = "reconstruct"
    annotation: ClassVar[str] = "input"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = tuple(_LOSSES)
    fields: ClassVar[Mapping[str, frozenset[str]]] = dict.fromkeys(_LOSSES, frozenset(("code",)))
    learns_inputs: ClassVar[bool] = True
    passes: ClassVar[float] = 3.0
    draws: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("reconstruction",)
    refused_augmentation: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("mixup", "cutmix"), "nothing, since each image is its own target"
    )

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for images of this shape."""
        return cls(data.input_shape, loss, config.code)

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"shape": list(self.shape), "loss_name": self.loss_name, "code": self.code}

    @property
    def outputs(self) -> int:
        """One output for each pixel and channel."""
        return math.prod(self.shape)

    @property
    def built_outputs(self) -> int | None:
        """None: `attach` checks the outputs of the network."""
        return None

    @classmethod
    def usual_network(cls, input_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """A convolutional encoder, a code, and the mirrored decoder."""
        if len(input_shape) != 3:
            return None
        return encoder_layers(
            input_shape, CODE
        ), f"a code of {CODE} numbers between a convolutional encoder and the mirrored decoder"

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network itself if it outputs images; if it outputs a vector, with a code and a decoder. Raises ModelError
        for other outputs."""
        return as_autoencoder(network, input_shape, self.code, logits=self.loss_name == _CROSS_ENTROPY)

    def bare(self, network: nn.Module) -> nn.Module:
        """The network whose outputs are the code, if `attach` added a decoder."""
        return network.body if isinstance(network, CodedNetwork) else network

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """No augmentation: a code is too small to store how an image was moved."""
        denoising = "" if request.noise else "; --augment.noise 0.3 for a denoising autoencoder"
        return replace(usual, shift=0, flip=False, crop=1.0, color=0, policy="none"), (
            f"the code is too small to store shifts and other changes{denoising}"
        )

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples of the mean over pixels and channels."""
        truth = targets.reshape(outputs.shape).float() / 255
        return _LOSSES[self.loss_name](outputs.float(), truth, reduction="sum") / self.outputs

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 pixels; those of the squared error may lie outside 0 to 1."""
        pixels: torch.Tensor = outputs.float().flatten(1).unflatten(1, self.shape)
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
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions and targets are images."""
        return (
            saved.predicted is None
            and saved.predictions.shape == saved.targets.shape
            and saved.targets.dtype == np.uint8
        )

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The mean image; principal components."""
        from striate.tasks.reconstruct.baselines import reconstruct_methods  # scikit-learn loads only where needed

        return reconstruct_methods(data, self.components)

    def for_network(self, network: nn.Module) -> Self:
        """The task that is compared with as many principal components as the dimension of `network`'s code."""
        layer = code_layer(network)
        size = self.code if isinstance(network, CodedNetwork) else None if layer is None else layer.out_features
        return replace(self, components=size)

    # Predictions

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """No fields: the error also depends on the input (`describe_beside_input`)."""
        del decoded
        return {}

    def describe_beside_input(self, decoded: torch.Tensor, raw: torch.Tensor) -> dict[str, Any]:
        """`mse`: the mean squared error of this image."""
        return {"mse": float(squared_errors(decoded[None].numpy(), raw[None].numpy())[0])}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The mean squared error."""
        return f"mean squared error {fields['mse']:.4g}"

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image next to its reconstruction."""
        from striate.visualize.reconstruction_figures import pair_picture

        del truth
        shown = np.asarray(decoded)
        return pair_picture(image, shown / 255 if shown.dtype == np.uint8 else shown)

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The mean brightness of the reconstruction."""
        del decoded
        return Explained(lambda outputs: outputs.flatten(1).mean(1, keepdim=True), 0, "number", "its mean brightness")

    def target_text(self, target: Any) -> str:
        """Empty: the target is the image."""
        del target
        return ""

    # Reports

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each metric with its interval, and slices."""
        from striate.tasks.reconstruct.show import assess_images

        del temperature, names
        return assess_images(evaluation, facts, self.headline_metric(), self.rows_of(evaluation))

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """Findings where all reconstructions are the same image, where outputs do not reach the range of the images, or
        where the error is that of the mean image."""
        return reconstruction_findings(evaluation)

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The mean squared error, PSNR, and the squared error of an image."""
        metrics, n = evaluation.metrics, evaluation.n
        of = f"{several(n, 'image')} of the {evaluation.split} split of {evaluation.data}"
        span = evaluation.span_of("mse", "{:.4g}".format)
        return f"MSE {number(metrics['mse'])}", (
            f"mean squared error of pixels with values from 0 to 1{span}, on the {of}: PSNR "
            f"{number(metrics['psnr'])} dB, and {number(metrics['squared_error'])} summed over the pixels of an image."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """Samples with their reconstructions: random, worst, typical and best ones."""
        from striate.tasks.reconstruct.show import reconstruction_pictures  # drawing loads only where it is needed

        del images
        return reconstruction_pictures(folder, evaluation, self.rows_of(evaluation), names)

    def columns(self, names: Sequence[str]) -> list[str]:
        """The error of each image."""
        del names
        return ["mse"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        return [f"{float(squared_errors(np.asarray(decoded)[None], np.asarray(truth)[None])[0]):.7g}"]
