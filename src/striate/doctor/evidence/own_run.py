"""What a script does by itself: after its first step it goes on for a few seconds, and writes nothing."""

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
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from striate.doctor.evidence.quality import classes_of
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.reached_objects import parameters_held, users_frame
from striate.observe.tensors import tensors_in

_OF_A_PASS = 0.4
"""Of the time that is left, for each pass over data: then it ends early."""
_OFTEN = 1.02
"""Times as many steps were made when the weights of a network are next looked at that acts at each step."""
_LIKE = 0.98  # correlation; channels may be normalized each by itself
_MOST_CALLS, _MOST_LETTERS, _MOST_ANSWERS, _MOST_PAIRS = 20_000, 200_000, 1_000_000, 3
_MOST_KEPT, _MOST_BYTES = 512, 2**25


_COMPARES = (torch.Tensor.__eq__, torch.Tensor.eq, torch.eq)


class Enough(BaseException):
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
    """Its parameters before the script went on; empty where it did not exist yet."""
    before: float = float("nan")
    """Checksum of its parameters before the script went on; NaN where it did not exist yet."""
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
        """The numbers for its weights that are known, in order."""
        found = (self.before, *(call.weights for call in self.calls), self.after)
        return [number for number in found if number == number]


@dataclass
class Averaged:
    """An average of weights, and how many updates it had after how many steps when it was run without gradients."""

    network: AveragedModel
    updates: dict[int, int] = field(default_factory=dict)


@dataclass
class Rights:
    """How many predictions were `right`, of how many, batch by batch."""

    right: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of all samples that are right."""
        return sum(self.right) / sum(self.sizes)

    @property
    def mean_of_batches(self) -> float:
        """The mean of the batches' shares."""
        return sum(right / size for right, size in zip(self.right, self.sizes, strict=True)) / len(self.sizes)


@dataclass
class Answers:
    """What a network predicted in a pass over data, and the true classes, batch by batch."""

    predicted: list[torch.Tensor] = field(default_factory=list)
    targets: list[torch.Tensor] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(map(len, self.targets))

    @property
    def rights(self) -> Rights:
        """How many of them are right."""
        pairs = zip(self.predicted, self.targets, strict=True)
        right = [int((predicted == targets).sum()) for predicted, targets in pairs]
        return Rights(right, [len(targets) for targets in self.targets])


Key = tuple[str, int, int]
"""A network by name, and which of its outputs answers which of a batch's targets."""


@dataclass
class Asked:
    """What a network was given in an evaluation after so many `steps`, batch by batch, with the true classes; only the
    first samples of many."""

    network: nn.Module
    steps: int
    inputs: list[torch.Tensor] = field(default_factory=list)
    targets: list[torch.Tensor] = field(default_factory=list)


@dataclass(eq=False)
class DataPass:
    """A pass over a DataLoader."""

    began: int
    """Optimizer steps when it began."""
    until: float
    """Time at which it is ended early."""
    ended: int = -1
    """Optimizer steps when it ended; −1 where the end was not seen."""
    whole: bool = False
    """Whether it ran from the first batch to the last."""
    batches: int = 0
    """How many batches were drawn."""
    answers: dict[Key, Answers] = field(default_factory=dict)
    """Predictions of the networks that were given its batches."""


@dataclass
class OwnRun:
    """What was seen of a script that went on."""

    steps: int = 0
    """Those of its optimizers."""
    planned: float = 0.0
    """How often its loops pass through a batch in all; 0 where that is not known."""
    losses: list[float] = field(default_factory=list)
    """What went backward."""
    rates: dict[int, list[float]] = field(default_factory=dict)
    """By optimizer, step by step; the highest of its groups."""
    cleared: dict[int, list[bool]] = field(default_factory=dict)
    """By optimizer, whether gradients were cleared between two steps."""
    held: set[int] = field(default_factory=set)
    """The parameters that optimizers hold, by id."""
    untouched: dict[int, tuple[nn.Parameter, float]] = field(default_factory=dict)
    """Those of them that had a gradient at none of the steps, each with the size of its weights at first."""
    trained: dict[int, set[int]] = field(default_factory=dict)
    """By optimizer, those that it holds."""
    reached: set[int] = field(default_factory=set)
    """The optimizers, by id, whose parameters had a gradient when something had gone backward, before a step."""
    networks: dict[int, CalledNetwork] = field(default_factory=dict)
    """Those that its code called."""
    averages: dict[int, Averaged] = field(default_factory=dict)
    """Averages of weights that it ran without gradients, by id."""
    in_training: set[int] = field(default_factory=set)
    """All modules that ran in training mode, by id."""
    loaded: bool = False
    """Whether weights were loaded before."""
    passes: list[DataPass] = field(default_factory=list)
    asked: dict[Key, Asked] = field(default_factory=dict)
    """What networks were given in the last evaluation, where that is one tensor of numbers with fractions."""
    compared: dict[int, dict[int, Rights]] = field(default_factory=dict)
    """Whole numbers that it compared without gradients, as predictions with targets, by line, after how many steps."""
    said: list[tuple[int, str]] = field(default_factory=list)
    """After how many steps it printed or logged what."""
    seconds: float = 0.0
    ended: bool = False
    """Whether it came to its end."""
    cut: bool = False
    """Whether a pass over data was ended early."""
    failed: dict[str, str] = field(default_factory=dict)
    """By code, why a check of it could not be made."""


@dataclass
class _Stepped:
    """An optimizer, kept so that no later one gets its id, and some of its parameters; whether anything went backward
    since its last step, whether their gradients were cleared before that, and whether what went backward last reached
    them."""

    optimizer: Optimizer
    parameters: list[nn.Parameter]
    went_backward: bool = False
    cleared: bool = False
    reached: bool = False


@dataclass
class Watcher:
    """Watches a script that goes on `until` a time."""

    until: float
    names: dict[int, str]
    run: OwnRun = field(default_factory=OwnRun)
    depth: int = 0
    known: dict[int, tuple[int, float]] = field(default_factory=dict)
    passes: WeakKeyDictionary[Any, DataPass] = field(default_factory=WeakKeyDictionary)
    drawn: tuple[DataPass, torch.Tensor, list[torch.Tensor]] | None = None
    given: torch.Tensor | None = None
    alone: bool = False
    letters: int = 0
    stepped: dict[int, _Stepped] = field(default_factory=dict)

    def stepping(self, optimizer: Optimizer) -> None:
        """To be called before each step. Raises Enough once it is late."""
        self.end_if_late()
        self.run.steps += 1
        key, held = id(optimizer), [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if key not in self.stepped:
            self.run.held |= parameters_held(optimizer)
            trained = {id(p): (p, size_of(p)) for p in held if p.requires_grad}
            self.run.untouched |= trained
            self.run.trained[key] = set(trained)
            self.stepped[key] = _Stepped(optimizer, held[:_MOST_PAIRS])
        stepped = self.stepped[key]
        if stepped.went_backward:
            self.run.cleared.setdefault(key, []).append(stepped.cleared)
        stepped.went_backward = stepped.cleared = False
        if stepped.reached:
            self.run.reached.add(key)
        if self.run.untouched:
            for parameter in held:
                if parameter.grad is not None:
                    self.run.untouched.pop(id(parameter), None)
        self.run.rates.setdefault(key, []).append(max(float(group["lr"]) for group in optimizer.param_groups))

    def backward_begins(self) -> None:
        """To be called before anything goes backward."""
        for stepped in self.stepped.values():
            stepped.went_backward = True
            stepped.cleared |= all(p.grad is None or not bool(p.grad.any()) for p in stepped.parameters)

    def backward(self, roots: Any) -> None:
        """To be called with what went backward."""
        for stepped in self.stepped.values():
            stepped.reached = any(parameter.grad is not None for parameter in stepped.parameters)
        found = [roots] if isinstance(roots, torch.Tensor) else roots or ()
        values = [float(root.detach()) for root in found if isinstance(root, torch.Tensor) and root.numel() == 1]
        self.run.losses += [sum(values)] if values else []

    def end_if_late(self) -> None:
        """Raises Enough once it is late."""
        if perf_counter() > self.until:
            raise Enough

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of torch, and note it where it compares."""
        value = func(*args, **kwargs)
        if func in _COMPARES and not torch.is_grad_enabled() and not self.depth and len(args) == 2:
            one, other = args
            whole = all(isinstance(side, torch.Tensor) and not side.is_floating_point() for side in args)
            if whole and one.shape == other.shape == value.shape and value.ndim == 1 and len(value):
                frame = users_frame()
                line = 0 if frame is None else frame.f_lineno
                rights = self.run.compared.setdefault(line, {}).setdefault(self.run.steps, Rights())
                rights.right.append(int(value.sum()))
                rights.sizes.append(len(value))
        return value

    def hear(self, text: str) -> None:
        """To be called with what the script prints or logs."""
        self.letters += len(text)
        if self.letters <= _MOST_LETTERS:
            self.run.said.append((self.run.steps, text))

    def pass_of(self, iterator: Any) -> DataPass:
        """The pass of a DataLoader's iterator, which begins when it is first asked for; one that is asked for before
        the second step was under way before."""
        if iterator not in self.passes:
            now = perf_counter()
            until = now + _OF_A_PASS * (self.until - now)
            self.passes[iterator] = DataPass(self.run.steps, until, whole=self.run.steps > 1)
            self.run.passes.append(self.passes[iterator])
        return self.passes[iterator]

    def draws(self, iterator: Any, batch: Any) -> None:
        """To be called with each batch of a pass over a DataLoader."""
        data_pass, table = self.pass_of(iterator), _as_table(batch)
        data_pass.batches += 1
        inputs = main_tensor(parts(table)[0])
        found = list(islice((part for part in tensors_in(table) if _are_classes(part, inputs)), _MOST_PAIRS))
        known = sum(answers.samples for answers in data_pass.answers.values()) <= _MOST_ANSWERS
        self.drawn = (data_pass, inputs, found) if inputs is not None and known else None

    def pass_ends(self, iterator: Any, *, whole: bool) -> None:
        """To be called when a pass has no further batch, or is to have none."""
        self.run.cut |= not whole
        if (data_pass := self.passes.pop(iterator, None)) is not None:
            data_pass.ended, data_pass.whole = self.run.steps, whole and data_pass.whole
        self.drawn = None

    def enter(self, module: nn.Module, args: Any) -> None:
        """Before each call of a module."""
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
        """After each call of a module."""
        self.depth = max(0, self.depth - 1)
        if not self.depth and self.drawn is not None and id(module) in self.run.networks:
            with suppress(Exception):
                self._note_answer(module, output)

    def _note_answer(self, module: nn.Module, output: Any) -> None:
        assert self.drawn is not None
        data_pass, inputs, targets = self.drawn
        if self.given is None or not _are_alike(self.given, inputs):
            return  # some loaders draw a batch before the one before was used
        outputs = [tensor.detach().cpu() for tensor in islice(tensors_in(output), _MOST_PAIRS)]
        for (n, wanted), (k, told) in product(enumerate(targets), enumerate(outputs)):
            classes = classes_of(told, wanted)
            answers = data_pass.answers.setdefault((self.of(module).name, k, n), Answers())
            if classes is not None and len(answers.targets) == data_pass.batches - 1:
                answers.predicted.append(classes)
                answers.targets.append(wanted)
                if self.alone and self.given.is_floating_point() and not torch.is_grad_enabled():
                    self._keep(module, (self.of(module).name, k, n), self.given.detach(), wanted)

    def _keep(self, module: nn.Module, key: Key, given: torch.Tensor, wanted: torch.Tensor) -> None:
        """Keep what a network is asked in the last evaluation, of the first samples."""
        asked = self.run.asked.get(key)
        if asked is None or asked.steps != self.run.steps:
            asked = self.run.asked[key] = Asked(module, self.run.steps)
        if sum(map(len, asked.targets)) < _MOST_KEPT and sum(one.nbytes for one in asked.inputs) < _MOST_BYTES:
            asked.inputs.append(given)
            asked.targets.append(wanted)

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
        # Of calls that learn at steps 1, 2, 4, 8, …, of others not at each of many steps: weights take a while.
        last, _ = self.known.get(id(module), (0, 0.0))
        seldom = steps & (steps - 1) if learns else last < steps < _OFTEN * last
        weights = float("nan") if seldom else self._weights(module)
        call = NetworkCall(steps, learns, _is_active(module), shape, mean, deviation, distance, weights)
        called.calls.append(call)

    def of(self, module: nn.Module) -> CalledNetwork:
        """What is noted of a network."""
        name = self.names.get(id(module), type(module).__name__)
        return self.run.networks.setdefault(id(module), CalledNetwork(module, name))

    def _weights(self, module: nn.Module) -> float:
        if self.known.get(id(module), (-1, 0.0))[0] != self.run.steps:
            self.known[id(module)] = self.run.steps, number_of_weights(module)
        return self.known[id(module)][1]


def _as_table(value: Any) -> Any:
    """A named tuple, or an object of a class of the user's own, as its parts by name."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    plain = isinstance(value, torch.Tensor | nn.Module | Mapping | list | tuple) or not hasattr(value, "__dict__")
    return value if plain else vars(value)


def _are_alike(given: torch.Tensor, drawn: torch.Tensor) -> bool:
    """Whether a network is given what was drawn, be it moved, scaled or of another shape."""
    one, other = (tensor.detach().cpu().double().flatten() for tensor in (given, drawn))
    if len(one) != len(other):
        return False
    same = abs(float(one.sum() - other.sum())) <= 1e-6 * float(other.abs().sum())  # axes in another order
    return same or float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > _LIKE


def _are_classes(tensor: torch.Tensor, inputs: torch.Tensor | None) -> bool:
    """Whether a tensor of a batch has a whole number of each sample, which may be its class."""
    if tensor is inputs or tensor.ndim != 1 or not len(tensor):
        return False
    return not tensor.is_floating_point() or bool(((tensor == 0) | (tensor == 1)).all())


def number_of_weights(module: nn.Module) -> float:
    """A number that changes with any weight of a network."""
    return sum((1 + place) * size_of(parameter) for place, parameter in enumerate(module.parameters()))


def size_of(parameter: torch.Tensor) -> float:
    """The sizes of its numbers, added up."""
    return float(parameter.detach().double().abs().sum())


def _is_active(module: nn.Module) -> bool:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    return any(part.training for part in module.modules() if isinstance(part, kinds))
