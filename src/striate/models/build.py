"""Build the network that the user names: zoo name, layer string, `file.py:function`, run, or an `nn.Module`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from striate.errors import ConfigError, InputMisfit, ModelError, NoInputShape
from striate.models.check import check_outputs, gives_vector
from striate.models.config import Initialization
from striate.models.decoder import with_decoder
from striate.models.from_file import build_from_file, call_factory, names_file
from striate.models.from_run import names_run, read_network
from striate.models.from_spec import build_plan, most_parameters
from striate.models.from_timm import build_from_timm, names_timm, published_shape
from striate.models.from_zoo import build_from_zoo
from striate.models.initialization.reinitialize import reinitialize
from striate.models.input_shape import read_input_shape
from striate.models.layer_strings.layer_string import refuse_long
from striate.models.layer_strings.outputs import plan_outputs, with_outputs
from striate.models.layer_strings.shapes import MAX_PARAMETERS
from striate.models.layer_strings.torch_modules import torch_name, torch_spelling
from striate.models.layer_strings.words import WORDS, synonym
from striate.models.registry import MODELS
from striate.models.trusted_code import (
    MODULE_GIVEN,
    give_as,
    is_given,
    name_of,
    refuse_untrusted,
    trust_named,
    trusted_code,
)
from striate.models.unknown_model import means_path, no_network_named, no_network_there, unknown_name
from striate.models.weights.replace_head import replace_head
from striate.models.weights.take_weights import take_weights
from striate.wording import type_of

Model = str | Path | nn.Module | Callable[..., nn.Module]
"""A zoo name, a layer string, `file.py:function`, a run; a module; a class or function that makes one."""

_NAME = re.compile(r"[A-Za-z_][\w.-]*+")
_ONE_CALL = re.compile(r"[A-Za-z_][\w.-]*+\s*+(\([^()]*+\)?+)?+\s*+")


def named_model(model: Model) -> tuple[str | None, nn.Module | None]:
    """The name of `model` in a configuration, None for `auto`; and the module, if `model` is one. A class or function
    is not called here but when the network is built, as input shape and seed are known only then. Raises ModelError for
    any other object."""
    if isinstance(model, nn.Module):
        return None, model
    if isinstance(model, str | Path):
        return None if model == "auto" else str(model), None
    if not callable(model):
        raise _no_model(model)
    return name_of(model), None


def module_of_run(saved: str | None, module: object) -> nn.Module | None:
    """The `module` argument of a call, for a run whose network has the name `saved`; None where that name builds the
    network, which may be a class or function given now. Raises ModelError where the run needs another module."""
    if module is None or isinstance(module, nn.Module):
        return module
    if not callable(module) or saved is None or not is_given(saved) or saved.startswith(MODULE_GIVEN):
        got = f"{type_of(module)} for a run of {saved or 'an nn.Module'}"
        raise ModelError("module", got, "an nn.Module of the class that was trained", "module=MyNetwork()")
    give_as(saved, module)
    return None


def _no_model(model: object) -> ModelError:
    inner, path = getattr(model, "module", None), getattr(model, "path", None)
    remedy = 'model="mnist-cnn", or another name; with model="auto" a training chooses by its data'
    if isinstance(model, list | tuple) and model and all(isinstance(layer, nn.Module) for layer in model):
        remedy = "give nn.Sequential(*layers)"
    elif isinstance(inner, nn.Module):  # a trained network
        remedy = "give its module: trained.module"
    elif isinstance(path, Path):  # a run
        remedy = f'give its folder: "{path}"'
    expected = "a name, a layer string, an nn.Module, or a class or function that makes one"
    return ModelError("model", type_of(model), expected, remedy)


def build_model(
    model: Model,
    input_shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
    *,
    dense: bool | None = None,
    init: Initialization = "auto",
    new_head: bool = False,
    classes: tuple[str, ...] = (),
    announce: Callable[[str], None] | None = None,
) -> nn.Module:
    """The network that `model` names, with weights drawn from torch's random state, or those of a run.

    - `model`: a zoo name (`mnist-cnn`, `mlp(128,64)`), a timm name (`timm/convnext_atto`), a layer string, a run
      directory or checkpoint, `path/to/file.py:function`, which RUNS that code; a module, which is returned unchanged;
      or a class or function that makes one, called like the function of a file.
    - `input_shape`: (C, *spatial) or (F,), without the batch; None takes the zoo's published one, or the run's.
    - `outputs`: the number of logits, or of channels at the input's size if `dense`; None takes the published number,
      the run's, or that of the network as it is. A run with another number gets a newly initialized output layer.
    - `dense`: None takes what a zoo network or run is made for, and False for all others.
    - `init`: the initialization of all layers (see `reinitialize`); `auto` chooses by each layer's activation in layer
      strings and zoo networks, and leaves other networks as they are.
    - `new_head`: give a network of `file.py:function` a new output layer if its number of outputs differs.
    - `classes`: names of the classes, for error messages.
    - `announce`: called with one sentence about the loaded weights, if any.

    Works under `torch.device("meta")` too.

    Raises ModelError (LayerStringError if it can point at a character) if there is no such model, it does not fit the
    input, its output differs from the requested one, or a run's weights do not fit; RunError for a run without a
    checkpoint or with a damaged one; ConfigError for an `init` other than `auto` of a run, or of a network without
    layers to apply it to.
    """
    if input_shape is not None:
        input_shape = read_input_shape(input_shape)
    if outputs is not None:
        outputs = _read_number(outputs)
    name, module = named_model(model)
    name = "auto" if name is None else name
    if module is None and names_run(name):
        refuse_init(init, f"a network that starts from the weights of {name.strip()}")
    if module is None:
        refuse_long(name)  # with the blanks at its ends
        trust_named(name)  # callers that read the name from a file call `refuse_untrusted` first
        request = _Request(name.strip(), input_shape, outputs, dense, new_head, classes, announce or (lambda _: None))
        network, request = _from_text(request)
    else:
        request = _Request("", input_shape, outputs, dense, False, classes, lambda _: None)
        network = _for_maps(module, request)
    if request.input_shape is not None and request.outputs is not None:
        check_outputs(network, request.input_shape, request.outputs, bool(request.dense), classes=classes)
    reinitialize(network, init)
    return network


def _read_number(outputs: object) -> int:
    """The number of outputs; ModelError for anything but a whole number in the allowed range."""
    try:
        number = 0 if isinstance(outputs, bool) else operator.index(outputs)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_PARAMETERS:
        expected = f"a whole number, at least 1 and at most {MAX_PARAMETERS:,}"
        raise ModelError("number of outputs", repr(outputs)[:80], expected, "give the number of classes of the data")
    return number


def refuse_init(init: Initialization, beside: str) -> None:
    """ConfigError where an initialization is requested that pretrained weights would replace."""
    if init != "auto":
        raise ConfigError(
            "model.init", f"{init} for {beside}", "an initialization, or pretrained weights", "--model.init auto"
        )


@dataclass(frozen=True)
class _Request:
    """The arguments of `build_model`; those left open are filled in later."""

    text: str
    input_shape: tuple[int, ...] | None
    outputs: int | None
    dense: bool | None
    new_head: bool
    classes: tuple[str, ...]
    announce: Callable[[str], None]


def _from_text(request: _Request) -> tuple[nn.Module, _Request]:
    """The network, and the request against which its output must still be checked."""
    text, kind = request.text, _kind(request.text)
    if kind == "run":
        return _from_run(request)
    if kind in ("file", "given"):
        return _from_code(request), request
    if kind == "timm":
        request = replace(request, input_shape=request.input_shape or published_shape(text))
        assert request.input_shape is not None
        network = build_from_timm(text, request.input_shape, request.outputs or 1000)
        return _for_maps(network, request), request
    if kind == "zoo":
        info = MODELS[_leading_name(text)]
        shape, dense = request.input_shape or info.input_shape, _first(request.dense, info.dense)
        network = build_from_zoo(info, text, shape, request.outputs or info.outputs)
        if dense and not info.dense:
            network = with_decoder(network, shape, request.outputs or info.outputs)
        return network, replace(request, input_shape=shape, dense=dense)
    if request.input_shape is None:
        remedy = "give it: input_shape=(1, 28, 28) in Python, --input 1x28x28 on the command line"
        raise NoInputShape("layer string", "no input shape", "the shape of one input", remedy)
    asked = request.input_shape, request.outputs, bool(request.dense), request.classes
    plan = plan_outputs(text, *asked, most_parameters())
    # The plan has checked the output already, without a forward pass.
    return build_plan(plan), replace(request, outputs=None)


def _first(asked: bool | None, otherwise: bool) -> bool:
    return otherwise if asked is None else asked


def _kind(text: str) -> Literal["given", "file", "run", "timm", "zoo", "layers"]:
    """The kind of model that the text names; ModelError if it names none."""
    if is_given(text):
        return "given"
    if names_file(text):
        return "file"
    if names_run(text):
        return "run"
    if names_timm(text):
        return "timm"
    if not text or text == "auto":
        raise no_network_named(text)
    name = _leading_name(text)
    known = name in MODELS or name in WORDS or name == "res" or bool(torch_name(name) or torch_spelling(name))
    if means_path(text, known=known):
        raise no_network_there(text)
    if name in MODELS:
        return "zoo"
    if not known and not synonym(name) and _ONE_CALL.fullmatch(text):
        raise unknown_name(text, name)
    return "layers"


def _from_code(request: _Request) -> nn.Module:
    """The network of a function, with a new output layer where that is requested and needed."""
    network: nn.Module
    if is_given(request.text):
        factory: Any = trusted_code(request.text, "a network", "module")
        network = call_factory(factory, request.text, request.input_shape, request.outputs)
    else:
        network = build_from_file(request.text, request.input_shape, request.outputs)
    network = _for_maps(network, request)
    if not request.new_head or request.input_shape is None or request.outputs is None:
        return network
    arguments = request.input_shape, request.outputs, bool(request.dense)
    try:
        check_outputs(network, *arguments, classes=request.classes)
    except ModelError as error:
        try:
            network = replace_head(network, request.outputs)
            check_outputs(network, *arguments)
        except ModelError:
            raise error from None  # a new output layer would not help
    return network


def _for_maps(network: nn.Module, request: _Request) -> nn.Module:
    """The network, with a decoder if it outputs a vector and an output for each position is requested."""
    if not request.dense or request.input_shape is None or request.outputs is None or len(request.input_shape) != 3:
        return network
    return (
        with_decoder(network, request.input_shape, request.outputs)
        if gives_vector(network, request.input_shape)
        else network
    )


def _from_run(request: _Request) -> tuple[nn.Module, _Request]:
    """The network that a checkpoint names, for the requested outputs, with its weights."""
    saved = read_network(request.text)
    refuse_untrusted(saved.name, request.text, saved.input_shape, saved.outputs)
    shape, count = request.input_shape or saved.input_shape, request.outputs or saved.outputs
    name, dense = saved.name, _first(request.dense, saved.dense)
    try:
        images = count == saved.outputs == math.prod(shape)  # an autoencoder, whose output is not a vector
        if _kind(name) == "layers" and not images:
            name = with_outputs(name, shape, count, dense)
        asked = None if images else count
        inner = replace(request, text=name, input_shape=shape, outputs=asked, dense=dense, new_head=True)
        network, _ = _from_text(inner)
    except ModelError as error:
        # The layer string comes from the run, so the error cannot point at a character of the user's text.
        where = f"the network of {request.text}, {saved.name}"
        raise InputMisfit(where, error.got, error.expected, error.remedy, fitting=saved.input_shape) from None
    request.announce(take_weights(network, saved, count, request.classes))
    return network, replace(request, input_shape=shape, outputs=asked, dense=dense)


def _leading_name(text: str) -> str:
    found = _NAME.match(text)
    return found.group() if found else ""
