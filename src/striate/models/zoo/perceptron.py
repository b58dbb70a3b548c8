"""Perceptron. Rosenblatt, "The perceptron: a probabilistic model for information storage", Psychological Review, 1958.

New: weights that are learned from examples. One linear layer from all inputs to all outputs: 7,850 parameters on
28×28 images of 10 classes; about 92 % on MNIST.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network


def perceptron(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """One fully connected layer on inputs of any shape: (N, *input_shape) to (N, outputs)."""
    return build_network(f"fc({outputs})", input_shape)
