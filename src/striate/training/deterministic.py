"""`execution.deterministic`: the same bits each time, or a refusal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.normalize import Normalize
from striate.errors import ConfigError, ModelError, TrainingError
from striate.models.preserved_state import original_preserved
from striate.models.weights.auxiliary_outputs import network_outputs
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import ModuleCall, leaves, module_calls
from striate.observe.tensors import tensors_in
from striate.tasks.task import Task
from striate.training.config import Config, ExecutionConfig

NOTE = "deterministic: no decision depends on timing (plan plain); operations without a deterministic form are refused"

_SAMPLES = 8
_PARTS = 4
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_SIGNS = ("does not have a deterministic implementation", "Deterministic behavior was enabled")


def without_measuring(config: Config) -> Config:
    """The configuration of a deterministic run: plan plain, since a measured plan may differ each time, and batches in
    fixed parts, so that the number of processes does not matter. Unchanged without `execution.deterministic`. Raises
    ConfigError for minutes, whose number of steps would have to be measured, and for `batch_parts` without it."""
    execution = config.execution
    if not execution.deterministic:
        if execution.batch_parts is not None:
            got, expected = f"{execution.batch_parts} without --deterministic", "both options, or neither"
            raise ConfigError("execution.batch_parts", got, expected, "--deterministic")
        return config
    if config.budget.minutes is not None and config.budget.steps is None:
        got = f"{config.budget.minutes:g} with --deterministic, where the speed of the machine would decide the steps"
        raise ConfigError("budget.minutes", got, "a number of epochs", "--epochs 10")
    return replace(config, execution=replace(execution, plan="plain", batch_parts=parts_of_batch(execution)))


def note(execution: ExecutionConfig) -> str:
    """The note of a run about it, once `batch_parts` is decided."""
    if (execution.batch_parts or 1) == 1:
        return NOTE
    parts = f"{execution.batch_parts} parts, and batch normalization sees one part at a time"
    return f"{NOTE}; batches are computed in {parts}: the same bits in 1 to {execution.batch_parts} processes"


def parts_of_batch(execution: ExecutionConfig) -> int:
    """The number of fixed parts in which a deterministic training computes each batch."""
    return execution.batch_parts or (1 if execution.fsdp else _PARTS)


@contextmanager
def deterministic_operations(wanted: bool) -> Iterator[None]:
    """While open, if `wanted`, torch uses deterministic operations only. Raises TrainingError where an operation has no
    deterministic form."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_WORKSPACE)
    # Without a fixed workspace per stream, cuBLAS divides its work in varying ways (NVIDIA's manual, 2.1.4).
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        with layer_named(None):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        if workspace is None:
            del os.environ[_WORKSPACE]


@contextmanager
def layer_named(module: nn.Module | None) -> Iterator[None]:
    """Turn torch's error about an operation without a deterministic form into a TrainingError that names the layer of
    `module` (if given) that was computing, forward or backward."""
    computing = ["an operation"]
    try:
        with nullcontext() if module is None else _followed(module, computing):
            yield
    except (RuntimeError, ModelError) as error:
        message = " ".join(str(error.__cause__ if isinstance(error, ModelError) else error).split())
        if not any(sign in message for sign in _SIGNS):
            raise
        raise _refusal(error.where if isinstance(error, ModelError) else computing[0], message) from None


def refuse_nondeterministic(module: nn.Module, config: Config, task: Task, split: Split, normalize: Normalize) -> None:
    """Where `execution.deterministic` is set, pass a few samples forward and backward, as in training. Raise
    TrainingError for the first layer whose operation has no deterministic form. The network is left as it is."""
    if not config.execution.deterministic:
        return
    samples = min(_SAMPLES, len(split), config.execution.micro_batch or _SAMPLES)
    inputs, targets = normalize(split.inputs[:samples]), split.targets[:samples]
    with original_preserved(module), torch.enable_grad(), layer_named(module):
        module.train()
        given = network_outputs(module, task.outputs_for(module, inputs, targets), whole=task.reads_tree)
        outputs = [given.outputs, *(more for _, more in given.auxiliary)]
        loss = torch.stack([task.loss(output, targets) for output in outputs]).sum()
        if loss.requires_grad:
            loss.backward()


@contextmanager
def _followed(module: nn.Module, computing: list[str]) -> Iterator[None]:
    """While the body runs, keep the name of the layer that computes in `computing`."""
    reached: list[int] = []

    def note(text: str, tensors: object, *, again: bool) -> None:
        def see(gradient: torch.Tensor) -> None:
            # Both layers at a gradient see it: the one that computes with it next is named.
            if again or gradient.data_ptr() not in reached[-1:]:
                computing[0] = text
            reached.append(gradient.data_ptr())

        for tensor in tensors_in(tensors):
            on_gradient(tensor, see)

    def before(call: ModuleCall) -> None:
        computing[0] = f"{call.name} ({type(call.module).__name__})"
        note(f"the operations before {computing[0]}", call.args, again=False)

    def after(call: ModuleCall) -> None:
        layer = f"{call.name} ({type(call.module).__name__})"
        computing[0] = f"the operations after {layer}"
        note(f"the gradient of {layer}", call.output, again=True)

    with module_calls(leaves(module), before, after):
        yield


def _refusal(where: str, message: str) -> TrainingError:
    if _WORKSPACE in message:  # torch has read the variable before it was set
        expected = f"{_WORKSPACE} before the first product on the GPU"
        return TrainingError(
            "execution.deterministic", message[:160], expected, f"{_WORKSPACE}=:4096:8 striate train … --deterministic"
        )
    operation = message.split(" does not have")[0][-60:]
    return TrainingError(
        f"execution.deterministic: {where}",
        f"{operation}, which sums in an order that varies",
        "an operation with a deterministic form",
        "--execution.device cpu for an operation of a GPU, another layer, or leave out --deterministic",
    )
