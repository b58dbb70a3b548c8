"""Layers of visible and hidden units with an energy: the restricted Boltzmann machine, and the convolutional one with
probabilistic max pooling. As layers of a network, they output the probabilities of their hidden units."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ShapeError

Visible = Literal["binary", "gaussian"]
INITIAL_SCALE = 0.01
"""Standard deviation of initial weights (Hinton, "A practical guide to training RBMs", 2010, section 8)."""


class VisibleBias(nn.Module):
    """Adds the biases of visible units: one for each unit of (N, V), or for each channel of (N, C, H, W)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias.view(-1, *[1] * (x.ndim - 2))


class RestrictedBoltzmannMachine(nn.Module):
    """V visible and H binary hidden units: as a layer, (N, V) to P(h = 1 | v) (N, H).

    `visible` units are `binary`, or `gaussian` of variance 1, whose mean is linear in the hidden units.

        E(v, h) = −a·v − b·h − h·W·v,   or   ½‖v − a‖² − b·h − h·W·v

    `hidden` holds W (H, V) and b (H,), `offset` a (V,). `striate.reference.boltzmann` has the formulas of the methods.
    Source: Smolensky 1986 (harmonium); Hinton, "Training products of experts", Neural Computation 14, 2002.
    """

    def __init__(self, visible_units: int, hidden_units: int, visible: Visible = "binary") -> None:
        super().__init__()
        self.visible: Visible = visible
        self.hidden = nn.Linear(visible_units, hidden_units)
        self.offset = VisibleBias(visible_units)
        nn.init.normal_(self.hidden.weight, 0.0, INITIAL_SCALE)
        nn.init.zeros_(self.hidden.bias)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """P(h = 1 | v), (N, H)."""
        return torch.sigmoid(self.hidden(v))

    def sample_hidden(self, v: torch.Tensor) -> torch.Tensor:
        """h (N, H) of zeros and ones, drawn from P(h | v) by torch's random state."""
        return torch.bernoulli(self(v))

    def visible_mean(self, h: torch.Tensor) -> torch.Tensor:
        """The mean of v (N, V) given hidden units, or given their probabilities (mean field)."""
        sums: torch.Tensor = self.offset(functional.linear(h, self.hidden.weight.T))
        return torch.sigmoid(sums) if self.visible == "binary" else sums

    def sample_visible(self, h: torch.Tensor) -> torch.Tensor:
        """v (N, V), drawn from P(v | h) by torch's random state."""
        return drawn(self.visible_mean(h), self.visible)

    def free_energy(self, v: torch.Tensor) -> torch.Tensor:
        """F(v) = −log Σ_h exp(−E(v, h)), (N,)."""
        return self._energy_of_visible(v) - functional.softplus(self.hidden(v)).sum(1)

    def statistics(self, v: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean of −∂E/∂θ over pairs of v (N, V) and probabilities of h (N, H), by the name of the parameter."""
        count = len(v)
        away = v if self.visible == "binary" else v - self.offset.bias
        return {"hidden.weight": h.T @ v / count, "hidden.bias": h.mean(0), "offset.bias": away.mean(0)}

    def _energy_of_visible(self, v: torch.Tensor) -> torch.Tensor:
        if self.visible == "binary":
            return -(v @ self.offset.bias)
        return (v - self.offset.bias).square().sum(1) / 2

    def extra_repr(self) -> str:
        return self.visible


class ConvolutionalBoltzmannMachine(nn.Module):
    """Maps of hidden units that share their weights, in blocks with at most one unit on: as a layer, (N, C, H, W) to
    the probabilities of the pooling units above the blocks, (N, K, H'/pool, W'/pool).

        E(v, h) = −Σ_k h^k · (W^k ∗ v) − Σ_k b_k Σ h^k − a Σ v      (½ Σ (v − a)² / σ² and 1 / σ² before the first term
                                                                     where visible units are gaussian)

    `hidden` holds K kernels of `kernel` × `kernel`, without padding: H' = H − kernel + 1, cut to a multiple of `pool`.
    In a block, one of its pool² units is on, or none: P(h_i = 1) = exp(x_i) / (1 + Σ exp(x)) (probabilistic max
    pooling). Raises ShapeError for images on which no block fits. Source: Lee, Grosse, Ranganath, Ng, "Convolutional
    deep belief networks for scalable unsupervised learning of hierarchical representations", ICML 2009, sections 3.2
    and 3.3."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        pool: int = 2,
        visible: Visible = "binary",
        sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.visible: Visible = visible
        self.pool, self.sigma = pool, sigma if visible == "gaussian" else 1.0
        self.hidden = nn.Conv2d(channels, filters, kernel)
        self.offset = VisibleBias(channels)
        nn.init.normal_(self.hidden.weight, 0.0, INITIAL_SCALE)
        nn.init.zeros_(self.get_parameter("hidden.bias"))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """P(p = 1 | v) of the pooling units."""
        off, _ = self._blocks(v)
        return 1 - off

    def detections(self, v: torch.Tensor) -> torch.Tensor:
        """P(h = 1 | v) of the hidden units, (N, K, H', W')."""
        _, on = self._blocks(v)
        return self._from_blocks(on)

    def sample_hidden(self, v: torch.Tensor) -> torch.Tensor:
        """h (N, K, H', W') of zeros and ones, with at most one unit on in each block, drawn by torch's random state."""
        off, on = self._blocks(v)
        cumulated = torch.cat([off[..., None], on], -1).cumsum(-1)
        chosen = (torch.rand_like(off)[..., None] >= cumulated[..., :-1]).sum(-1)  # 0: none
        return self._from_blocks(functional.one_hot(chosen, self.pool**2 + 1)[..., 1:].to(v))

    def visible_mean(self, h: torch.Tensor) -> torch.Tensor:
        """The mean of v (N, C, H, W) given hidden units (N, K, H', W'), or given their probabilities."""
        sums: torch.Tensor = self.offset(functional.conv_transpose2d(h, self.hidden.weight))
        return torch.sigmoid(sums) if self.visible == "binary" else sums

    def sample_visible(self, h: torch.Tensor) -> torch.Tensor:
        """v, drawn from P(v | h) by torch's random state."""
        return drawn(self.visible_mean(h), self.visible, self.sigma)

    def covered(self, v: torch.Tensor) -> torch.Tensor:
        """The part of images that complete blocks cover: H and W cropped to kernel − 1 + a multiple of `pool`."""
        edge = self.hidden.kernel_size[0] - 1
        sides = [edge + (side - edge) // self.pool * self.pool for side in v.shape[2:]]
        if min(sides) < edge + self.pool:
            got, expected = f"images of {v.shape[2]}×{v.shape[3]}", f"at least {edge + self.pool} a side"
            raise ShapeError("convolutional Boltzmann machine", got, expected, "a smaller kernel: crbm(24,kernel=5)")
        return v[:, :, : sides[0], : sides[1]]

    def free_energy(self, v: torch.Tensor) -> torch.Tensor:
        """F(v) = −log Σ_h exp(−E(v, h)) of `covered` images, (N,)."""
        inputs = self._to_blocks(self._inputs(v))
        blocks = torch.logsumexp(functional.pad(inputs, (1, 0)), -1)
        return self._energy_of_visible(v) - blocks.flatten(1).sum(1)

    def statistics(self, v: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean of −∂E/∂θ over images v (N, C, H, W) and probabilities of h, by the name of the parameter."""
        count, scale = len(v), self.sigma**-2
        # The gradient of a kernel correlates images with hidden units: a convolution with the batch as channels.
        weight = functional.conv2d(v.transpose(0, 1), h.transpose(0, 1)).transpose(0, 1)
        away = v if self.visible == "binary" else v - self.offset.bias[:, None, None]
        of_offset = away.sum((0, 2, 3)) * scale / count
        bias = h.sum((0, 2, 3)) * scale / count
        return {"hidden.weight": weight * scale / count, "hidden.bias": bias, "offset.bias": of_offset}

    def _inputs(self, v: torch.Tensor) -> torch.Tensor:
        inputs: torch.Tensor = self.hidden(v) / self.sigma**2
        return inputs

    def _blocks(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The probability that no unit of a block is on, (N, K, rows, columns), and of each unit, (…, pool²)."""
        inputs = self._to_blocks(self._inputs(self.covered(v)))
        shares = torch.softmax(functional.pad(inputs, (1, 0)), -1)
        return shares[..., 0], shares[..., 1:]

    def _to_blocks(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K, H', W') to (N, K, H'/pool, W'/pool, pool²)."""
        rows, columns = (side // self.pool for side in x.shape[2:])
        parts = x.reshape(*x.shape[:2], rows, self.pool, columns, self.pool)
        return parts.transpose(3, 4).flatten(4)

    def _from_blocks(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `_to_blocks`."""
        n, k, rows, columns, _ = x.shape
        parts = x.reshape(n, k, rows, columns, self.pool, self.pool)
        return parts.transpose(3, 4).reshape(n, k, rows * self.pool, columns * self.pool)

    def _energy_of_visible(self, v: torch.Tensor) -> torch.Tensor:
        if self.visible == "binary":
            return -(v * self.offset.bias[:, None, None]).flatten(1).sum(1)
        return (v - self.offset.bias[:, None, None]).square().flatten(1).sum(1) / (2 * self.sigma**2)

    def extra_repr(self) -> str:
        return f"pool={self.pool}, {self.visible}"


def drawn(mean: torch.Tensor, visible: Visible, sigma: float = 1.0) -> torch.Tensor:
    """Visible units with this mean, drawn by torch's random state: zeros and ones, or normal with standard deviation
    `sigma`."""
    return torch.bernoulli(mean) if visible == "binary" else mean + sigma * torch.randn_like(mean)
