"""Muon: orthogonal steps for kernels and matrices, AdamW for all other parameters. Jordan et al. 2024
(kellerjordan.github.io/posts/muon).

A few large directions dominate the gradient of a kernel. Muon gives all directions the same length: from the singular
value decomposition U S Vᵀ of the momentum it takes U Vᵀ, computed by a few matrix products.

torch's own Muon takes matrices only. pytorch-optimizer's has no step that keeps the norm, and takes a second to load.
The AdamW part is torch's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from striate.machine.precision import bf16_on_cpu

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of a·s + b·s³ + c·s⁵: applied five times, it takes singular values in (0, 1] to about 0.7 to 1.2."""
ITERATIONS = 5
_TINY = 1e-7


def orthogonalize(matrices: Tensor) -> Tensor:
    """For each of the (B, rows, columns) matrices, about U Vᵀ of its singular value decomposition: in bfloat16, or in
    float32 on a processor without bf16, which would take twenty times as long.

    Newton–Schulz iterations with `COEFFICIENTS`, which are chosen for speed rather than convergence: singular values
    end between 0.6 and 1.3, except those below 10⁻³ of the norm, which stay smaller. A matrix of zeros stays 0.
    """
    a, b, c = COEFFICIENTS
    x = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    dtype = torch.bfloat16 if x.device.type != "cpu" or bf16_on_cpu() else torch.float32
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + _TINY)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT


class Muon(torch.optim.Optimizer):
    """Each group says by `use_muon` which algorithm moves its parameters.

    Muon: `momentum`, `nesterov` and `fixed_norm`. A kernel (K, C, …) is a matrix (K, C·…). Without `fixed_norm` its
    step is lr · 0.2 · √max(rows, columns) · U Vᵀ, as large as AdamW's (Liu et al., "Muon is scalable for LLM training",
    2025). With it, the step is `lr` times as long as the kernel, whose norm is then restored: the kernel turns by an
    angle of about `lr`. Before a normalization, nothing but the direction of a kernel matters.

    AdamW: `betas` and `eps`. Both have decoupled weight decay: lr · weight_decay of the weights per step.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        *,
        nesterov: bool = True,
        fixed_norm: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "weight_decay": 0.0, "use_muon": False, "fixed_norm": fixed_norm}
        super().__init__(groups, defaults | {"momentum": momentum, "nesterov": nesterov, "betas": betas, "eps": 1e-8})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every group; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                (self._turn if group["use_muon"] else self._move)(group, parameters)
        return loss

    def _turn(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Muon's step, for all kernels of one shape at once."""
        alike: defaultdict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for p in parameters:
            alike[len(p), p[0].numel()].append(p)
        for (rows, columns), members in alike.items():
            weights = _matrices(members, members)
            directions = orthogonalize(_matrices(self._momenta(group, members), members)).to(weights.dtype)
            if group["fixed_norm"]:
                weights = _turned_at_fixed_norm(weights, directions, group["lr"])
            else:
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                weights.add_(directions, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)
            torch._foreach_copy_(members, [_of_kernel(w, p) for w, p in zip(weights, members, strict=True)])

    def _momenta(self, group: dict[str, Any], members: list[Tensor]) -> list[Tensor]:
        """The updated running means of the gradients; with Nesterov momentum, one step ahead."""
        for p in members:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients: list[Tensor] = [p.grad for p in members]  # type: ignore[misc]
        buffers = [self.state[p]["momentum_buffer"] for p in members]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        if not group["nesterov"]:
            return buffers
        return list(torch._foreach_lerp(gradients, buffers, group["momentum"]))

    def _move(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """AdamW's step."""
        gradients: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
        for p in parameters:
            if not self.state[p]:
                self.state[p] |= {"step": torch.zeros((), dtype=torch.float32)}
                self.state[p] |= {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        means, squares, steps = (
            [self.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            foreach=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _matrices(values: list[Tensor], kernels: list[Tensor]) -> Tensor:
    """(B, rows, columns): a copy of the `values` of kernels (K, C, …) of one size. Columns are in the order in which
    the kernel lies in memory, which does not matter to U Vᵀ."""
    moved = [v if k.is_contiguous() else v.movedim(1, -1) for v, k in zip(values, kernels, strict=True)]
    return torch.stack([v.reshape(len(v), -1) for v in moved])


def _of_kernel(matrix: Tensor, kernel: Tensor) -> Tensor:
    """One of `_matrices` in the shape of its kernel."""
    if kernel.is_contiguous():
        return matrix.view(kernel.shape)
    return matrix.view(kernel.movedim(1, -1).shape).movedim(-1, 1)


def _turned_at_fixed_norm(weights: Tensor, directions: Tensor, lr: float) -> Tensor:
    """Each of the (B, rows, columns) matrices moved by `lr` times its norm, which is then restored; a matrix of zeros
    gets the norm 1. One operation serves all kernels, since the number of operations decides the time on a GPU."""
    norms = _norms(weights)
    moved = torch.addcmul(weights, directions, lr * norms / (_norms(directions) + _TINY), value=-1)
    return moved.mul_(norms / _norms(moved))


def _norms(matrices: Tensor) -> Tensor:
    """(B, 1, 1) norms; 1 where a matrix is 0."""
    norms = matrices.norm(dim=(1, 2), keepdim=True)
    return torch.where(norms > 0, norms, 1.0)
