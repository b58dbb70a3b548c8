"""The initial weights of a network: random, from a file, or from the checkpoint that a run is resumed from.

A head that has learned numbers in the units of other data is rescaled to those of the new data. The first layer may be
whitened with statistics of the training images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.data.dataset import Dataset, Split
from striate.data.normalize import Normalization, Normalize
from striate.errors import ConfigError, ModelError, pasted
from striate.models.build import refuse_init
from striate.models.features import output_layer
from striate.models.from_file import names_file
from striate.models.from_run import names_run, read_network, with_origin
from striate.models.initialization.whiten import is_made_for_whitening, whiten
from striate.models.layer_strings.outputs import with_outputs
from striate.models.preserved_state import preserved
from striate.models.trained_modules import runs_of_module
from striate.models.weights.autoencoders import encoder_name, encoder_weights, unrolled
from striate.models.weights.named import about_license
from striate.models.weights.recognize import recognize
from striate.models.weights.saved import SavedNetwork, Weights
from striate.models.weights.take_weights import take_weights
from striate.models.weights.weights_file import read_weights, weights_digest
from striate.observe.module_calls import module_calls
from striate.records import Finding
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, read_learned
from striate.runs.files import user_path
from striate.tasks.task import Task
from striate.training.code_fields import refuse_changed_network
from striate.training.config import Config
from striate.wording import several

Tensors = dict[str, torch.Tensor]


def head_tensors(network: nn.Module) -> Tensors:
    """A copy of the tensors of the output layer, by name in the network; empty without an output layer."""
    head = output_layer(network)
    return {k: v.detach().clone() for k, v in network.state_dict().items() if k.rpartition(".")[0] == head}


def fit_head(network: nn.Module, weights: SavedNetwork, task: Task, sample: torch.Tensor, drawn: Tensors) -> str:
    """Fit the head, just loaded from `weights`, to `task`. Returns a note about it, "" where nothing was done.

    Numbers are learned as (t − mean) / std, so with other training targets the same output means another number. The
    head is rescaled by `in_units`. Where that is impossible, or the head has learned another task, it gets the tensors
    `drawn` before loading. `sample` is a normalized batch.
    """
    if weights.outputs != task.outputs or not weights.task:
        return ""  # the head is new already, or nobody knows what it has learned
    if weights.task != task.name:
        network.load_state_dict(network.state_dict() | drawn)
        return f"the last layer is new: the old one was trained for the task {weights.task}"
    now = _scale(task.state())
    if weights.target_scale == now:
        return ""
    if in_units(network, weights.target_scale, now, sample):
        return "the last layer is rescaled to the targets of these data: its predictions stay the same"
    network.load_state_dict(network.state_dict() | drawn)
    return "the last layer is new: the old one predicts other targets"


def in_units(network: nn.Module, before: Any, now: Any, sample: torch.Tensor) -> bool:
    """Rescale the output layer from targets of (means, stds) `before` to those of `now`, so that (W h + b) · std + mean
    stays the same for a linear layer that comes last. False, with nothing changed, where predictions would differ."""
    name = output_layer(network)
    layer = None if name is None else network.get_submodule(name)
    if not isinstance(layer, nn.Linear) or not _comes_last(network, layer, sample):
        return False
    own = dict(layer.named_parameters(recurse=False))  # a parametrized layer has others
    if "weight" not in own or ("bias" not in own and before[0] != now[0]) or len(own["weight"]) != len(now[0]):
        return False
    (mean, std), (new_mean, new_std) = (torch.tensor(scale, dtype=torch.float64) for scale in (before, now))
    with torch.no_grad():
        own["weight"].copy_(own["weight"].double() * (std / new_std)[:, None])
        if "bias" in own:
            own["bias"].copy_((own["bias"].double() * std + mean - new_mean) / new_std)
    return True


def _comes_last(network: nn.Module, layer: nn.Module, sample: torch.Tensor) -> bool:
    """Whether the output of `layer` is the output of the network."""
    seen: list[torch.Tensor] = []
    with (
        preserved(network),
        torch.no_grad(),
        module_calls({"": layer}, end=lambda call: seen.append(call.output.clone())),
    ):
        outputs = network(sample)
    return len(seen) == 1 and torch.equal(seen[0], outputs)


def _scale(state: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(state.get("mean", ())), tuple(state.get("std", ()))


@dataclass(frozen=True)
class InitialWeights:
    """The weights that a training begins with."""

    config: Config
    """The configuration with `model.name`, `weights` and `weights_digest` decided."""
    weights: Weights | None = None
    """The weights to load. None: random ones, those of a given module, or those of the checkpoint that is resumed."""
    normalization: Normalization | None = None
    """How inputs are standardized. None: measured on the training samples."""
    owner: str = ""
    """The run or file that named the network; empty where the configuration names it."""
    findings: tuple[Finding, ...] = ()
    """Held-out samples that the weights were trained on."""

    def apply(self, network: nn.Module, data: Dataset, task: Task, normalization: Normalization) -> list[str]:
        """Load the weights into the network, whose inputs will be standardized by `normalization`. Returns notes about
        what was loaded. Raises ModelError where the weights do not fit."""
        if self.weights is None:
            return []
        # `auto` means a module given in Python, whose name no remedy can use.
        name = "" if self.owner or self.config.model.name == "auto" else self.config.model.name
        weights, whole = self.weights, network
        if not (isinstance(weights, SavedNetwork) and weights.task == task.name):
            bare = task.bare(network)
            weights = weights if bare is network else replace(weights, tensors=_tensors_of(bare, weights.tensors))
            network = bare
        drawn, further = head_tensors(network), ""
        if isinstance(weights, SavedNetwork):
            part = unrolled(weights, network) or encoder_weights(weights, network)
            weights, further = part or (weights, "")
        try:
            notes = [take_weights(network, weights, task.outputs, data.classes, name=name)]
            notes += [further] if further else []
        except ModelError as error:
            if not isinstance(self.weights, SavedNetwork):
                found = recognize(self.weights, data.input_shape, task.outputs, task.needs == "map")
                error.remedy = f"--model {found}, which the file fits" if found else error.remedy
            raise
        if isinstance(self.weights, SavedNetwork) and network is whole and not further:
            raw = data.splits["train"].inputs[:2]
            fitted = fit_head(network, self.weights, task, normalization.on(raw.device, raw.ndim)(raw), drawn)
            notes += [fitted] if fitted else []
        if self.normalization is not None:
            notes.append(f"inputs are standardized as in the training of {self.weights.path}")
        license = about_license(self.weights.origin)
        return notes + ([license] if license else [])


def _tensors_of(network: nn.Module, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors without those of layers that this network does not have, such as an output layer."""
    own = [f".{key}" for key in network.state_dict()]
    return {key: value for key, value in tensors.items() if any(f".{key}".endswith(part) for part in own)}


def find_initial_weights(
    config: Config, data: Dataset, task: Task, module: nn.Module | None, checkpoint: Path | None
) -> InitialWeights:
    """Read the weights that `config.model` names: a file, or a run.

    `checkpoint`: the one that the run is resumed from. It has all weights, so the file may be gone. A run or checkpoint
    also names the network, if `config` does not. Raises ModelError, RunError; ConfigError where both the network and
    `model.weights` bring weights.
    """
    model = config.model
    if module is not None and config.recipe == "fine-tune":
        refuse_init(model.init, "a module with pretrained weights, according to the recipe fine-tune")
    name, path = model.name, model.pretrained
    if module is None and name != "auto" and names_run(name):
        if path is not None:
            remedy = f'--model "{read_network(name).name}", or leave out the weights: --model.weights null'
            raise ConfigError(
                "model.weights", f"{path} with {name}, which has its own weights", "either of them", remedy
            )
        name, path = "auto", name
    if path is None:
        runs = () if module is None else runs_of_module(module)
        return InitialWeights(config, findings=tuple(found for run in runs for found in _leak(str(run), data)))
    refuse_init(model.init, f"a network that starts from the weights of {path}")
    if checkpoint is not None:
        values = load_checkpoint(checkpoint).get("normalization", {})
        known = _normalization(values.get("mean", ()), values.get("std", ()), data)
        return InitialWeights(config, None, known, findings=_leak(path, data))
    weights = read_weights(path)
    digest = weights_digest(weights)
    if model.weights_digest not in (None, digest):
        raise ModelError(
            f"weights {path}",
            "a file that has changed since the run was started",
            f"the file with the SHA-256 {str(model.weights_digest)[:12]}…",
            "restore the old file, or train again with --model.weights_digest null",
        )
    named = module is None and name == "auto"
    if named:
        weights, name = _named(weights, data, task)
        if isinstance(weights, SavedNetwork) and names_file(name):
            remedy = f"use the file as it is now: --model {pasted(name)} --weights {pasted(path)}"
            refuse_changed_network(weights.file, name, remedy)
    found = weights.origin.name or str(user_path(path).absolute())
    decided = replace(model, weights=found, weights_digest=digest, weights_license=weights.origin.license or None)
    config = replace(config, model=replace(decided, name=name))
    owner = weights.path if named else ""
    return InitialWeights(config, weights, _standardization(weights, data), owner, _leak(path, data))


def _leak(path: str, data: Dataset) -> tuple[Finding, ...]:
    """A finding where held-out samples are among those that the weights were trained on. Samples that only chose the
    weights are harmless: they are used alike here."""
    place = user_path(path)
    learned = read_learned(RunDirectory(place if place.is_dir() else place.parent.parent))
    parts = ("val", "test")
    held = [content for name in parts for content in data.contents.get(name, ())]
    count = sum(content in learned for content in held)
    if not count:
        return ()
    return (
        Finding(
            "data.leak",
            "warning",
            f"{data.name}: {', '.join(parts)}",
            f"{count:,} of {several(len(held), 'sample')} were in the training split of {path}",
            "0 samples",
            "The weights were trained on these samples, so metrics here are better than on new data.",
            "Measure the network on other data: striate eval RUN DATA.",
        ),
    )


def _named(weights: Weights, data: Dataset, task: Task) -> tuple[Weights, str]:
    """The weights, and the name of their network with the outputs of the task."""
    if isinstance(weights, SavedNetwork):
        weights = with_origin(weights)
        if task.needs == "vector" and weights.task != task.name and task.built_outputs is not None:
            encoder = encoder_name(weights.name, task.built_outputs)
            if encoder is not None:
                return weights, encoder
        if task.needs == "pyramid" or task.built_outputs is None:  # the network is used without its output layer
            return weights, weights.name
        return weights, with_outputs(weights.name, data.input_shape, task.outputs, task.needs == "map")
    if weights.origin.network:
        return weights, weights.origin.network
    found = recognize(weights, data.input_shape, task.outputs, task.needs == "map")
    first = ", ".join(list(weights.tensors)[:3])
    raise ModelError(
        f"weights {weights.path}",
        f"tensors ({first}, …) without the name of their network",
        "the name of the network, too",
        f"--model {found}, which they fit" if found else "--model NAME, the network that was saved (striate models)",
    )


def _standardization(weights: Weights, data: Dataset) -> Normalization | None:
    """How inputs were standardized in the training of the weights, if the file says so for data of this kind."""
    if not isinstance(weights, SavedNetwork):
        return _normalization(weights.origin.mean, weights.origin.std, data) if data.medium.pictures else None
    if weights.kind != data.kind:
        return None
    return _normalization(weights.mean, weights.std, data)


def _normalization(mean: tuple[float, ...], std: tuple[float, ...], data: Dataset) -> Normalization | None:
    if len(mean) == 3 and data.input_shape[0] == 1 and data.medium.pictures:  # color weights for gray images
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    if len(mean) != data.input_shape[0]:
        return None
    return Normalization(tuple(mean), tuple(std))


PIXELS = 5_120_000
"""Pixels of the images that are read: 5,000 images of 32 × 32 give the covariance to a percent."""
_CHUNK = 250_000  # pixels at once, whose patches take a few megabytes


def whiten_first_layer(
    network: nn.Module, config: Config, train: Split, normalize: Normalize, *, has_weights: bool
) -> list[str]:
    """Whiten the first layer, in place, if `model.whiten` says so or, left open, the network is made for it. Returns
    notes. `has_weights`: the network begins with pretrained weights, which stay.

    It reads samples evenly spaced over `train`, the same in every run. Raises ConfigError where whitening is
    impossible.
    """
    requested = config.model.whiten
    if requested and has_weights:
        raise ConfigError(
            "model.whiten",
            "true for a network with pretrained weights",
            "random weights, which whitening replaces",
            "leave out --model.whiten",
        )
    if has_weights or not (is_made_for_whitening(network) if requested is None else requested):
        return []
    return [whiten(network, _evenly_spaced(train, normalize))]


def _evenly_spaced(train: Split, normalize: Normalize) -> Iterator[torch.Tensor]:
    """Standardized images, evenly spaced over the split, a few at a time."""
    pixels = 1
    for side in train.inputs.shape[2:]:
        pixels *= side
    count = min(len(train), max(100, PIXELS // pixels))
    places = torch.arange(count) * len(train) // count
    for chunk in places.split(max(1, _CHUNK // pixels)):
        yield normalize(train.inputs[chunk])
