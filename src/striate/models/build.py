"""From what the user names to a network: zoo name, layer string, `file.py:function`, or an `nn.Module`."""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch
from torch import nn

from striate.errors import LayerStringError, ModelError
from striate.models.arguments import nearest
from striate.models.check import check_outputs
from striate.models.choose import choose_model
from striate.models.from_file import build_from_file, names_file
from striate.models.from_spec import build_plan
from striate.models.layer_string import parse_call
from striate.models.outputs import plan_outputs
from striate.models.registry import MODELS, ModelInfo
from striate.models.shapes import MAX_PARAMETERS, check_input_shape, show_shape
from striate.models.words import WORDS, Value, show_value

__all__ = ["build_model", "check_outputs", "choose_model"]

_NAME = re.compile(r"[A-Za-z_][\w.-]*+")
_ONE_CALL = re.compile(r"[A-Za-z_][\w.-]*+\s*+(\([^()]*+\)?+)?+\s*+")


def build_model(
    model: str | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
    *,
    dense: bool = False,
    classes: tuple[str, ...] = (),
) -> nn.Module:
    """The network that `model` names, with weights drawn from torch's random state.

    `model`: a zoo name (`mnist-cnn`, `mlp(128,64)`), a layer string, `path/to/file.py:function`, which RUNS that code,
    or a module, which comes back as it is. `input_shape`: (C, *spatial) or (F,), without the batch; None takes the
    zoo's published one. `outputs`: how many logits, or channels of the input's size if `dense`; None takes the
    published number, or whatever the network gives. `classes` are named in errors. Also under
    `torch.device("meta")`.

    Raises ModelError (LayerStringError where a character can be pointed at) if there is no such model, it does not
    fit the input, or its output is not what was asked for.
    """
    if input_shape is not None:
        input_shape = tuple(input_shape)
        check_input_shape(input_shape)
    if outputs is not None and outputs < 1:
        raise ModelError("number of outputs", str(outputs), "at least 1", "give the number of classes of the data")
    if isinstance(model, str):
        text = model.strip()
        network, input_shape, outputs = _from_text(text, input_shape, outputs, dense, classes)
        # A zoo network for masks is asked for masks, whether its caller says so or not.
        dense = dense or any(info.dense for info in MODELS.values() if info.name == _leading_name(text))
    elif isinstance(model, nn.Module):
        network = model
    else:
        raise ModelError(
            "model", f"a {type(model).__name__}", "a name, a layer string or an nn.Module", "use mnist-cnn"
        )
    if input_shape is not None and outputs is not None:
        check_outputs(network, input_shape, outputs, dense, classes=classes)
    return network


def _from_text(
    text: str, input_shape: tuple[int, ...] | None, outputs: int | None, dense: bool, classes: tuple[str, ...]
) -> tuple[nn.Module, tuple[int, ...] | None, int | None]:
    """The network, with the shape and number of outputs that it was made for."""
    if names_file(text):
        return build_from_file(text, input_shape, outputs), input_shape, outputs
    name = _leading_name(text)
    if name in MODELS:
        info = MODELS[name]
        shape, count = input_shape or info.input_shape, outputs or info.outputs
        return _from_zoo(info, text, shape, count), shape, outputs
    if not text or text == "auto" or "/" in text or "\\" in text:
        raise _no_model(text)
    if name not in WORDS and name != "res" and _ONE_CALL.fullmatch(text):
        raise _unknown(text, name)
    if input_shape is None:
        remedy = "give it: input_shape=(1, 28, 28) in Python, --input 1x28x28 on the command line"
        raise ModelError("layer string", "no input shape", "the shape of one input", remedy)
    plan = plan_outputs(text, input_shape, outputs, dense, classes)
    # The plan has checked the output already, without a forward pass.
    return build_plan(plan), input_shape, None


def _from_zoo(info: ModelInfo, text: str, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    given = parse_call(text, info.parameters)
    defaults: dict[str, Value] = {p.name: p.default for p in info.parameters if not isinstance(p.default, type(...))}
    module, _, function = info.path.partition(":")
    make: Any = getattr(importlib.import_module(module), function)
    try:
        if given:
            _refuse_huge(make, info, input_shape, outputs, defaults | given)
        network: nn.Module = make(input_shape, outputs, **(defaults | given))
    except LayerStringError as error:
        # The layers are the zoo's, not the user's: no character to point at, but the remedy is a string that fits.
        where = f"{info.name} on inputs of {show_shape(input_shape)}"
        raise ModelError(where, error.got, error.expected, error.remedy) from None
    return network


def _refuse_huge(
    make: Any, info: ModelInfo, input_shape: tuple[int, ...], outputs: int, arguments: dict[str, Value]
) -> None:
    """ModelError before memory is taken for more parameters than any machine here would train."""
    with torch.device("meta"):
        count = sum(p.numel() for p in make(input_shape, outputs, **arguments).parameters())
    if count > MAX_PARAMETERS:
        got = f"{count} parameters with " + ", ".join(f"{k}={show_value(v)}" for k, v in arguments.items())
        raise ModelError(info.name, got, f"at most {MAX_PARAMETERS}", f"start from the defaults: {info.name}")


def _leading_name(text: str) -> str:
    found = _NAME.match(text)
    return found.group() if found else ""


def _no_model(text: str) -> ModelError:
    expected = "a zoo name, a layer string, or path/to/file.py:function"
    if text == "auto":
        return ModelError("model", "auto, without data to choose by", expected, "name one: mnist-cnn, small-resnet, …")
    if not text:
        return ModelError("model", "nothing", expected, "use mnist-cnn, or leave it out")
    return ModelError("model", f"the path {text[:80]}", expected, "add the function's name: path/to/file.py:build")


def _unknown(text: str, name: str) -> LayerStringError:
    """Neither zoo nor layer: the nearest of both is named."""
    zoo, word = nearest(name, MODELS), nearest(name, WORDS)
    arguments = text[len(name) :].strip()
    guesses = [f"the zoo model `{zoo}`"] if zoo else []
    guesses += [f"the layer `{word}`"] if word else []
    guess = f"; did you mean {' or '.join(guesses)}?" if guesses else ""
    close = zoo or (word + arguments if word else "mnist-cnn")
    expected = f"a zoo name ({', '.join(MODELS)}), layers ({' '.join(WORDS)}), or path/to/file.py:function"
    return LayerStringError(text, 0, f"no model or layer `{name[:60]}`{guess}", expected, f'write "{close}"')
