"""The losses of embeddings, as pytorch-metric-learning computes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from striate.errors import UsageError
from striate.models.preserved_state import same_random_state

BY_PROXY = ("arcface", "proxy-anchor")
"""Losses that compare embeddings with a proxy of each class; the others compare embeddings with one another."""
MARGIN, SCALE = 28.6, 30.0
"""ArcFace: the angular margin in degrees, and the scale of cosines."""
_TRIPLET_MARGIN = 0.2
_TEMPERATURE = 0.1
_LARGEST = 1 - 1e-6
"""Largest cosine: the derivative of the arc cosine is infinite at 1."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def loss_of(name: str, classes: int) -> Loss:
    """The function that computes the mean loss over samples, from class numbers (N,) and cosines (N, K) with the
    proxies of `classes`, or embeddings (N, D).

    `arcface`: Deng et al., "ArcFace: additive angular margin loss for deep face recognition", 2019. `proxy-anchor`: Kim
    et al., "Proxy anchor loss for deep metric learning", 2020. `triplet`: for each sample, the farthest of its class
    and the nearest of other classes (batch-hard), Hermans et al., "In defense of the triplet loss for person
    re-identification", 2017. `supcon`: Khosla et al., "Supervised contrastive learning", 2020. Raises UsageError where
    pytorch-metric-learning is not installed.
    """
    try:
        import pytorch_metric_learning  # noqa: F401
    except ImportError:
        remedy = "pip install 'striate[embed]'"
        got = "pytorch-metric-learning is not installed"
        raise UsageError("--task embed", got, "the package with its losses", remedy) from None
    return _made(name, classes)


@cache
@same_random_state()  # they draw proxies of their own, which are not used
def _made(name: str, classes: int) -> Loss:
    from pytorch_metric_learning import losses, miners, reducers

    class Arcface(losses.ArcFaceLoss):
        def get_cosine(self, embeddings: torch.Tensor) -> torch.Tensor:
            return embeddings.clamp(-_LARGEST, _LARGEST)

    class Proxyanchor(losses.ProxyAnchorLoss):
        def get_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
            return embeddings

    mean = reducers.MeanReducer()
    if name == "arcface":
        return _plain(Arcface(classes, 1, margin=MARGIN, scale=SCALE, reducer=mean))
    if name == "proxy-anchor":
        return _plain(Proxyanchor(classes, 1))
    if name == "supcon":
        return _plain(losses.SupConLoss(temperature=_TEMPERATURE))
    hardest, triplet = miners.BatchHardMiner(), losses.TripletMarginLoss(margin=_TRIPLET_MARGIN, reducer=mean)

    def of_hardest(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = triplet(embeddings, labels, hardest(embeddings, labels))
        return found

    return of_hardest


def _plain(loss: Any) -> Loss:
    def computed(given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = loss(given, labels)
        return found

    return computed


TEMPERATURE = 0.1


def neighbor_loss(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N,) loss of each sample: minus the logarithm of the probability that a neighbor, drawn with weights exp(cosine /
    0.1), has its class; NaN for samples without another of their class.

    It needs no proxies, so that it is also defined for classes that are not in training. Source: Frosst et al.,
    "Analyzing and improving representations with the soft nearest neighbor loss", 2019.
    """
    found = []
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        near = embeddings[rows] @ embeddings.T / TEMPERATURE
        own = torch.arange(len(near), device=near.device)
        near[own, own + start] = -torch.inf
        same = labels[rows, None] == labels[None]
        found.append(near.logsumexp(1) - near.masked_fill(~same, -torch.inf).logsumexp(1))
    return torch.cat(found).nan_to_num(nan=torch.nan, posinf=torch.nan)


_ROWS = 512
