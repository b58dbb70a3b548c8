"""User-defined `torch.autograd.Function`s: their arguments in a step, and whether their gradient is right."""

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
"""Relative error above which a gradient is wrong; functions that compute in single precision stay below it."""
NUDGE = 1e-3
MOST_CALLS = 4
_FEWER = 8
"""Outputs have at least this many times fewer magnitudes than numbers after rounding: a scale per filter, say."""


@dataclass(frozen=True)
class FunctionCheck:
    """The gradient check of one function."""

    name: str
    wrong: tuple[tuple[int, GradientCheck], ...]
    """The inputs with a wrong gradient, by position."""
    intended: bool
    """Whether the wrong gradient is intended, as in gradient reversal, straight-through estimators and feedback
    alignment (Lillicrap et al. 2016): the forward pass returns its input, has derivative zero everywhere (a sign or a
    rounding, also times a scale), or gets numbers that only the backward pass uses."""


def recorded_arguments(
    setup: TrainingSetup, batch: Any, functions: Sequence[type]
) -> dict[type, list[tuple[Any, ...]]]:
    """The arguments of the first calls of each function in one step of a replica; calls with the same shapes and
    options count once."""
    seen: dict[type, list[tuple[Any, ...]]] = {}
    replica = make_replica(setup)
    with _listening(functions, seen):
        try:
            replica.step(replica.model, copied(batch), replica.optimizer, replica.loss)
        except Exception as error:
            if not seen:
                raise NoEvidence(f"the step raised {type(error).__name__} when it was recorded") from None
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
    """Compare the backward pass with finite differences in float64, for each input that requires a gradient.

    Raises NoEvidence where the function does not run in float64, or depends on more than its inputs.
    """
    arguments = _in_float64(given)
    required = [isinstance(value, torch.Tensor) and value.requires_grad for value in given]
    checked = required if any(required) else [True] * len(required)
    leaves = {str(i): value for i, value in enumerate(arguments) if checked[i] and _has_slope(value)}

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
    intended = bool(wrong) and (_passes_on(call, leaves) or _has_feedback(call, arguments) or all(by_choice))
    return FunctionCheck(function.__name__, wrong, intended)


def _in_float64(given: tuple[Any, ...]) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    arguments: list[Any] = []
    for value in given:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            if value.is_floating_point():
                # Away from kinks, such as a ReLU at zero, where finite differences differ from the gradient.
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


def _has_feedback(call: Any, arguments: list[Any]) -> bool:
    """Whether the forward pass gets several numbers on which its output does not depend."""
    for value in arguments:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() < 2:
            continue
        with torch.no_grad():
            before, kept = call(), value.clone()
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=value.dtype))
            after = call()
            value.copy_(kept)
        if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor) and torch.equal(before, after):
            return True
    return False


def _is_flat(call: Any, leaf: torch.Tensor) -> bool:
    """Whether small changes of the input leave the output unchanged."""
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
    """Whether the output has few magnitudes for many different inputs, as signs times a shared scale."""
    with torch.no_grad():
        output = call()
    if not isinstance(output, torch.Tensor) or output.shape != leaf.shape:
        return False
    sizes, given = len(output.abs().unique()), len(leaf.detach().unique())
    return _FEWER * sizes <= output.numel() < 2 * given


def functions_of(trial: Trial) -> list[type]:
    """The user-defined `torch.autograd.Function`s that the first step used."""
    return sorted(trial.first.functions, key=lambda function: function.__name__)
