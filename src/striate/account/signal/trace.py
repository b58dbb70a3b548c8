"""How strong signal and gradient are in each layer of a network, measured on a batch without changing the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.normalize import Normalize
from striate.layers.blocks import Residual
from striate.machine.memory import ran_out
from striate.models.preserved_state import on_trial
from striate.models.weights.auxiliary_outputs import network_outputs
from striate.observe.gradients import on_gradient
from striate.observe.layer_calls import PRODUCT, LayerCall, layer_calls

SAMPLES = 64
"""Most training samples: enough for a standard deviation, and the measurement costs no more than a training step."""
_FEWEST, _POSITIONS = 8, 1 << 18  # samples; positions of all inputs together: those of 64 images of 64 × 64
SATURATED = 0.97
"""A tanh is saturated where its absolute value exceeds this: its slope is then below 1 − 0.97² = 0.06. A sigmoid is
saturated outside of 0.03 to 0.97."""

Note = Callable[[str, str, object], None]
"""Called with name, kind and output of a layer, activation or residual sum."""
Loss = Callable[[Any], torch.Tensor]
"""From a network's outputs for a batch to the mean loss over the batch."""

_LINEAR = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear)


@dataclass(frozen=True)
class SignalRow:
    """One layer in the first training step."""

    name: str
    kind: str
    """`weights`, `sum` (after a residual block), or the activation: `relu`, `tanh`, …"""
    size: int
    """Number of outputs for one sample."""
    mean: float
    """Mean over all samples and outputs."""
    std: float
    """Standard deviation over all samples and outputs."""
    gradient: float | None = None
    """Root mean square of the derivative of a sample's loss with respect to an output; None where the loss does not
    depend on the layer."""
    saturated: float | None = None
    """Share of saturated outputs, 0 to 1; None for all kinds but `tanh` and `sigmoid`."""
    dead: float | None = None
    """Share of units (channels) that are zero for all samples, 0 to 1; None for all kinds but `relu`."""

    @property
    def gradient_norm(self) -> float | None:
        """L2 norm of the gradient of a sample's loss: unlike `gradient`, the same for maps of any size."""
        return None if self.gradient is None else self.gradient * self.size**0.5


class HasLoss(Protocol):
    """A task, as far as the measurement needs it: its loss."""

    @property
    def reads_tree(self) -> bool:
        """Whether the task reads everything that the network returns, not only one tensor."""
        ...

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        """The scalar mean loss."""
        ...


def samples_of(shape: Sequence[int]) -> int:
    """How many inputs of a shape (C, …) are enough: fewer large images, as each has more positions."""
    return max(_FEWEST, min(SAMPLES, _POSITIONS // math.prod(shape[1:])))


def measure_signal(
    module: nn.Module, task: HasLoss, split: Split, normalize: Normalize, samples: int = SAMPLES
) -> tuple[SignalRow, ...]:
    """The rows of `trace_signal` for at most `samples` of `split`, evenly spaced over it. The loss is the task's,
    including that of the network's auxiliary classifiers."""
    return trace_signal(module, *evenly_spaced_batch(module, task, split, normalize, samples))


def evenly_spaced_batch(
    module: nn.Module, task: HasLoss, split: Split, normalize: Normalize, samples: int = SAMPLES
) -> tuple[torch.Tensor, Loss]:
    """At most `samples` of `split`, evenly spaced over it, as a normalized batch; and a function from the network's
    outputs for this batch to the task's loss, including that of the network's auxiliary classifiers."""
    chosen = torch.linspace(0, len(split) - 1, min(samples, len(split)), device=split.inputs.device).long()
    inputs, targets = normalize(split.inputs[chosen]), split.targets[chosen]

    def loss(result: object) -> torch.Tensor:
        given = network_outputs(module, result, whole=task.reads_tree)
        total = task.loss(given.outputs, targets)
        for weight, more in given.auxiliary:
            total = total + weight * task.loss(more, targets)
        return total

    return inputs, loss


def trace_signal(module: nn.Module, inputs: torch.Tensor, loss: Loss) -> tuple[SignalRow, ...]:
    """One row for each layer with a kernel or matrix, each residual sum and each activation, in execution order.

    `inputs` is a normalized batch (B, …); `loss` computes the mean loss over it from the outputs. The network runs in
    train mode, so that normalization and dropout work as in the first step. Parameters, their gradients, buffers, modes
    and random state do not change.
    Activations have a row whether they are called as modules or as functions. An activation of parameters alone, such
    as a gate that is the same for every sample, has none.
    """
    trace = _Trace(len(inputs))
    watch_pass(module, inputs, loss, trace.note)
    return tuple(trace.rows())


def watch_pass(module: nn.Module, inputs: torch.Tensor, loss: Loss, note: Note) -> None:
    """A forward and a backward pass as in `trace_signal`, which calls `note` for each layer, sum and activation."""
    with (
        on_trial(module, evaluating=False),
        torch.enable_grad(),
        layer_calls(module, lambda call: _select(call, note)),
    ):
        # Dropout and other random layers draw the same numbers in every measurement of a run.
        torch.manual_seed(0)
        module.train()
        given = inputs.detach().clone().requires_grad_(True)
        total = loss(module(given))
        if total.requires_grad:
            # With respect to the inputs only: hooks see the gradients on the way, and no parameter gets one. Reentrant
            # checkpointing does not support this; the rows then have no gradients, and the run goes on.
            try:
                torch.autograd.grad(total, given, allow_unused=True)
            except RuntimeError as error:
                if ran_out(error):
                    raise


def per_sample(output: object, samples: int) -> torch.Tensor | None:
    """The output where it holds numbers for each of the samples of a batch, else None."""
    if not isinstance(output, torch.Tensor) or not output.is_floating_point() or output.numel() == 0:
        return None
    # A gate computed from parameters alone has no batch axis. Inner layers may take windows of an image as samples.
    return None if output.ndim < 2 or len(output) % samples else output


def signal_to_json(rows: Sequence[SignalRow]) -> list[dict[str, Any]]:
    """The rows as JSON objects."""
    return [asdict(row) for row in rows]


def signal_from_json(content: Sequence[dict[str, Any]]) -> tuple[SignalRow, ...]:
    """The rows that `signal_to_json` wrote. A mean or standard deviation that is null, as it was not finite, becomes
    NaN."""
    known = {field.name for field in fields(SignalRow)}
    rows = [{key: value for key, value in row.items() if key in known} for row in content]
    numbers = [{key: float("nan") if row[key] is None else row[key] for key in ("mean", "std")} for row in rows]
    return tuple(SignalRow(**(row | number)) for row, number in zip(rows, numbers, strict=True))


class _Trace:
    """Statistics of the outputs of each layer so far; the backward pass adds those of its gradient."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.seen: list[dict[str, Any]] = []
        self.calls: dict[tuple[str, str], int] = {}

    def note(self, name: str, kind: str, result: object) -> None:
        if (output := per_sample(result, self.samples)) is None:
            return
        # A module may be used twice.
        again = self.calls[name, kind] = self.calls.get((name, kind), 0) + 1
        shown = name if again == 1 else f"{name} ({again})"
        values = output.detach().float()
        row = {"name": shown, "kind": kind, "size": output.numel() // self.samples, **_statistics(kind, values)}
        self.seen.append(row)
        on_gradient(output, lambda gradient: row.update(gradient=self._root_mean_square(gradient)))

    def rows(self) -> Iterator[SignalRow]:
        for row in self.seen:
            yield SignalRow(**row)

    def _root_mean_square(self, gradient: torch.Tensor) -> float:
        # The loss is a mean over the batch: times the number of samples, this is the gradient of a sample's own loss.
        return float(gradient.detach().float().square().mean().sqrt()) * self.samples


def _statistics(kind: str, values: torch.Tensor) -> dict[str, float]:
    std, mean = torch.std_mean(values, correction=0)
    statistics = {"mean": float(mean), "std": float(std)}
    if kind == "tanh":
        statistics["saturated"] = float((values.abs() > SATURATED).float().mean())
    elif kind == "sigmoid":
        statistics["saturated"] = float(((values - 0.5).abs() > SATURATED - 0.5).float().mean())
    elif kind == "relu" and values.ndim > 1:
        units = values.transpose(0, 1).flatten(1)
        statistics["dead"] = float((units == 0).all(1).float().mean())
    return statistics


def _select(call: LayerCall, note: Note) -> None:
    """Call `note` for layers with a kernel or matrix of their own, for residual sums and for activations."""
    part = call.module
    if call.kind is not None and call.kind != PRODUCT:
        note(call.name or call.kind, call.kind, call.output)
    elif isinstance(part, Residual):
        note(call.name, "sum", call.output)
    elif part is not None and _has_kernel(part):
        note(call.name or type(part).__name__, "weights", call.output)


def _has_kernel(layer: nn.Module) -> bool:
    """Whether the layer multiplies by a weight: torch's layers that do, and any with a `weight` of two axes or more."""
    if isinstance(layer, _LINEAR):
        return True
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.ndim > 1 and not isinstance(layer, nn.LayerNorm | nn.Embedding)
