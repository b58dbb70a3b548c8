"""The network that is examined, with what is known of its inputs and data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.api.announcing import Announce
from striate.api.networks import load, summarize
from striate.data.dataset import Dataset, Preparation, Split, join_splits
from striate.data.environments.open_environment import is_environment, open_environment
from striate.data.media.every_medium import kind_of_shape, medium_of
from striate.data.normalize import Normalization
from striate.data.predict_inputs import list_inputs, require_pictures
from striate.errors import DataError, ModelError, NoImage, RunError, UsageError, pasted
from striate.exporting.exported_file import is_exported, require_layers
from striate.models.build import build_model
from striate.models.from_file import names_file
from striate.models.from_run import names_run, run_first
from striate.models.preserved_state import TRIALS
from striate.runs.directory import RunDirectory, open_run
from striate.runs.files import user_path
from striate.tasks.control.play import split_seed
from striate.tasks.control.states import States, played_states, state_of_game
from striate.tasks.registry import make_task
from striate.tasks.task import Task
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data
from striate.training.rewards.player import Player, load_player
from striate.training.trained import Trained
from striate.visualize.inside.passes import evenly_spaced
from striate.visualize.picture import names_sample, sample_input
from striate.wording import several, type_of

if TYPE_CHECKING:
    from striate.api.training import Run  # loads all that training needs

_MIDDLE, _SPREAD = 127.5, 64.0
_FEW = 200
_LATEST = 100_000


@dataclass(frozen=True, eq=False)
class Subject:
    """The network that is examined, with what is known of its inputs and data."""

    name: str
    """The network by name."""
    module: nn.Module
    """Takes normalized inputs of `preparation.input_shape`."""
    preparation: Preparation
    """How a file becomes an input."""
    normalization: Normalization
    """Mean and standard deviation of each channel."""
    classes: tuple[str, ...]
    """Names of the classes, or of the actions of a game; empty where there are none."""
    announce: Announce
    """Is given progress, such as a download, as text."""
    trained: Trained | None = None
    """The loaded network; None where it was not trained, or plays."""
    run: RunDirectory | None = None
    """The run whose data are known; None where there is none."""
    note: str = ""
    """What the weights are, where they are not trained ones; else empty."""
    player: Player | None = None
    """The network that plays, whose inputs are states of games; None of any other."""

    @property
    def input_shape(self) -> Shape:
        """Shape of one input, without the batch."""
        return self.preparation.input_shape

    def require_run(self, what: str = "embedding") -> RunDirectory:
        """The run. Raises UsageError without a run; its remedy is the command that shows `what` of a run."""
        if self.run is None:
            raise UsageError("RUN", f"{self.name}, whose data are not known", "a run", _example(what))
        return self.run

    def require_drawn(self, what: str) -> None:
        """Raise DataError where inputs are not drawn as images, which `what` shows."""
        medium = medium_of(self.preparation.kind)
        if self.picture(torch.zeros(self.input_shape, dtype=getattr(torch, medium.dtype))) is None:
            got = medium.describe(self.input_shape)
            raise DataError(what, got, "images in gray or color, on which it is drawn", _example(what))

    @cached_property
    def data(self) -> Dataset:
        """The data of the run. Raises UsageError without a run, DataError where the data are gone."""
        run = self.require_run()
        return read_data(config_from_yaml(run.config), self.announce, run=run)[1]

    @property
    def task(self) -> Task:
        """The task that the network was trained for. Raises RunError where it was not trained."""
        if self.trained is None:
            raise RunError(self.name, "a network that was not trained", "a run", "striate train mnist5k")
        return make_task(self.data, config_from_yaml(self.run.config).task) if self.run else self.trained.task

    def samples(self, most: int) -> tuple[Split, torch.Tensor, str]:
        """At most `most` samples, evenly spaced in the validation split (of a small one, also in the training split);
        their normalized inputs (N, …); and their origin in words."""
        if self.player is not None:
            states = self.states(most)
            raw = torch.from_numpy(np.ascontiguousarray(states.stacks.transpose(0, 3, 1, 2)))
            split = Split(raw, torch.from_numpy(states.best), torch.arange(len(raw)))
            return split, self.normalized(raw), f"{several(len(raw), 'state')} of games of {self.player.source}"
        splits = self.data.splits
        whole, of = splits["val"], "val split"
        if len(whole) < min(most, _FEW):
            whole, of = join_splits([whole, splits["train"]]), "train and val splits"
        part = whole.take(evenly_spaced(len(whole), most))
        raw = part.inputs[:]
        return Split(raw, part.targets, part.ids), self.normalized(raw), f"{of} of {self.data.name}, n = {len(raw):,}"

    def states(self, most: int) -> States:
        """States of games that the network plays, with seeds that neither training nor test has."""
        assert self.player is not None, "only for networks that play"
        config = self.player.config
        seed = split_seed(config.seed, "states")
        return played_states(self.player.module, self.player.source, config.task.control, most, seed)

    def training_samples(self, most: int) -> tuple[torch.Tensor, torch.Tensor, str]:
        """Normalized inputs (N, …) and targets of at most `most` training samples, evenly spaced, and their origin in
        words."""
        part = self.data.splits["train"]
        part = part.take(evenly_spaced(len(part), most))
        return self.normalized(part.inputs[:]), part.targets, f"train split of {self.data.name}, n = {len(part):,}"

    def value_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The smallest and the largest normalized value of each channel of an image; of other inputs, three standard
        deviations below and above the mean."""
        ends = (0.0, 255.0) if self.player is not None else medium_of(self.preparation.kind).bounds
        moments = list(zip(self.normalization.mean, self.normalization.std, strict=True))
        low, high = (
            tuple(((ends[k] - mean) / std if ends else 6.0 * k - 3.0) for mean, std in moments) for k in (0, 1)
        )
        return low, high

    def normalized(self, raw: torch.Tensor) -> torch.Tensor:
        """A raw batch, normalized."""
        return self.normalization.on("cpu", raw.ndim)(raw)

    def input(self, image: str | Path | None) -> tuple[torch.Tensor, str]:
        """One raw input, and its name: the picture in a file, `mnist5k#17`, or, for None, the first sample of the run's
        validation split. Raises NoImage for None without a run, DataError where the picture cannot be read."""
        if self.player is not None:
            return self._state(image)
        if image is None:
            if self.run is None:
                if not medium_of(self.preparation.kind).of_files:
                    got = f"{self.name}, which takes {medium_of(self.preparation.kind).a}, not a picture"
                    command = "striate show mnist-cnn maps mnist5k#17"
                    raise UsageError("RUN", got, "a run, or a network of images", command)
                command = f"striate show {pasted(self.name)} maps mnist5k#17"
                if self.trained is not None:  # it has no name that a command takes
                    command = 'striate.show(trained, "maps", "mnist5k#17")'
                raise NoImage("IMAGE", "none", "a picture, or a sample of a named data set", command)
            split = self.data.splits["val"]
            return split.inputs[0:1][0], f"sample 1 of the val split of {self.data.name}"
        require_pictures(self.preparation)
        text = str(image)
        if names_sample(text):
            return torch.from_numpy(sample_input(text, self.preparation, self.announce)), text
        path, medium = user_path(text), medium_of(self.preparation.kind)
        files = list_inputs([path], medium)[0] if path.is_dir() else (path,) if path.is_file() else ()
        if list(map(Path, files)) != [path]:  # a folder of frames or slices is one sample
            got = "a folder" if path.is_dir() else "no such file"
            raise DataError(text, got, "a picture, or a sample: mnist5k#17", "name an existing file")
        return torch.from_numpy(medium.decode(path, text, self.preparation)), path.name

    def _state(self, step: str | Path | None) -> tuple[torch.Tensor, str]:
        assert self.player is not None
        state, reached = game_state(self.player, step)
        raw = torch.from_numpy(np.ascontiguousarray(state.stacks[0].transpose(2, 0, 1)))
        return raw, f"step {reached} of a game of {self.player.source}"

    def picture(self, raw: torch.Tensor) -> NDArray[np.uint8] | None:
        """A raw input (C, H, W) as it is drawn; None where it is not an image."""
        medium = medium_of(self.preparation.kind)
        if not medium.stored or raw.ndim != 3:
            return None
        if not medium.pictures or medium.shows_itself:
            return raw.cpu().numpy() if raw.shape[0] in (1, 3) and raw.dtype == torch.uint8 else None
        drawn = medium.drawn(raw.cpu().numpy(), self.preparation)
        return None if drawn is None else drawn[None] if drawn.ndim == 2 else np.moveaxis(drawn, -1, 0)


def _example(what: str) -> str:
    return f"striate train mnist5k --out runs/first && striate show runs/first {what}"


def find_subject(
    model: str | Path | Run | Trained, input_shape: Shape | None, announce: Announce, *, outputs: int | None = None
) -> Subject:
    """The network that `model` means: a run, a checkpoint, a trained network, or any name that `build` takes, whose
    weights are then an initialization with a fixed seed. Raises StriateError."""
    model = getattr(model, "path", model)  # a finished training knows its directory
    if isinstance(model, Trained):
        require_layers(model)
        return _of_trained("the network", model, None, announce)
    if not isinstance(model, str | Path):
        remedy = "use the functions of striate.visualize.inside, which take any nn.Module with its inputs"
        raise ModelError("model", f"{type_of(model)}, whose inputs are not known", "a run or a name", remedy)
    require_layers(model)
    text = run_first(str(model), announce)
    if names_run(text) or (isinstance(model, Path) and not names_file(text)):
        if input_shape is not None:
            raise UsageError(
                "--input", f"a shape for the run {text}", "no shape", "leave out --input: a run has its own"
            )
        if outputs is not None:
            got = f"a number of outputs for the run {text}"
            raise UsageError("--classes", got, "no number", "leave out --classes: a run has its own")
        path = user_path(text)
        if is_exported(path):
            return _of_trained(path.name, load(path), None, announce)
        run = open_run(path)
        if is_environment(config_from_yaml(run.config).data.source):
            return _of_player(run.path.name or text, load_player(path), run, announce)
        return _of_trained(run.path.name or text, load(path), run, announce)
    shape = summarize(text, input_shape, outputs=outputs).input
    with TRIALS, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = build_model(text, shape, outputs)
    whose = "weights as its function makes them" if names_file(text) else "random weights, as before training"
    count = shape[0]
    preparation = Preparation(kind_of_shape(shape), shape)
    return Subject(
        text, module, preparation, Normalization((_MIDDLE,) * count, (_SPREAD,) * count), (), announce,
        note=f"{whose}; pixels are standardized as (x − {_MIDDLE:g}) / {_SPREAD:g}",
    )  # fmt: skip


def _of_trained(name: str, trained: Trained, run: RunDirectory | None, announce: Announce) -> Subject:
    return Subject(
        name, trained.module, trained.preparation, trained.normalization, trained.classes, announce, trained, run
    )


def _of_player(name: str, player: Player, run: RunDirectory, announce: Announce) -> Subject:
    height, width, channels = open_environment(player.source).game.shape
    count = channels * (player.config.task.control.stack or 1)
    shape = (count, height, width)
    preparation = Preparation(kind_of_shape(shape), shape)
    normalization = Normalization((0.0,) * count, (255.0,) * count)
    return Subject(name, player.module, preparation, normalization, player.actions, announce, run=run, player=player)


def game_state(player: Player, step: str | Path | None) -> tuple[States, int]:
    """The state of the game of `striate play RUN` after `step` steps, and their number; for None after 20, or fewer if
    the game ends earlier. Raises UsageError for anything but a number of steps that the game has."""
    text = "20" if step is None else str(step)
    if not text.isdecimal() or int(text) > _LATEST:
        expected = f"a step of a game, 0 to {_LATEST:,}, since this network plays a game"
        raise UsageError("IMAGE", text, expected, "name a step: 0")
    config = player.config
    seed = split_seed(config.seed, "play")
    state, reached = state_of_game(player.module, player.source, config.task.control, int(text), seed)
    if step is not None and reached < int(text):
        expected = f"a step of the game, 0 to {reached}, the last one"
        raise UsageError("IMAGE", text, expected, f"name a step: {reached}")
    return state, reached
