"""The network in a checkpoint, with a check of all values, as the file may come from a stranger."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from striate.data.config import Fit, Layout
from striate.data.media.every_medium import MEDIA
from striate.errors import RunError
from striate.models.layer_strings.shapes import Shape
from striate.runs.checkpoint import instead_of, load_checkpoint, without_checkpoint
from striate.runs.directory import open_run
from striate.runs.files import user_path
from striate.runs.plain_files import is_there, typed
from striate.wording import several

_LONGEST_NAME = 25_000
_MOST_VALUES = 1 << 28
"""Largest number of values of one input; a picture at the usual limit of pixels has fewer."""


def _is_shape(value: Any) -> bool:
    whole = isinstance(value, list | tuple) and 1 <= len(value) <= 5 and all(type(n) is int and n > 0 for n in value)
    return whole and math.prod(value) <= _MOST_VALUES


def _are(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(isinstance(one, kind) for one in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(x, int | float) and math.isfinite(x) for x in value)


def _are_tensors(value: Any) -> bool:
    tensors = isinstance(value, Mapping) and all(
        isinstance(one, torch.Tensor) for key, one in value.items() if not str(key).endswith("_extra_state")
    )
    return tensors and all(isinstance(key, str) for key in value)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (lambda v: isinstance(v, Mapping), "a mapping"),
    "network.name": (
        lambda v: v is None or (isinstance(v, str) and len(v) <= _LONGEST_NAME),
        f"a name of at most {_LONGEST_NAME:,} characters",
    ),
    "network.input_shape": (_is_shape, "whole numbers, the sizes of an input"),
    "network.outputs": (lambda v: type(v) is int and v > 0, "a whole number above 0"),
    "task": (lambda v: isinstance(v, Mapping), "a mapping"),
    "task.name": (lambda v: isinstance(v, str), "a name"),
    "task.classes": (_are(str), "names"),
    "task.target_names": (_are(str), "names"),
    "task.mean": (_are_numbers, "finite numbers"),
    "task.std": (_are_numbers, "finite numbers"),
    "classes": (_are(str), "names"),
    "preparation": (lambda v: isinstance(v, Mapping), "a mapping"),
    "preparation.kind": (lambda v: isinstance(v, str) and v in MEDIA, " or ".join(", ".join(MEDIA).rsplit(", ", 1))),
    "preparation.input_shape": (_is_shape, "whole numbers, the sizes of an input"),
    "preparation.fit": (lambda v: v in get_args(Fit), "crop, stretch or pad"),
    "preparation.layout": (lambda v: v in get_args(Layout), "an order of axes"),
    "preparation.max_pixels": (lambda v: type(v) is int and v > 0, "a whole number above 0"),
    "normalization": (lambda v: isinstance(v, Mapping), "a mapping"),
    "normalization.mean": (_are_numbers, "finite numbers"),
    "normalization.std": (_are_numbers, "finite numbers"),
    "views": (lambda v: isinstance(v, str), "a name"),
    "model": (_are_tensors, "tensors by name"),
    "ema": (lambda v: v is None or _are_tensors(v), "tensors by name"),
}


def check_content(
    saved: Mapping[str, Any], where: str, holder: str = "a checkpoint", remedy: str | None = None
) -> None:
    """Raise RunError where a value has the wrong form. Missing values are reported where they are needed. `holder`:
    what has the values; `remedy`: by default another checkpoint of the run."""

    def strange(path: str, got: str, expected: str) -> RunError:
        return RunError(where, f"{holder} with {path}: {got}", expected, remedy or instead_of(Path(where)))

    for path, (fits, expected) in _CHECKS.items():
        section, _, name = path.partition(".")
        if section not in saved:
            continue
        value = saved[section]
        if name:
            if name not in value:
                continue
            value = value[name]
        if not fits(value):
            raise strange(path, type(value).__name__, expected)
    shape = saved.get("preparation", {}).get("input_shape")
    if shape is not None and "network" in saved and list(shape) != list(saved["network"].get("input_shape", shape)):
        raise strange("preparation.input_shape", "another shape", "the input shape of the network")
    for name, values in saved.get("normalization", {}).items():
        if shape is not None and len(values) not in (1, shape[0]):
            raise strange(f"normalization.{name}", several(len(values), "number"), f"1 or {shape[0]}")


@dataclass(frozen=True)
class Origin:
    """What the publisher of weights states about them."""

    name: str = ""
    """A name that finds the same file again; empty for a local file."""
    network: str = ""
    """The network that they are for; empty where it is not stated."""
    mean: tuple[float, ...] = ()
    """Means that inputs were standardized with, for pixels of 0 to 255."""
    std: tuple[float, ...] = ()
    """Standard deviations that inputs were standardized with, for pixels of 0 to 255."""
    size: tuple[int, int] | None = None
    """(height, width) of the training images; None where it is not stated."""
    license: str = ""
    """The license as stated; empty where none is stated."""


@dataclass(frozen=True)
class Weights:
    """Tensors by name."""

    path: str
    """The path or public name that the user gave."""
    file: Path
    """The file that was read."""
    tensors: dict[str, Any]
    origin: Origin = Origin()


@dataclass(frozen=True, kw_only=True)
class SavedNetwork(Weights):
    """A checkpoint of a network."""

    name: str
    """Name that builds the network for `input_shape` and `outputs`; empty where no name does."""
    input_shape: Shape
    """Without the batch."""
    outputs: int
    dense: bool
    classes: tuple[str, ...]
    """Names of the classes; empty where the task has none."""
    kind: str = ""
    """Medium of the inputs, such as `image`, `grid` or `table`; empty where the checkpoint does not state it."""
    mean: tuple[float, ...] = ()
    """Means that inputs were standardized with, one for each channel or feature, in input units; empty where the
    checkpoint does not state them."""
    std: tuple[float, ...] = ()
    """Standard deviations that inputs were standardized with, in the same form."""
    task: str = ""
    """The task that it was trained for."""
    target_scale: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """Means and standard deviations that the targets were standardized with; empty unless targets are numbers."""


def load_run(text: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint at a path (of a run or a file), and its content. Raises RunError."""
    path = user_path(text)
    if is_there(path) and not path.is_dir():
        return path, load_checkpoint(typed(path))
    run = open_run(path)
    file = next((file for file in (run.best, run.last) if is_there(file)), None)
    if file is None:
        raise without_checkpoint(run, run.best)
    return file, load_checkpoint(file)


def _license(content: Mapping[str, Any]) -> str:
    """The license of the weights that the run of a checkpoint started from."""
    config = content.get("config")
    model = config.get("model") if isinstance(config, Mapping) else None
    found = model.get("weights_license") if isinstance(model, Mapping) else None
    return found if isinstance(found, str) else ""


def _outputs(task: Mapping[str, Any], network: Mapping[str, Any]) -> int:
    """Number of outputs of the network: one for each class, else one for each target, else the stated number."""
    names = task.get("classes", task.get("target_names"))
    return int(network["outputs"]) if names is None else len(names)


def _of_player(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the checkpoint of a network that plays has under other names; empty of all others."""
    if not isinstance(content.get("game"), Mapping):
        return {}
    known = content["network"]
    dueling = bool(known["dueling"])  # the value of the state is one more output
    shape, outputs = known["shape"], known["outputs"] + dueling
    network = {"name": known["name"], "input_shape": shape, "dense": False, "outputs": outputs}
    tensors = {key.removeprefix("body.") if dueling else key: value for key, value in content["model"].items()}
    return {"network": network, "task": {"name": ""}, "classes": (), "model": tensors}


def network_of(text: str, file: Path, content: dict[str, Any], origin: Origin | None = None) -> SavedNetwork:
    """The network of a checkpoint that has been read from `file`, which the user named as `text`. Its name is that of
    the checkpoint, "" if there is none. If the run started from licensed weights, the network has their license. Raises
    RunError where a value is missing."""
    check_content(content, str(file))
    content = content | _of_player(content)
    try:
        task, network, standardized = content["task"], content["network"], content.get("normalization", {})
        return SavedNetwork(
            path=text.strip(),
            file=file,
            tensors=content.get("ema") or content["model"],
            name=network["name"] or "",
            input_shape=tuple(network["input_shape"]),
            outputs=_outputs(task, network),
            dense=bool(network["dense"]),
            classes=tuple(content["classes"]),
            kind=content.get("preparation", {}).get("kind", ""),
            mean=tuple(standardized.get("mean", ())),
            std=tuple(standardized.get("std", ())),
            task=task["name"],
            target_scale=(tuple(task.get("mean", ())), tuple(task.get("std", ()))),
            origin=origin or Origin(license=_license(content)),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(str(file), f"a checkpoint without {error}", "one of this version", "train again") from None
