"""The lectures' network for handwritten digits, 16c5–p2–24c5–p2–64–10. Dropout: Hinton et al., "Improving neural
networks by preventing co-adaptation of feature detectors", 2012.

Two convolutions, each with ReLU and max pooling, one hidden layer with dropout: 35,330 parameters on 28×28 images of
10 classes.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network

LAYERS = "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu dropout(0.5)"
SMALLEST = 16
"""The smallest image side that leaves one position after both convolutions and poolings."""


def mnist_cnn(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network for images (C, H, W) of at least 16×16: to (N, outputs).

    Raises LayerStringError, whose remedy is a layer string that fits, where they are smaller.
    """
    return build_network(f"{LAYERS} fc({outputs})", input_shape)
