"""Which network is trained: the requested one or one that fits the data, and whether its weights are pretrained."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from striate.data.dataset import Dataset
from striate.errors import InputMisfit, ModelError, TrainingError
from striate.models.build import build_model
from striate.models.check import refuse_scripted, refuse_without_numbers
from striate.models.from_file import refuse_changed_file, resolve_name, source_digest
from striate.models.initialization.reinitialize import materialize
from striate.models.layer_strings.layer_string import layers_of_pasted, parse_layers
from striate.models.layer_strings.shapes import plan_network
from striate.models.registry import size_note
from striate.models.trained_modules import runs_of_module
from striate.models.trusted_code import MODULE_GIVEN, refuse_untrusted
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.initial_weights import InitialWeights
from striate.training.recipes.speedrun import network_for
from striate.wording import listed, several


def choose_network(config: Config, data: Dataset, module: nn.Module | None) -> tuple[Config, list[str]]:
    """The configuration with the network's name decided, and the reason. Raises ModelError."""
    if module is not None:
        name = f"{MODULE_GIVEN}{type(module).__name__}"
        runs = runs_of_module(module)
        learned = listed(list(map(str, runs)), 3)
        trained = f"{name} starts from the weights that it learned in {learned}; to train from scratch"
        notes = [f"{trained}, give a class or function that builds it"] if runs else []
        return replace(config, model=replace(config.model, name=name, digest=None)), notes
    name, notes = resolve_name(config.model.name), []
    if name.startswith(MODULE_GIVEN):
        raise ModelError(
            "model.name",
            name,
            "that module, which cannot be built by a name",
            "in Python: striate.api.resume(path, module=your_module) continues a run,"
            " striate.train(model=your_module, config=path) trains again; or give --model NAME",
        )
    if name == "auto":
        name, reason = network_for(config, data)
        notes.append(f"model {name}: {reason}")
    if (layers := layers_of_pasted(name)) != name:
        plan_network(parse_layers(name), data.input_shape)  # refuses layers that are made for another input
        notes.append(f"model {layers}: the pasted modules as a layer string")
        name = layers
    sized = size_note(name, data.input_shape, weights=config.model.pretrained is not None)
    notes += [sized] if sized else []
    refuse_untrusted(name, f"model {name}", data.input_shape, len(data.classes))
    refuse_changed_file(name, config.model.digest, "train again with --model.digest null")
    return replace(config, model=replace(config.model, name=name, digest=source_digest(name))), notes


def has_pretrained_weights(config: Config, module: nn.Module | None) -> bool:
    """Whether the network begins with pretrained weights. For a module given in Python the user says so by the recipe
    fine-tune."""
    return config.model.pretrained is not None or (module is not None and config.recipe == "fine-tune")


def build_network(model: str | nn.Module, data: Dataset, task: Task, weights: InitialWeights) -> nn.Module:
    """The network for these data and this task, randomly initialized. Raises ModelError; TrainingError for a network
    without trainable parameters."""
    chosen = weights.config.model
    try:
        network: nn.Module = build_model(
            model,
            data.input_shape,
            task.built_outputs,
            dense=task.needs == "map",
            init=chosen.init,
            new_head=chosen.pretrained is not None,
            classes=data.classes if task.built_outputs == len(data.classes) else (),
        )
    except ModelError as error:
        if chosen.pretrained is not None and isinstance(error, InputMisfit) and error.fitting and data.medium.pictures:
            # The weights fit only this form of the network.
            error.remedy = f"enlarge the images with --size {'x'.join(map(str, error.fitting[1:]))}"
        if task.outputs_field and error.expected == several(task.built_outputs or 0, "output"):
            count = error.got.partition(" ")[0]
            error.remedy += f", or --{task.outputs_field} " + (
                count if count.isdigit() else "with the number of outputs that the network has"
            )
        if not weights.owner:
            raise
        # The text is the run's, not the user's: no character to point at.
        where, remedy = f"the network of {weights.owner}, {model}", error.remedy
        if type(error) is ModelError:  # a network for another kind of output, which the user cannot change
            remedy = "train another network from scratch: --model auto without --weights"
        raise ModelError(where, error.got, error.expected, remedy) from None
    refuse_scripted(network)
    refuse_without_numbers(network)
    if not any(p.requires_grad for p in network.parameters()):
        where = f"model {model if isinstance(model, str) else type(model).__name__}"
        frozen = next(network.parameters(), None) is not None
        remedy = "call requires_grad_(True) on the parameters to train" if frozen else "add a layer such as fc(10)"
        raise TrainingError(where, "no trainable parameter", "at least one trainable parameter", remedy)
    materialize(network, data.input_shape)
    return task.attach(network, data.input_shape)
