"""An autoencoder of fully connected layers.

Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006: logistic units
around a linear code, 784-1000-500-250-30-250-500-1000-784 for MNIST.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network

SIZES = (1000, 500, 250, 30)


def autoencoder(
    input_shape: tuple[int, ...],
    outputs: int,
    sizes: tuple[int, ...] = SIZES,
    activation: str = "sigmoid",
    code: str = "linear",
    tied: bool = False,
) -> nn.Module:
    """Layers of `sizes` units, the last of which is the code, and the same ones mirrored: to (N, *input_shape) logits.

    Units of the code are `code`, those of the other layers `activation`. `tied`: the decoder has the transposed weights
    of the encoder. `outputs` follow from the input. `autoencoder` without sizes has those of the paper. Raises
    LayerStringError beyond 10⁹ parameters.
    """
    del outputs
    return build_network(autoencoder_layers(sizes, activation, code, tied), input_shape)


def autoencoder_layers(sizes: tuple[int, ...], activation: str, code: str, tied: bool) -> str:
    """The network as a layer string, whose code ends it."""
    *hidden, last = sizes or SIZES
    words = [f"fc({size}) {activation}" for size in hidden]
    return " ".join([*words, f"code({last},activation={code},tied={str(tied).lower()})"])
