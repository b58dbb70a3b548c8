"""The arguments of a diagnosis, checked, with defaults filled in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.setup.batch import call, main_tensor, parts, placed
from striate.doctor.setup.script_source import ScriptSource
from striate.errors import UsageError
from striate.models.layer_strings.arguments import nearest
from striate.models.preserved_state import is_lazy
from striate.tasks.every import TASKS
from striate.tasks.registry import task_class
from striate.tasks.task import Diagnosed
from striate.wording import several

Loss = Callable[..., torch.Tensor]
Step = Callable[[nn.Module, Any, Optimizer, Loss], Any]
OptimizerOrMaker = Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer]
Batches = Iterable[Any] | tuple[torch.Tensor | np.ndarray, torch.Tensor | np.ndarray]
"""A DataLoader, or arrays (x, y)."""

OWN_RATE = 1e-3
OWN_BATCH = 64


@dataclass(frozen=True)
class TrainingSetup:
    """A network with everything that it is trained with."""

    model: nn.Module
    train: Iterable[Any]
    """Yields training batches."""
    val: Iterable[Any] | None
    """Yields validation batches; None without validation data."""
    loss: Loss
    optimizer: OptimizerOrMaker
    step: Step
    task: str
    """Name of the task."""
    targets: Diagnosed | None
    """What is known of the targets; None where outputs and targets need not be comparable."""
    arrays: bool
    """Whether the training data were passed as arrays (x, y), without a loader."""
    own_loss: bool
    """Whether the loss is the doctor's default, since none was given."""
    own_optimizer: bool
    """Whether the optimizer is the doctor's default, since none was given."""
    own_step: bool
    """Whether the training step is the doctor's default, since none was given."""
    source: ScriptSource | None = None
    """The user's code, where a script was run."""
    rivals: bool = False
    """Whether networks train against each other, as in a GAN, so that their losses do not measure progress."""

    @property
    def classifies(self) -> bool:
        """Whether the task is classification."""
        return self.targets is not None and self.targets.targets == "labels"

    @property
    def measures(self) -> bool:
        """Whether the task is regression."""
        return self.targets is not None and self.targets.targets == "numbers"

    @property
    def compares(self) -> bool:
        """Whether outputs are to equal the targets."""
        return self.targets is not None

    @property
    def unlabeled(self) -> int | None:
        """The label of unlabeled positions; None without one."""
        return None if self.targets is None else self.targets.unlabeled

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))


def make_setup(
    model: nn.Module,
    train: object,
    val: object = None,
    *,
    loss: object = None,
    optimizer: object = None,
    step: object = None,
    task: str = "classify",
    source: ScriptSource | None = None,
) -> TrainingSetup:
    """Check the arguments of `diagnose`, and fill in defaults. Raises UsageError."""
    if is_lazy(model):
        remedy = "with torch.no_grad(): model(next(iter(train))[0])"
        raise UsageError("model", "a network with layers that have no shape yet", "one that has seen a batch", remedy)
    similar = nearest(task, TASKS) if isinstance(task, str) else None
    if not isinstance(task, str) or not task or (task not in TASKS and similar is not None):
        expected = f"one of {', '.join(TASKS)}, or a name unlike these for another task"
        raise UsageError("task", repr(task), expected, f'task="{similar or "classify"}"')
    for name, value in (("loss", loss), ("step", step)):
        if isinstance(value, type):
            remedy = f"{name}={'torch.nn.' * value.__module__.startswith('torch.nn.')}{value.__name__}()"
            raise UsageError(name, f"the class {value.__name__}", "a function, or an object that can be called", remedy)
        if value is not None and not callable(value):
            raise UsageError(name, type(value).__name__, "a function", f"leave {name} out, or give a function")
    if optimizer is not None and not isinstance(optimizer, Optimizer) and not callable(optimizer):
        remedy = "optimizer=lambda params: torch.optim.SGD(params, lr=0.1)"
        raise UsageError("optimizer", type(optimizer).__name__, "an Optimizer, or a function that makes one", remedy)
    targets = task_class(task).diagnosed_as if task in TASKS else None
    if loss is None and step is None and targets is None:
        usual = [name for name in TASKS if task_class(name).diagnosed_as is not None]
        expected = f"a loss, if the task is none of {', '.join(usual)}"
        remedy = "loss=torch.nn.BCEWithLogitsLoss() for several labels a sample; else the loss that you train with"
        raise UsageError("loss", f"none, for task {task!r}", expected, remedy)
    if not isinstance(optimizer, Optimizer):
        _load_optimizers()
    return TrainingSetup(
        model,
        _batches(train, "train", model, shuffled=True),
        None if val is None else _batches(val, "val", model, shuffled=False),
        cast(Loss, loss) if loss is not None else _usual_loss(targets),
        cast(Any, optimizer) if optimizer is not None else _own_optimizer,
        cast(Step, step) if step is not None else usual_step,
        task,
        targets,
        arrays=_is_pair(train),
        own_loss=loss is None,
        own_optimizer=optimizer is None,
        own_step=step is None,
        source=source,
    )


@functools.cache
def _load_optimizers() -> None:
    """Make the first optimizer, with which torch imports its compiler: two seconds that should not count."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=OWN_RATE)


def usual_step(model: nn.Module, batch: Any, optimizer: Optimizer, loss: Loss) -> torch.Tensor:
    """The usual training step, with the loss of the outputs for the batch's inputs and its targets."""
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs, targets = parts(placed(batch, place))
    optimizer.zero_grad()
    outputs = call(model, inputs)
    predicted = main_tensor(outputs)
    if predicted is not None:  # the outputs of a network on several devices are on the last of them
        targets = placed(targets, predicted.device)
    value = loss(outputs, targets)
    value.backward()
    optimizer.step()
    return value.detach()


def _usual_loss(targets: Diagnosed | None) -> Loss:
    """The loss of the task, called by its name in torch, so that it is recorded."""
    return functional.mse_loss if targets is None else lambda outputs, labels: targets.loss(outputs, labels)


def _own_optimizer(parameters: Iterable[nn.Parameter]) -> Optimizer:
    known = list(parameters)
    # All parameters where none requires a gradient, which a check will report.
    trained = [p for p in known if p.requires_grad] or known or [nn.Parameter(torch.zeros(1))]
    return torch.optim.Adam(trained, lr=OWN_RATE)


def _is_pair(data: object) -> bool:
    return (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(isinstance(part, torch.Tensor | np.ndarray) for part in data)
    )


def _as_tensor(part: Any, name: str, label: str) -> torch.Tensor:
    try:
        return torch.as_tensor(part)
    except TypeError:  # an array of strings or of objects
        remedy = f"classes, {label} = numpy.unique({label}, return_inverse=True)"
        got = f"{label} is an array of {part.dtype}"
        raise UsageError(name, got, "arrays of numbers; classes as numbers from 0", remedy) from None


def _batches(data: object, name: str, model: nn.Module, *, shuffled: bool) -> Iterable[Any]:
    if isinstance(data, tuple) and len(data) != 2 and all(isinstance(p, torch.Tensor | np.ndarray) for p in data):
        remedy = f"{name}=(x, y); if there are more, a DataLoader, and a `step` that takes its batches apart"
        raise UsageError(name, f"a tuple of {several(len(data), 'tensor')}", "a pair of tensors (x, y)", remedy)
    if _is_pair(data):
        x, y = (_as_tensor(part, name, label) for part, label in zip(cast("tuple[Any, Any]", data), "xy", strict=True))
        if len(x) != len(y) or not len(x):
            got = f"{several(len(x), 'input')} and {several(len(y), 'target')}"
            remedy = "give data with samples" if not len(x) and not len(y) else "pair each input with its own target"
            raise UsageError(name, got, "as many targets as inputs, and one at least", remedy)
        # NumPy's default is float64, which is rarely intended.
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        given = cast("tuple[Any, Any]", data)
        x, y = (
            tensor.to(dtype) if isinstance(part, np.ndarray) and tensor.dtype == torch.float64 else tensor
            for tensor, part in zip((x, y), given, strict=True)
        )
        generator = torch.Generator().manual_seed(0)
        size = min(OWN_BATCH, max(1, len(x) // 4)) if len(x) < 4 * OWN_BATCH else OWN_BATCH
        return DataLoader(TensorDataset(x, y), batch_size=size, shuffle=shuffled, generator=generator)
    if isinstance(data, str | bytes | Mapping | torch.Tensor | np.ndarray) or not hasattr(data, "__iter__"):
        got = f"a {type(data).__name__}"
        remedy = f"{name}=(x, y), or {name}=DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)"
        raise UsageError(name, got, "a DataLoader, or a pair of tensors (x, y)", remedy)
    if hasattr(data, "__next__"):
        remedy = f"pass the DataLoader itself instead of iter({name})"
        raise UsageError(name, "an iterator, which can be read only once", "data that can be read again", remedy)
    return cast("Iterable[Any]", data)
