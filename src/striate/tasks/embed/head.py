"""The head of a network that outputs embeddings."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.models.weights.auxiliary_outputs import network_outputs

_LENGTH = 0.1


class Proxies(nn.Module):
    """A vector for each class of the training split, which the embeddings of the class are trained to be near."""

    def __init__(self, classes: int, dimensions: int) -> None:
        super().__init__()
        # Only directions count, and short vectors turn faster: proxies must keep up with an untrained network.
        self.weight = nn.Parameter(_LENGTH * torch.randn(classes, dimensions) / dimensions**0.5)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(N, K) cosines of embeddings (N, D) of length 1 and the proxies."""
        return functional.linear(embeddings, functional.normalize(self.weight))


class EmbeddingNetwork(nn.Module):
    """(N, D) embeddings of length 1, followed by their (N, K) cosines with the proxies, if there are any.

    Batch normalization standardizes the network's outputs before their length becomes 1: cosines of vectors that all
    lie on one side of the origin would differ little. `mirrored`: in evaluation, the embedding of an image (N, C, H, W)
    is the direction of the mean of its embedding and that of its mirror image.
    """

    def __init__(self, body: nn.Module, dimensions: int, classes: int, *, mirrored: bool = False) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.body = body
        self.center = nn.BatchNorm1d(dimensions, affine=False)
        self.proxies = Proxies(classes, dimensions) if classes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, D + K) for a batch (N, …)."""
        embeddings = self._embed(x)
        if self.mirrored and not self.training:
            embeddings = functional.normalize(embeddings + self._embed(x.flip(-1)))
        return embeddings if self.proxies is None else torch.cat([embeddings, self.proxies(embeddings)], dim=1)

    def _embed(self, x: torch.Tensor) -> torch.Tensor:
        given = network_outputs(self.body, self.body(x), whole=False).outputs
        return functional.normalize(self.center(given).float())
