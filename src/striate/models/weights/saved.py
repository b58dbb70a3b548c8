"""What a file of weights holds, and what a checkpoint says of its network beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.errors import RunError, pasted
from striate.models.layer_strings.shapes import Shape
from striate.models.saved_content import check_content
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import open_run
from striate.runs.files import user_path


@dataclass(frozen=True)
class Weights:
    """Tensors by name. `path` is what the user named, `file` the file behind it."""

    path: str
    file: Path
    tensors: dict[str, Any]


@dataclass(frozen=True)
class SavedNetwork(Weights):
    """A checkpoint: `name` builds its network, for `input_shape` without batch and `outputs`.

    `classes` is empty where the task has none. Its inputs were of `kind` (`image`, `grid`, `table`), standardized with
    `mean` and `std`, one each for every channel or feature, in input units; empty where the checkpoint does not say.
    `task` is what it was trained for; `target_scale` the means and standard deviations that its outputs are in, empty
    unless they are numbers.
    """

    name: str
    input_shape: Shape
    outputs: int
    dense: bool
    classes: tuple[str, ...]
    kind: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: str = ""
    target_scale: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())


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
