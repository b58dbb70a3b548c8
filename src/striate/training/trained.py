"""A trained network with all that a prediction needs: preparation, normalization, task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import nn

from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Placement
from striate.data.normalize import Normalization
from striate.data.threads import map_ordered
from striate.errors import ModelError, RunError, UsageError
from striate.inference.plan import Asked, InferencePlan
from striate.inference.predictor import Predictor, batch_size, inference, plain_predictor, plan_predictor
from striate.tasks.registry import task_from_state, task_to_state
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS, Views, mean_over_views

if TYPE_CHECKING:
    from PIL.Image import Image

    Input = str | Path | Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Prediction:
    """One prediction: `fields` are those of a `predict --json` line (`label`, `probability`, `top`; or `value`);
    `decoded` the tensor behind them (class probabilities, numbers, or a mask)."""

    fields: dict[str, Any]
    decoded: torch.Tensor
    placed: Placement | None = None
    """Where its file lies in the input, where the task needs to know."""

    @property
    def label(self) -> str:
        """The predicted class. Raises KeyError for tasks without classes."""
        return str(self.fields["label"])

    @property
    def probability(self) -> float:
        """Of the predicted class, 0 to 1."""
        return float(self.fields["probability"])


@dataclass(frozen=True)
class Trained:
    """A network ready to predict; `module` takes normalized batches (N, *input_shape) in eval mode. Predictions are the
    mean over `views` of each image."""

    module: nn.Module
    task: Task
    preparation: Preparation
    normalization: Normalization
    classes: tuple[str, ...]
    device: torch.device
    views: Views = "none"

    @overload
    def predict(self, images: Input, *, plan: Asked = "auto") -> Prediction: ...
    @overload
    def predict(self, images: list[Input], *, plan: Asked = "auto") -> list[Prediction]: ...
    def predict(self, images: Input | list[Input], *, plan: Asked = "auto") -> Prediction | list[Prediction]:
        """Predict one image or a list of them: paths, PIL images, or arrays.

        Paths and PIL images are prepared as in training (size, color). Arrays and tensors are raw inputs of the
        training shape, without batch: (C, H, W) or (H, W) uint8 for images, (F,) numbers for tables.
        Many are predicted by the fastest backend that gives the predictions of fp32, unless `plan` is `plain`.
        Raises DataError for a file that cannot be read or an array of another shape.
        """
        if not isinstance(images, list):
            planned = self.planned(self._spread([images], self.prepare), 1, asked=plan)
            return next(self._predict_all([self.prepare(images)], planned, placed=[self.placement(images)]))
        files = any(isinstance(image, str | Path) for image in images)
        inputs = map_ordered(self.prepare, images) if files and len(images) > 1 else map(self.prepare, images)
        placed = [self.placement(image) for image in images]
        planned = self.planned(self._spread(images, self.prepare), len(images), asked=plan)
        return list(self._predict_all(inputs, planned, placed=placed))

    def with_views(self, views: Views) -> Trained:
        """The same network, whose predictions are the mean over `views`. Raises UsageError for what are no images,
        and for a task that takes one view."""
        if not (self.task.mean_of_views and medium_of(self.preparation.kind).pictures):
            raise UsageError("--views", views, "images, and a task that takes several views", "leave out --views")
        return replace(self, views=views)

    def answer(
        self, inputs: Sequence[np.ndarray], batch: int | None = None, *, plan: Asked = "auto"
    ) -> list[Prediction]:
        """Predictions for prepared raw inputs, each of `preparation.input_shape`, `batch` at once; many of them by the
        fastest backend that gives the predictions of fp32, unless `plan` is `plain`."""
        spread = self._spread(inputs, lambda raw: raw)
        return list(self._predict_all(inputs, self.planned(spread, len(inputs), batch=batch, asked=plan), batch))

    def planned(
        self,
        sample: Callable[[int], torch.Tensor],
        total: int,
        *,
        batch: int | None = None,
        asked: Asked = "auto",
        written: InferencePlan | None = None,
        own: bool = False,
    ) -> Predictor:
        """How `total` inputs are best predicted, of which `sample(n)` gives n raw ones (n, *input_shape), spread over
        them; `written` and `own` as in `striate.inference.predictor`."""
        normalize = self.normalization.on(self.device, len(self.preparation.input_shape) + 1)
        return plan_predictor(
            self.module,
            self.task,
            lambda count: normalize(sample(count).to(self.device)),
            total=total * VIEW_COUNTS[self.views],
            batch=batch or batch_size(self.preparation.input_shape),
            asked=asked,
            written=written,
            own=own,
        )

    def _predict_all(
        self,
        inputs: Iterable[np.ndarray],
        answering: Predictor,
        batch: int | None = None,
        placed: Sequence[Placement | None] = (),
    ) -> Iterator[Prediction]:
        """Predictions in order, one batch of inputs at a time."""
        source, places = iter(inputs), iter(placed)
        while part := list(islice(source, batch or batch_size(self.preparation.input_shape))):
            yield from self.answer_batch(part, answering, list(islice(places, len(part))))

    def answer_batch(
        self, inputs: Sequence[np.ndarray], answering: Predictor, placed: Sequence[Placement | None] = ()
    ) -> list[Prediction]:
        """Predictions for prepared raw inputs, all at once, computed as `answering` says; `placed`: where their files
        lie in them, in pixels of which a task may predict."""
        decoded = self.decode(torch.from_numpy(np.stack(inputs)), answering)
        places = placed or [None] * len(inputs)
        return [
            Prediction(self.task.describe_in_file(answer, place), answer, place)
            for answer, place in zip(decoded, places, strict=True)
        ]

    def placement(self, image: Any) -> Placement | None:
        """Where a path, PIL image or array lies in its input; None where nobody needs to know."""
        medium, preparation = medium_of(self.preparation.kind), self.preparation
        if not (self.task.needs_placement and medium.pictures):
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
    def _spread(items: Sequence[Any], prepare: Callable[[Any], np.ndarray]) -> Callable[[int], torch.Tensor]:
        """A function that gives so many of the items, prepared, evenly spread."""

        def sample(count: int) -> torch.Tensor:
            count = min(count, len(items))
            return torch.from_numpy(np.stack([prepare(items[k * len(items) // count]) for k in range(count)]))

        return sample

    def decode(self, raw: torch.Tensor, answering: Predictor | None = None) -> torch.Tensor:
        """Decoded predictions (N, …) on the CPU for a raw batch (N, *input_shape), computed as `answering` says (None:
        plainly)."""
        normalize = self.normalization.on(self.device, raw.ndim)
        with inference(answering or plain_predictor(self.module)) as network:
            outputs = mean_over_views(network, normalize(raw.to(self.device)), self.views, self.task.unmoved)
            decoded: torch.Tensor = self.task.decode(outputs).cpu()
            finite = not decoded.is_floating_point() or bool(torch.isfinite(decoded).all())
        if not finite:
            raise ModelError(
                "predict",
                "predictions with NaN or Inf",
                "finite ones",
                "train again with a smaller learning rate: --lr 0.001",
            )
        return decoded

    def drawn(self, image: Any, prediction: Prediction) -> np.ndarray:
        """The prediction for a path, PIL image or array drawn over it: (H, W, 3) uint8, in the size of the file where
        the task predicts in its pixels, else in that of the input."""
        task, placed = self.task, prediction.placed
        if placed is None:
            return task.draw(self.prepare(image), prediction.decoded)
        whole = replace(self.preparation, input_shape=(3, *placed.file))
        pixels = medium_of(whole.kind).prepare(image, whole) if not isinstance(image, np.ndarray) else image
        return task.draw(pixels, task.in_file(prediction.decoded, placed))

    def prepare(self, image: Any) -> np.ndarray:
        """One image as `predict` takes it, as a raw input of `preparation.input_shape`. Raises DataError."""
        return medium_of(self.preparation.kind).prepare(image, self.preparation)


def settled(task: Task, saved: Mapping[str, Any]) -> Task:
    """The task with what validation decided in the last epoch of a checkpoint."""
    history = saved.get("history") or ()
    return task.settled(history[-1]["val"]) if history else task


def trained_to_dict(trained: Trained, model: str | None) -> dict[str, Any]:
    """What a checkpoint holds beside the weights, as plain values.

    `model` is how to build the network again, or None where no name does.
    """
    return {
        "network": {
            "name": model,
            "input_shape": list(trained.preparation.input_shape),
            "dense": trained.task.needs == "map",
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
    """The trained network of a checkpoint; `module` replaces the one that its name builds.

    Raises RunError when the weights do not fit the network, ModelError when it cannot be built by name.
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
        views: Views = saved.get("views", "none")  # runs of earlier versions have one view
        VIEW_COUNTS[views]  # a KeyError for others
    except (KeyError, TypeError) as error:
        raise RunError(where, f"a checkpoint without {error}", "one of this version", "train again") from None
    if module is None:
        if name is None:
            raise ModelError(
                where,
                "a run of an nn.Module that was made in Python",
                "the module, since no name builds it",
                "striate.load(path, module=your_module)",
            )
        refuse_untrusted(name, where, shape, task.outputs)
        network = build_model(name, shape, task.built_outputs, dense=task.needs == "map", new_head=True)
        module = task.attach(network, shape)
    try:
        module.load_state_dict(saved.get("ema") or saved["model"])
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        what = f"those of {name}" if name is not None else "a module of the form that was trained"
        remedy = "train again" if name is not None else "striate.load(path, module=a_module_of_that_form)"
        raise RunError(where, f"weights that do not fit: {first}", what, remedy) from None
    return Trained(module.to(device).eval(), task, preparation, normalization, classes, device, views)
