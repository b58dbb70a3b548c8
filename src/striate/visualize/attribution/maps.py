"""Attribution maps, each from (module, x, target): captum's methods with fixed settings.

`x` is a normalized batch of one, (1, C, *spatial) or (1, F); a map has the shape of its positions, (*spatial) or (F,),
float32 on the CPU. The functions neither copy the module nor set its mode: call them within `on_trial`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from striate.models.features import network_features
from striate.visualize.attribution.question import outputs_of
from striate.visualize.attribution.removal import removed
from striate.visualize.inside.rectified import Rule, projected, rectified_gradients

Method = Literal[
    "saliency", "integrated-gradients", "smoothgrad", "grad-cam", "occlusion", "deconvnet", "guided-backprop"
]
METHODS: tuple[Method, ...] = ("integrated-gradients", "saliency", "smoothgrad", "grad-cam", "occlusion")
"""The methods that `auto` tries. The two others show edges of the image rather than what was learned (Adebayo et al.,
"Sanity checks for saliency maps", NeurIPS 2018), and are computed only by name."""
SIGNED: frozenset[Method] = frozenset(("integrated-gradients", "occlusion"))
"""Methods whose sign says whether a position is evidence for the prediction or against it."""

STEPS, NOISY, NOISE = 24, 12, 0.15
_SEED = 0
_BATCH_NUMBERS = 2**19
"""Largest number of input values whose gradients are computed at once: more take memory, and volumes more time too."""


def saliency(module: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    """How fast the output changes with each position: the largest absolute gradient of the channels (Simonyan et al.,
    "Deep inside convolutional networks", 2013)."""
    from captum.attr import Saliency

    return _over_channels(Saliency(_forward(module)).attribute(_leaf(x), target=target), torch.amax)


def integrated_gradients(module: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    """What each position adds to the output on the way from the blurred input to the input, in 24 steps; signed, and
    sums up to about the difference of the two outputs (Sundararajan et al., "Axiomatic attribution for deep networks",
    ICML 2017)."""
    from captum.attr import IntegratedGradients

    found = IntegratedGradients(_forward(module)).attribute(
        _leaf(x), removed(x), target=target, n_steps=STEPS, internal_batch_size=_at_once(x, STEPS)
    )
    return _over_channels(found, torch.sum)


def smooth_grad(module: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    """The absolute mean of the gradients at 12 noisy copies, with noise of 15 % of the input's range, the same each
    time (Smilkov et al., "SmoothGrad", 2017)."""
    from captum.attr import NoiseTunnel, Saliency

    noise = NOISE * float(x.max() - x.min())
    torch.manual_seed(_SEED)
    found = NoiseTunnel(Saliency(_forward(module))).attribute(
        _leaf(x),
        nt_type="smoothgrad",
        nt_samples=NOISY,
        nt_samples_batch_size=_at_once(x, NOISY),
        stdevs=noise,
        target=target,
        abs=False,
    )
    return _over_channels(found.abs(), torch.amax)


def rectified(module: nn.Module, x: torch.Tensor, target: int, rule: Rule) -> torch.Tensor:
    """The projection of the output to the input by the rule of a deconvnet or of guided backpropagation: the largest
    magnitude of the channels. Raises ModelError where the rule does not apply to the network."""
    given = _leaf(x)
    with rectified_gradients(rule):
        output = _forward(module)(given)[:, target]
    remedy = "--method saliency"
    return _over_channels(projected(output, given, rule, "the prediction", lambda: remedy)[0].abs(), torch.amax)


def grad_cam(module: nn.Module, x: torch.Tensor, target: int, layer: str) -> torch.Tensor:
    """Where the maps of `layer` support the output: their sum, each times its mean gradient, the positive
    part, interpolated linearly to the input's size (Selvaraju et al., "Grad-CAM", ICCV 2017)."""
    from captum.attr import LayerGradCam

    part = module.get_submodule(layer)
    found = LayerGradCam(_forward(module), part).attribute(_leaf(x), target=target, relu_attributions=True)
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
    return functional.interpolate(found.detach().float(), tuple(x.shape[2:]), mode=mode, align_corners=False)[
        0, 0
    ].cpu()


def occlusion(module: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    """By how much the output falls when a window of a sixth of each side, moved by half its size, is blurred; of a
    table, when a feature is at its mean (Zeiler and Fergus, "Visualizing and understanding convolutional networks",
    ECCV 2014)."""
    from captum.attr import Occlusion

    sides = tuple(x.shape[2:])
    window = tuple(max(1, round(side / 6)) for side in sides)
    step = tuple(max(1, side // 2) for side in window)
    shape, strides = ((x.shape[1], *window), (x.shape[1], *step)) if sides else ((1,), (1,))
    with torch.no_grad():
        found: torch.Tensor = Occlusion(_forward(module)).attribute(
            x.detach(), shape, strides, removed(x), target=target, perturbations_per_eval=16
        )
    return found[0, 0].float().cpu() if sides else found[0].float().cpu()


def _forward(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: outputs_of(module, x)


def _at_once(x: torch.Tensor, most: int) -> int:
    return max(1, min(most, _BATCH_NUMBERS // x.numel()))


def _leaf(x: torch.Tensor) -> torch.Tensor:
    return x.detach().clone().requires_grad_(True)


def _over_channels(found: torch.Tensor, reduce: Callable[..., torch.Tensor]) -> torch.Tensor:
    values = found.detach()[0].float().cpu()
    if values.ndim > 1:
        values = reduce(values, 0)
    return values


_MOST = 4


def grad_cam_layers(module: nn.Module, x: torch.Tensor) -> tuple[str, ...]:
    """The names of up to four modules whose maps Grad-CAM can weight for `x` (1, C, *spatial), the last one first: for
    each size of maps with more than one position, the module that ends last. Modules that run more than once are left
    out. Empty for networks without such maps."""
    maps = network_features(module, x, lambda: outputs_of(module, x)).pyramid
    return tuple(part.name for part in reversed(maps))[:_MOST]
