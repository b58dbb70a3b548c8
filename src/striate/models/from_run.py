"""A run directory or a checkpoint as a model: the network it names, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.errors import ModelError, RunError
from striate.models.from_file import names_file
from striate.models.registry import MODELS
from striate.models.shapes import Shape, show_shape
from striate.models.words import WORDS
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import open_run

MOST_SHOWN = 4


@dataclass(frozen=True)
class SavedNetwork:
    """What a checkpoint says of its network: `name` builds it, for `input_shape` without batch and `outputs`.

    `path` is what the user named, `file` the checkpoint behind it; `classes` is empty where the task has none.
    """

    path: str
    file: Path
    name: str
    input_shape: Shape
    outputs: int
    dense: bool
    classes: tuple[str, ...]
    tensors: dict[str, Any]


def names_run(text: str) -> bool:
    """Whether the text is the path of a run directory or of a checkpoint file.

    What is also the name of a zoo model or of a layer is that; the path is then written `./mnist-cnn`.
    """
    text = text.strip()
    bare = "/" not in text and "\\" not in text
    if not text or names_file(text) or (bare and text in (*MODELS, *WORDS)):
        return False
    try:
        path = Path(text).expanduser()
        return (path / "config.yaml").is_file() or (path.is_file() and (not bare or path.suffix == ".pt"))
    except (OSError, RuntimeError, ValueError):  # a layer string is longer than a path may be
        return False


def network_name(text: str) -> str:
    """The name behind a run or checkpoint, which builds its network without its weights; any other text as it is.

    A run of a network that began with the weights of another run stays loadable under this name when that one is
    gone. Raises ModelError where no name builds it, RunError where there is no checkpoint.
    """
    return read_network(text).name if names_run(text) else text


def read_network(text: str) -> SavedNetwork:
    """The network of a run (its best epoch, or the last where there is none) or of a checkpoint; executes nothing.

    Raises ModelError where no name builds it, RunError where there is no checkpoint or a damaged one.
    """
    file, content = _load(text)
    try:
        task, network = content["task"], content["network"]
        saved = SavedNetwork(
            path=text.strip(),
            file=file,
            name=_origin(network["name"], text, {file.resolve()}),
            input_shape=tuple(network["input_shape"]),
            outputs=len(task["classes"] if "classes" in task else task["target_names"]),
            dense=task["name"] == "segment",
            classes=tuple(content["classes"]),
            tensors=content.get("ema") or content["model"],
        )
    except (KeyError, TypeError) as error:
        raise RunError(str(file), f"a checkpoint without {error}", "one of this version", "train again") from None
    return saved


def load_weights(network: nn.Module, saved: SavedNetwork, outputs: int, classes: tuple[str, ...] = ()) -> str:
    """Give `network` the weights of `saved`, all but those of its last layer where `outputs` are others.

    Returns what was taken over, in one sentence. Raises ModelError, naming the tensors, where others do not fit.
    """
    own: dict[str, Any] = network.state_dict()
    names = [*own, *(name for name in saved.tensors if name not in own)]
    differing = [name for name in names if not _agree(own.get(name), saved.tensors.get(name))]
    if differing and not _is_head(network, own, saved, differing, outputs):
        raise _misfit(own, saved, differing, outputs)
    if len(differing) == len(own):
        got = f"only a last layer, for {saved.outputs} outputs instead of {outputs}: no weights to take over"
        raise ModelError(saved.path, got, "layers before the last one", f'use --model "{saved.name}"')
    if not any(t.is_meta for t in own.values() if isinstance(t, torch.Tensor)):
        taken = {name: saved.tensors[name] for name in own if name not in differing}
        network.load_state_dict(own | taken)
    return _news(saved, bool(differing), outputs, classes)


def _load(text: str) -> tuple[Path, dict[str, Any]]:
    path = Path(text.strip()).expanduser()
    if path.is_file():
        return path, load_checkpoint(path)
    run = open_run(path)
    file = next((file for file in (run.best, run.last) if file.is_file()), None)
    if file is None:
        remedy = f"striate train --resume {path}"
        raise RunError(str(path), "a run without a checkpoint yet", "a run with at least one epoch", remedy)
    return file, load_checkpoint(file)


def _origin(name: str | None, text: str, seen: set[Path]) -> str:
    """The first name, along runs that began with the weights of others, that is no run."""
    if name is None or not isinstance(name, str):
        got = "a run of an nn.Module that was made in Python"
        remedy = "striate.train(data, striate.load(path, module=your_module).module) in Python"
        raise ModelError(text, got, "a run whose network has a name that builds it", remedy)
    if not names_run(name):
        return name
    file, content = _load(name)
    if file.resolve() in seen:
        got = f"a run that began with the weights of {name}, which began with its own"
        raise ModelError(text, got, "a run whose network has a name that builds it", "name the network: mnist-cnn, …")
    return _origin(content.get("network", {}).get("name"), text, seen | {file.resolve()})


def _agree(own: Any, saved: Any) -> bool:
    if not isinstance(own, torch.Tensor) or not isinstance(saved, torch.Tensor):
        return (own is None) == (saved is None)
    return nn.parameter.is_lazy(own) or own.shape == saved.shape


def _is_head(network: nn.Module, own: dict[str, Any], saved: SavedNetwork, differing: list[str], outputs: int) -> bool:
    """Whether what differs is the last layer with weights, and there only in the number of outputs."""
    owners = {name.rpartition(".")[0] for name in differing}
    weighted = [name.rpartition(".")[0] for name, p in network.named_parameters() if p.ndim > 1]
    if outputs == saved.outputs or len(owners) != 1 or owners != set(weighted[-1:]):
        return False
    for name in differing:
        if name not in own or name not in saved.tensors or own[name].ndim != saved.tensors[name].ndim:
            return False
        pairs = zip(own[name].shape, saved.tensors[name].shape, strict=True)
        changed = [(new, old) for new, old in pairs if new != old]
        if len(changed) != 1 or changed[0][0] * saved.outputs != changed[0][1] * outputs:
            return False
    return True


def _misfit(own: dict[str, Any], saved: SavedNetwork, differing: list[str], outputs: int) -> ModelError:
    shown = [
        f"{name} is {_shape(saved.tensors.get(name))} there and {_shape(own.get(name))} here"
        for name in differing[:MOST_SHOWN]
    ]
    more = [f"{len(differing) - MOST_SHOWN} more"] if len(differing) > MOST_SHOWN else []
    made = f"the tensors of the run, which is of {saved.name} on inputs of {show_shape(saved.input_shape)}"
    but = (
        f", but for its last layer ({saved.outputs} outputs there, {outputs} here)" if outputs != saved.outputs else ""
    )
    remedy = f'begin with fresh weights: --model "{saved.name}"'
    if len(saved.input_shape) == 3:
        size = "x".join(map(str, saved.input_shape[1:]))
        remedy = f"give inputs as there (--size {size}), or {remedy}"
    return ModelError(saved.path, "; ".join([*shown, *more]), made + but, remedy)


def _shape(tensor: Any) -> str:
    if tensor is None:
        return "absent"
    if not isinstance(tensor, torch.Tensor):
        return f"a {type(tensor).__name__}"
    return show_shape(tuple(tensor.shape)) or "one number"


def _news(saved: SavedNetwork, fresh: bool, outputs: int, classes: tuple[str, ...]) -> str:
    where = saved.path if Path(saved.path).suffix == ".pt" else f"{saved.path} (checkpoints/{saved.file.name})"
    if fresh:
        what = "classes" if classes and saved.classes else "outputs"
        return f"weights of {where}; the last layer is new: {outputs} {what} instead of {saved.outputs}"
    if classes and saved.classes and classes != saved.classes:
        listed = ", ".join(saved.classes[:MOST_SHOWN]) + (", …" if len(saved.classes) > MOST_SHOWN else "")
        return f"weights of {where}, also of the last layer, which was trained for other classes: {listed}"
    return f"weights of {where}, of every layer"
