"""Records of a script that continues for a few seconds after its first step, without writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, product
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from striate.doctor.evidence.quality import classes_of
from striate.doctor.setup.batch import is_binary, main_tensor, parts
from striate.doctor.setup.reached_objects import parameters_held, users_frame
from striate.observe.tensors import tensors_in

_OF_A_PASS = 0.4
"""Share of the time left after which a pass over data ends early."""
_OFTEN = 1.02
"""The weights of a network that is called at every step are measured again after this many times as many steps."""
_LIKE = 0.98  # correlation; each channel may be normalized separately
_MOST_CALLS, _MOST_LETTERS, _MOST_PREDICTIONS, _MOST_PAIRS = 20_000, 200_000, 1_000_000, 3
_MOST_RECORDED, _MOST_BYTES = 512, 2**25


_COMPARES = (torch.Tensor.__eq__, torch.Tensor.eq, torch.eq)
_SUBTRACTS = (torch.Tensor.__sub__, torch.Tensor.sub, torch.sub)
_OF_ERRORS = {
    *(torch.abs, torch.square, torch.pow),
    *(torch.Tensor.abs, torch.Tensor.square, torch.Tensor.pow, torch.Tensor.__pow__),
}
"""What makes errors of differences."""
_ERRORS = (functional.l1_loss, functional.mse_loss, functional.smooth_l1_loss, functional.huber_loss)


class EndScript(BaseException):
    """Ends the user's script; no `except Exception` catches it."""


@dataclass(frozen=True)
class NetworkCall:
    """A call of a network by the script."""

    steps: int
    """Optimizer steps before it."""
    learns: bool
    """Whether gradients were recorded."""
    active: bool
    """Whether any layer that differs in training mode (dropout, batch norm) was in training mode."""
    shape: tuple[int, ...]
    """Shape of a sample."""
    mean: float
    """Mean of the input; NaN for integers."""
    deviation: float
    """Standard deviation of the input; NaN for integers."""
    distance: float
    """Mean absolute deviation of the input, which few outliers hardly change; NaN for integers."""
    weights: float
    """A checksum of the network's weights; NaN where it was not computed."""


@dataclass
class CalledNetwork:
    """A network that the script called."""

    network: nn.Module
    name: str
    first: list[torch.Tensor] = field(default_factory=list)
    """Its parameters before the script went on; empty if it was not called until then."""
    before: float = float("nan")
    """Checksum of its parameters before the script went on; NaN if it was not called until then."""
    after: float = float("nan")
    """Checksum of its parameters at the end."""
    calls: list[NetworkCall] = field(default_factory=list)
    """Its calls in order."""

    @property
    def kind(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of its parameters, which a copy has too."""
        return tuple(tuple(parameter.shape) for parameter in self.network.parameters())

    @property
    def weights(self) -> list[float]:
        """The known checksums of its weights, in order."""
        found = (self.before, *(call.weights for call in self.calls), self.after)
        return [number for number in found if number == number]


@dataclass
class Averaged:
    """An average of weights that was run without gradients."""

    network: AveragedModel
    updates: dict[int, int] = field(default_factory=dict)
    """By the number of optimizer steps at a call, how often the average was updated until then."""


@dataclass
class CorrectCounts:
    """Numbers of correct predictions by batch."""

    right: list[int] = field(default_factory=list)
    """Correct predictions of each batch."""
    sizes: list[int] = field(default_factory=list)
    """Samples of each batch."""

    @property
    def share(self) -> float:
        """The accuracy over all samples."""
        return sum(self.right) / sum(self.sizes)

    @property
    def mean_of_batches(self) -> float:
        """The mean of the batches' accuracies."""
        return sum(right / size for right, size in zip(self.right, self.sizes, strict=True)) / len(self.sizes)


@dataclass(frozen=True)
class ComparedNumbers:
    """A network's outputs whose errors were computed, from targets of the same shape."""

    name: str
    """Of the network."""
    steps: int
    """Optimizer steps before it."""
    learns: bool
    """Whether gradients were recorded."""
    outputs: float
    """Standard deviation of the outputs."""
    targets: float
    """Standard deviation of the targets."""


@dataclass
class PassPredictions:
    """The predictions of a network in a pass over data."""

    predicted: list[torch.Tensor] = field(default_factory=list)
    """(N,) predicted classes of each batch."""
    targets: list[torch.Tensor] = field(default_factory=list)
    """(N,) true classes of each batch."""

    @property
    def samples(self) -> int:
        """The number of samples."""
        return sum(map(len, self.targets))

    @property
    def correct(self) -> CorrectCounts:
        """The number of correct predictions by batch."""
        pairs = zip(self.predicted, self.targets, strict=True)
        right = [int((predicted == targets).sum()) for predicted, targets in pairs]
        return CorrectCounts(right, [len(targets) for targets in self.targets])


Key = tuple[str, int, int]
"""A network's name, the position of its output, and the position of the batch's target that the output predicts."""


@dataclass
class EvaluatedInputs:
    """The first samples that a network received in an evaluation."""

    network: nn.Module
    steps: int
    """Optimizer steps before the evaluation."""
    inputs: list[torch.Tensor] = field(default_factory=list)
    """(N, …) inputs of each batch."""
    targets: list[torch.Tensor] = field(default_factory=list)
    """(N,) true classes of each batch."""


@dataclass(eq=False)
class DataPass:
    """A pass over a DataLoader."""

    began: int
    """Optimizer steps when it began."""
    until: float
    """Time on perf_counter at which it ends early."""
    ended: int = -1
    """Optimizer steps when it ended; −1 where the end was not seen."""
    whole: bool = False
    """Whether it ran from the first batch to the last."""
    batches: int = 0
    """How many batches were drawn."""
    predictions: dict[Key, PassPredictions] = field(default_factory=dict)
    """Predictions of the networks that received its batches."""


@dataclass
class OwnRun:
    """What a script did from its first step on."""

    steps: int = 0
    """Steps of its optimizers."""
    planned: float = 0.0
    """How many batches its loops would take in all; 0 where unknown."""
    losses: list[float] = field(default_factory=list)
    """The values that backward passes started from."""
    rates: dict[int, list[float]] = field(default_factory=dict)
    """By optimizer id, the learning rate of each step: the highest of its groups."""
    cleared: dict[int, list[bool]] = field(default_factory=dict)
    """By optimizer id, for each step after its first, whether gradients were zero before a backward pass since the
    previous step. A step that follows no backward pass has no entry."""
    held: set[int] = field(default_factory=set)
    """Ids of the parameters that optimizers have."""
    without_gradient: dict[int, tuple[nn.Parameter, float]] = field(default_factory=dict)
    """By id, the optimized parameters that had no gradient at any step, each with the sum of its absolute values at its
    optimizer's first step."""
    trained: dict[int, set[int]] = field(default_factory=dict)
    """By optimizer id, the ids of its parameters that require a gradient."""
    reached: set[int] = field(default_factory=set)
    """Ids of the optimizers whose parameters had a gradient after a backward pass, before a step."""
    networks: dict[int, CalledNetwork] = field(default_factory=dict)
    """By id, the networks that the script called."""
    averages: dict[int, Averaged] = field(default_factory=dict)
    """By id, averages of weights that the script ran without gradients."""
    in_training: set[int] = field(default_factory=set)
    """Ids of all modules that ran in training mode."""
    with_gradients: set[int] = field(default_factory=set)
    """Ids of those whose output required a gradient."""
    examined: frozenset[int] = frozenset()
    """Ids of the parameters that a trial step was searched for a cut behind."""
    loaded: bool = False
    """Whether the script loaded weights with `strict=False` before its first step."""
    passes: list[DataPass] = field(default_factory=list)
    evaluated: dict[Key, EvaluatedInputs] = field(default_factory=dict)
    """Inputs of networks in the last evaluation, where these are one tensor of floats."""
    compared: dict[int, dict[int, CorrectCounts]] = field(default_factory=dict)
    """Comparisons of integer tensors without gradients, as of predictions with targets: by line, by number of steps."""
    numbers: list[ComparedNumbers] = field(default_factory=list)
    """Errors of outputs that are numbers, in order."""
    printed: list[tuple[int, str]] = field(default_factory=list)
    """Texts that it printed or logged, each with the number of steps before."""
    seconds: float = 0.0
    """How long it was watched."""
    ended: bool = False
    """Whether it ran to its end."""
    cut: bool = False
    """Whether a pass over data was ended early."""
    failed: dict[str, str] = field(default_factory=dict)
    """By code, why a check of the run could not be made."""


@dataclass
class _Stepped:
    """An optimizer that made a step."""

    optimizer: Optimizer
    """The reference keeps its id from being reused."""
    parameters: list[nn.Parameter]
    """Some of its parameters."""
    went_backward: bool = False
    """Whether there was a backward pass since its last step."""
    cleared: bool = False
    """Whether the gradients of `parameters` were zero before a backward pass since then."""
    reached: bool = False
    """Whether the last backward pass left a gradient in `parameters`."""


@dataclass
class Watcher:
    """Watches a script that continues after its first step."""

    until: float
    """Time on perf_counter at which the script is ended."""
    names: dict[int, str]
    """Names of networks by id."""
    run: OwnRun = field(default_factory=OwnRun)
    """What was recorded so far."""
    depth: int = 0
    """Number of modules that are running."""
    known: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By network id, the number of steps at its last checksum, and that checksum."""
    passes: WeakKeyDictionary[Any, DataPass] = field(default_factory=WeakKeyDictionary)
    """The passes under way, by iterator."""
    drawn: tuple[DataPass, torch.Tensor, list[torch.Tensor]] | None = None
    """The pass, the inputs and the possible targets of the last batch."""
    given: torch.Tensor | None = None
    """Main input of the last call of a network."""
    alone: bool = False
    """Whether it was the only argument."""
    given_back: tuple[str, list[torch.Tensor]] = ("", [])
    """The last network that was called, and its outputs."""
    difference: tuple[torch.Tensor, ComparedNumbers] | None = None
    """The last difference of its outputs from other numbers."""
    letters: int = 0
    """Number of characters that the script printed."""
    stepped: dict[int, _Stepped] = field(default_factory=dict)
    """The optimizers that made a step, by id."""
    had_gradient: set[int] = field(default_factory=set)
    """Ids of the parameters that had a gradient at a step of any optimizer: a later training may not change them."""

    def stepping(self, optimizer: Optimizer) -> None:
        """Called before each optimizer step. Raises EndScript after the deadline."""
        self.end_if_late()
        self.run.steps += 1
        key, held = id(optimizer), [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if key not in self.stepped:
            self.run.held |= parameters_held(optimizer)
            trained = {id(p): (p, size_of(p)) for p in held if p.requires_grad}
            self.run.without_gradient |= {one: found for one, found in trained.items() if one not in self.had_gradient}
            self.run.trained[key] = set(trained)
            self.stepped[key] = _Stepped(optimizer, held[:_MOST_PAIRS])
        stepped = self.stepped[key]
        if stepped.went_backward:
            self.run.cleared.setdefault(key, []).append(stepped.cleared)
        stepped.went_backward = stepped.cleared = False
        if stepped.reached:
            self.run.reached.add(key)
        if self.run.without_gradient:
            for parameter in held:
                if parameter.grad is not None and id(parameter) in self.run.without_gradient:
                    del self.run.without_gradient[id(parameter)]
                    self.had_gradient.add(id(parameter))
        self.run.rates.setdefault(key, []).append(max(float(group["lr"]) for group in optimizer.param_groups))

    def backward_begins(self) -> None:
        """Called before each backward pass."""
        for stepped in self.stepped.values():
            stepped.went_backward = True
            stepped.cleared |= all(p.grad is None or not bool(p.grad.any()) for p in stepped.parameters)

    def backward(self, roots: Any) -> None:
        """Called after each backward pass with the tensors that it started from."""
        for stepped in self.stepped.values():
            stepped.reached = any(parameter.grad is not None for parameter in stepped.parameters)
        found = [roots] if isinstance(roots, torch.Tensor) else roots or ()
        values = [float(root.detach()) for root in found if isinstance(root, torch.Tensor) and root.numel() == 1]
        self.run.losses += [sum(values)] if values else []

    def end_if_late(self) -> None:
        """Raises EndScript after the deadline."""
        if perf_counter() > self.until:
            raise EndScript

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of torch, and record its result where it compares predictions with targets."""
        value = func(*args, **kwargs)
        if func in _SUBTRACTS or func in _ERRORS or func in _OF_ERRORS:
            with suppress(Exception):  # tensors that torch.func has wrapped have no numbers
                self._note_errors(func, args, value)
        if func in _COMPARES and not torch.is_grad_enabled() and not self.depth and len(args) == 2:
            one, other = args
            integers = all(isinstance(side, torch.Tensor) and not side.is_floating_point() for side in args)
            if integers and one.shape == other.shape == value.shape and value.ndim == 1 and len(value):
                frame = users_frame()
                line = 0 if frame is None else frame.f_lineno
                rights = self.run.compared.setdefault(line, {}).setdefault(self.run.steps, CorrectCounts())
                rights.right.append(int(value.sum()))
                rights.sizes.append(len(value))
        return value

    def _note_errors(self, func: Any, args: tuple[Any, ...], value: Any) -> None:
        """Record which numbers a network's outputs are compared with."""
        if func in _OF_ERRORS:
            if self.difference is not None and args[0] is self.difference[0]:
                self.run.numbers.append(self.difference[1])
            return
        name, outputs = self.given_back
        own = [side for side in args[:2] if any(_share_memory(side, one) for one in outputs)]
        others = [side for side in args[:2] if isinstance(side, torch.Tensor) and all(side is not one for one in own)]
        if len(own) != 1 or len(others) != 1 or own[0].shape != others[0].shape or len(self.run.numbers) >= _MOST_CALLS:
            return
        deviations = (float(side.detach().float().std()) for side in (own[0], others[0]))
        found = ComparedNumbers(name, self.run.steps, torch.is_grad_enabled(), *deviations)
        if func in _ERRORS:
            self.run.numbers.append(found)
        else:
            self.difference = value, found

    def note_printed(self, text: str) -> None:
        """Called with each text that the script prints or logs."""
        self.letters += len(text)
        if self.letters <= _MOST_LETTERS:
            self.run.printed.append((self.run.steps, text))

    def pass_of(self, iterator: Any) -> DataPass:
        """The pass of a DataLoader's iterator. It begins with the first call for the iterator; before the second
        optimizer step, the pass may have begun earlier, and is not whole."""
        if iterator not in self.passes:
            now = perf_counter()
            until = now + _OF_A_PASS * (self.until - now)
            self.passes[iterator] = DataPass(self.run.steps, until, whole=self.run.steps > 1)
            self.run.passes.append(self.passes[iterator])
        return self.passes[iterator]

    def draws(self, iterator: Any, batch: Any) -> None:
        """Called with each batch of a pass over a DataLoader."""
        data_pass, table = self.pass_of(iterator), _as_table(batch)
        data_pass.batches += 1
        inputs = main_tensor(parts(table)[0])
        found = list(islice((part for part in tensors_in(table) if _are_classes(part, inputs)), _MOST_PAIRS))
        known = sum(predictions.samples for predictions in data_pass.predictions.values()) <= _MOST_PREDICTIONS
        self.drawn = (data_pass, inputs, found) if inputs is not None and known else None

    def pass_ends(self, iterator: Any, *, whole: bool) -> None:
        """Called when a pass has no further batch, or ends early."""
        self.run.cut |= not whole
        if (data_pass := self.passes.pop(iterator, None)) is not None:
            data_pass.ended, data_pass.whole = self.run.steps, whole and data_pass.whole
        self.drawn = None

    def enter(self, module: nn.Module, args: Any) -> None:
        """Called before each call of a module."""
        self.depth += 1
        if module.training:
            self.run.in_training.add(id(module))
        if isinstance(module, AveragedModel) and not torch.is_grad_enabled():
            averaged = self.run.averages.setdefault(id(module), Averaged(module))
            averaged.updates[self.run.steps] = int(module.n_averaged)
        if self.depth == 1:
            self.end_if_late()
            self.given = main_tensor([_as_table(given) for given in args])
            self.alone = len(args) == 1 and args[0] is self.given
            with suppress(Exception):  # tensors that torch.func has wrapped have no numbers
                self._note(module)

    def leave(self, module: nn.Module, _: Any, output: Any) -> None:
        """Called after each call of a module."""
        self.depth = max(0, self.depth - 1)
        known = not module.training or id(module) in self.run.with_gradients
        if not known and any(tensor.requires_grad for tensor in tensors_in(output)):
            self.run.with_gradients.add(id(module))
        if not self.depth and id(module) in self.run.networks:
            with suppress(Exception):
                outputs = [tensor.detach() for tensor in islice(tensors_in(output), _MOST_PAIRS)]
                self.given_back = self.of(module).name, outputs
                if self.drawn is not None:
                    self._note_predictions(module, outputs)

    def _note_predictions(self, module: nn.Module, outputs: list[torch.Tensor]) -> None:
        assert self.drawn is not None
        data_pass, inputs, targets = self.drawn
        if self.given is None or not _are_alike(self.given, inputs):
            return  # some loaders draw a batch before the previous one is used
        for (n, target), (k, own) in product(enumerate(targets), enumerate(output.cpu() for output in outputs)):
            classes = classes_of(own, target)
            known = data_pass.predictions.setdefault((self.of(module).name, k, n), PassPredictions())
            if classes is not None and len(known.targets) == data_pass.batches - 1:
                known.predicted.append(classes)
                known.targets.append(target)
                if self.alone and self.given.is_floating_point() and not torch.is_grad_enabled():
                    self._record_inputs(module, (self.of(module).name, k, n), self.given.detach(), target)

    def _record_inputs(self, module: nn.Module, key: Key, given: torch.Tensor, targets: torch.Tensor) -> None:
        """Record the first samples of an evaluation in place of those of an earlier one."""
        evaluated = self.run.evaluated.get(key)
        if evaluated is None or evaluated.steps != self.run.steps:
            evaluated = self.run.evaluated[key] = EvaluatedInputs(module, self.run.steps)
        few = sum(map(len, evaluated.targets)) < _MOST_RECORDED
        if few and sum(one.nbytes for one in evaluated.inputs) < _MOST_BYTES:
            evaluated.inputs.append(given)
            evaluated.targets.append(targets)

    def _note(self, module: nn.Module) -> None:
        if next(module.parameters(), None) is None:
            return
        called = self.of(module)
        if len(called.calls) >= _MOST_CALLS:
            return
        given = self.given
        mean = deviation = distance = float("nan")
        shape: tuple[int, ...] = ()
        if given is not None:
            shape = tuple(given.shape[1:])
            if given.is_floating_point() and given.numel() > 1:
                plain = given.detach().float()
                mean, deviation = float(plain.mean()), float(plain.std())
                distance = float((plain - mean).abs().mean())
        learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in module.parameters())
        steps = self.run.steps
        # A checksum takes a while: for calls that learn only at steps 1, 2, 4, 8, …, for others not at every step.
        last, _ = self.known.get(id(module), (0, 0.0))
        seldom = steps & (steps - 1) if learns else last < steps < _OFTEN * last
        weights = float("nan") if seldom else self._weights(module)
        call = NetworkCall(steps, learns, _is_active(module), shape, mean, deviation, distance, weights)
        called.calls.append(call)

    def of(self, module: nn.Module) -> CalledNetwork:
        """The record of a network."""
        name = self.names.get(id(module), type(module).__name__)
        return self.run.networks.setdefault(id(module), CalledNetwork(module, name))

    def _weights(self, module: nn.Module) -> float:
        if self.known.get(id(module), (-1, 0.0))[0] != self.run.steps:
            self.known[id(module)] = self.run.steps, number_of_weights(module)
        return self.known[id(module)][1]


def _as_table(value: Any) -> Any:
    """A named tuple, or an object of the user's class, as a mapping of its parts by name; other values unchanged."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    plain = isinstance(value, torch.Tensor | nn.Module | Mapping | list | tuple) or not hasattr(value, "__dict__")
    return value if plain else vars(value)


def _share_memory(one: Any, other: torch.Tensor) -> bool:
    """Whether one is the other tensor, perhaps reshaped."""
    return (
        isinstance(one, torch.Tensor)
        and one.numel() == other.numel()
        and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    )


def _are_alike(given: torch.Tensor, drawn: torch.Tensor) -> bool:
    """Whether a network's input is the batch that was drawn, perhaps shifted, scaled or reshaped."""
    one, other = (tensor.detach().cpu().double().flatten() for tensor in (given, drawn))
    if len(one) != len(other):
        return False
    same = abs(float(one.sum() - other.sum())) <= 1e-6 * float(other.abs().sum())  # axes in another order
    return same or float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > _LIKE


def _are_classes(tensor: torch.Tensor, inputs: torch.Tensor | None) -> bool:
    """Whether a tensor of a batch has an integer for each sample, which may be its class."""
    if tensor is inputs or tensor.ndim != 1 or not len(tensor):
        return False
    return not tensor.is_floating_point() or is_binary(tensor)


def number_of_weights(module: nn.Module) -> float:
    """A checksum of a network's weights: it changes with any weight."""
    return sum((1 + place) * size_of(parameter) for place, parameter in enumerate(module.parameters()))


def size_of(parameter: torch.Tensor) -> float:
    """The sum of its absolute values."""
    return float(parameter.detach().double().abs().sum())


def _is_active(module: nn.Module) -> bool:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    return any(part.training for part in module.modules() if isinstance(part, kinds))
