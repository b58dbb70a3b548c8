"""The ledger of a network, and its parameters and MACs alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch
from torch import nn

from striate.account.field.effective import EffectiveField, measure_field
from striate.account.ledger import Ledger
from striate.account.observing.make_ledger import make_ledger
from striate.account.observing.observation import observe_network
from striate.account.observing.shapes_only import shapes_only
from striate.account.remarks.parts import teacher_remarks
from striate.account.several_inputs import FirstInputNetwork, Inputs, check_names, several
from striate.errors import NoInputShape
from striate.models.build import Model, build_model, named_model
from striate.models.from_file import names_file
from striate.models.from_run import names_run, read_network
from striate.models.input_shape import read_input_shape
from striate.models.layer_strings.layer_string import layers_of_pasted
from striate.models.preserved_state import same_random_state
from striate.models.registry import MODELS
from striate.models.trusted_code import is_given

Shape = tuple[int, ...]


def summarize_and_measure(
    model: Model, input_shape: Inputs | None = None, *, outputs: int | None = None, effective: bool = True
) -> tuple[Ledger, EffectiveField | None]:
    """The ledger, as `striate.summarize` describes it, and the effective receptive field itself, whose size is in the
    ledger.

    The network of a run is built by its name: it has its weights, but not what a task has attached to it.
    """
    name, module = named_model(model)
    with same_random_state(), torch.inference_mode(False):
        inputs = several(input_shape)
        shape = None if input_shape is None else read_input_shape(input_shape) if inputs is None else inputs.shape
        if inputs is not None or (name is not None and (names_file(name) or is_given(name))):
            # A user's code runs only once: it may print, wait, or download something.
            shape = _input_shape(model, shape)
            torch.default_generator.manual_seed(0)
            module, outputs = build_model(model, None if inputs else shape, outputs), None
        if inputs is not None and module is not None:
            check_names(module, inputs)
            module, name = FirstInputNetwork(module, inputs), None
        network = module if module is not None else "auto" if name is None else name
        ledger = observe(network, shape, outputs=outputs)
        field = measure_field(network, ledger.input, outputs) if effective else None
    if isinstance(network, FirstInputNetwork):
        ledger = network.ledger_of_network(ledger)
    if name is not None:
        ledger = replace(ledger, model=layers_of_pasted(name))
    if field is not None:
        ledger = replace(ledger, effective_receptive_field=field.size)
    return replace(ledger, remarks=teacher_remarks(ledger)), field


def observe(model: str | nn.Module, input_shape: Shape | None = None, *, outputs: int | None = None) -> Ledger:
    """The ledger alone, without remarks. The code of a file must run on the meta device here."""
    shape = _input_shape(model, input_shape)
    if not isinstance(model, str):
        network = build_model(model, shape, outputs)
        return make_ledger(type(network).__name__, observe_network(network, shape), shape)
    with torch.device("meta"), shapes_only():
        network = build_model(model, shape, outputs)
    return make_ledger(model, observe_network(network, shape, lambda: build_model(model, shape, outputs)), shape)


def _input_shape(model: object, given: Shape | None) -> Shape:
    if given is not None:
        return read_input_shape(given)
    if isinstance(model, str):
        name = model.partition("(")[0].strip()
        if names_run(model):
            return tuple(read_network(model).input_shape)
        if name in MODELS:
            return MODELS[name].input_shape
        # For an unknown name, the missing shape is not the error: building reports the name.
        with torch.device("meta"), suppress(NoInputShape):
            build_model(model)
    where = f"model {model if isinstance(model, str) else type(model).__name__}"[:120]
    remedy = "give it: input_shape=(1, 28, 28) in Python, --input 1x28x28 on the command line"
    raise NoInputShape(where, "no input shape", "the shape of one input", remedy)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters; shared ones count once."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply–accumulates of convolutions and matrix products for one sample in eval mode, biases excluded.

    The same number as `summarize` gives. Raises ModelError where the network does not take the input.
    """
    return observe_network(module, input_shape, memory=False).macs
