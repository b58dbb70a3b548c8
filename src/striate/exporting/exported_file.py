"""An exported file that is loaded again: its own runtime predicts, and the rest is as in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Unreadable
from striate.data.normalize import Normalization
from striate.errors import ModelError, RunError, StriateError, UsageError, pasted, reason_of
from striate.exporting import formats
from striate.exporting.export_format import ExportFormat, Runner
from striate.exporting.input_forms import input_form_of
from striate.exporting.speed import as_file_input
from striate.inference.plan import InferencePlan, PlanMode
from striate.inference.predictor import Predictor, plain_predictor
from striate.inference.windows import SIDE
from striate.machine.precision import Precision
from striate.models.weights.named import CONFIG, TENSORS, is_hub_folder, read_config
from striate.models.weights.saved import check_content
from striate.models.weights.weights_file import read_weights
from striate.runs.files import user_path
from striate.tasks.registry import task_from_state
from striate.tasks.views import Views
from striate.training.trained import Read, Trained, finite, trained_from_dict
from striate.version import VERSION
from striate.wording import listed, several, show_shape

_AGAIN = "write it again with striate export RUN"


class ExportedFile(Trained):
    """A network whose predictions an exported file computes. Functions that need its layers, such as `explain`, refuse
    it."""

    def decode(
        self, raw: torch.Tensor, predictor: Predictor | None = None, size: tuple[int, ...] | None = None
    ) -> torch.Tensor:
        """The file's predictions (N, …) for a raw batch (N, C, H, W) of any size, or of other inputs."""
        del predictor, size
        form = input_form_of(self.preparation, whole=False)
        arrays = cast(_File, self.module).run(as_file_input(self, raw) if form is None else raw.numpy())
        height_and_width = (raw.shape[2], raw.shape[3]) if raw.ndim == 4 else None
        return finite(torch.from_numpy(np.asarray(self.task.from_exported(arrays, height_and_width))))

    def prepare(self, image: Any) -> NDArray[Any]:
        """One sample in the form that the file takes. Raises DataError."""
        if input_form_of(self.preparation, whole=False) is None:
            return super().prepare(image)
        return self._as_input(image, str(image)[:80], self.preparation)

    def read(self, image: Any) -> Read:
        """The same, also for samples that a run predicts whole."""
        if input_form_of(self.preparation, whole=False) is None:
            return super().read(image)
        return self.prepare(image), None

    def read_bytes(self, data: bytes, where: str, preparation: Preparation) -> Read:
        """The bytes of a sample's file in the form that this file takes."""
        if input_form_of(preparation, whole=False) is None:
            return super().read_bytes(data, where, preparation)
        return self._as_input(data, where, preparation), None

    def _as_input(self, given: Any, where: str, preparation: Preparation) -> NDArray[Any]:
        """A sample in the form that this file takes. Raises Unreadable for a size or spacing that it does not take."""
        medium, free, got = medium_of(preparation.kind), cast(_File, self.module).free, ""
        sample = medium.as_given(given, where, preparation)
        if not self.reads_whole:
            return sample
        size, taken = sample.shape[1:], preparation.input_shape[1:]
        if max(size) > SIDE if free else size != taken:
            expected = f"at most {SIDE} voxels a side" if free else f"{show_shape(taken)} voxels"
            got = f"{show_shape(size)} voxels: this exported file takes {expected}; its run takes any size"
        elif isinstance(given, str | bytes | Path):
            given = Path(given) if isinstance(given, str) else given
            if size != medium.mask_size(medium.header(given, where, max_pixels=preparation.max_pixels)):
                expected = "voxels at the spacing of the run"
                got = "voxels at another spacing: the predicted mask would not have the spacing of this file"
        if got:
            raise Unreadable(where, got, expected, "striate predict RUN, or its export --format hub")
        return sample

    def windows(self, path: Path, where: str, every: float) -> Iterator[tuple[tuple[float, float], NDArray[Any]]]:
        """Windows of a recording in the form that this file takes."""
        return medium_of(self.preparation.kind).windows(path, where, self.preparation, every)

    def planned(
        self,
        sample: Callable[[int], torch.Tensor],
        total: int,
        *,
        batch: int | None = None,
        mode: PlanMode = "auto",
        recorded: InferencePlan | None = None,
        own: bool = False,
        trained_in: Precision = "fp32",
    ) -> Predictor:
        """The predictor of the file's runtime."""
        del sample, total, batch, mode, recorded, own, trained_in
        return plain_predictor(self.module, "an exported file is computed by its own runtime")

    def with_views(self, views: Views) -> Trained:
        """Raises UsageError: test-time augmentation is part of the file."""
        got, expected = (
            f"{views}, for an exported file",
            "no --views: the file includes the test-time augmentation of its run",
        )
        raise UsageError("--views", got, expected, "leave out --views, or use the run that it was exported from")


class _File(nn.Module):
    """Takes the place of the network: it runs the file, and has no layers."""

    def __init__(self, path: Path, run: Runner, *, free: bool = True) -> None:
        """`free`: whether the file takes volumes of any size."""
        super().__init__()
        self.path, self.run, self.free = path, run, free

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        raise _no_layers(self.path)


def _no_layers(path: Path) -> ModelError:
    return ModelError(
        str(path),
        "an exported file, which predicts but gives no access to its layers",
        "a run, or a folder of --format hub, which contains the network itself",
        "name the run that it was exported from",
    )


def require_layers(given: object) -> None:
    """Raise ModelError for an exported file, or its path, whose layers are not accessible."""
    if isinstance(given, ExportedFile):
        raise _no_layers(cast(_File, given.module).path)
    if isinstance(given, str | Path):
        path, file = Path(given), False
        with suppress(OSError, ValueError):  # a layer string is longer than a path may be
            path = user_path(str(given))
            file = path.is_file()
        if file and _format_of(path) is not None:
            raise _no_layers(path)


def is_exported(path: Path) -> bool:
    """Whether `striate export` writes files of this name."""
    if path.is_dir():
        return is_hub_folder(path)
    return path.name == TENSORS or _format_of(path) is not None


def _format_of(path: Path) -> type[ExportFormat] | None:
    """The format of the file by its suffix, which may be that of the second file; None of other files."""
    for kind in formats.FORMATS:
        if kind.suffix and (
            path.suffix == kind.suffix
            or (kind.second_suffix == path.suffix and path.with_suffix(kind.suffix).is_file())
        ):
            return kind
    return None


def load_exported(path: Path, device: str | torch.device = "cpu", module: nn.Module | None = None) -> Trained:
    """Load a file or folder that `striate export` wrote. The folder of a hub, or its model.safetensors, contains the
    network itself; any other file predicts by its own runtime. Raises UsageError for a missing runtime, RunError for a
    file that striate did not write."""
    folder = path.parent if path.name == TENSORS else path
    if folder.is_dir():
        config = read_config(folder)
        if "task_state" not in config:
            raise _not_exported(path, f"no {CONFIG} of striate beside {TENSORS}")
        tensors = read_weights(str(folder / TENSORS)).tensors
        content = {**config, "task": config["task_state"], "model": tensors}
        check_content(content, str(folder), f"a {CONFIG}", _AGAIN)
        return trained_from_dict(content, str(folder), torch.device(device), module)
    found = _format_of(path)
    assert found is not None, "only for paths that `is_exported`"
    kind = found()
    if not path.exists():
        near = get_close_matches(path.name, [one.name for one in path.parent.glob(f"*{path.suffix}")], 3, 0)
        remedy = f"one of: {listed([pasted(path.parent / name) for name in near])}" if near else "striate export RUN"
        raise RunError(str(path), "no such file", f"a file that striate export --format {kind.name} wrote", remedy)
    if path.suffix != kind.suffix:
        own = path.with_suffix(kind.suffix)
        raise RunError(str(path), f"the weights of {own.name}", "the file of the network", f"name {own}")
    if kind.second_suffix and path.is_file() and not (second := path.with_suffix(kind.second_suffix)).is_file():
        remedy = f"put {second.name} there; or striate export RUN --format {kind.name} writes both again"
        raise RunError(str(path), f"no {second.name} beside it", "its weights in a file beside it", remedy)
    kind.require()
    if torch.device(device).type != "cpu":
        got = f"{str(device)!r} for an exported file"
        remedy = 'device="cpu"; or load its run, or its export --format hub'
        raise UsageError("device", got, "cpu, where the runtime of the file computes", remedy)
    try:
        facts: dict[str, Any] = kind.facts(path)
    except StriateError:
        raise
    except Exception as error:  # runtimes raise anything for a damaged file
        names = " or ".join(path.with_suffix(suffix).name for suffix in (kind.suffix, kind.second_suffix) if suffix)
        damaged = f"{names} is damaged, or not of --format {kind.name}"
        raise _not_exported(path, reason_of(error) if isinstance(error, OSError) else damaged) from None
    if "game" in facts:
        got = f"a network that plays {facts['game']}: it outputs values of actions for frames of that game"
        remedy = "run it in its own runtime (docs/control.md, Export); or use striate play RUN with its run"
        raise RunError(str(path), got, "a file that predicts for samples", remedy)
    if "task_state" not in facts:
        raise _not_exported(path, "a file without a record of its predictions")
    try:
        run = next(iter(kind.runners(path).values()))
    except Exception as error:
        raise _not_exported(path, f"a graph that its runtime refuses: {reason_of(error)}") from None
    content = {**facts, "task": facts["task_state"], "model": {}}  # its tensors, where a checkpoint has a name
    check_content(content, str(path), "metadata", _AGAIN)
    try:
        task = task_from_state(content["task"], str(path))
        outputs, named = facts["network"]["outputs"], content["classes"]
        if task.outputs != outputs or content["task"].get("classes", named) != named:
            raise _not_exported(
                path, f"a network with {several(outputs, 'output')}, and metadata that name other classes"
            )
        fields = content["preparation"].items()
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields}
        preparation = Preparation(**values)
        if task.whole_pictures:  # the file itself scales pictures
            preparation = replace(preparation, native=True)
        normalization = Normalization(**{key: tuple(v) for key, v in content["normalization"].items()})
        classes, cpu = tuple(content["classes"]), torch.device("cpu")
        file = _File(path, run, free="D" in facts["input"]["shape"])
        return ExportedFile(file, task, preparation, normalization, classes, cpu, content["views"])
    except (KeyError, TypeError) as error:
        got = f"a file of striate {facts.get('striate')}, with other fields ({type(error).__name__}: {error})"
        raise RunError(str(path), got, f"a file of striate {VERSION}", _AGAIN) from None


def _not_exported(path: Path, got: str) -> RunError:
    expected = "a complete file or folder that striate export wrote"
    return RunError(str(path), got, expected, f"{_AGAIN}; use other files in other programs")
