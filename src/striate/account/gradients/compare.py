"""Gradients of any computation in torch, compared with central differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from striate.errors import ModelError
from striate.models.preserved_state import preserved
from striate.reference.arguments import whole
from striate.reference.check_gradient import GradientCheck, choose, compare_slopes

Loss = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class ComparisonOptions:
    """The options of a comparison, as in `check_gradients`."""

    loss: Loss | None
    entries: int | None
    step: float
    tolerance: float
    seed: int


def compare_gradients(
    module: nn.Module, call: Callable[[], Any], tensors: Mapping[str, torch.Tensor], options: ComparisonOptions
) -> dict[str, GradientCheck]:
    """One comparison for each of `tensors`, which `call` computes with: float64 leaves on the CPU that require a
    gradient, such as the parameters of `module`.

    Buffers, modes and random state are the same in each call, so dropout drops the same units. Raises ModelError where
    the outputs are not float64, or the backward pass fails.
    """
    weights: list[torch.Tensor] = []

    def terms() -> torch.Tensor:
        torch.default_generator.manual_seed(options.seed)
        outputs = call()
        if options.loss is not None:
            return _numbers(options.loss(outputs), "the loss")
        values = _numbers(outputs, "the outputs")
        if not weights:
            weights.append(torch.randn(values.shape, generator=own_generator(options.seed), dtype=torch.float64))
        return values * weights[0]

    def loss() -> float:
        with preserved(module, evaluating=False), torch.enable_grad():
            return float(terms().detach().sum())

    claimed, magnitude = _backward_gradients(module, terms, tensors)
    if loss() != loss():
        raise ModelError(
            "module", "different outputs for the same input", "the same outputs for the same input", "module.eval()"
        )
    found = {}
    for (name, tensor), gradient in zip(tensors.items(), claimed, strict=True):
        values = tensor.detach().numpy()  # shares memory: moving an entry moves the parameter
        chosen = choose(values.size, options.entries, options.seed)
        found[name] = compare_slopes(loss, values, gradient, magnitude, options.step, options.tolerance, chosen)
    return found


def _backward_gradients(
    module: nn.Module, terms: Callable[[], torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> tuple[list[np.ndarray], float]:
    """The gradients by the backward pass, and the sum of |terms| of the loss."""
    with preserved(module, evaluating=False), torch.enable_grad():
        values = terms()
        magnitude = float(values.detach().abs().sum())
        if not np.isfinite(magnitude):
            raise ModelError("module", "outputs that are NaN or Inf", "finite outputs", "an input of finite numbers")
        if not values.requires_grad:
            return [np.zeros(tuple(tensor.shape)) for tensor in tensors.values()], magnitude
        try:
            gradients = torch.autograd.grad(values.sum(), list(tensors.values()), allow_unused=True)
        except Exception as error:
            got = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no message'}"
            raise ModelError("backward pass", got, "one gradient for each input", "fix the backward pass") from error
    zeros = (np.zeros(tuple(tensor.shape)) for tensor in tensors.values())
    pairs = zip(gradients, zeros, strict=True)
    return [zero if gradient is None else gradient.detach().numpy() for gradient, zero in pairs], magnitude


def _numbers(outputs: Any, name: str) -> torch.Tensor:
    """All floating-point tensors of the outputs as one vector."""
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
    if not leaves:
        raise ModelError("module", f"{name} without a floating-point tensor", "a tensor", "loss=lambda outputs: …")
    if any(leaf.dtype != torch.float64 for leaf in leaves):
        kinds = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        expected = "torch.float64 throughout: in lower precision, differences are mostly rounding"
        raise ModelError("module", f"{name} in {kinds} for a float64 input", expected, "x.to(self.weight.dtype)")
    return torch.cat([leaf.reshape(-1) for leaf in leaves])


def own_generator(seed: int) -> torch.Generator:
    """A generator whose numbers differ from torch's for the same seed, which may have drawn the network's weights."""
    return torch.Generator().manual_seed(whole(seed, "seed", 0, 2**62) + 2**62)
