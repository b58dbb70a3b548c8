"""A run directory, a checkpoint or an exported folder as a model: its network with its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from striate.errors import ModelError, RunError
from striate.models.from_file import names_file
from striate.models.layer_strings.words import WORDS
from striate.models.registry import MODELS
from striate.models.weights.recognize import nameless_weights
from striate.models.weights.saved import SavedNetwork, load_run, network_of
from striate.models.weights.weights_file import holds_network, read_weights
from striate.runs.files import user_path
from striate.runs.plain_files import is_there


def names_run(text: str) -> bool:
    """Whether the text is the path of a run directory, of a checkpoint file or of a folder for a model hub.

    A text that is also the name of a zoo model or of a layer means the model; the path is then written `./mnist-cnn`.
    """
    text = text.strip()
    bare = "/" not in text and "\\" not in text
    if not text or names_file(text) or (bare and text in (*MODELS, *WORDS)):
        return False
    try:
        path = Path(text).expanduser()
        return (
            is_there(path / "config.yaml")
            or holds_network(path)
            or (path.is_file() and (not bare or path.suffix == ".pt"))
        )
    except (OSError, RuntimeError, ValueError):  # a layer string may be too long for a path
        return False


def run_first(text: str, announce: Callable[[str], None]) -> str:
    """The path of the run in a folder of the working directory that has the name of a network or a layer, after a call
    of `announce` that says so; any other text unchanged.

    For commands that inspect a network. Commands that build a network by its name must not depend on the working
    directory.
    """
    name = text.strip()
    if name not in (*MODELS, *WORDS) or not is_there(Path(name) / "config.yaml"):
        return text
    announce(f"{name} is the run in the folder ./{name}; the untrained network is {name}()")
    return f"./{name}"


def read_network(text: str) -> SavedNetwork:
    """The network of a run (of its best epoch, or the last where no best is known) or of a checkpoint; executes
    nothing.

    Raises ModelError where the network cannot be built by a name or the file has weights only; RunError where the
    checkpoint is missing or damaged."""
    try:
        if holds_network(user_path(text)) and isinstance(saved := read_weights(text), SavedNetwork):
            return with_origin(saved)
        file, content = load_run(text)
    except RunError as error:
        raise nameless_weights(text) or error from None
    return with_origin(network_of(text, file, content))


def with_origin(saved: SavedNetwork) -> SavedNetwork:
    """The saved network with a name that builds it: for a run that started from the weights of another run, the name of
    that run's network.

    Raises ModelError where there is no such name."""
    return replace(saved, name=_origin(saved.name, saved.path, {saved.file.resolve()}))


def _origin(name: str | None, text: str, seen: set[Path]) -> str:
    """The first name that is not a run, along the runs that started from each other's weights."""
    if not name or not isinstance(name, str):
        got = "a run of an nn.Module that was made in Python"
        remedy = "striate.train(data, striate.load(path, module=your_module).module) in Python"
        raise ModelError(text, got, "a run whose network can be built by its name", remedy)
    if not names_run(name):
        return name
    file, content = load_run(name)
    if file.resolve() in seen:
        got = f"a run that started from the weights of {name}, which started from this run"
        raise ModelError(text, got, "a run whose network can be built by its name", "name the network: mnist-cnn, …")
    return _origin(content.get("network", {}).get("name"), text, seen | {file.resolve()})
