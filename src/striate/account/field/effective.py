"""The effective receptive field of a unit, measured by gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.errors import ModelError, UsageError
from striate.models.build import build_model
from striate.models.from_file import names_file
from striate.models.from_run import names_run
from striate.models.preserved_state import TRIALS, on_trial, zero_input
from striate.observe.module_calls import ModuleCall, leaves, module_calls
from striate.wording import several

MASS = 0.9545
"""Share of a Gaussian within two standard deviations."""
SAMPLES = 16


@dataclass(frozen=True)
class EffectiveField:
    """The effective receptive field of the center unit of a layer."""

    layer: str
    """Name of the layer."""
    map: NDArray[np.float64]
    """Share of the gradient at each position of the input; the shares sum to 1. Positions beyond the border of the
    input are not included."""
    first: tuple[int, ...]
    """First position, along each axis, of the interval whose length is `size`."""
    size: tuple[float, ...]
    """Smallest number of consecutive positions along each axis that hold MASS of the gradient: for a Gaussian, four
    standard deviations."""
    samples: int
    """Number of samples averaged."""


def effective_receptive_field(
    module: nn.Module,
    input_shape: Shape,
    layer: str | None = None,
    *,
    samples: int = SAMPLES,
    generator: torch.Generator | None = None,
) -> EffectiveField:
    """Measure the effective receptive field of the center unit of `layer`, or of the last map with several positions.

    `input_shape`: (C, *spatial). The network runs in eval mode on `samples` inputs drawn from a normal distribution.
    The channels of the unit are added up with random signs, and the absolute gradients of that sum with respect to the
    input are averaged. `generator` draws inputs and signs; without it, they are the same each time. The network is not
    changed. Luo, Li, Urtasun, Zemel, "Understanding the effective receptive field in deep CNNs", NeurIPS 2016; they
    count the positions above a share of the center's gradient instead. Raises UsageError where there is no such layer,
    or the input or the layer's output has no positions; ModelError where the gradient is zero, NaN or Inf."""
    _check(module, input_shape, samples)
    draw = torch.Generator().manual_seed(0) if generator is None else generator
    with on_trial(module), torch.enable_grad():
        name = _last_map(module, input_shape) if layer is None else layer
        total = torch.zeros(input_shape[1:], dtype=torch.float64)
        for _ in range(samples):
            total += _gradient(module, input_shape, name, draw)
    mass = float(total.sum())
    if not math.isfinite(mass) or mass <= 0:
        got = "no gradient" if mass == 0 else "gradients that are NaN or Inf"
        raise ModelError(f"layer {name}", got, "a unit that depends on the input", "leave out --effective")
    shares = (total / mass).numpy()
    first, size = zip(*shortest_runs(shares), strict=True)
    return EffectiveField(name, shares, first, size, samples)


def shortest_runs(shares: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Along each axis, the first position and the length of the shortest run that holds at least `MASS` of the sum of
    `shares`."""
    runs = []
    for axis in range(shares.ndim):
        along = shares.sum(tuple(other for other in range(shares.ndim) if other != axis))
        sums = np.concatenate([[0.0], np.cumsum(along / along.sum())])
        # From each first position, the first end that has the mass; rounding must not cost a position.
        ends = np.searchsorted(sums, sums + MASS - 1e-9)
        lengths = [(int(end) - first, first) for first, end in enumerate(ends) if end < len(sums)]
        # Of several runs of that length, the middle one.
        shortest = [first for length, first in lengths if length == min(lengths)[0]]
        runs.append((shortest[len(shortest) // 2], float(min(lengths)[0])))
    return runs


def measure_field(model: str | nn.Module, input_shape: Shape, outputs: int | None = None) -> EffectiveField:
    """The effective receptive field of the last map of a network that `model` names as in `build_model`.

    A network without trained weights is initialized, the same way each time. Normalizations whose scale is initialized
    with zero, at the end of residual branches, get a scale of 1: with zero, the gradient would pass through the
    shortcuts alone, which changes soon after training begins. Raises StriateError.
    """
    with TRIALS, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = build_model(model, input_shape, outputs)
    if isinstance(model, str) and not names_file(model) and not names_run(model):
        _open_branches(module)
    return effective_receptive_field(module, input_shape)


def _open_branches(module: nn.Module) -> None:
    for part in module.modules():
        scale = getattr(part, "weight", None)
        if isinstance(scale, nn.Parameter) and scale.ndim == 1 and not scale.any():
            nn.init.ones_(scale)


def _check(module: nn.Module, input_shape: Shape, samples: int) -> None:
    if len(input_shape) < 2:
        raise UsageError(
            "effective receptive field",
            f"an input of {several(input_shape[0], 'feature')}",
            "an input with positions",
            "leave out --effective: features have no neighbors",
        )
    if samples < 1:
        raise UsageError("samples", str(samples), "at least 1", f"samples={SAMPLES}")
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError("module", "parameters without values", "a network with its weights", "striate.build(name)")


def _last_map(module: nn.Module, input_shape: Shape) -> str:
    """The name of the last module that outputs a map with more than one position: a layer, or a larger module that
    computes its output from those of its layers, as where branches are joined."""
    seen: list[str] = []
    given: list[torch.Tensor] = []
    layers = leaves(module)

    def note(call: ModuleCall) -> None:
        if not isinstance(call.output, torch.Tensor) or not _is_map(call.output, input_shape):
            return
        if call.name in layers or (given and call.output is not given[-1]):
            seen.append(call.name)
            given[:] = [call.output]

    parts = layers | {name: part for name, part in module.named_modules() if name}
    with module_calls(parts, end=note), torch.no_grad():
        module(zero_input(module, input_shape))
    if not seen:
        raise UsageError(
            "effective receptive field",
            "no module that outputs a map with several positions",
            "a layer with neighboring units",
            "leave out --effective",
        )
    return seen[-1]


def _gradient(module: nn.Module, input_shape: Shape, name: str, draw: torch.Generator) -> torch.Tensor:
    """The absolute gradient of the layer's center unit, for one random input, added up over the input's channels."""
    known = dict(module.named_modules())
    if name not in known:
        raise UsageError("layer", repr(name), "a module of the network", f"one of {', '.join(list(known)[1:8])}, …")
    outputs: list[torch.Tensor] = []

    def keep(call: ModuleCall) -> None:
        if isinstance(call.output, torch.Tensor):
            outputs.append(call.output)

    like = zero_input(module, input_shape)
    values = torch.randn(like.shape, generator=draw, device=draw.device).to(like).requires_grad_(True)
    with module_calls({name: known[name]}, end=keep):
        module(values * 1)  # a copy, as a network may write into its input
    if not outputs or not _is_map(outputs[-1], input_shape):
        got = (
            f"an output of {tuple(outputs[-1].shape)}"
            if outputs
            else "a module without a tensor output, or one that never runs"
        )
        raise UsageError(f"layer {name}", got, "a map with positions", "leave out the layer: the last map is used")
    unit = outputs[-1][0]
    for side in unit.shape[1:]:
        unit = unit[:, side // 2]
    signs = torch.randint(0, 2, unit.shape, generator=draw, device=draw.device).to(unit) * 2 - 1
    # Adding zero times the input keeps autograd from raising an error where the unit does not depend on the input.
    (gradient,) = torch.autograd.grad((unit * signs).sum() + (values * 0).sum(), values)
    return gradient[0].abs().sum(0).double().cpu()


def _is_map(output: torch.Tensor, input_shape: Shape) -> bool:
    return output.ndim == len(input_shape) + 1 and math.prod(output.shape[2:]) > 1
