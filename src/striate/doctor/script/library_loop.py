"""The training loop of a library's trainer, Lightning's or Hugging Face's, recognized without importing the library."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.setup.library_training import LibraryTraining, MetricFunction, Scheduled
from striate.observe.tensors import tensors_in

_IGNORED = -100
"""The label of padded positions."""


def find_library_loop() -> tuple[TrainingLoop, Any] | None:
    """The training loop of a running trainer, and its validation data; None where no trainer is running."""
    for value in _running():
        kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__}
        if kinds & {"lightning.Trainer", "pytorch_lightning.Trainer"}:
            return _of_lightning(value)
        if "transformers.Trainer" in kinds:
            return _of_transformers(value)
    return None


def _running() -> Iterator[Any]:
    """The objects whose methods are running, and the trainers that are their attributes."""
    frame: types.FrameType | None = inspect.currentframe()
    while frame is not None:
        for name in ("self", "trainer"):
            value = frame.f_locals.get(name)
            yield value
            if not isinstance(value, nn.Module):
                with suppress(Exception):  # a property of a library's
                    yield getattr(value, "trainer", None)
        frame = frame.f_back


class NoStep(Exception):
    """A training whose step cannot be run on copies, so that only its code is read; the text gives the reason."""


def _of_lightning(trainer: Any) -> tuple[TrainingLoop, Any]:
    module = trainer.lightning_module
    by_hand = not module.automatic_optimization
    if by_hand and len(trainer.optimizers) > 1:
        raise NoStep(
            f"{type(module).__name__} has {len(trainer.optimizers)} optimizers that its training_step steps by hand; "
            "steps are tried only with one optimizer"
        )
    clip, by_value = trainer.gradient_clip_val, trainer.gradient_clip_algorithm == "value"
    clipping = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
    every = [found.scheduler for found in trainer.lr_scheduler_configs]
    schedules = tuple(
        Scheduled(found.scheduler, "batch" if found.interval == "step" else "epoch", str(found.monitor or ""))
        for found in (() if by_hand else trainer.lr_scheduler_configs)  # else its code steps them
    )
    each_step = [found.scheduler for found in schedules if found.often == "batch"]  # copied with the step
    attached, moved, ended = _attaching(trainer), _moving(trainer), _ending(trainer)
    passed = [0]

    def evaluate(model: Any, batches: Iterable[Any]) -> dict[str, Any]:
        with attached(model):
            return _logged_by_lightning(model, batches)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Any:
        if by_hand:  # it may step once in several batches
            passed[0] += 1
            with attached(model):
                batch = moved(model, batch)
                value = _stepped_by_hand(model, batch, passed[0], optimizer, every)
                ended(model, value, batch, passed[0])
            return value
        optimizer.zero_grad()
        with attached(model):
            batch = moved(model, batch)
            given = model.training_step(batch, *[0] * (_arguments(model.training_step) > 1))
        value = given["loss"] if isinstance(given, Mapping) else given
        if value is None:  # Lightning skips the optimizer's step
            return None
        value.backward()
        if clip:
            clipping(model.parameters(), clip)
        optimizer.step()
        for scheduler in each_step:
            scheduler.step()
        with attached(model):
            ended(model, given, batch, 0)
        return value.detach()

    by_steps = trainer.max_steps > 0 or (trainer.max_epochs or 0) <= 0
    library = LibraryTraining(
        "Lightning's Trainer",
        None if by_steps else int(trainer.max_epochs),
        schedules,
        (module.training_step, module.forward),
        evaluate if _is_own(module.validation_step) else None,
        int(trainer.accumulate_grad_batches),
    )
    where = f"Lightning's Trainer ({type(module).__name__}.training_step)"
    train = trainer.train_dataloader
    val = _validation_loader(trainer.val_dataloaders, train)
    if val is None and trainer.datamodule is not None:
        with suppress(Exception):  # Lightning's default method raises an error, and the user's may
            val = _validation_loader(trainer.datamodule.val_dataloader(), train)
    train = _Together(train) if isinstance(train, Mapping) else train
    return _loop(step, train, where, module, library), val


def _moving(trainer: Any) -> Callable[[Any, Any], Any]:
    """A function that converts a batch to the trainer's precision, and applies the batch hooks of the module, or else
    those of its data module."""
    convert, data = getattr(getattr(trainer, "precision_plugin", None), "convert_input", None), trainer.datamodule

    def moved(model: Any, batch: Any) -> Any:
        batch = batch if convert is None else convert(batch)
        for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
            hooks = [hook for one in (model, data) if (hook := getattr(one, name, None)) is not None and _is_own(hook)]
            batch = hooks[0](batch, 0) if hooks else batch
        return batch

    return moved


def _ending(trainer: Any) -> Callable[[Any, Any, Any, int], None]:
    """A function that runs the user's callbacks and the module's hook after a step, as to update an average of weights.
    Each copy of the module has copies of the callbacks. As in `_attaching`, the step refers to this function, not to
    the trainer."""
    name = "on_train_batch_end"
    found = [one for one in getattr(trainer, "callbacks", None) or () if _is_own(getattr(one, name))]
    copies: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def ended(model: Any, given: Any, batch: Any, number: int) -> None:
        if model not in copies:
            copies[model] = []
            for callback in found:
                with suppress(Exception):
                    copies[model].append(copy.deepcopy(callback))
        for callback in copies[model]:
            with suppress(Exception):  # it may read metrics that only a complete training logs
                getattr(callback, name)(trainer, model, given, batch, number)
        hook = getattr(model, name, None)
        if hook is not None and _is_own(hook):
            with suppress(Exception):
                hook(given, batch, number)

    return ended


class _Together:
    """Batches of several loaders by name; shorter loaders repeat, as in Lightning."""

    def __init__(self, loaders: Mapping[str, Any]) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return max(map(len, self.loaders.values()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        each = {name: itertools.chain.from_iterable(itertools.repeat(loader)) for name, loader in self.loaders.items()}
        return ({name: next(batches) for name, batches in each.items()} for _ in range(len(self)))


def _attaching(trainer: Any) -> Callable[[Any], AbstractContextManager[None]]:
    """A context that attaches the trainer to a copy of a module, which Lightning's copying omits, and disables logging.
    The step refers to this function, not to the trainer, which would be copied with it."""

    @contextmanager
    def attached(model: Any) -> Iterator[None]:
        modules = [part for part in model.modules() if "_trainer" in vars(part)]
        before = [vars(part)["_trainer"] for part in modules]
        for part in modules:
            vars(part).update(_trainer=trainer, log=_log_nothing, log_dict=_log_nothing)
        try:
            yield
        finally:
            for part, known in zip(modules, before, strict=True):
                vars(part)["_trainer"] = known
                vars(part).pop("log", None)
                vars(part).pop("log_dict", None)

    return attached


def _log_nothing(*_: Any, **__: Any) -> None:
    pass


def _stepped_by_hand(model: Any, batch: Any, number: int, optimizer: Any, schedulers: list[Any]) -> torch.Tensor:
    """Run the module's manual optimization on batch `number`, with this optimizer and these schedulers. Returns the
    mean of the losses that it called `manual_backward` with."""
    losses: list[torch.Tensor] = []

    def backward(loss: torch.Tensor, *_: Any, **__: Any) -> None:
        losses.append(loss.detach())
        loss.backward()

    def clip(_: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: Any = None) -> None:
        by_value = str(getattr(gradient_clip_algorithm, "value", gradient_clip_algorithm)) == "value"
        if gradient_clip_val:
            clipping = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
            clipping(model.parameters(), gradient_clip_val)

    ours = {
        "optimizers": lambda *_, **__: optimizer,
        "lr_schedulers": lambda: schedulers[0] if len(schedulers) == 1 else schedulers or None,
        "manual_backward": backward,
        "clip_gradients": clip,
    }
    for name, function in ours.items():
        setattr(model, name, function)
    try:
        model.training_step(batch, *[number] * (_arguments(model.training_step) > 1))
    finally:
        for name in ours:
            delattr(model, name)
    return torch.stack(losses).mean() if losses else torch.zeros(())


def _logged_by_lightning(model: Any, batches: Iterable[Any]) -> dict[str, Any]:
    """The metrics that a module logs in validation, by name: means over samples, as in Lightning, or the results of
    metric objects."""
    sums: dict[str, list[float]] = {}
    metrics: dict[str, Any] = {}
    size = 0

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        if hasattr(value, "compute"):
            metrics[name] = value
        else:
            each = sums.setdefault(name, [0.0, 0.0])
            each[0] += float(value) * max(size, 1)
            each[1] += max(size, 1)

    def log_dict(values: Mapping[str, Any], *_: Any, **__: Any) -> None:
        for name, value in values.items():
            log(name, value)

    for part in model.modules():
        if hasattr(part, "compute") and hasattr(part, "reset"):
            part.reset()
    model.log, model.log_dict = log, log_dict
    try:
        with torch.no_grad():
            model.on_validation_epoch_start()
            for number, batch in enumerate(batches):
                size = len(next(iter(tensors_in(batch)), ()))
                model.validation_step(batch, *[number] * (_arguments(model.validation_step) > 1))
            size = 0
            model.on_validation_epoch_end()
        return {name: total / count for name, (total, count) in sums.items()} | {
            name: metric.compute() for name, metric in metrics.items()
        }
    finally:
        del model.log, model.log_dict


def _of_transformers(trainer: Any) -> tuple[TrainingLoop, Any]:
    clip, scheduler = trainer.args.max_grad_norm, trainer.lr_scheduler
    own = _is_own(type(trainer).compute_loss)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Any:
        optimizer.zero_grad()
        if own:
            value = trainer.compute_loss(model, batch)
        else:
            outputs = model(**batch)
            value = outputs["loss"] if isinstance(outputs, Mapping) else outputs[0]
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
        return value.detach()

    def predict(model: Any, batches: Iterable[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            parts = [trainer.prediction_step(model, dict(batch), prediction_loss_only=False)[1:] for batch in batches]
        predicted, labels = (_joined([pair[i].cpu() for pair in parts]) for i in range(2))
        return predicted, labels

    def compute(predicted: torch.Tensor, labels: torch.Tensor) -> Any:
        preprocess = getattr(trainer, "preprocess_logits_for_metrics", None)
        outputs = predicted if preprocess is None else preprocess(predicted, labels)
        kind = sys.modules["transformers"].EvalPrediction
        return trainer.compute_metrics(kind(predictions=outputs.numpy(), label_ids=labels.numpy()))

    metrics = trainer.compute_metrics
    function = None if metrics is None else MetricFunction(predict, compute, getattr(metrics, "__name__", ""))

    arguments, collate = trainer.args, trainer.data_collator
    train, val = _training_batches(trainer), None
    if trainer.eval_dataset is not None and not isinstance(trainer.eval_dataset, Mapping):
        val = DataLoader(trainer.eval_dataset, arguments.eval_batch_size, collate_fn=collate)
    library = LibraryTraining(
        "the Trainer of transformers",
        None if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs),
        (Scheduled(scheduler, "batch"),) if isinstance(scheduler, LRScheduler) else (),
        (trainer.compute_loss, trainer.model.forward),
        None if function is None else lambda model, batches: compute(*predict(model, batches)),
        int(arguments.gradient_accumulation_steps),
        function,
    )
    return _loop(step, train, library.name, trainer.model, library), val


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """The concatenated batches, padded with -100 to the longest, as by the Trainer."""
    longest = max(part.shape[1] for part in parts) if parts[0].ndim > 1 else 0
    return torch.cat(
        [
            nn.functional.pad(part, (*[0, 0] * (part.ndim - 2), 0, longest - part.shape[1]), value=_IGNORED)
            if longest
            else part
            for part in parts
        ]
    )


def _training_batches(trainer: Any) -> Any:
    """The loader of the user's `get_train_dataloader`, or else one with the Trainer's sampler."""
    if _is_own(type(trainer).get_train_dataloader):
        return trainer.get_train_dataloader()
    arguments = trainer.args
    return DataLoader(
        trainer.train_dataset,
        arguments.train_batch_size,
        sampler=trainer._get_train_sampler(),
        collate_fn=trainer.data_collator,
        drop_last=arguments.dataloader_drop_last,
    )


def _loop(
    step: Callable[..., Any], batches: Any, where: str, model: nn.Module, library: LibraryTraining
) -> TrainingLoop:
    step.__module__ = "__main__"  # as the user's code, so that its variables are copied with it
    return TrainingLoop(step, batches, where, {"model": model}, model=model, library=library)


def _is_own(method: Callable[..., Any]) -> bool:
    """Whether a method is the user's, not the library's."""
    return method.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning", "transformers")


def _validation_loader(found: Any, train: Any) -> Any:
    """The validation loader; of several, the first with other data than training, whose data may be the gallery of a
    retrieval."""
    if not isinstance(found, list | tuple):
        return found
    own = _data_of(getattr(train, "dataset", None))
    others = (loader for loader in found if not _equal(_data_of(getattr(loader, "dataset", None)), own))
    return next(others, found[0] if found else None)


def _data_of(data: Any) -> list[torch.Tensor]:
    """The tensors, arrays and lists of numbers that a data set has as attributes, and those of data sets in it."""
    held: list[torch.Tensor] = []
    for value in vars(data).values() if hasattr(data, "__dict__") else ():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, torch.Tensor | np.ndarray) or _are_numbers(part):
                held.append(torch.as_tensor(part))
            elif isinstance(part, Dataset):
                held += _data_of(part)
    return held


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, int | float) for part in value)


def _equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return bool(one) and len(one) == len(other) and all(map(torch.equal, one, other))


def _arguments(function: Callable[..., Any]) -> int:
    return len(inspect.signature(function).parameters)
