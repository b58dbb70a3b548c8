"""Muon: kernels and matrices move by orthogonal steps, all else by AdamW. Jordan et al. 2024
(kellerjordan.github.io/posts/muon).

A step along the gradient of a kernel is ruled by its few largest directions. Muon gives all directions the same length:
of the momentum's singular value decomposition U S Vᵀ it takes U Vᵀ, by a few matrix products.

torch's own Muon takes matrices only, and the one of pytorch-optimizer has no step that keeps the norm and needs a
second to load; AdamW's part is torch's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial a·s + b·s³ + c·s⁵, which five times over takes singular values in (0, 1] to about 0.7 to 1.2."""
ITERATIONS = 5
_TINY = 1e-7


def orthogonalize(matrices: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Of each of the (B, rows, columns) matrices, about U Vᵀ of its singular value decomposition, in bfloat16.

    Newton–Schulz iterations with `COEFFICIENTS`, which are chosen for speed and not for convergence: singular values
    end between 0.6 and 1.3, but those that were 10⁻³ of the norm or less, which stay smaller. A matrix of zeros stays.
    """
    a, b, c = COEFFICIENTS
    x = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + _TINY)).bfloat16()
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT


class Muon(torch.optim.Optimizer):
    """Every group says by `use_muon` what moves its parameters.

    `use_muon`: `momentum`, `nesterov`, and `fixed_norm`. A kernel (K, C, …) is a matrix (K, C·…). Without `fixed_norm`
    its step is lr · 0.2 · √max(rows, columns) · U Vᵀ, which is as large as AdamW's (Liu et al., "Muon is scalable for
    LLM training", 2025). With it, the step is `lr` times as long as the kernel, whose norm is then restored: it turns
    by an angle of about `lr`. Of a kernel in front of a normalization nothing else matters.
    Otherwise: AdamW with `betas` and `eps`.
    `weight_decay` of either is decoupled: lr · weight_decay of the weights a step.
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
        """Muon's step, all kernels of one shape at once."""
        alike: defaultdict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for p in parameters:
            alike[len(p), p[0].numel()].append(p)
        for (rows, columns), members in alike.items():
            directions = orthogonalize(torch.stack([m.reshape(rows, columns) for m in self._momenta(group, members)]))
            directions = directions.to(members[0].dtype)
            moves = [d.reshape(p.shape) for d, p in zip(directions, members, strict=True)]
            if group["fixed_norm"]:
                _turn_at_fixed_norm(members, moves, group["lr"])
                continue
            torch._foreach_mul_(members, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(members, moves, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)

    def _momenta(self, group: dict[str, Any], members: list[Tensor]) -> list[Tensor]:
        """The running means of gradients, brought up to date; with Nesterov's look ahead."""
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


def _turn_at_fixed_norm(members: list[Tensor], moves: list[Tensor], lr: float) -> None:
    """Moves of `lr` times the norm, which is then put back; a kernel of zeros gets the norm 1."""
    norms = [torch.where(n > 0, n, torch.ones_like(n)) for n in torch._foreach_norm(members)]
    lengths = [lr * n / (m + _TINY) for n, m in zip(norms, torch._foreach_norm(moves), strict=True)]
    torch._foreach_sub_(members, torch._foreach_mul(moves, lengths))
    reached = torch._foreach_norm(members)
    torch._foreach_mul_(
        members, [n / torch.where(r > 0, r, torch.ones_like(r)) for n, r in zip(norms, reached, strict=True)]
    )
