"""Predictive sparse decomposition: a dictionary whose sparse codes an encoder learns to predict.

Kavukcuoglu, Ranzato, LeCun, "Fast inference in sparse coding algorithms with applications to object recognition",
CBLL-TR-2008-12-01, 2008. New: sparse coding (Olshausen and Field 1996) needs an optimization for each image; here a
plain function of the image is trained to give its result, and takes its place when features are computed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.layers.image_whitening import ImageWhitening
from striate.models.initialization.initialize import initialize_output
from striate.models.learning_rule import LearningRule
from striate.wording import show_shape

INFERENCE_STEPS = 25
"""Of the iterative shrinkage that finds a code, which begins at the prediction."""
INITIAL_SCALE = 0.01
"""Standard deviation of initial weights of the encoder: what they are before learning is not seen in filters."""
PATCHES = 10
"""Patches of each image in a step, where the dictionary is one of patches."""
_FLAT = 1e-3  # standard deviation below which a patch has no contrast to divide by
_MARGIN = 1e-6


class PredictiveSparseDecomposition(nn.Module):
    """K codes of images, or of `patch` × `patch` patches of whitened images.

        E(x, z) = ½‖x − D z‖² + λ‖z‖₁ + ½‖z − F(x)‖²,   F(x) = g · tanh(W x + b)

    A step finds the codes z of its samples by iterative shrinkage, from F(x) on, then moves D (columns of length at
    most 1) and the encoder F against the gradient of E. In the form that reconstructs it gives D F(x): of patches, the
    mean over those that overlap, half a patch apart. As a classifier it gives a linear layer on |F(x)|, of patches on
    the mean over the four quarters of the image.
    """

    unit_inputs = True
    follows = ("code_energy", "hidden_activity")

    def __init__(self, input_shape: tuple[int, ...], outputs: int, units: int, patch: int, sparsity: float) -> None:
        super().__init__()
        self.input_shape, self.patch, self.sparsity = input_shape, patch, sparsity
        self.form: Literal["classes", "pixels", "logits"] = "classes"
        self.whitening = ImageWhitening(*input_shape[1:]) if patch else None
        self.filter_shape = (input_shape[0], patch, patch) if patch else input_shape
        inputs = input_shape[0] * patch**2 if patch else math.prod(input_shape)
        self.encoder = nn.Linear(inputs, units)
        self.gain = Gain(units)
        self.dictionary = nn.Linear(units, inputs, bias=False)
        nn.init.normal_(self.encoder.weight, 0.0, INITIAL_SCALE)
        nn.init.zeros_(self.encoder.bias)
        nn.init.normal_(self.dictionary.weight)
        self._shorten()
        self.dictionary.requires_grad_(False)
        self.head: nn.Linear | None = nn.Linear(units * (4 if patch else 1), outputs)
        initialize_output(self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.whitening(x) if self.whitening is not None else x
        samples = self._patches(seen, self._stride) if self.patch else seen.flatten(1)
        code = self.predicted(samples)
        if self.head is not None:
            classes: torch.Tensor = self.head(self._features(code.abs(), len(x)))
            return classes
        found = self.dictionary(code)
        pixels = self._assembled(found, x) if self.patch else found.unflatten(1, self.input_shape)
        return torch.logit(pixels, eps=_MARGIN) if self.form == "logits" else pixels

    def predicted(self, x: torch.Tensor) -> torch.Tensor:
        """F(x), the predicted codes of samples (M, inputs): (M, K)."""
        code: torch.Tensor = self.gain(torch.tanh(self.encoder(x)))
        return code

    @torch.no_grad()
    def inferred(self, x: torch.Tensor, steps: int = INFERENCE_STEPS) -> torch.Tensor:
        """The codes of samples (M, inputs) that lower E, by so many steps of fast iterative shrinkage (Beck and
        Teboulle, FISTA, 2009) from F(x) on."""
        atoms = self.dictionary.weight
        products = atoms.T @ atoms
        rate = 1 / (float(torch.linalg.matrix_norm(products, 1)) + 1)  # at least the largest eigenvalue
        predicted = self.predicted(x)
        wanted = x @ atoms + predicted
        code, ahead, momentum = predicted, predicted, 1.0
        for _ in range(steps):
            gradient = ahead @ products + ahead - wanted
            following: torch.Tensor = functional.softshrink(ahead - rate * gradient, rate * self.sparsity)
            larger = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = following + (momentum - 1) / larger * (following - code)
            code, momentum = following, larger
        found: torch.Tensor = code
        return found

    def code_energy(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """E(x, z) of samples (M, inputs) and codes (M, K): (M,)."""
        left, missed = x - self.dictionary(code), code - self.predicted(x)
        apart: torch.Tensor = left.square().sum(1) + missed.square().sum(1)
        return apart / 2 + self.sparsity * code.abs().sum(1)

    def learning_rule(self) -> LearningRule | None:
        """Of the form that reconstructs."""
        if self.head is not None:
            return None
        return LearningRule(
            "predictive sparse decomposition (Kavukcuoglu, Ranzato, LeCun 2008)",
            rate=1.0,
            why="codes are sparse, so the mean gradient of each dictionary column is small",
            epochs=60 if self.patch else 20,
            labels=False,
            usual=True,
            batch=10 if self.patch else 100,
        )

    @torch.no_grad()
    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """Codes of the batch, then a step of dictionary and encoder against the mean gradient of E."""
        del targets, progress
        x = self._samples(inputs)
        code = self.inferred(x)
        with torch.enable_grad():
            energy = self.code_energy(x, code).mean()
            parameters = [p for p in self.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(energy, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=rate)
        self._shorten()

    def followed(self, inputs: torch.Tensor) -> torch.Tensor:
        """(2,) sums over images: E of the predicted codes, the mean over patches, and the share of codes above a tenth
        of the largest."""
        seen = self.whitening(inputs) if self.whitening is not None else inputs
        x = self._patches(seen, self._stride) if self.patch else seen.flatten(1)
        code = self.predicted(x)
        share = len(inputs) / len(x)
        active = (code.abs() > 0.1 * code.abs().amax(1, keepdim=True)).float().mean(1)
        return share * torch.stack([self.code_energy(x, code).sum(), active.sum()])

    def for_reconstruction(self, *, logits: bool) -> nn.Module:
        """The form that reconstructs images, and learns without labels."""
        self.form, self.head = "logits" if logits else "pixels", None
        self.dictionary.requires_grad_(True)
        return self

    @property
    def _stride(self) -> int:
        return max(1, self.patch // 2)

    def _samples(self, inputs: torch.Tensor) -> torch.Tensor:
        """What a step learns from: the images, or `PATCHES` patches of each, chosen by torch's random state."""
        if self.whitening is None:
            return inputs.flatten(1)
        images = functional.unfold(self.whitening(inputs), self.patch)  # (N, inputs, positions)
        places = torch.randint(images.shape[2], (len(images), PATCHES), device=images.device)
        rows = places[:, None].expand(-1, images.shape[1], -1)
        return _contrasted(images.gather(2, rows).transpose(1, 2).flatten(0, 1))[0]

    def _patches(self, images: torch.Tensor, stride: int) -> torch.Tensor:
        found = functional.unfold(_padded(images, self.patch, stride), self.patch, stride=stride)
        return _contrasted(found.transpose(1, 2).flatten(0, 1))[0]

    def _assembled(self, patches: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Reconstructed patches as images; the contrast of each, and the mean of the image, are given."""
        assert self.whitening is not None
        white = _padded(self.whitening(x), self.patch, self._stride)
        height, width = white.shape[2:]
        blocks = functional.unfold(white, self.patch, stride=self._stride)
        contrast = _contrasted(blocks.transpose(1, 2).flatten(0, 1))[1]
        found = (patches * contrast).unflatten(0, (len(x), -1)).transpose(1, 2)
        total = functional.fold(found, (height, width), self.patch, stride=self._stride)
        times = functional.fold(torch.ones_like(found), (height, width), self.patch, stride=self._stride)
        return self.whitening.inverse((total / times)[:, :, : x.shape[2], : x.shape[3]], x)

    def _features(self, code: torch.Tensor, images: int) -> torch.Tensor:
        if not self.patch:
            return code
        rows, columns = (-(-(side - self.patch) // self._stride) + 1 for side in self.input_shape[1:])
        maps = code.unflatten(0, (images, rows, columns)).permute(0, 3, 1, 2)
        return functional.adaptive_avg_pool2d(maps, 2).flatten(1)

    @torch.no_grad()
    def _shorten(self) -> None:
        atoms = self.dictionary.weight
        atoms.div_(atoms.norm(dim=0, keepdim=True).clamp(min=1))


class Gain(nn.Module):
    """A factor for each unit."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def _contrasted(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (M, inputs) of standard deviation 1, and what each was divided by (M, 1)."""
    contrast = x.square().mean(1, keepdim=True).sqrt().clamp(min=_FLAT)
    return x / contrast, contrast


def _padded(images: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """With zeros below and to the right, so that windows cover all of it."""
    missing = [-(side - kernel) % stride for side in images.shape[2:]]
    return functional.pad(images, (0, missing[1], 0, missing[0]))


def psd(
    input_shape: tuple[int, ...], outputs: int, units: int = 256, patch: int = 0, sparsity: float = 0.5
) -> nn.Module:
    """`units` codes of whole images, or where `patch` is above 0 of patches of so many pixels a side, of images that
    are whitened: (N, *input_shape) to (N, outputs). `sparsity` is λ. Raises ModelError where the images are smaller.
    """
    if patch and (len(input_shape) != 3 or min(input_shape[1:]) < patch):
        got = f"patches of {patch}×{patch} for inputs of {show_shape(input_shape)}"
        raise ModelError("model", got, "images (C, H, W) of at least that size", "patch=0")
    return PredictiveSparseDecomposition(input_shape, outputs, units, patch, sparsity)
