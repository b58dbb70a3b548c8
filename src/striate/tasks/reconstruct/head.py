"""A code and a convolutional decoder for networks that have none."""

from __future__ import annotations

import math

import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.code import Code
from striate.models.features import output_layer
from striate.models.from_spec import build_network
from striate.models.preserved_state import preserved
from striate.models.reconstructing import Reconstructing
from striate.models.weights.replace_head import replace_head
from striate.wording import several, show_shape

_WIDTHS = (16, 32, 64, 64)
"""Channels of the decoder, from the resolution of the image on, which halves each time."""
_SMALLEST = 4
_MOST_WEIGHTS = 20_000_000


class CodedNetwork(nn.Module):
    """A network `body` whose outputs are the code, with a decoder: from (N, C, H, W) to (N, C, H, W)."""

    def __init__(self, body: nn.Module, code: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.decoder = build_network(decoder_layers(input_shape), (code,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The reconstruction, as outputs of the task."""
        reconstruction: torch.Tensor = self.decoder(self.body(x))
        return reconstruction


def halvings(input_shape: tuple[int, ...]) -> int:
    """How often height and width can be halved without a remainder, at most four times, down to `_SMALLEST` pixels."""
    sides, count = input_shape[1:], 0
    while count < len(_WIDTHS) and all(s % 2 == 0 and s // 2 >= _SMALLEST for s in sides):
        sides, count = tuple(s // 2 for s in sides), count + 1
    return count


def encoder_layers(input_shape: tuple[int, ...], code: int) -> str:
    """The layer string of an autoencoder for images (C, H, W): convolutions that halve the image, and the code."""
    stages = [f"conv({_WIDTHS[k]},3,pad=1) bn relu pool(2)" for k in range(halvings(input_shape))]
    if not stages:
        width = max(64, min(512, _MOST_WEIGHTS // math.prod(input_shape)))
        return f"fc({width}) relu code({code})"
    return " ".join([*stages, f"code({code})"])


def decoder_layers(input_shape: tuple[int, ...]) -> str:
    """The layer string from a code to an image (C, H, W)."""
    channels, height, width = input_shape
    count = halvings(input_shape)
    if not count:
        return f"fc({max(64, min(512, _MOST_WEIGHTS // math.prod(input_shape)))}) relu fc({math.prod(input_shape)})"
    size = (_WIDTHS[count - 1], height >> count, width >> count)
    words = [f"fc({math.prod(size)}) unflatten({'x'.join(map(str, size))}) bn relu"]
    words += [f"up(2) conv({_WIDTHS[k - 1]},3,pad=1) bn relu" for k in range(count - 1, 0, -1)]
    return " ".join([*words, f"up(2) conv({channels},3,pad=1)"])


def as_autoencoder(network: nn.Module, input_shape: tuple[int, ...], code: int, *, logits: bool) -> nn.Module:
    """The network itself, if it outputs as many numbers as the image has, in its mode for reconstruction if it has one;
    else with its output layer replaced by a code of dimension `code`, and a decoder. Raises ModelError."""
    if isinstance(network, CodedNetwork):
        return network
    if isinstance(network, Reconstructing):
        return network.for_reconstruction(logits=logits)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with preserved(network), torch.no_grad():
        given = network(torch.zeros(2, *input_shape, device=device))
    pixels = math.prod(input_shape)
    found = tuple(given.shape[1:]) if isinstance(given, torch.Tensor) else ()
    if found and math.prod(found) == pixels:
        return network
    coded = any(isinstance(module, Code) for module in network.modules())
    if (len(found) != 1 and isinstance(given, torch.Tensor)) or output_layer(network) is None or coded:
        raise ModelError(
            "model",
            f"a network that outputs {show_shape(found)}" if found else "a network that outputs several tensors",
            f"one number for each of {several(pixels, 'value')} of the image {show_shape(input_shape)}; or a vector, "
            "for which striate makes a decoder",
            f'end it with "fc({pixels})", or remove the layers after code(…): the decoder is the mirrored encoder',
        )
    body = replace_head(network, code)
    return CodedNetwork(body, code, input_shape).to(device)
