"""Functions with a backward pass of their own: what they were given in a step, and whether their gradient is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from striate.account.gradients.compare import ComparisonOptions, compare_gradients
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.trial import Trial
from striate.doctor.setup.batch import copied
from striate.doctor.setup.replicas import make_replica
from striate.doctor.setup.training_setup import TrainingSetup
from striate.errors import StriateError
from striate.reference.check_gradient import STEP, GradientCheck

ENTRIES = 12
TOLERANCE = 1e-3
"""Wrong gradients are off by more; what a function computes in single precision is not."""
NUDGE = 1e-3
MOST_CALLS = 4
_FEWER = 8
"""Times fewer sizes than numbers: a scale is of a filter or so."""


@dataclass(frozen=True)
class FunctionCheck:
    """What was found of one function. `meant`: its forward pass passes its input on, or has no slope anywhere (a sign,
    a rounding, also times a scale): then the backward pass is one of choice, as in gradient reversal and
    straight-through estimates."""

    name: str
    wrong: tuple[tuple[int, GradientCheck], ...]
    meant: bool


def given_to(setup: TrainingSetup, batch: Any, functions: Sequence[type]) -> dict[type, list[tuple[Any, ...]]]:
    """The arguments of the first calls of each function in one step of a double, those that differ in shapes or
    options."""
    seen: dict[type, list[tuple[Any, ...]]] = {}
    replica = make_replica(setup)
    with _listening(functions, seen):
        try:
            replica.step(replica.model, copied(batch), replica.optimizer, replica.loss)
        except Exception as error:
            if not seen:
                raise NoEvidence(f"the step raised {type(error).__name__} when watched") from None
    return seen


@contextmanager
def _listening(functions: Sequence[type], seen: dict[type, list[tuple[Any, ...]]]) -> Iterator[None]:
    originals = {function: vars(function)["forward"] for function in functions if "forward" in vars(function)}

    def listener(function: type, original: Any) -> Any:
        inner = original.__func__ if isinstance(original, staticmethod) else original
        has_context = "setup_context" not in vars(function)

        def forward(*args: Any, **kwargs: Any) -> Any:
            own = args[1:] if has_context else args
            calls = seen.setdefault(function, [])
            if len(calls) < MOST_CALLS and _form(own) not in map(_form, calls):
                calls.append(tuple(copied(value) for value in own))
            return inner(*args, **kwargs)

        return staticmethod(forward)

    try:
        for function, original in originals.items():
            setattr(function, "forward", listener(function, original))  # noqa: B010
        yield
    finally:
        for function, original in originals.items():
            setattr(function, "forward", original)  # noqa: B010


def _form(given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(v.shape) if isinstance(v, torch.Tensor) else repr(v)[:100] for v in given)


def check_function(function: Any, given: tuple[Any, ...]) -> FunctionCheck:
    """Compare what the backward pass gives with measured slopes, in float64, for each input with a gradient.

    Raises NoEvidence where it cannot be computed in float64, or is no function of its input alone.
    """
    arguments = _doubled(given)
    asked = [isinstance(value, torch.Tensor) and value.requires_grad for value in given]  # of a scale, say, of none
    wanted = asked if any(asked) else [True] * len(asked)
    leaves = {str(i): value for i, value in enumerate(arguments) if wanted[i] and _has_slope(value)}

    def call() -> Any:
        return function.apply(*(value.clone() if isinstance(value, torch.Tensor) else value for value in arguments))

    how = ComparisonOptions(None, ENTRIES, STEP, TOLERANCE, 0)
    try:
        checks = compare_gradients(nn.Module(), call, leaves, how)
    except StriateError as error:
        raise NoEvidence(f"{function.__name__} cannot be checked: {error.got}") from None
    except Exception as error:
        raise NoEvidence(f"{function.__name__} cannot be checked in float64: {type(error).__name__}") from None
    wrong = tuple((int(name), check) for name, check in checks.items() if not check.ok)
    by_choice = (_is_flat(call, leaves[str(i)]) or _is_rounded(call, leaves[str(i)]) for i, _ in wrong)
    meant = bool(wrong) and (_passes_on(call, leaves) or all(by_choice))
    return FunctionCheck(function.__name__, wrong, meant)


def _doubled(given: tuple[Any, ...]) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    arguments: list[Any] = []
    for value in given:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            if value.is_floating_point():
                # Corners, as of a ReLU at zero, have no slope to compare.
                scale = float(value.double().abs().mean()) or 1.0
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                value = (value.double() + NUDGE * scale * noise).requires_grad_(True)
        arguments.append(value)
    return arguments


def _has_slope(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0


def _passes_on(call: Any, leaves: dict[str, torch.Tensor]) -> bool:
    with torch.no_grad():
        output = call()
    return isinstance(output, torch.Tensor) and any(
        output.shape == leaf.shape and torch.allclose(output, leaf) for leaf in leaves.values()
    )


def _is_flat(call: Any, leaf: torch.Tensor) -> bool:
    """Whether small moves of the input change nothing."""
    with torch.no_grad():
        before = call()
        moved = 1e-9 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1), dtype=leaf.dtype)
        leaf.add_(moved)
        after = call()
        leaf.sub_(moved)
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
        return False
    return float((before != after).double().mean()) < 0.01


def _is_rounded(call: Any, leaf: torch.Tensor) -> bool:
    """Whether of many numbers few sizes are left, as signs times a scale that they share."""
    with torch.no_grad():
        output = call()
    if not isinstance(output, torch.Tensor) or output.shape != leaf.shape:
        return False
    sizes, given = len(output.abs().unique()), len(leaf.detach().unique())
    return _FEWER * sizes <= output.numel() < 2 * given


def functions_of(trial: Trial) -> list[type]:
    """The functions with a backward pass of their own that the first step used."""
    return sorted(trial.first.functions, key=lambda function: function.__name__)
