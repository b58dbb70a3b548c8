"""The calls in one training step of the user's: torch's losses, numbers that Python waits for, rows picked one by
one."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.batch import is_binary, main_tensor
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import TrainingSetup
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import ModuleCall, module_calls, optimizer_steps
from striate.observe.torch_calls import torch_functions

_LOSSES: dict[Any, str] = {
    functional.cross_entropy: "cross_entropy",
    functional.nll_loss: "nll_loss",
    functional.mse_loss: "mse_loss",
    functional.l1_loss: "l1_loss",
    functional.smooth_l1_loss: "smooth_l1_loss",
    functional.huber_loss: "huber_loss",
    functional.binary_cross_entropy: "binary_cross_entropy",
    functional.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
    functional.kl_div: "kl_div",
}
_AFTER_TARGET = ("weight", "size_average", "ignore_index", "reduce", "reduction")
"""Of cross entropy and the negative log-likelihood; other losses have no `ignore_index`."""
_FETCHES: dict[Any, str] = {
    torch.Tensor.item: ".item()",
    torch.Tensor.tolist: ".tolist()",
    torch.Tensor.numpy: ".numpy()",
    torch.Tensor.cpu: ".cpu()",
    torch.Tensor.__float__: "float()",
    torch.Tensor.__int__: "int()",
    torch.Tensor.__index__: "int()",
    torch.Tensor.__bool__: "bool()",
    torch.Tensor.__repr__: "print()",
    torch.Tensor.__format__: "format()",
}
_LOG_SOFTMAX = (torch.log_softmax, functional.log_softmax, torch.Tensor.log_softmax)
_PRODUCTS = (torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
_DIFFERENCES = (torch.sub, torch.Tensor.sub, torch.Tensor.__sub__, torch.Tensor.__rsub__)
_SUMS = (torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
_MOVES = (torch.flip, torch.Tensor.flip, torch.rot90, torch.Tensor.rot90, torch.roll, torch.Tensor.roll)
_CONVOLUTIONS = (torch.conv2d, functional.conv2d)
_MOST_NUMBERS = 4_000_000
_MAPS, _MOST_MAPS = 4, 8


@dataclass(frozen=True)
class LossCall:
    """A call of one of torch's losses, with copies of its tensors."""

    name: str
    """Name in torch.nn.functional."""
    input: torch.Tensor
    target: torch.Tensor
    value: torch.Tensor
    """The result."""
    ignored: int = -100
    """Cross entropy and negative log-likelihood: the target that is ignored."""
    reduction: str = "mean"
    weight: torch.Tensor | None = None
    """Cross entropy: weights of the classes. Binary cross entropy: weights of the entries."""
    pos_weight: torch.Tensor | None = None
    """Binary cross entropy with logits: weight of positive targets."""
    exchanged: bool = False
    """Whether input and target are swapped: the target requires a gradient, and the input does not."""
    log_target: bool = False
    """Kullback-Leibler divergence: whether the target is a logarithm."""
    smoothing: float = 0.0
    """Cross entropy: label smoothing."""
    gradients: list[float] = field(default_factory=list)
    """For each backward pass, the gradient of the step's loss by this value, summed; negative where the step increases
    the value."""
    entry_gradients: list[torch.Tensor] = field(default_factory=list)
    """The same gradients, not summed, of a value with a number for each target."""

    @property
    def weights(self) -> torch.Tensor:
        """The weight of each entry of the target: by the weights of a binary cross entropy, and by the factors that the
        step applies to values without reduction."""
        found = torch.ones_like(self.target, dtype=torch.float64)
        if self.name.startswith("binary"):
            found = found if self.weight is None else found * self.weight
            found = found if self.pos_weight is None else torch.where(self.target == 1, found * self.pos_weight, found)
        return found * sum(self.entry_gradients) if self.entry_gradients else found

    @property
    def share(self) -> float:
        """The part of the step's loss that this call contributes, where that is proportional to its value."""
        value = self.value.double()
        return float(
            (sum(self.entry_gradients) * value).sum() if self.entry_gradients else sum(self.gradients) * value.sum()
        )


@dataclass(frozen=True)
class Alignment:
    """A call of `ctc_loss`, with copies of its arguments."""

    log_probs: torch.Tensor
    """(time, samples, classes)."""
    targets: torch.Tensor
    """(samples, positions), or all targets concatenated."""
    input_lengths: torch.Tensor
    target_lengths: torch.Tensor
    blank: int
    """Class number of the blank."""


@dataclass
class StepCalls:
    """The calls of one step."""

    losses: list[LossCall] = field(default_factory=list)
    """Up to 64 calls of torch's losses."""
    alignments: list[Alignment] = field(default_factory=list)
    fetched: Counter[str] = field(default_factory=Counter)
    """How often the step moved a number from a tensor to Python outside of its optimizer, by method."""
    picked: int = 0
    """How often the step indexed a single row of a tensor."""
    anomaly: bool = False
    """Whether anomaly detection was on."""
    backward: list[float] = field(default_factory=list)
    """The numbers that backward passes started from."""
    sizes_differ: bool = False
    """Whether torch warned that outputs and targets have different shapes."""
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    """Shapes of the results after the network's last call, which are those of the loss."""
    shown: torch.Tensor | None = None
    """Input of the network's first call."""
    soft: list[torch.Tensor] = field(default_factory=list)
    """Class probabilities (N, K) that log-probabilities were multiplied by, as a hand-written cross-entropy does."""
    looked_up: list[torch.Tensor] = field(default_factory=list)
    """Index sequences (samples, positions) that any embedding looked up."""
    entries: list[torch.Tensor] = field(default_factory=list)
    """Indices (samples,) that any embedding looked up."""
    differences: set[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=set)
    """Pairs of shapes of subtractions: of the operand that requires a gradient, and of the operand that does not."""
    subtracted: list[torch.Tensor] = field(default_factory=list)
    """The operands without a gradient of these subtractions, where they are maps (N, C, H, W)."""
    sums: set[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=set)
    """The same pairs of shapes of additions."""
    broadcast_maps: set[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=set)
    """Pairs of shapes of differences and products that broadcast a convolution's maps (N, 1, H, W) with (N, H, W)."""
    masks: list[torch.Tensor] = field(default_factory=list)
    """Tensors of zeros and ones that multiply or index maps with a gradient."""
    convolved: torch.Tensor | None = None
    """Input of the first convolution."""
    log_rates: bool = False
    """Whether `poisson_nll_loss` takes the network's outputs as logarithms."""
    exp_of_exp: bool = False
    """Whether these outputs are themselves outputs of `exp`."""
    rates_below_zero: bool = False
    """Whether `poisson_nll_loss` receives negative rates."""
    moved_back: bool = False
    """Whether the step mirrors, rotates or rolls tensors with a gradient after the network's last call, as to undo what
    it did to the inputs."""
    error: BaseException | None = None

    @property
    def largest_loss_weight(self) -> float:
        """The largest derivative of the step's loss by one of the losses, each taken as a mean: 1 where the step adds
        them without factors; 0 where none has a gradient."""
        found = [
            abs(sum(call.gradients)) * (call.input.numel() if call.reduction == "sum" else 1)
            for call in self.losses
            if call.gradients
        ]
        return max(found, default=0.0)


def watch_calls(setup: TrainingSetup, batch: Any, until: float) -> StepCalls:
    """Make one step of a replica on `batch` and record its calls."""
    return watch_steps(setup, [batch], until)[0]


def watch_steps(
    setup: TrainingSetup, batches: Sequence[Any], until: float, prepare: Callable[[Replica], None] = lambda _: None
) -> list[StepCalls]:
    """Make one step of a replica on each of the batches, in order, and record the calls of each step. A step that fails
    is the last; at least one step is made, however late it is. `prepare` is called with the replica before."""
    seen, replicas = list[StepCalls](), list[Replica]()

    def step(model: Any, given: Any, optimizer: Any, _: Any) -> Any:
        seen.append(calls := StepCalls())

        def left_network(_: ModuleCall) -> None:
            calls.shapes.clear()
            calls.moved_back = False

        replica, watcher = replicas[0], _Watcher(calls)
        try:
            with (
                optimizer_steps(optimizer, watcher.enter_optimizer, watcher.leave_optimizer),
                module_calls({"": model}, begin=watcher.enter_network, end=left_network),
                warnings.catch_warnings(record=True) as caught,
                torch_functions(watcher.call),
            ):
                warnings.simplefilter("always")
                returned = replica.step(model, given, optimizer, replica.loss)
        finally:
            calls.sizes_differ = any("Using a target size" in str(warning.message) for warning in caught)
        return returned

    def begin(replica: Replica) -> None:
        replicas.append(replica)
        prepare(replica)

    trial = run_trial(setup, batches, len(batches), until, Change(step=step, prepare=begin), close=False)
    seen = seen or [StepCalls()]
    seen[-1].error = trial.error
    return seen


class _Watcher:
    def __init__(self, calls: StepCalls) -> None:
        self.calls, self.in_optimizer = calls, 0
        self.log_probabilities: list[torch.Tensor] = []

    def enter_network(self, call: ModuleCall) -> None:
        if self.calls.shown is None and call.args and (shown := main_tensor(call.args[0])) is not None:
            self.calls.shown = shown.detach().clone()

    def enter_optimizer(self) -> None:
        self.in_optimizer += 1

    def leave_optimizer(self) -> None:
        self.in_optimizer -= 1

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.in_optimizer:  # some optimizers call .item() on their counters
            return func(*args, **kwargs)
        calls = self.calls
        calls.anomaly = calls.anomaly or torch.is_anomaly_enabled()
        if func in _FETCHES:
            calls.fetched[_FETCHES[func]] += 1
        elif func is torch.Tensor.backward and args[0].numel() == 1:
            calls.backward.append(float(args[0].detach()))
        elif func is torch.Tensor.__getitem__ and _one_row(args):
            calls.picked += 1
        value = func(*args, **kwargs)
        if isinstance(value, torch.Tensor):
            calls.shapes.add(tuple(value.shape))
            self._note_soft_targets(func, args, value)
        both = sum(isinstance(side, torch.Tensor) for side in args[:2]) == 2
        if both and func in (*_DIFFERENCES, *_SUMS, *_PRODUCTS):
            one, other = sorted(args[:2], key=lambda side: not side.requires_grad)
            if one.requires_grad and not other.requires_grad:
                pair = tuple(one.shape), tuple(other.shape)
                if func not in _PRODUCTS:
                    (calls.sums if func in _SUMS else calls.differences).add(pair)
                if func in _DIFFERENCES:
                    _keep_map(calls.subtracted, other)
                if func not in _SUMS and _broadcast_a_channel(*pair) and _is_of_convolution(one):
                    calls.broadcast_maps.add(pair)
        if func in (*_PRODUCTS, torch.Tensor.__getitem__) and len(args) > 1:
            self._note_mask(*args[:2])
        calls.moved_back |= func in _MOVES and args[0].requires_grad
        if func in _CONVOLUTIONS and calls.convolved is None and args:
            calls.convolved = args[0].detach().clone()
        if func in _LOSSES and len(calls.losses) < 64:
            _note_loss(calls, _LOSSES[func], args, kwargs, value)
        if func is functional.poisson_nll_loss:
            calls.log_rates |= kwargs["log_input"]
            calls.exp_of_exp |= kwargs["log_input"] and _is_of_exp(args[0])
            calls.rates_below_zero |= not kwargs["log_input"] and bool((args[0].detach() < 0).any())
        if func is functional.ctc_loss:
            _note_alignment(calls, args, kwargs)
        if func is functional.embedding and args[0].ndim in (1, 2):
            indices = calls.looked_up if args[0].ndim == 2 else calls.entries
            if len(indices) < 64:
                indices.append(args[0].detach().cpu().clone())
        return value

    def _note_mask(self, one: Any, other: Any) -> None:
        if not all(isinstance(side, torch.Tensor) and side.ndim == _MAPS for side in (one, other)):
            return
        one, other = sorted((one, other), key=lambda side: not side.requires_grad)
        if one.requires_grad and not other.requires_grad and is_binary(other):
            _keep_map(self.calls.masks, other)

    def _note_soft_targets(self, func: Any, args: tuple[Any, ...], value: torch.Tensor) -> None:
        if func in _LOG_SOFTMAX and value.ndim == 2:
            self.log_probabilities.append(value)
        elif func in _PRODUCTS and self.log_probabilities and len(args) > 1 and len(self.calls.soft) < 8:
            for one, other in (args[:2], args[1::-1]):
                known = any(one is log for log in self.log_probabilities)
                if known and isinstance(other, torch.Tensor) and other.shape == one.shape:
                    self.calls.soft.append(other.detach().abs().cpu().clone())


def _is_of_exp(value: torch.Tensor) -> bool:
    """Whether it is the result of `exp`, perhaps reshaped."""
    made = value.grad_fn
    while made is not None and made.name().startswith(_SHAPED):
        made = made.next_functions[0][0]
    return made is not None and made.name().startswith("ExpBackward")


_VIEWS = ("View", "Reshape", "UnsafeView")
_SHAPED = ("Squeeze", "Unsqueeze", *_VIEWS, "Select", "Slice", "Transpose", "TBackward")


def _broadcast_a_channel(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether the shapes are (N, 1, H, W) and (N, H, W)."""
    return len(one) == _MAPS and one[0] > 1 == one[1] and other == (one[0], *one[2:])


def _is_of_convolution(value: torch.Tensor) -> bool:
    """Whether it was computed from the result of a convolution, and no function inserted the axis of length 1."""
    made = value.grad_fn
    while made is not None and not made.name().startswith(("Convolution", "Unsqueeze", *_VIEWS)):
        made = made.next_functions[0][0] if made.next_functions else None
    return made is not None and made.name().startswith("Convolution")


def _keep_map(maps: list[torch.Tensor], found: torch.Tensor) -> None:
    if found.ndim == _MAPS and found.numel() <= _MOST_NUMBERS and len(maps) < _MOST_MAPS:
        maps.append(found.detach().float().cpu().clone())


def _one_row(args: Sequence[Any]) -> bool:
    """Whether `tensor[index]` takes one element of the first axis."""
    if len(args) < 2 or not isinstance(args[0], torch.Tensor):
        return False
    first = args[1][0] if isinstance(args[1], tuple) and args[1] else args[1]
    if isinstance(first, slice):
        begin, end = first.start or 0, first.stop
        return isinstance(begin, int) and isinstance(end, int) and end - begin == 1
    return isinstance(first, int) and not isinstance(first, bool)


def _note_alignment(calls: StepCalls, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    names = ("log_probs", "targets", "input_lengths", "target_lengths", "blank")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    scores, targets, input_lengths, target_lengths = (
        torch.as_tensor(given[name]).detach().cpu().clone() for name in names[:4]
    )
    if scores.ndim == 3 and scores.numel() <= _MOST_NUMBERS:
        calls.alignments.append(Alignment(scores, targets, input_lengths, target_lengths, int(given.get("blank", 0))))


def _note_loss(calls: StepCalls, name: str, args: Sequence[Any], kwargs: dict[str, Any], value: Any) -> None:
    given = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if not all(isinstance(tensor, torch.Tensor) and tensor.numel() <= _MOST_NUMBERS for tensor in (given, target)):
        return
    assert isinstance(given, torch.Tensor)
    assert isinstance(target, torch.Tensor)
    if not target.ndim:  # of a single sample
        given, target = given[None], target[None]
    if isinstance(value, torch.Tensor):
        bound = {**dict(zip(_AFTER_TARGET, args[2:], strict=False)), **kwargs}
        ignored, reduction = bound.get("ignore_index", -100), str(bound.get("reduction", "mean"))
        weight, pos_weight = (
            found.detach().clone() if isinstance(found := bound.get(key), torch.Tensor) else None
            for key in ("weight", "pos_weight")
        )
        noted = LossCall(
            name,
            given.detach().clone(),
            target.detach().clone(),
            value.detach().clone(),
            ignored,
            reduction,
            weight,
            pos_weight,
            exchanged=target.requires_grad and not given.requires_grad,
            log_target=bool(bound.get("log_target")),
            smoothing=float(bound.get("label_smoothing", 0.0)),
        )
        calls.losses.append(noted)
        on_gradient(value, lambda gradient: noted.gradients.append(float(gradient.detach().sum())))
        if value.shape == target.shape and value.ndim:
            on_gradient(value, lambda gradient: noted.entry_gradients.append(gradient.detach().clone()))
