"""A run directory or a checkpoint as a model: the network it names, with its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from striate.errors import ModelError, RunError, pasted
from striate.models.from_file import names_file
from striate.models.layer_strings.words import WORDS
from striate.models.registry import MODELS
from striate.models.saved_content import check_content
from striate.models.unknown_model import nameless_weights
from striate.models.weights.saved import SavedNetwork
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import open_run
from striate.runs.user_path import user_path


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


def read_network(text: str) -> SavedNetwork:
    """The network of a run (its best epoch, or the last where there is none) or of a checkpoint; executes nothing.

    Raises ModelError where no name builds it or it is a file of bare weights, RunError where there is no checkpoint or
    a damaged one.
    """
    try:
        file, content = load_run(text)
    except RunError as error:
        raise nameless_weights(text) or error from None
    return with_origin(network_of(text, file, content))


def network_of(text: str, file: Path, content: dict[str, Any]) -> SavedNetwork:
    """The network of a checkpoint that has been read from `file`, which the user named as `text`; its name as it is
    there, "" where there is none. Raises RunError where something is missing."""
    check_content(content, str(file))
    try:
        task, network, standardized = content["task"], content["network"], content.get("normalization", {})
        return SavedNetwork(
            path=text.strip(),
            file=file,
            tensors=content.get("ema") or content["model"],
            name=network["name"] or "",
            input_shape=tuple(network["input_shape"]),
            outputs=len(task["classes"] if "classes" in task else task["target_names"]),
            # Checkpoints of earlier versions do not say: those of masks had classes and no choice of losses.
            dense=bool(network.get("dense", "classes" in task and "loss_name" not in task)),
            classes=tuple(content["classes"]),
            kind=content.get("preparation", {}).get("kind", ""),
            mean=tuple(standardized.get("mean", ())),
            std=tuple(standardized.get("std", ())),
            task=task["name"],
            target_scale=(tuple(task.get("mean", ())), tuple(task.get("std", ()))),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(str(file), f"a checkpoint without {error}", "one of this version", "train again") from None


def with_origin(saved: SavedNetwork) -> SavedNetwork:
    """The same with a name that builds it, also when it began with the weights of another run: that one's.

    Raises ModelError where there is none."""
    return replace(saved, name=_origin(saved.name, saved.path, {saved.file.resolve()}))


def load_run(text: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that a path stands for, and its content. Raises RunError."""
    path = user_path(text)
    if path.is_file():
        return path, load_checkpoint(path)
    run = open_run(path)
    file = next((file for file in (run.best, run.last) if file.is_file()), None)
    if file is None:
        remedy = f"striate train --resume {pasted(path)}"
        raise RunError(str(path), "a run without a checkpoint yet", "a run with at least one epoch", remedy)
    return file, load_checkpoint(file)


def _origin(name: str | None, text: str, seen: set[Path]) -> str:
    """The first name, along runs that began with the weights of others, that is no run."""
    if not name or not isinstance(name, str):
        got = "a run of an nn.Module that was made in Python"
        remedy = "striate.train(data, striate.load(path, module=your_module).module) in Python"
        raise ModelError(text, got, "a run whose network has a name that builds it", remedy)
    if not names_run(name):
        return name
    file, content = load_run(name)
    if file.resolve() in seen:
        got = f"a run that began with the weights of {name}, which began with its own"
        raise ModelError(text, got, "a run whose network has a name that builds it", "name the network: mnist-cnn, …")
    return _origin(content.get("network", {}).get("name"), text, seen | {file.resolve()})
