"""Weights of autoencoders for other networks: an encoder's for a classifier, those of Boltzmann machines for an
autoencoder.

Unrolling: Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006. A
layer of the encoder gets the weights and the hidden biases of a machine; the mirrored layer of the decoder gets the
transposed weights and the visible biases.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.code import Code, Transposed, code_layer
from striate.models.layer_strings.layer_string import parse_call, parse_layers
from striate.models.layer_strings.spec import Layer, Network
from striate.models.registry import MODELS
from striate.models.weights.saved import SavedNetwork
from striate.wording import listed, several, show_shape

_MACHINE = re.compile(r"machines\.(\d+)\.hidden\.weight")
_CODE = re.compile(r"(?:^|\.)code\d+\.weight$")
AUTOENCODER = "autoencoder"


def encoder_name(name: str, outputs: int) -> str | None:
    """The layer string of the encoder of the network `name`, with a new layer of `outputs` after the code; None where
    the network is not an autoencoder."""
    text = name
    if name.strip().partition("(")[0].strip() == AUTOENCODER:
        text = _as_layers(name)
    elif not re.search(r"\bcode\s*\(", name) or name.strip().partition("(")[0] in MODELS:
        return None
    items = parse_layers(text).items
    place = next((k for k, item in enumerate(items) if isinstance(item, Layer) and item.word == "code"), None)
    if place is None:
        return None
    code = items[place]
    assert isinstance(code, Layer)
    return f"{Network((*items[:place], code.changed(tied=False)))} fc({outputs})"


def _as_layers(name: str) -> str:
    from striate.models.zoo.autoencoder import autoencoder_layers

    info = MODELS[AUTOENCODER]
    given = {p.name: p.default for p in info.parameters if not isinstance(p.default, type(...))}
    return autoencoder_layers(**(given | parse_call(name.strip(), info.parameters)))  # type: ignore[arg-type]


def encoder_weights(weights: SavedNetwork, network: nn.Module) -> tuple[SavedNetwork, str] | None:
    """The tensors of an autoencoder's encoder that `network` also has, and a note on those left out; None where the run
    is not of an autoencoder, or the network is an autoencoder with the same tensors."""
    names, own = list(weights.tensors), network.state_dict()
    code = next((place for place, key in enumerate(names) if _CODE.search(key)), None)
    if any(key.startswith("body.") for key in names) and any(key.startswith("decoder.") for key in names):
        kept = {key.removeprefix("body."): value for key, value in weights.tensors.items() if key.startswith("body.")}
    elif code is not None:
        layer = names[code].rpartition(".")[0]
        end = max(place for place, key in enumerate(names) if key.startswith(f"{layer}."))
        kept = {key: weights.tensors[key] for key in names[: end + 1]}
    else:
        return None
    if own.keys() == weights.tensors.keys():
        return None
    taken = {key: value for key, value in kept.items() if key in own}
    same = [key for key, value in taken.items() if own[key].shape == value.shape]
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in same))
    left = list(dict.fromkeys(key.rpartition(".")[0] for key in kept if key not in own))
    if not taken:
        got = f"the encoder of {weights.path}: {listed([key.rpartition('.')[0] for key in kept], 6)}"
        remedy = "leave out --model: the network is the encoder with a new last layer"
        raise ModelError(weights.path, got, f"layers with the names of the network: {listed(list(own), 4)}", remedy)
    note = f"{several(len(layers), 'layer')} of the encoder of the autoencoder ({listed(layers, 8)}), not the decoder"
    note += f", nor {listed(left)}, which the network does not have" if left else ""
    return replace(weights, tensors=taken, outputs=_width(taken)), note


def _width(tensors: dict[str, torch.Tensor]) -> int:
    return next((len(value) for key, value in reversed(tensors.items()) if key.endswith("weight")), 1)


def unrolled(weights: SavedNetwork, network: nn.Module) -> tuple[SavedNetwork, str] | None:
    """The tensors of an autoencoder from a stack of restricted Boltzmann machines, and a note; None where the run is
    not of such a stack, or the network is not an autoencoder of fully connected layers. Raises ModelError where their
    sizes differ."""
    found = sorted((int(match[1]), key) for key in weights.tensors if (match := _MACHINE.fullmatch(key)))
    if not found or code_layer(network) is None:
        return None
    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear | Transposed)]
    place = next(k for k, (_, part) in enumerate(layers) if isinstance(part, Code)) + 1
    encoder, decoder = layers[:place], layers[place:][::-1]
    wanted = [tuple(part.weight.shape) for _, part in encoder]
    given = [tuple(weights.tensors[key].shape) for _, key in found]
    if wanted != given or len(decoder) != len(encoder):
        sizes = ",".join(str(shape[0]) for shape in given)
        raise ModelError(
            weights.path,
            f"machines with weights of {listed([show_shape(shape) for shape in given], 6)}",
            f"the weights of the encoder: {listed([show_shape(shape) for shape in wanted], 6)}",
            f'--model "{AUTOENCODER}({sizes})"',
        )
    tensors = dict(network.state_dict())
    for (number, _), (up, _), (down, mirror) in zip(found, encoder, decoder, strict=True):
        machine = f"machines.{number}"
        weight = weights.tensors[f"{machine}.hidden.weight"]
        tensors |= {f"{up}.weight": weight, f"{up}.bias": weights.tensors[f"{machine}.hidden.bias"]}
        tensors[f"{down}.bias"] = weights.tensors[f"{machine}.offset.bias"]
        if isinstance(mirror, nn.Linear):
            tensors[f"{down}.weight"] = weight.T.contiguous()
    note = f"{several(len(found), 'Boltzmann machine')} unrolled: encoder, and decoder with the transposed weights"
    return replace(weights, tensors=tensors, outputs=_width(tensors)), note
