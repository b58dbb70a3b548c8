"""Baselines of embeddings: the inputs themselves, and histograms of oriented gradients; nothing is learned."""

from __future__ import annotations

from functools import partial

import torch

from striate.data.dataset import Dataset
from striate.data.normalize import measure_normalization
from striate.tasks.baseline import Fitted, Method
from striate.tasks.baseline_features import describe_inputs, edge_features, shows_edges, standardized_inputs
from striate.tasks.embed.retrieval import unit
from striate.tasks.task import Task


def embed_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines that fit the kind of data."""
    values = data.medium.values
    methods = [Method(values, f"The cosine similarity of the standardized {values}.", _plain)]
    if shows_edges(data):
        what = "The cosine similarity of histograms of the directions of edges"
        what += " and of colors." if data.input_shape[0] == 3 else "."
        methods.append(Method("HOG", what, _hog))
    return tuple(methods)


def _plain(data: Dataset, task: Task, seed: int) -> Fitted:
    del task, seed
    train, test = data.splits["train"], data.splits["test"]
    extract = partial(standardized_inputs, normalization=measure_normalization(train))
    return Fitted(torch.from_numpy(unit(extract(test.inputs))), describe_inputs(data), len(train))


def _hog(data: Dataset, task: Task, seed: int) -> Fitted:
    del task, seed
    test = data.splits["test"]
    features = "histograms of oriented gradients (9 orientations, blocks of 2 × 2)"
    if data.input_shape[0] == 3:
        features += ", and a histogram of hue, saturation and value (12 × 4 × 4 bins)"
    return Fitted(torch.from_numpy(unit(edge_features(test.inputs))), features, 0)
