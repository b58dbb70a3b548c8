"""Some labeled pixels of a split with what the network gave for them: decoded masks have no probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.masks import IGNORED
from striate.tasks.accumulator import Sums

MOST_PIXELS = 200_000
"""So many pixels of a split are kept, about as many of each image."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """`truth` (P,) int64 class numbers and `probabilities` (P, K) float32."""

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]


class SampledPixels(Sums):
    """Sums that also keep a fixed random sample of the labeled pixels of a split of `samples` images: which ones
    depends on the place of the image alone."""

    def __init__(
        self,
        count: Callable[[Any, Any, torch.Tensor | None], torch.Tensor],
        summarize: Callable[[torch.Tensor], dict[str, float]],
        samples: int,
    ) -> None:
        super().__init__(count, summarize)
        self._each, self._step = max(1, MOST_PIXELS // samples), -(-samples // MOST_PIXELS)
        self._images = 0
        self._truth: list[torch.Tensor] = []
        self._probabilities: list[torch.Tensor] = []

    def update(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> None:
        """Add the sums of a batch, and keep some of its pixels."""
        super().update(outputs, targets, loss_sum)
        flat, truth = outputs.flatten(2), targets.flatten(1)
        for row in range(len(targets)):
            if self._images % self._step == 0:
                drawn = np.random.default_rng((0, self._images))
                count = truth.shape[1]
                places = torch.from_numpy(drawn.choice(count, min(count, self._each), replace=False)).to(flat.device)
                known = truth[row, places].cpu()
                labeled = known != IGNORED
                probabilities = flat[row][:, places].float().softmax(0).T.cpu()
                self._truth.append(known[labeled].long())
                self._probabilities.append(probabilities[labeled])
            self._images += 1

    def merge(self, other: Sums) -> None:
        """Add the sums and the pixels of another one."""
        super().merge(other)
        if isinstance(other, SampledPixels):
            self._images += other._images
            self._truth += other._truth
            self._probabilities += other._probabilities

    def state_dict(self) -> dict[str, Any]:
        """The sums and the pixels."""
        pixels = {"images": self._images, "truth": self._truth, "probabilities": self._probabilities}
        return super().state_dict() | pixels

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take all of it over."""
        super().load_state_dict(state)
        self._images = state["images"]
        self._truth, self._probabilities = list(state["truth"]), list(state["probabilities"])

    def pixels(self) -> Pixels:
        """What was kept."""
        return Pixels(torch.cat(self._truth).numpy(), torch.cat(self._probabilities).numpy())
