"""Refuses a training that is impossible as decided, before anything is written. A field without effect is refused,
never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from striate.data.dataset import Dataset, Split
from striate.data.normalize import Normalize
from striate.errors import ConfigError, ModelError, TrainingError
from striate.layers.late_fusion import LateFusion
from striate.models.features import output_layer
from striate.models.preserved_state import on_trial
from striate.models.weights.auxiliary_outputs import network_outputs
from striate.tasks.every import TASKS
from striate.tasks.losses import scalar
from striate.tasks.outputs import Outputs, leaves
from striate.tasks.task import Task
from striate.training.config import BudgetConfig, Config
from striate.training.config_file import get_field
from striate.training.execution import refuse_uncompiled_parts
from striate.training.objective import refuse_empty_penalties
from striate.training.prepared_batch import transformed

_OPTIMIZER = {
    "sgd": {"momentum", "nesterov"},
    "adamw": {"betas"},
    "muon": {"momentum", "nesterov", "betas", "fixed_norm", "other_lr"},
    "lamb": {"betas"},
    "lars": {"momentum", "nesterov"},
    "local-rule": set(),
}
_SCHEDULE = {
    "one-cycle": {"warmup", "final"},
    "cosine": {"warmup", "final"},
    "triangle": {"warmup", "final"},
    "step": {"milestones", "factor"},
    "constant": set(),
}
_NO_GRADIENT = {
    "optim.weight_decay": 0.0,
    "optim.clip": 0.0,
    "task.loss": "auto",
    "task.label_smoothing": 0.0,
    "task.class_weights": "auto",
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
    "regularize.l1": 0.0,
    "regularize.l2": 0.0,
    "regularize.sparsity": 0.0,
    "regularize.kl": 0.0,
    "auxiliary.rotation": 0.0,
    "auxiliary.layers": (),
    "auxiliary.task": 1.0,
    "fine_tune.head_share": 0.0,
    "fine_tune.layer_decay": 1.0,
    "execution.precision": "fp32",
}
"""Fields that change a loss or its gradient, which local learning rules do not use; the values turn them off."""


def refuse_unused_fields(config: Config, task: type[Task], loss: str, *, has_weights: bool = False) -> None:
    """Raise ConfigError for the first field of optimizer, schedule, task, auxiliary heads or fine-tuning that was set
    and has no effect.

    `config.optim.name` must be decided; `task` and `loss` are those in use; `has_weights`: the network begins with
    pretrained weights.
    """
    optimizer, schedule = config.optim.name or "adamw", config.schedule.name or "one-cycle"
    if optimizer == "local-rule":
        _refuse_gradients(config)
    always = {"name", "lr", "weight_decay", "clip", "ema"}
    _refuse("optim", config.optim, always | _OPTIMIZER.get(optimizer, set()), optimizer)
    sizes = {"first_size", "full_size_from"}
    _refuse("schedule", config.schedule, {"name"} | sizes | _SCHEDULE.get(schedule, set()), f"the schedule {schedule}")
    allowed = {"name", "loss"} | task.fields.get(loss, frozenset())
    _refuse("task", config.task, allowed, f"{task.name} with {loss} loss")
    if not config.auxiliary.layers:
        _refuse("auxiliary", config.auxiliary, {"rotation", "layers", "task"}, "no auxiliary.layers")
    if config.auxiliary.task != 1 and (not config.auxiliary.rotation or config.auxiliary.layers):
        got = (
            f"{config.auxiliary.task:g}, {'with auxiliary.layers' if config.auxiliary.layers else 'with nothing else'}"
        )
        expected = "a weight other than 1 only with auxiliary.rotation alone, which is then learned without labels"
        raise ConfigError("auxiliary.task", got, expected, "--auxiliary.rotation 1 --auxiliary.task 0")
    if config.auxiliary.rotation and task.outputs_for is not Task.outputs_for:
        got = f"rotated images for {task.name}, which gives the network the targets of upright images"
        raise ConfigError("auxiliary.rotation", got, "0", "--auxiliary.rotation 0")
    if not has_weights:
        _refuse_fine_tuning(config)


def _refuse_gradients(config: Config) -> None:
    for name, off in _NO_GRADIENT.items():
        value = get_field(config, name)
        if value not in (None, off):
            raise ConfigError(
                name,
                f"{value!r} with local-rule, which has no loss to change and no gradient",
                f"{off!r}",
                f"leave out --{name}",
            )


def _refuse_fine_tuning(config: Config) -> None:
    """Raise ConfigError for fine-tuning of random weights. The values 0 and 1 turn it off."""
    tuning = config.fine_tune
    for name, value, off in (("head_share", tuning.head_share, 0.0), ("layer_decay", tuning.layer_decay, 1.0)):
        if value not in (None, off):
            raise ConfigError(
                f"fine_tune.{name}",
                f"{value} for a network with random weights",
                "pretrained weights: --weights FILE, or --model RUN",
                f"leave out --fine_tune.{name}",
            )


def _refuse(section: str, values: Any, allowed: set[str], owner: str) -> None:
    default = type(values)()
    for field in fields(values):
        value, usual = getattr(values, field.name), getattr(default, field.name)
        if is_dataclass(value):
            _refuse(f"{section}.{field.name}", value, set(), owner)
            continue
        if field.name not in allowed and value != usual:
            raise ConfigError(
                f"{section}.{field.name}",
                f"{value!r} with {owner}",
                f"{'no value' if usual is None else f'the default {usual!r}'}, since the field has no effect there",
                f"leave out --{section}.{field.name}",
            )


def refuse_untrainable(
    config: Config, request: Config, data: Dataset, task: Task, network: nn.Module, *, has_weights: bool
) -> None:
    """Raise ConfigError or TrainingError where network, data and the decided `config` do not fit; `request` is the
    configuration before anything was decided."""
    if config.compare_single and (config.cv is not None or not task.single_targets()):
        got = "with --cv" if config.cv is not None else f"a run of the task {task.name}"
        remedy = "leave out --compare-single, or train on several targets: --targets age:number,gender:class"
        raise ConfigError("compare_single", got, "one training of several targets", remedy)
    refuse_unused_fields(config, type(task), "own" if task.own_loss else task.loss_name, has_weights=has_weights)
    refuse_empty_penalties(network, config.regularize)
    for name, why in task.refused_augmentation.items():
        if value := getattr(config.augment, name):
            raise ConfigError(f"augment.{name}", f"{value} for {task.name}", why, f"leave out --augment.{name}")
    refuse_uncompiled_parts(config)
    unit, batch = task.batch_unit, config.batch or 1
    if unit > 1 and (batch % unit or batch < 2 * unit):
        got = f"{batch}, with {unit} samples of each class in a row"
        nearest = max(2, round(batch / unit)) * unit
        raise ConfigError("batch", got, f"a multiple of {unit}, {2 * unit} or more", f"--batch {nearest}")
    if task.compares_samples:
        _refuse_parts(config, task)
    _refuse_changed_steps(config.budget)
    _refuse_layout(config, data)
    _refuse_lone_samples(config, data, network)
    _refuse_missing_head(network, request)


def _refuse_parts(config: Config, task: Task) -> None:
    parts = {"micro_batch": None, "batch_parts": 1, "processes": 1}
    for name, off in parts.items():
        value = getattr(config.execution, name)
        if value not in (None, off):
            got = f"{value} with the loss {task.loss_name}, which compares all samples of a batch"
            remedy = f"leave out --execution.{name}, or give a smaller --batch"
            raise ConfigError(f"execution.{name}", got, "whole batches in one process", remedy)


_TRIED = 8
"""Training samples on which the user's loss is tried."""


@contextmanager
def number_format_explained(network: nn.Module) -> Iterator[None]:
    """Turn the exception of a first pass into a ModelError where weights have another type than the float32 inputs."""
    try:
        yield
    except RuntimeError as error:
        others = {p.dtype for p in network.parameters() if p.is_floating_point()} - {torch.float32}
        if not others or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelError(
            f"model {type(network).__name__}",
            "weights in " + ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others)),
            "weights in float32, like the inputs",
            "model.float()",
        ) from None


def refuse_wrong_loss(network: nn.Module, task: Task, train: Split, normalize: Normalize) -> None:
    """Raise ConfigError where the user's loss is not a scalar, is NaN or Inf before the first step, or does not depend
    on the network."""
    if not task.own_loss and task.name in TASKS:
        return
    whose = task.own_loss or f"the loss_sum of {task.name}"
    with on_trial(network):
        targets = train.targets[:_TRIED]
        result = task.outputs_for(network, normalize(train.inputs[:_TRIED]), targets)
        outputs = network_outputs(network, result, whole=task.reads_tree).outputs
        loss = scalar(task.loss_sum(outputs, targets), whose) / task.weight(targets)
        depends = loss.requires_grad and _depends_on(loss, outputs)
    if not torch.isfinite(loss).item():
        got = f"{loss.item():g} from {whose} before the first step"
        raise ConfigError(
            "task.loss", got, "a finite number", "check logarithms, divisions and the units of the targets"
        )
    if not depends:
        got = f"a loss from {whose} that does not depend on the network"
        raise ConfigError(
            "task.loss", got, "a loss computed from the outputs by torch alone", "remove detach and argmax"
        )


def _depends_on(loss: torch.Tensor, outputs: Outputs) -> bool:
    """Whether a gradient of the loss reaches any of the outputs: a constant may have `requires_grad` too."""
    tensors = [part for part in leaves(outputs) if part.requires_grad]
    return bool(tensors) and any(g is not None for g in torch.autograd.grad(loss, tensors, allow_unused=True))


def refuse_wrong_transform(network: nn.Module, config: Config, train: Split) -> None:
    """Raise ConfigError where the user's transform raises, or returns another shape or type."""
    name = config.augment.transform
    if name is not None:
        with on_trial(network):
            transformed(train.inputs[:_TRIED], name, dict(config.code))


def refuse_fusion(network: nn.Module, task: Task, train: Split) -> None:
    """Raise ConfigError where a support vector machine is to fuse streams of samples without one class each."""
    fusion = getattr(network, "fusion", None)
    if isinstance(fusion, LateFusion) and fusion.kind == "svm" and not has_one_class(task, train):
        got = f"fusion=svm for the task {task.name}"
        raise ConfigError("model", got, "clips with one class each", "--model two-stream")


def has_one_class(task: Task, split: Split) -> bool:
    """Whether outputs are scores of classes, and each sample has one class."""
    targets = split.targets
    one = isinstance(targets, torch.Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return one and not task.gives_vector


def refuse_unused_packs(request: Config) -> None:
    """Raise ConfigError where a folder of packs is given with a stream, which uses none."""
    data = request.data
    if data.packs is not None and data.store == "stream" and "data.store" not in request.decided:
        raise ConfigError(
            "data.packs",
            f"{data.packs} with data.store stream, which decodes in each epoch",
            "auto, pack or memory, which use packs",
            "leave out --data.packs, or give --data.store pack",
        )


def _refuse_changed_steps(budget: BudgetConfig) -> None:
    path, steps = budget.steps_before, budget.steps
    if not path:
        return
    ends = [end for end, _ in path]
    ascending = all(a < b for a, b in pairwise(ends))
    if ascending and all(end < least for end, least in (*path, (ends[-1], steps or 0))):
        return
    got = f"{[list(pair) for pair in path]} for a run of {steps or 'open'} steps"
    expected = "pairs [done, steps] in ascending order, each with fewer steps done than the total, then and at the end"
    raise ConfigError("budget.steps_before", got, expected, "--budget.steps_before '[]'")


def _refuse_layout(config: Config, data: Dataset) -> None:
    if config.execution.memory_format == "channels_last" and len(data.input_shape) < 3:
        raise ConfigError(
            "execution.memory_format",
            "channels_last for a table" if data.medium.flat else "channels_last for signals",
            "contiguous; only images and volumes have channels_last",
            "leave out --execution.memory_format",
        )


def fewest_at_once(network: nn.Module) -> int:
    """The fewest samples of a training step: 2 with batch normalization, since one sample has no variance, else 1."""
    return 2 if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()) else 1


def _refuse_lone_samples(config: Config, data: Dataset, network: nn.Module) -> None:
    if fewest_at_once(network) == 1:
        return
    expected = "2 or more, since one sample has no variance"
    if config.batch == 1 or len(data.splits["train"]) == 1:
        raise TrainingError("batch", "1 sample, with batch normalization", expected, "--batch 16")
    if config.execution.micro_batch == 1:
        got, remedy = "1 sample at once, with batch normalization", "--execution.micro_batch 2"
        raise TrainingError("execution.micro_batch", got, expected, remedy)


def _refuse_missing_head(network: nn.Module, request: Config) -> None:
    """Raise ConfigError where the user requested a head warm-up and the network has no head."""
    share = request.fine_tune.head_share
    if share and "fine_tune.head_share" not in request.decided and output_layer(network) is None:
        raise ConfigError(
            "fine_tune.head_share",
            f"{share:g} for a network without an output layer",
            "a last layer with a kernel or matrix for the warm-up",
            "leave out --fine_tune.head_share",
        )
