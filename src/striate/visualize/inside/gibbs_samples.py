"""Samples of a Boltzmann machine: images after steps of Gibbs sampling, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.models.preserved_state import on_trial
from striate.models.zoo.boltzmann import BoltzmannNetwork
from striate.visualize.canvas import FAINT, SMALL
from striate.visualize.inside.mosaic import show_mosaic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = (0, 1, 10, 100, 1000)


@dataclass(frozen=True, eq=False)
class GibbsSamples:
    """Chains of Gibbs sampling."""

    pixels: NDArray[np.float32]
    """(chains, len(steps), H, W, C) float32, 0 to 1, the means of visible units after each number of steps."""
    steps: tuple[int, ...]
    """Numbers of steps."""
    of_data: int
    """Number of chains that begin with images; the others begin with noise."""


def gibbs_samples(
    network: BoltzmannNetwork, images: torch.Tensor, steps: Sequence[int] = STEPS, seed: int = 0
) -> GibbsSamples:
    """Chains of the highest machine that begin with `images` (N, C, H, W), values 0 to 1, and as many that begin with
    noise. Random numbers are drawn with `seed`; the network and torch's random state stay as they are."""
    with on_trial(network), torch.no_grad():
        torch.manual_seed(seed)
        found = [network.chains(images, steps, noise=noise) for noise in (False, True)]
    pixels = torch.cat([torch.stack(part, 1) for part in found]).permute(0, 1, 3, 4, 2)
    return GibbsSamples(pixels.float().cpu().numpy(), tuple(steps), len(images))


def draw_gibbs_samples(axes: Axes, samples: GibbsSamples) -> None:
    """A row a chain, a column for each number of steps."""
    chains, columns = samples.pixels.shape[:2]
    tiles: list[NDArray[Any]] = [
        np.repeat(tile, 3, -1) if tile.shape[-1] == 1 else tile for row in samples.pixels for tile in row.astype(float)
    ]
    names = ["data" if k < samples.of_data else "noise" for k in range(chains)]
    show_mosaic(axes, tiles, columns, rows=names, heads=[f"{step:,}" for step in samples.steps])
    axes.set_xlabel("steps of Gibbs sampling", fontsize=SMALL, color=FAINT)
    axes.xaxis.set_label_position("top")
