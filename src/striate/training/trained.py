"""A trained network with everything that a prediction needs: preparation, normalization, task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import nn

from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import MOST_TILED_PIXELS, Placement, as_array
from striate.data.normalize import Normalization
from striate.data.threads import map_ordered
from striate.errors import ConfigError, DataError, ModelError, RunError, UsageError
from striate.inference.any_size import any_size
from striate.inference.plan import InferencePlan, PlanMode
from striate.inference.predictor import Predictor, batch_size, inference, plain_predictor, plan_predictor
from striate.inference.tiles import Box, Reach, Tile, padded_before, reach_of, tiles
from striate.machine.precision import Precision
from striate.tasks.registry import task_from_state, task_to_state
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS, Views, mean_over_views
from striate.visualize.picture import names_sample, sample_input
from striate.wording import listed, type_of

if TYPE_CHECKING:
    from PIL.Image import Image

    Input = str | Path | Image | np.ndarray | torch.Tensor


_NUMBERS_AT_ONCE = 2**22  # numbers in a batch of whole pictures
_WHOLE_PIXELS, _SIDE = 2**22, 1024
"""A picture of more pixels is computed in tiles with sides of `_SIDE` pixels, where that gives the same predictions."""

Read = tuple[np.ndarray, tuple[int, ...] | None]
"""A raw input; if it was read whole, the height and width of its file in pixels (of a volume, also its depth)."""


@dataclass(frozen=True)
class Prediction:
    """One prediction. Its fields are attributes, too: `label`, `probability`, `value`, … as the task has them."""

    fields: dict[str, Any]
    """The fields of a `predict --json` line besides `path`: `label`, `probability`, `top`; or `value`."""
    decoded: torch.Tensor
    """Class probabilities, numbers, or a mask."""
    placed: Placement | None = None
    """Where the file lies in the input, in pixels. None: the task does not need it."""

    def __getattr__(self, name: str) -> Any:
        """A field by its name. Raises AttributeError, which names the fields that there are."""
        fields = self.__dict__.get("fields", {})  # a copy that is being made has none yet
        if name in fields:
            return fields[name]
        raise AttributeError(f"this prediction has no {name!r}; it has {listed(list(fields), 20)}")


@dataclass(frozen=True)
class Trained:
    """A network ready to predict."""

    module: nn.Module
    """Takes standardized batches (N, *input_shape), in eval mode."""
    task: Task
    """Decodes and describes outputs."""
    preparation: Preparation
    """How files become raw inputs."""
    normalization: Normalization
    """How raw inputs are standardized."""
    classes: tuple[str, ...]
    """Class names; empty for tasks without classes."""
    device: torch.device
    """Where the network computes."""
    views: Views = "none"
    """Test-time augmentation: predictions are the mean over these views of each image."""
    run: Path | None = None
    """The run or checkpoint that it was loaded from. None: from neither."""

    @overload
    def predict(self, images: np.ndarray | torch.Tensor, *, plan: PlanMode = "auto") -> Any: ...  # by its shape
    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is also an iterable of texts
        self, images: str | Path | Image, *, plan: PlanMode = "auto"
    ) -> Prediction: ...
    @overload
    def predict(self, images: Iterable[Input], *, plan: PlanMode = "auto") -> list[Prediction]: ...
    def predict(self, images: Input | Iterable[Input], *, plan: PlanMode = "auto") -> Prediction | list[Prediction]:
        """Predict one image, or many: a list or iterable of paths, samples of named data sets (`digits#3`), PIL images
        and arrays; or a batch, an array with one axis more.

        Paths and PIL images are prepared as in training (size, color). Arrays and tensors have the size of the training
        inputs: (C, H, W), (H, W, C) or (H, W) for images, uint8 or floats k/255, whose colors are converted as those of
        files; (F,) numbers for tables. An array that could be both is one image: (1, H, W) is no batch of (H, W).
        Many are predicted by the fastest backend whose predictions agree with fp32, unless `plan` is `plain`.
        Raises DataError for a file that cannot be read or an array of another shape.
        """
        if (several_images := self._several(images)) is None:
            return self.predict([images], plan=plan)[0]  # type: ignore[list-item]
        images = [
            sample_input(image, self.preparation) if isinstance(image, str) and names_sample(image) else image
            for image in several_images
        ]
        files = any(isinstance(image, str | Path) for image in images)
        inputs = map_ordered(self.read, images) if files and len(images) > 1 else map(self.read, images)
        placed = [self.placement(image) for image in images]
        planned = self.planned(self._evenly_spaced(images, self.prepare), len(images), mode=plan)
        return list(self._predict_all(inputs, planned, placed=placed))

    def _several(self, images: Any) -> list[Any] | None:
        """The images of a batch or iterable; None for a single image."""
        medium = medium_of(self.preparation.kind)
        if isinstance(images, np.ndarray | torch.Tensor):
            return list(images) if medium.batch_of(as_array(images), self.preparation) else None
        if isinstance(images, str | Path) and medium.pictures and Path(images).is_dir():
            remedy = f"striate.api.predict_files(trained, [{str(images)!r}])"
            raise DataError(str(images), "a folder", "a file, or a list of files", remedy)
        single = isinstance(images, str | bytes | Path | Mapping) or hasattr(images, "getexif")
        return list(images) if isinstance(images, Iterable) and not single else None

    def with_views(self, views: Views) -> Trained:
        """The same network with the mean over `views` as its prediction. Raises UsageError for data other than images,
        and for tasks that predict from one view."""
        if not (self.task.mean_of_views and medium_of(self.preparation.kind).pictures):
            raise UsageError("--views", views, "images, and a task that takes several views", "leave out --views")
        return replace(self, views=views)

    def predict_prepared(
        self, inputs: Sequence[np.ndarray], batch: int | None = None, *, plan: PlanMode = "auto"
    ) -> list[Prediction]:
        """Predictions for prepared raw inputs, each of `preparation.input_shape`, `batch` at once. Many inputs are
        predicted by the fastest backend whose predictions agree with fp32, unless `plan` is `plain`."""
        sample, given = self._evenly_spaced(inputs, lambda raw: raw), ((raw, None) for raw in inputs)
        return list(self._predict_all(given, self.planned(sample, len(inputs), batch=batch, mode=plan), batch))

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
        """The predictor for `total` inputs; `sample(n)` returns n raw ones (n, *input_shape), evenly spaced over them.
        `recorded`, `own` and `trained_in` as in `striate.inference.predictor`."""
        normalize = self.normalization.on(self.device, len(self.preparation.input_shape) + 1)
        return plan_predictor(
            self.module,
            self.task,
            lambda count: normalize(sample(count).to(self.device)),
            total=total * VIEW_COUNTS[self.views],
            batch=batch or batch_size(self.preparation.input_shape),
            mode=mode,
            recorded=recorded,
            own=own,
            trained_in=trained_in,
        )

    def _predict_all(
        self,
        inputs: Iterable[Read],
        predictor: Predictor,
        batch: int | None = None,
        placed: Sequence[Placement | None] = (),
    ) -> Iterator[Prediction]:
        """Predictions in order, one batch of inputs at a time."""
        source, places = iter(inputs), iter(placed)
        while part := list(islice(source, batch or batch_size(self.preparation.input_shape))):
            yield from self.predict_batch(part, predictor, list(islice(places, len(part))))

    def predict_batch(
        self, inputs: Sequence[Read], predictor: Predictor, placed: Sequence[Placement | None] = ()
    ) -> Iterator[Prediction]:
        """Predictions for prepared raw inputs with the sizes of their files, by `predictor`. Neighbors of the same
        shape and size are computed at once. `placed`: where their files lie in the inputs, for tasks that predict in
        pixels of the file."""
        places = iter(placed or [None] * len(inputs))
        for (shape, size), same in groupby(inputs, lambda read: (read[0].shape, read[1])):
            own = tuple(shape) == tuple(self.preparation.input_shape)
            rest, at_once = iter(same), len(inputs) if own else max(1, _NUMBERS_AT_ONCE // math.prod(shape))
            while part := [raw for raw, _ in islice(rest, at_once)]:
                found = self.decode(torch.from_numpy(np.stack(part)), predictor, size)
                for decoded, place, raw in zip(found, islice(places, len(part)), part, strict=True):
                    fields: Any = self.task.describe_in_file(decoded, place)
                    if not isinstance(fields, Mapping):
                        got = f"{type_of(fields)} from describe of {type(self.task).__name__}"
                        expected, remedy = "a dict with the fields of one prediction", 'return {"number": …}'
                        raise ConfigError("task.name", got, expected, remedy)
                    further = self.task.describe_beside_input(decoded, torch.from_numpy(raw))
                    yield Prediction({**fields, **further}, decoded, place)

    def placement(self, image: Any) -> Placement | None:
        """Where a path, PIL image or array lies in its input; None where the task does not need it."""
        return self.placed(image) if self.task.needs_placement else None

    def placed(self, image: Any) -> Placement | None:
        """Where a path, PIL image or array lies in its input; None for data other than images."""
        medium, preparation = medium_of(self.preparation.kind), self.preparation
        if not medium.pictures:
            return None
        size: tuple[int, int] | None = (preparation.input_shape[1], preparation.input_shape[2])
        if isinstance(image, str | Path):
            header = medium.header(Path(image), str(image), max_pixels=preparation.max_pixels)
            size = medium.size_of(header)
        elif hasattr(image, "getexif"):
            turned = image.getexif().get(0x0112, 1) >= 5
            size = (image.width, image.height) if turned else (image.height, image.width)
        return None if size is None else medium.placement(size, preparation)

    @staticmethod
    def _evenly_spaced(items: Sequence[Any], prepare: Callable[[Any], np.ndarray]) -> Callable[[int], torch.Tensor]:
        """A function that returns n of the items, prepared and evenly spaced."""

        def sample(count: int) -> torch.Tensor:
            count = min(count, len(items))
            return torch.from_numpy(np.stack([prepare(items[k * len(items) // count]) for k in range(count)]))

        return sample

    def decode(
        self, raw: torch.Tensor, predictor: Predictor | None = None, size: tuple[int, ...] | None = None
    ) -> torch.Tensor:
        """Decoded predictions (N, …) on the CPU for a raw batch (N, *input_shape), by `predictor` (None: plain fp32).
        With `size`, the batch is of whole pictures, and predictions are for pictures of (height, width) `size`
        pixels."""
        normalize, own = self.normalization.on(self.device, raw.ndim), self.preparation.input_shape
        pixels = (raw.shape[-2], raw.shape[-1])
        if raw.ndim == 4 and size == pixels and math.prod(pixels) > _WHOLE_PIXELS and not self.reach.everywhere:
            return torch.stack([self._stitched(partial(_part, one), pixels, _SIDE) for one in raw])
        with inference(predictor or plain_predictor(self.module)) as network:
            if tuple(raw.shape[1:]) != own:
                network = partial(any_size, self.module, (own[1], own[2])) if raw.ndim == 4 else self.module
            outputs = mean_over_views(network, normalize(raw.to(self.device)), self.views, self.task.move_back)
            same = size is None or size == tuple(raw.shape[2:])
            found = self.task.decode(outputs) if same or size is None else self.task.decode_at(outputs, size)
            return finite(found.cpu())

    @cached_property
    def reach(self) -> Reach:
        """How far its outputs depend on the input. Raises UsageError where predictions have no positions."""
        if not self.reads_whole:
            self.task.stitched((), (0, 0))
        return reach_of(self.module, self.preparation.input_shape)

    def predict_tiled(self, path: Path, side: int) -> Prediction:
        """The prediction for a picture file of any size, computed in tiles with sides of about `side` pixels. Raises
        DataError."""
        medium = medium_of(self.preparation.kind)
        if not self.preparation.native:  # pictures are scaled to about the size of the inputs, which needs no tiles
            preparation = replace(self.preparation, max_pixels=MOST_TILED_PIXELS)
            return next(
                self.predict_batch([medium.uncropped(path, str(path), preparation)], plain_predictor(self.module))
            )
        parts = medium.parts(path, str(path), self.preparation)
        decoded = self._stitched(lambda box: torch.from_numpy(parts.read(box)), parts.size, side)
        return Prediction(self.task.describe(decoded), decoded)

    def _stitched(self, read: Callable[[Box], torch.Tensor], size: tuple[int, int], side: int) -> torch.Tensor:
        """The decoded prediction for a picture, whose parts (C, H, W) `read` returns."""
        own = self.preparation.input_shape
        normalize = self.normalization.on(self.device, len(own) + 1)
        network = partial(any_size, self.module, (own[1], own[2]))

        def outputs() -> Iterator[tuple[Tile, torch.Tensor]]:
            for tile in tiles(size, side, self.reach):
                x = normalize(read(tile.read)[None].to(self.device))

                def mirror(mirrored: bool, upside_down: bool, tile: Tile = tile) -> Callable[..., torch.Tensor]:
                    before = tile.missing_before(size, self.reach, mirrored, upside_down)
                    return partial(padded_before, network, before)

                yield tile, mean_over_views(network, x, self.views, self.task.move_back, mirror)

        with inference(plain_predictor(self.module)):
            decoded: torch.Tensor = self.task.stitched(outputs(), size)
        return decoded

    @property
    def reads_whole(self) -> bool:
        """Whether whole pictures are predicted, in their own proportions, with predictions of their size."""
        return self.task.whole_pictures and medium_of(self.preparation.kind).takes_uncropped

    def read(self, image: Any) -> Read:
        """One image as `predict` takes it, whole where `reads_whole`. Raises DataError."""
        if not self.reads_whole:
            return self.prepare(image), None
        where = str(image) if isinstance(image, str | Path) else "an image"
        given = Path(image) if isinstance(image, str) else image
        return medium_of(self.preparation.kind).uncropped(given, where, self.preparation)

    def windows(self, path: Path, where: str, every: float) -> Iterator[tuple[tuple[float, float], np.ndarray]]:
        """Parts of a sound or video, as `predict` takes them, with start and end in seconds. Raises Unreadable."""
        medium = medium_of(self.preparation.kind)
        for span, given in medium.windows(path, where, self.preparation, every):
            yield span, medium.from_given(given, self.preparation)

    def read_bytes(self, data: bytes, where: str, preparation: Preparation) -> Read:
        """The bytes of a file as `predict` takes it; `preparation` is this network's with the caller's limits. Raises
        DataError."""
        medium = medium_of(preparation.kind)
        if self.reads_whole:
            return medium.uncropped(data, where, preparation)
        return medium.decode(data, where, preparation), None

    def drawn(self, image: Any, prediction: Prediction) -> np.ndarray:
        """The prediction for a path, PIL image or array, drawn over it: (H, W, 3) uint8, in the size of the file where
        the task predicts in its pixels, else in that of the input."""
        task, placed = self.task, prediction.placed
        medium = medium_of(self.preparation.kind)
        if self.reads_whole and not medium.pictures:
            mask = np.asarray(prediction.decoded)
            return task.draw(*medium.across(image, str(image), mask, self.preparation))
        if placed is None and not self.reads_whole:
            return task.draw(self._shown(self.prepare(image)), prediction.decoded)
        size = tuple(prediction.decoded.shape[-2:]) if placed is None else placed.file
        medium = medium_of(self.preparation.kind)
        whole = replace(
            self.preparation, input_shape=(3 if medium.shows_itself else self.preparation.input_shape[0], *size)
        )
        pixels = medium.prepare(image, whole) if not isinstance(image, np.ndarray) else image
        pixels = self._shown(pixels)
        return task.draw(pixels, prediction.decoded if placed is None else task.in_file(prediction.decoded, placed))

    def _shown(self, raw: np.ndarray) -> np.ndarray:
        """A raw input as bytes to draw on, (C, H, W)."""
        medium = medium_of(self.preparation.kind)
        drawn = medium.drawn(raw, self.preparation) if medium.pictures and not medium.shows_itself else None
        return raw if drawn is None else np.moveaxis(np.atleast_3d(drawn), -1, 0)

    def prepare(self, image: Any) -> np.ndarray:
        """One image as `predict` takes it, as a raw input of `preparation.input_shape`. Raises DataError."""
        return medium_of(self.preparation.kind).prepare(image, self.preparation)


def _part(picture: torch.Tensor, box: Box) -> torch.Tensor:
    top, left, height, width = box
    return picture[:, top : top + height, left : left + width]


def finite(decoded: torch.Tensor) -> torch.Tensor:
    """Decoded predictions. Raises ModelError where one is NaN or Inf."""
    if decoded.is_floating_point() and not bool(torch.isfinite(decoded).all()):
        raise ModelError(
            "predict",
            "predictions with NaN or Inf",
            "finite ones",
            "train again with a smaller learning rate: --lr 0.001",
        )
    return decoded


def settled(task: Task, saved: Mapping[str, Any]) -> Task:
    """The task with what validation decided in the last epoch of a checkpoint."""
    history = saved.get("history") or ()
    return task.settled(history[-1]["val"]) if history else task


def trained_to_dict(trained: Trained, model: str | None) -> dict[str, Any]:
    """The content of a checkpoint besides the weights, as plain values. `model`: how to build the network again; None
    where no name does."""
    return {
        "network": {
            "name": model,
            "input_shape": list(trained.preparation.input_shape),
            "dense": trained.task.needs == "map",
            "outputs": trained.task.outputs,
        },
        "task": task_to_state(trained.task),
        "preparation": _lists(asdict(trained.preparation)),
        "normalization": _lists(asdict(trained.normalization)),
        "classes": list(trained.classes),
        "views": trained.views,
    }


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def trained_from_dict(
    saved: dict[str, Any], where: str, device: torch.device, module: nn.Module | None = None
) -> Trained:
    """The trained network of a checkpoint; `module` replaces the network that its name builds.

    Raises RunError where the weights do not fit the network, ModelError where the network cannot be built by name.
    """
    from striate.models.build import build_model
    from striate.models.trusted_code import refuse_untrusted
    from striate.models.weights.saved import check_content

    check_content(saved, where)
    try:
        task = settled(task_from_state(saved["task"], where), saved)
        shape = tuple(saved["network"]["input_shape"])
        name = saved["network"]["name"]
        preparation = Preparation(**_tuples(saved["preparation"]))
        normalization = Normalization(**_tuples(saved["normalization"]))
        classes = tuple(saved["classes"])
        views: Views = saved["views"]
        VIEW_COUNTS[views]  # a KeyError for others
    except (KeyError, TypeError) as error:
        got = (
            f"a checkpoint without {error}"
            if isinstance(error, KeyError)
            else f"a checkpoint with other fields: {error}"
        )
        raise RunError(where, got, "a checkpoint of this version", "train again") from None
    if module is None:
        if name is None:
            raise ModelError(
                where,
                "a run of an nn.Module that was made in Python",
                "the module, which cannot be built by a name",
                "striate.load(path, module=your_module)",
            )
        refuse_untrusted(name, where, shape, task.outputs)
        network = build_model(name, shape, task.built_outputs, dense=task.needs == "map", new_head=True)
        module = task.attach(network, shape)
    try:
        module.load_state_dict(saved.get("ema") or saved["model"])
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        what = f"the weights of {name}" if name is not None else "a module of the class that was trained"
        remedy = "train again" if name is not None else "striate.load(path, module=a_module_of_that_form)"
        raise RunError(where, f"weights that do not fit: {first}", what, remedy) from None
    return Trained(module.to(device).eval(), task, preparation, normalization, classes, device, views)
