"""The configuration of the network: `model.*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NONE = "none"
"""Value of `ModelConfig.weights` for no pretrained weights, not even those that `auto` would choose."""

Initialization = Literal[
    "auto", "he-normal", "he-uniform", "glorot-normal", "glorot-uniform", "lecun-normal", "orthogonal", "normal",
    "uniform", "dirac",
]  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """Fields of `model.*`: the network and its initial weights."""

    name: str = "auto"
    """The network: a name (see `striate models`), also with arguments, "mlp(128,64)"; `timm/NAME`; a layer string,
    "conv(16,5) relu pool(2) fc(10)"; `file.py:function`, which RUNS that file; or a run. `auto` chooses by the shape
    of the data and says why."""
    digest: str | None = None
    """Recorded by the run: the SHA-256 of the file behind `file.py:function`. A run goes on only with the same file."""
    init: Initialization = "auto"
    """Initialization of the weights: `auto` chooses by the kind of each layer and its activation; else one method for
    all layers."""
    whiten: bool | None = None
    """Whether the kernels of the first convolution are computed from the training images, whose patches they whiten,
    and do not learn. Default: true where the network is made for it, as `airbench` is, and begins without pretrained
    weights."""
    weights: str | None = None
    """Pretrained weights that the network begins with: a run, a checkpoint, a state_dict saved with torch.save,
    .safetensors; or a name: `resnet18.tv_in1k` of timm, `ResNet18_Weights.IMAGENET1K_V1` of torchvision, `owner/name`
    (or `owner/name@revision`) of the Hugging Face hub. `none`: random ones, also where some in the cache would be
    chosen for a few photographs. A run, a checkpoint and a name tell the network. Nothing of the file is executed."""
    weights_digest: str | None = None
    """Recorded by the run: the SHA-256 of the file of weights. A run starts only with the same file."""
    weights_license: str | None = None
    """Recorded by the run: the license of the weights, as their publisher states it."""

    @property
    def pretrained(self) -> str | None:
        """The pretrained weights; None for random ones."""
        return None if self.weights == NONE else self.weights
