"""The errors for a text that names no network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from striate.errors import LayerStringError, ModelError, RunError
from striate.models.layer_strings.arguments import nearest, nearest_few
from striate.models.layer_strings.words import WORDS
from striate.models.registry import MODELS
from striate.models.weights.recognize import nameless_weights
from striate.records import Remedy
from striate.runs.directory import without_weights

EXPECTED = "a name of `striate models`, a layer string, path/to/file.py:function, a run directory or a checkpoint"
LIST_OF_MODELS = ("models",)
_HOW = "check the path; for a Python file, add the function: path/to/file.py:build"
_WEIGHTS = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")


def means_path(text: str, *, known: bool) -> bool:
    """Whether the text can only be a path: by its form, or because the path exists and the text does not begin with a
    `known` name."""
    if "/" in text or "\\" in text:
        return True
    return not known and (text.endswith(_WEIGHTS) or _what_is_there(text) is not None)


def no_network_named(text: str) -> ModelError:
    """The error for an empty text, and for `auto` without data."""
    if text == "auto":
        return ModelError(
            "model", "auto without data, by which it chooses", EXPECTED, "name one: mnist-cnn, small-resnet, …"
        )
    return ModelError("model", "nothing", EXPECTED, "use mnist-cnn, or leave out the option")


def no_network_there(text: str) -> ModelError | RunError:
    """The error for a path without a run or checkpoint."""
    there = _what_is_there(text)
    if there == "file":
        return nameless_weights(text) or ModelError("model", f"{text[:80]}, a file without a network", EXPECTED, _HOW)
    if there == "folder" and (error := without_weights(Path(text).expanduser())):
        return error
    if there == "folder":
        got = f"the folder {text[:80]}, which is not a run: it has no config.yaml"
    else:
        got = f"the path {text[:80]}, where there is neither a run nor a checkpoint"
    runs = sorted(str(path.parent) for path in Path("runs").glob("*/config.yaml"))
    close = nearest(text, runs) or (runs[-1] if runs else None)
    return ModelError("model", got, EXPECTED, f"write {close}" if close else _HOW)


def _what_is_there(text: str) -> Literal["file", "folder"] | None:
    try:
        path = Path(text).expanduser()
        return "file" if path.is_file() else "folder" if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long for a path, or the home of an unknown user
        return None


def unknown_name(text: str, name: str) -> LayerStringError:
    """The error for a name that is neither a zoo network nor a layer; it suggests the nearest of both."""
    zoo, word = nearest_few(name, MODELS), nearest(name, WORDS)
    arguments = text[len(name) :].strip()
    guesses = [f"the zoo model {' or '.join(f'`{near}`' for near in zoo)}"] if zoo else []
    guesses += [f"the layer `{word}`"] if word else []
    guess = f"; did you mean {', or '.join(guesses)}?" if guesses else ""
    close = zoo[0] if zoo else word + arguments if word else ""
    remedy = (
        Remedy(f'write "{close}"', settings={"model.name": close})
        if close
        else Remedy("striate models", command=LIST_OF_MODELS)
    )
    return LayerStringError(text, 0, f"no model or layer `{name[:60]}`{guess}", EXPECTED, remedy, "model")
