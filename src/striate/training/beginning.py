"""What a network begins with: drawn weights, those of a file, or those of the checkpoint that a run goes on from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from striate.data.dataset import Dataset
from striate.data.normalize import Normalization
from striate.errors import ConfigError, ModelError
from striate.models.build import refuse_init
from striate.models.from_run import names_run, read_network, with_origin
from striate.models.layer_strings.outputs import with_outputs
from striate.models.weights.recognize import recognize
from striate.models.weights.saved import SavedNetwork, Weights
from striate.models.weights.take_weights import take_weights
from striate.models.weights.weights_file import read_weights, weights_digest
from striate.records import Finding
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, read_seen
from striate.runs.user_path import user_path
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.target_units import fit_head, head_tensors


@dataclass(frozen=True)
class Beginning:
    """`config` with `model.name`, `weights` and `weights_digest` decided; `weights` to give the network, if any;
    `normalization` that comes with them, if any; `owner` where the file named the network; `findings` where it has
    learned from what it will be measured on."""

    config: Config
    weights: Weights | None = None
    normalization: Normalization | None = None
    owner: str = ""
    findings: tuple[Finding, ...] = ()

    def apply(self, network: nn.Module, data: Dataset, task: Task, normalization: Normalization) -> list[str]:
        """Give the network, whose inputs will be standardized by `normalization`, the weights; notes on what was taken
        over. Raises ModelError where they do not fit."""
        if self.weights is None:
            return []
        # `auto` is left only of a module given in Python: no name that a remedy could speak of.
        name = "" if self.owner or self.config.model.name == "auto" else self.config.model.name
        drawn = head_tensors(network)
        try:
            notes = [take_weights(network, self.weights, task.outputs, data.classes, name=name)]
        except ModelError as error:
            if not isinstance(self.weights, SavedNetwork):
                found = recognize(self.weights, data.input_shape, task.outputs, task.needs == "map")
                error.remedy = f"--model {found}, which the file fits" if found else error.remedy
            raise
        if isinstance(self.weights, SavedNetwork):
            raw = data.splits["train"].inputs[:2]
            fitted = fit_head(network, self.weights, task, normalization.on(raw.device, raw.ndim)(raw), drawn)
            notes += [fitted] if fitted else []
        if self.normalization is not None:
            notes.append(f"inputs are standardized as in the training of {self.weights.path}")
        return notes


def find_beginning(
    config: Config, data: Dataset, task: Task, module: nn.Module | None, begun: Path | None
) -> Beginning:
    """Read the weights that `config.model` names: a file, or a run as the network.

    `begun` is the checkpoint of a run that goes on: it has everything, and the file may be gone. A run or checkpoint
    names its network, where none is named. Raises ModelError, RunError; ConfigError where two things bring weights.
    """
    model = config.model
    if module is not None and config.recipe == "fine-tune":
        refuse_init(model.init, "a module that comes with its weights, as the recipe fine-tune says")
    name, path = model.name, model.weights
    if module is None and name != "auto" and names_run(name):
        if path is not None:
            remedy = f'--model "{read_network(name).name}", or leave out the weights: --model.weights null'
            raise ConfigError("model.weights", f"{path} beside {name}, which brings its own", "one of them", remedy)
        name, path = "auto", name
    if path is None:
        return Beginning(config)
    refuse_init(model.init, f"a network that begins with the weights of {path}")
    if begun is not None:
        values = load_checkpoint(begun).get("normalization", {})
        known = _normalization(values.get("mean", ()), values.get("std", ()), data)
        return Beginning(config, None, known, findings=_leak(path, data))
    weights = read_weights(path)
    digest = weights_digest(weights)
    if model.weights_digest not in (None, digest):
        raise ModelError(
            f"weights {path}",
            "a file that has changed since the run was started",
            f"the file with the SHA-256 {str(model.weights_digest)[:12]}…",
            "put the old file back, or train anew with --model.weights_digest null",
        )
    named = module is None and name == "auto"
    if named:
        weights, name = _named(weights, data, task)
    file = str(user_path(path).absolute())
    config = replace(config, model=replace(model, name=name, weights=file, weights_digest=digest))
    owner = weights.path if named else ""
    return Beginning(config, weights, _standardization(weights, data), owner, _leak(path, data))


def _leak(path: str, data: Dataset) -> tuple[Finding, ...]:
    """A finding where the run that the weights are of was trained or chosen on samples that are held out here."""
    place = user_path(path)
    seen = read_seen(RunDirectory(place if place.is_dir() else place.parent.parent))
    held = [content for name in ("val", "test") for content in data.contents.get(name, ())]
    count = sum(content in seen for content in held)
    if not count:
        return ()
    return (
        Finding(
            "data.leak",
            "warning",
            f"{data.name}: val, test",
            f"{count:,} of {len(held):,} samples were seen in the training of {path}",
            "0 samples",
            "The weights have learned from them: the network measures better here than on new data.",
            "Measure it on other data: striate eval RUN DATA.",
        ),
    )


def _named(weights: Weights, data: Dataset, task: Task) -> tuple[Weights, str]:
    """The weights and the network that they are of, for the outputs of the task."""
    if isinstance(weights, SavedNetwork):
        weights = with_origin(weights)
        return weights, with_outputs(weights.name, data.input_shape, task.outputs)
    found = recognize(weights, data.input_shape, task.outputs, task.needs == "map")
    first = ", ".join(list(weights.tensors)[:3])
    raise ModelError(
        f"weights {weights.path}",
        f"tensors ({first}, …), and no network that they are of",
        "the name of the network beside them",
        f"--model {found}, which they fit" if found else "--model NAME, the network that was saved (striate models)",
    )


def _standardization(weights: Weights, data: Dataset) -> Normalization | None:
    """How inputs were standardized when the weights were learned, where the file says it of data of this kind."""
    if not isinstance(weights, SavedNetwork) or weights.kind != data.kind:
        return None
    return _normalization(weights.mean, weights.std, data)


def _normalization(mean: tuple[float, ...], std: tuple[float, ...], data: Dataset) -> Normalization | None:
    if len(mean) == 3 and data.input_shape[0] == 1 and data.medium.pictures:  # color weights for gray images
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    if len(mean) != data.input_shape[0]:
        return None
    return Normalization(tuple(mean), tuple(std))
