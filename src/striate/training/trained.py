"""A trained network with all that a prediction needs: preparation, normalization, task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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


Read = tuple[np.ndarray, tuple[int, int] | None]
"""A raw input, and where the task says where something is, the height and width of its file in pixels."""


@dataclass(frozen=True)
class Prediction:
    """One prediction: `fields` are those of a `predict --json` line (`label`, `probability`, `top`; or `value`);
    `decoded` the tensor behind them (class probabilities, numbers, or a mask)."""

    fields: dict[str, Any]
    decoded: torch.Tensor

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
            return self.predict([images], plan=plan)[0]
        files = any(isinstance(image, str | Path) for image in images)
        inputs = map_ordered(self.read, images) if files and len(images) > 1 else map(self.read, images)
        return list(
            self._predict_all(inputs, self.planned(self._spread(images, self.prepare), len(images), asked=plan))
        )

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
        spread, given = self._spread(inputs, lambda raw: raw), ((raw, None) for raw in inputs)
        return list(self._predict_all(given, self.planned(spread, len(inputs), batch=batch, asked=plan), batch))

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
        self, inputs: Iterable[Read], answering: Predictor, batch: int | None = None
    ) -> Iterator[Prediction]:
        """Predictions in order, one batch of inputs at a time."""
        source = iter(inputs)
        while part := list(islice(source, batch or batch_size(self.preparation.input_shape))):
            yield from self.answer_batch(part, answering)

    def answer_batch(self, inputs: Sequence[Read], answering: Predictor) -> list[Prediction]:
        """Predictions for prepared raw inputs with the sizes of their files, all at once, computed as `answering`
        says."""
        decoded = self.decode(torch.from_numpy(np.stack([raw for raw, _ in inputs])), answering)
        return [
            Prediction(self.task.describe(self.in_file(answer, size)), answer)
            for answer, (_, size) in zip(decoded, inputs, strict=True)
        ]

    def in_file(self, decoded: torch.Tensor, size: tuple[int, int] | None) -> Any:
        """One prediction where it is in a file of (height, width) `size`; None for the input itself."""
        shape, medium = self.preparation.input_shape, medium_of(self.preparation.kind)
        if not medium.pictures:
            return decoded
        placement = None if size is None else medium.placement(size, self.preparation)
        return self.task.in_file(decoded, placement or Placement.whole((shape[1], shape[2])))

    def read(self, image: Any) -> Read:
        """One image as `predict` takes it, prepared, with the size of its file where the task says where something is.
        Raises DataError."""
        medium, raw = medium_of(self.preparation.kind), self.prepare(image)
        if not self.task.is_in_file or not (isinstance(image, str | Path) or hasattr(image, "getexif")):
            return raw, None
        return raw, medium.file_size(Path(image) if isinstance(image, str) else image, str(image), self.preparation)

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

    def prepare(self, image: Any) -> np.ndarray:
        """One image as `predict` takes it, as a raw input of `preparation.input_shape`. Raises DataError."""
        return medium_of(self.preparation.kind).prepare(image, self.preparation)


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
        task = task_from_state(saved["task"], where)
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
        outputs = None if task.reads_tree or task.needs == "pyramid" else task.outputs
        module = build_model(name, shape, outputs, dense=task.needs == "map", new_head=True)
    module = task.attach(module, shape)
    try:
        module.load_state_dict(saved.get("ema") or saved["model"])
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        what = f"those of {name}" if name is not None else "a module of the form that was trained"
        remedy = "train again" if name is not None else "striate.load(path, module=a_module_of_that_form)"
        raise RunError(where, f"weights that do not fit: {first}", what, remedy) from None
    return Trained(module.to(device).eval(), task, preparation, normalization, classes, device, views)
