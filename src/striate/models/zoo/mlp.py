"""Multi-layer perceptron. Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors",
Nature, 1986.

New: hidden layers, trained by back-propagation. `mlp(128,64)` has 109,386 parameters on 28×28 images of 10 classes.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network


def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    sizes: tuple[int, ...] = (128, 64),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Hidden layers of `sizes` units, each followed by `activation` and, if not 0, `dropout`: to (N, outputs).

    `mlp` without sizes has hidden layers of 128 and 64. Raises LayerStringError beyond 10⁹ parameters.
    """
    after = f" {activation}" + (f" dropout({dropout!r})" if dropout else "")
    hidden = [f"fc({size}){after}" for size in sizes or (128, 64)]
    return build_network(" ".join([*hidden, f"fc({outputs})"]), input_shape)
