"""The call graph of a training step: the calls of torch functions, and whose result each of them takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from striate.wording import python_name

INPUT = -1
"""The batch, among the inputs of a call."""
OUTSIDE_TENSOR = "*"
HEADS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "cross_entropy",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)
"""Functions whose first tensors are recorded: losses, and functions that are applied right before a loss."""
_PRODUCTS = """
linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d embedding matmul __matmul__
__rmatmul__ mm bmm addmm baddbmm einsum tensordot mv multi_head_attention_forward lstm gru rnn_tanh rnn_relu lstm_cell
gru_cell
"""
PRODUCTS = frozenset(_PRODUCTS.split())
_SAME_NUMBERS = """
view reshape flatten unflatten squeeze unsqueeze permute transpose t T mT swapaxes movedim contiguous to type float
double half bfloat16 clone detach data requires_grad __getitem__ select narrow chunk split unbind stack cpu cuda view_as
reshape_as expand dropout alias
"""
SAME_NUMBERS = frozenset(_SAME_NUMBERS.split())
"""Functions that move numbers without changing their values (except dropout)."""
SUMS = frozenset(["add", "sub", "subtract", "rsub", "__add__", "__radd__", "__sub__", "__rsub__"])
DIFFERENCES = frozenset(name for name in SUMS if "sub" in name)
DISTANCES = frozenset(["abs", "absolute", "square", "pow", "__pow__", "norm"])
TIMES = frozenset(["mul", "multiply", "__mul__", "__rmul__"])
QUOTIENTS = frozenset(["div", "divide", "true_divide", "__truediv__", "__div__"])
_LIKE_ANOTHER = ("view_as", "reshape_as", "expand_as", "type_as")
"""Functions that read only the shape or type of their second tensor."""
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
"""Losses that compare numbers with numbers of the same shape."""
NORMAL = ("randn", "randn_like", "normal", "normal_")


@dataclass(frozen=True)
class Call:
    """One call of a torch function."""

    index: int
    name: str
    """Without the trailing underscore of in-place functions; of a user's `torch.autograd.Function`, the name of its
    node."""
    ordinal: int
    """How many calls of this name came before."""
    inside: tuple[str, ...]
    """Names of the modules that were running, the outermost first; a star and the class name for modules outside the
    network."""
    inputs: tuple[int, ...]
    """The calls whose results it takes; INPUT for the batch."""
    parameters: tuple[str, ...]
    """Names of the network's parameters among its tensors; OUTSIDE_TENSOR for other tensors that require a gradient."""
    input_shapes: tuple[tuple[int, ...], ...]
    """Shapes of the tensors that it takes."""
    shape: tuple[int, ...]
    """Shape of its first output."""
    options: dict[str, Any]
    """Its other arguments, by position or name."""
    input_requires_grad: bool
    """Whether any input requires a gradient."""
    output_requires_grad: bool
    """Whether any output requires a gradient."""
    from_batch: bool
    """Whether the output depends on the batch."""
    line: str = ""
    """The user's line of code, with its file and number; empty unless the gradient ends at this call."""

    def option(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that is not a tensor, by its position or name."""
        return self.options.get(name, self.options.get(str(position), default))

    @property
    def module(self) -> str:
        """The innermost module; empty where only the network itself was running."""
        return self.inside[-1] if self.inside else ""

    @property
    def place(self) -> str:
        """The innermost module as a Python expression, such as `features[3]`."""
        return python_name(self.module.lstrip("*")) if self.module else "forward"


@dataclass(frozen=True)
class Head:
    """A call of a loss or a softmax, with its first two tensors, detached."""

    call: Call
    outputs: torch.Tensor
    targets: torch.Tensor | None


@dataclass(frozen=True)
class TracedModule:
    """One call of a module."""

    name: str
    """As in Call.inside."""
    module: torch.nn.Module
    inputs: tuple[int, ...]
    """The calls that computed its inputs."""
    output: int | None
    """The call that computed its output; None where no call did."""
    training: bool
    inside: tuple[str, ...]
    input_ids: tuple[int, ...] = ()
    """Ids of its input tensors."""


@dataclass
class OutsideTensor:
    """A tensor that requires a gradient and is used in a step, but is no parameter of the network."""

    tensor: torch.Tensor
    inside: tuple[str, ...]
    """As in Call.inside."""
    is_parameter: bool
    before: torch.Tensor
    """Its values before the step."""
    optimized: bool = False
    """Whether the optimizer has it."""
    within: bool = True
    """Whether a module of the network was running."""
    recreated: bool = False
    """Whether the next step uses a new tensor in its place."""
    calls: list[int] = field(default_factory=list)
    """The calls that use it."""

    @property
    def trained(self) -> bool:
        """Whether the step changed it, or the optimizer has it."""
        return self.optimized or not torch.equal(self.before, self.tensor.detach())


@dataclass
class CallGraph:
    """All calls of one step."""

    calls: list[Call] = field(default_factory=list)
    modules: list[TracedModule] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    outside_tensors: list[OutsideTensor] = field(default_factory=list)
    root: int | None = None
    """The call whose output the first backward pass started from, or else the call that computed the loss."""
    output: int | None = None
    """The call that computed the output of the network's first call."""
    backward: bool = False
    """Whether there was a backward pass."""
    failed: tuple[str, tuple[tuple[int, ...], ...], tuple[str, ...]] | None = None
    """The function that raised an error, the shapes of its tensors, and the modules that were running."""
    error: Exception | None = None

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of the parameters that any call uses."""
        return frozenset(name for call in self.calls for name in call.parameters)

    @cached_property
    def used_by_loss(self) -> frozenset[str]:
        """Names of the parameters that the loss depends on: not of those that only an average of weights reads."""
        if self.root is None:
            return self.used
        before = (self.calls[index] for index in self.ancestors(self.root) if index >= 0)
        return frozenset(name for call in before for name in call.parameters)

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each call, the calls that take its result."""
        found: list[list[int]] = [[] for _ in self.calls]
        for call in self.calls:
            for index in set(call.inputs):
                if index >= 0:
                    found[index].append(call.index)
        return tuple(map(tuple, found))

    def ancestors(self, index: int) -> frozenset[int]:
        """The calls that a call's result depends on, itself included; INPUT where it depends on the batch."""
        found: set[int] = set()
        awaiting = [index]
        while awaiting:
            at = awaiting.pop()
            if at not in found:
                found.add(at)
                if at >= 0:
                    awaiting += self.calls[at].inputs
        return frozenset(found)

    def origin(self, index: int) -> Call | None:
        """The call that computed the numbers in a call's result, skipping calls that only reshape them. None where the
        numbers are the batch's."""
        while index >= 0:
            call = self.calls[index]
            if call.name not in SAME_NUMBERS:
                return call
            # The numbers of `boxes[mask]` come from `boxes`.
            given = call.inputs[:1] if call.name == "__getitem__" else call.inputs
            data = [i for i in given if i == INPUT or self.calls[i].from_batch]
            if len(set(data)) != 1:
                return call
            index = data[0]
        return None

    def noise_targets(self) -> Iterator[tuple[Call, int, Call]]:
        """Losses whose targets are drawn from a normal distribution, as in diffusion models: of torch's losses, or
        squares of differences. Yields the loss call, the call that computed the prediction, and the call that drew the
        noise."""
        errors = [(head.call, False) for head in self.heads if head.call.name in REGRESSION]
        errors += [(call, True) for call in self.calls if call.name in DIFFERENCES and self._is_squared(call)]
        for call, either_way in errors:
            for output, target in (call.inputs, call.inputs[::-1])[: 1 + either_way] if len(call.inputs) == 2 else ():
                made = self.origin(target)
                if made is None or made.name not in NORMAL or (either_way and not self._is_trained(output, made)):
                    continue
                yield call, output, made

    def _is_squared(self, call: Call) -> bool:
        return any(self.calls[index].name in DISTANCES for index in self.consumers[call.index])

    def _is_trained(self, output: int, made: Call) -> bool:
        """Whether a result has a gradient, and the shape of the noise: not a number for each pair of samples."""
        return output >= 0 and self.calls[output].output_requires_grad and self.calls[output].shape == made.shape

    def is_weights(self, call: Call) -> bool:
        """Whether a call multiplies values that depend on the batch with weights."""
        if call.name not in PRODUCTS or not call.from_batch:
            return False
        derived = any(i >= 0 and not self.calls[i].from_batch for i in call.inputs)
        return bool(call.parameters) or derived

    @cached_property
    def weights(self) -> tuple[Call, ...]:
        """The calls that multiply with weights, in order."""
        return tuple(call for call in self.calls if self.is_weights(call))

    def bottlenecks(self, end: int) -> Iterator[Call]:
        """The calls that every path from the batch to `end` passes through, in order."""
        known = sorted(i for i in self.ancestors(end) if i >= 0 and self.calls[i].from_batch)
        # A call is a bottleneck if no edge leads from the batch, or an earlier call, past it to a later call.
        farthest = INPUT
        last_use = {INPUT: INPUT}
        for index in known:
            call = self.calls[index]
            for source in call.inputs[:1] if call.name in _LIKE_ANOTHER else call.inputs:
                last_use[source] = max(last_use.get(source, INPUT), index)
        reach = last_use[INPUT]
        for index in known:
            if reach <= index and farthest <= index:
                yield self.calls[index]
            farthest = max(farthest, last_use.get(index, index))

    @property
    def end(self) -> int | None:
        """The call that computed the network's outputs, or else the loss."""
        return self.output if self.output is not None else self.root
