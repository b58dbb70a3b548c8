"""The training loop of a library's trainer: Lightning's and Hugging Face's, known by their shape, not imported."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from striate.doctor.script.training_loop import TrainingLoop
from striate.errors import UsageError


def find_library_loop() -> tuple[TrainingLoop, Any] | None:
    """The training step of a trainer that is running, and its validation data; None where there is none."""
    for value in _running():
        kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__}
        if kinds & {"lightning.Trainer", "pytorch_lightning.Trainer"}:
            return _of_lightning(value)
        if "transformers.Trainer" in kinds:
            return _of_transformers(value)
    return None


def _running() -> Iterator[Any]:
    """What methods that are running belong to, and the trainers that those hold."""
    frame: types.FrameType | None = inspect.currentframe()
    while frame is not None:
        for name in ("self", "trainer"):
            value = frame.f_locals.get(name)
            yield value
            if not isinstance(value, nn.Module):
                with suppress(Exception):  # a property of a library's
                    yield getattr(value, "trainer", None)
        frame = frame.f_back


def _of_lightning(trainer: Any) -> tuple[TrainingLoop, Any]:
    module = trainer.lightning_module
    if not module.automatic_optimization:
        raise UsageError(
            "script",
            f"{type(module).__name__} has optimization by hand in its training_step, which needs its trainer",
            "automatic_optimization, or a loop of the script's own",
            "striate.diagnose(model, loader, val_loader, loss=loss, optimizer=optimizer, step=step) in Python",
        )
    clip, by_value = trainer.gradient_clip_val, trainer.gradient_clip_algorithm == "value"
    clipping = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
    each_step = [found.scheduler for found in trainer.lr_scheduler_configs if found.interval == "step"]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Any:
        optimizer.zero_grad()
        given = model.training_step(batch, *[0] * (_arguments(model.training_step) > 1))
        value = given["loss"] if isinstance(given, Mapping) else given
        value.backward()
        if clip:
            clipping(model.parameters(), clip)
        optimizer.step()
        for scheduler in each_step:
            scheduler.step()
        return value.detach()

    return _loop(
        step, trainer.train_dataloader, f"Lightning's Trainer ({type(module).__name__}.training_step)", module
    ), (
        _first_loader(trainer.val_dataloaders)
        or (None if trainer.datamodule is None else _first_loader(trainer.datamodule.val_dataloader()))
    )


def _of_transformers(trainer: Any) -> tuple[TrainingLoop, Any]:
    clip, scheduler = trainer.args.max_grad_norm, trainer.lr_scheduler
    own = type(trainer).compute_loss.__module__.partition(".")[0] != "transformers"

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

    def loader(data: Any, size: int, shuffle: bool) -> DataLoader:
        return DataLoader(data, batch_size=size, collate_fn=trainer.data_collator, shuffle=shuffle)

    arguments = trainer.args
    train = loader(trainer.train_dataset, arguments.train_batch_size, True)
    val = None
    if trainer.eval_dataset is not None and not isinstance(trainer.eval_dataset, Mapping):
        val = loader(trainer.eval_dataset, arguments.eval_batch_size, False)
    return _loop(step, train, "the Trainer of transformers", trainer.model), val


def _loop(step: Callable[..., Any], batches: Any, where: str, model: nn.Module) -> TrainingLoop:
    step.__module__ = "__main__"  # it counts as the user's code: what it holds is copied with it
    return TrainingLoop(step, batches, where, {"model": model}, model=model)


def _first_loader(found: Any) -> Any:
    return next(iter(found), None) if isinstance(found, list | tuple) else found


def _arguments(function: Callable[..., Any]) -> int:
    return len(inspect.signature(function).parameters)
