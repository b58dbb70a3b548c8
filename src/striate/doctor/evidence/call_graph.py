"""What a training step computes, function by function: which call's result goes into which, and where it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from striate.wording import python_name

INPUT = -1
"""Stands, among the inputs of a call, for the batch."""
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
"""Functions of which the first tensors are kept: losses, and what stands right before one."""
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
"""What changes the place of numbers, not their values (dropout aside)."""
SUMS = frozenset(["add", "sub", "subtract", "rsub", "__add__", "__radd__", "__sub__", "__rsub__"])
DIFFERENCES = frozenset(name for name in SUMS if "sub" in name)
DISTANCES = frozenset(["abs", "absolute", "square", "pow", "__pow__", "norm"])
TIMES = frozenset(["mul", "multiply", "__mul__", "__rmul__"])
QUOTIENTS = frozenset(["div", "divide", "true_divide", "__truediv__", "__div__"])
_LIKE_ANOTHER = ("view_as", "reshape_as", "expand_as", "type_as")
"""Of their second tensor they take no numbers."""
_ERRORS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
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
    """Names of the modules that were running, the outermost first; of modules outside the network, a star and the name
    of the class."""
    inputs: tuple[int, ...]
    """The calls that made its tensors; INPUT for the batch."""
    parameters: tuple[str, ...]
    """Names of the network's parameters among its tensors; OUTSIDE_TENSOR for other tensors that require a gradient."""
    given: tuple[tuple[int, ...], ...]
    """Shapes of its input tensors."""
    shape: tuple[int, ...]
    """Shape of its first output."""
    options: dict[str, Any]
    """Its other arguments, by position or name."""
    takes_gradient: bool
    """Whether any input requires a gradient."""
    gives_gradient: bool
    """Whether any output requires a gradient."""
    from_batch: bool
    """Whether the output depends on the batch."""
    line: str = ""
    """File and line of the user's code, where the call cuts off the gradient."""

    def option(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that is not a tensor, by its position or name."""
        return self.options.get(name, self.options.get(str(position), default))

    @property
    def module(self) -> str:
        """The innermost module; `` where there is none but the network."""
        return self.inside[-1] if self.inside else ""

    @property
    def place(self) -> str:
        """Where that is, as Python names it."""
        return python_name(self.module.lstrip("*")) if self.module else "forward"


@dataclass(frozen=True)
class Head:
    """What a loss, or a softmax, was given: the first two tensors, detached."""

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
    """The calls that made its inputs."""
    output: int | None
    """The call that made its output; None where no call did."""
    training: bool
    inside: tuple[str, ...]
    given: tuple[int, ...] = ()
    """Numbers that identify its input tensors."""


@dataclass
class OutsideTensor:
    """A tensor that requires a gradient and takes part in a step, but is no parameter of the network."""

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
    made_anew: bool = False
    """Whether the next step uses a new tensor in its place."""
    calls: list[int] = field(default_factory=list)
    """The calls that use it."""

    @property
    def trained(self) -> bool:
        """Whether anything changes it."""
        return self.optimized or not torch.equal(self.before, self.tensor.detach())


@dataclass
class CallGraph:
    """All calls of one step."""

    calls: list[Call] = field(default_factory=list)
    modules: list[TracedModule] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    outside_tensors: list[OutsideTensor] = field(default_factory=list)
    root: int | None = None
    """The call whose output the backward pass started from, or else the call that gave the loss."""
    output: int | None = None
    backward: bool = False
    """Whether there was a backward pass."""
    failed: tuple[str, tuple[tuple[int, ...], ...], tuple[str, ...]] | None = None
    """A function that raised an error, with the shapes that it was given."""
    error: Exception | None = None

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of parameters that any call takes."""
        return frozenset(name for call in self.calls for name in call.parameters)

    @cached_property
    def used_by_loss(self) -> frozenset[str]:
        """Names of parameters that the loss is made with: not of those that an average alone reads."""
        if self.root is None:
            return self.used
        before = (self.calls[index] for index in self.before(self.root) if index >= 0)
        return frozenset(name for call in before for name in call.parameters)

    @cached_property
    def behind(self) -> tuple[tuple[int, ...], ...]:
        """By call: the calls that take its result."""
        found: list[list[int]] = [[] for _ in self.calls]
        for call in self.calls:
            for index in set(call.inputs):
                if index >= 0:
                    found[index].append(call.index)
        return tuple(map(tuple, found))

    def before(self, index: int) -> frozenset[int]:
        """All calls that a call's result is made of, itself among them; INPUT where the batch is."""
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
        """The call that made the numbers which a call gives, past all that only changes their shape."""
        while index >= 0:
            call = self.calls[index]
            if call.name not in SAME_NUMBERS:
                return call
            # Of `boxes[mask]` the numbers are the boxes'.
            given = call.inputs[:1] if call.name == "__getitem__" else call.inputs
            data = [i for i in given if i == INPUT or self.calls[i].from_batch]
            if len(set(data)) != 1:
                return call
            index = data[0]
        return None

    def noise_asked_for(self) -> Iterator[tuple[Call, int, Call]]:
        """Errors, of torch's losses or of squares of a difference, whose targets are numbers of a normal distribution,
        with the calls that made what is compared with these, and those that drew them."""
        errors = [(head.call, False) for head in self.heads if head.call.name in _ERRORS]
        errors += [(call, True) for call in self.calls if call.name in DIFFERENCES and self._is_squared(call)]
        for call, either_way in errors:
            for output, target in (call.inputs, call.inputs[::-1])[: 1 + either_way] if len(call.inputs) == 2 else ():
                made = self.origin(target)
                if made is None or made.name not in NORMAL or (either_way and not self._is_trained(output, made)):
                    continue
                yield call, output, made

    def _is_squared(self, call: Call) -> bool:
        return any(self.calls[index].name in DISTANCES for index in self.behind[call.index])

    def _is_trained(self, output: int, made: Call) -> bool:
        """Whether a result has a gradient, and a number for each of those drawn: not one for each pair of samples."""
        return output >= 0 and self.calls[output].gives_gradient and self.calls[output].shape == made.shape

    def is_weights(self, call: Call) -> bool:
        """Whether a call multiplies what comes from the batch with weights."""
        if call.name not in PRODUCTS or not call.from_batch:
            return False
        derived = any(i >= 0 and not self.calls[i].from_batch for i in call.inputs)
        return bool(call.parameters) or derived

    @cached_property
    def weights(self) -> tuple[Call, ...]:
        """The calls that multiply with weights, in order."""
        return tuple(call for call in self.calls if self.is_weights(call))

    def bottlenecks(self, end: int) -> Iterator[Call]:
        """The calls that all that `end` knows of the batch passes through, in order."""
        known = sorted(i for i in self.before(end) if i >= 0 and self.calls[i].from_batch)
        # A call is one if no edge from the batch or an earlier call leads past it to a later one.
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
        """The call that gave the network's outputs, or else the loss."""
        return self.output if self.output is not None else self.root
