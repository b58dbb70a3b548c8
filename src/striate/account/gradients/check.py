"""Are a network's gradients right? Those of each parameter and of the input, compared with measured slopes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from striate.account.gradients.compare import How, Loss, compare_gradients, own_generator
from striate.account.gradients.wrong_backward import Suspect, find_suspects
from striate.errors import ModelError, UsageError
from striate.reference.check_gradient import STEP, TOLERANCE, GradientCheck

ENTRIES = 24
NUDGE = 1e-3


@dataclass(frozen=True)
class NetworkGradientCheck:
    """What `check_gradients` found.

    `checks`: one comparison a parameter, by its name, and `input`; of several inputs `input[0]`, `input[1]`, …
    `suspects`: the innermost modules whose own backward pass is wrong. `skipped`: what has no gradient to compare, and
    why. `ok`: no relative error is above the tolerance.
    """

    checks: dict[str, GradientCheck]
    suspects: tuple[Suspect, ...]
    skipped: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every gradient that was compared is right."""
        return all(check.ok for check in self.checks.values())

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names of the parameters and inputs whose gradient is wrong."""
        return tuple(name for name, check in self.checks.items() if not check.ok)

    @property
    def max_relative_error(self) -> float:
        """The largest relative error of all."""
        return max(check.max_relative_error for check in self.checks.values())

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {
            "ok": self.ok,
            "wrong": list(self.wrong),
            "checks": {name: check.to_json() for name, check in self.checks.items()},
            "suspects": [asdict(suspect) for suspect in self.suspects],
            "skipped": self.skipped,
        }

    def __str__(self) -> str:
        wide = max(len(name) for name in self.checks)
        lines = [f"{name:<{wide}}  {check}" for name, check in self.checks.items()]
        lines += [f"{name}: not compared, {why}" for name, why in self.skipped.items()]
        lines += [f"look at {suspect}" for suspect in self.suspects]
        if not self.ok and not self.suspects:
            lines.append("each module by itself is right: look at the loss, and at what happens between modules")
        return "\n".join(lines)


def check_gradients(
    module: nn.Module,
    input: torch.Tensor | Sequence[torch.Tensor],
    *,
    loss: Loss | None = None,
    entries: int | None = ENTRIES,
    step: float = STEP,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> NetworkGradientCheck:
    """Compare the gradients of any network, by its parameters and its input, with central differences.

    `input`: a batch, or one tensor for each argument of the network. `loss(outputs)` gives a scalar; without it, a sum
    of all outputs with weights drawn from `seed`. `entries` of each tensor are compared, None: all; each costs two
    forward passes of the batch, so small batches do. The rest as `reference.check_gradient`.
    Works on a copy in float64 on the CPU, with its hooks, in the train or eval mode that the network is in; the
    network, its gradients, buffers and the random state stay as they are. Weights and inputs of the copy are moved by
    about a thousandth first: weights that begin at zero, and blank parts of a picture, put ReLU and maximum on their
    corner, where there is no slope to compare.
    If something is wrong, the innermost modules that are so by themselves are named.
    UsageError, ModelError where the network cannot be copied or run, or has nothing to compare.
    """
    how = How(loss, entries, step, tolerance, seed)
    given = _inputs(input)
    with _one_thread():
        net = _copy(module)
        tensors, skipped = _tensors(net, given)
        _nudge(net, given, seed)

        def run() -> Any:
            try:
                return net(*(value.clone() for value in given))
            except Exception as error:
                got = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no message'}"
                shapes = ", ".join(str(tuple(value.shape)) for value in given)
                expected = f"a forward pass in float64 of an input of shape {shapes}"
                raise ModelError("module", got, expected, "an input of the shape that module(input) takes") from error

        checks = compare_gradients(net, run, tensors, how)
        right = all(check.ok for check in checks.values())
        suspects = () if right else find_suspects(net, run, how)
    return NetworkGradientCheck(checks, suspects, skipped)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of tiny forward passes: threads that wait for each other would take most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _inputs(given: Any) -> list[torch.Tensor]:
    values = [given] if isinstance(given, torch.Tensor) else given
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, torch.Tensor) for value in values):
        expected = "a tensor, or one for each argument"
        raise UsageError("input", type(given).__name__, expected, "input=torch.randn(2, 3, 8, 8)")
    copies = [value.detach().cpu().clone() for value in values]
    return [value.double().requires_grad_(True) if value.is_floating_point() else value for value in copies]


def _nudge(net: nn.Module, given: list[torch.Tensor], seed: int) -> None:
    generator = own_generator(seed)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.is_floating_point() and weight.numel():
                scale = float(weight.square().mean().sqrt()) or 1.0
                weight.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype), alpha=NUDGE * scale)
        for value in given:
            if value.is_floating_point() and value.numel():
                value.add_(
                    2 * NUDGE * torch.rand(value.shape, generator=generator, dtype=value.dtype) * _inwards(value)
                )


def _inwards(value: torch.Tensor) -> torch.Tensor:
    """From each number of the input to the middle of its range, which the network expects it to stay in."""
    low, high = value.detach().aminmax()
    if high > low:
        return (low + high) / 2 - value
    # One number everywhere tells no range.
    return -value if high != 0 else torch.ones_like(value)


def _copy(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise UsageError("module", type(module).__name__, "a torch.nn.Module", "striate.build(name)")
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta or nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise ModelError(
            "module", "parameters without values", "a network with its weights", "run it once: module(input)"
        )
    try:
        return copy.deepcopy(module).cpu().double()
    except Exception as error:
        got = f"a network that cannot be copied ({type(error).__name__})"
        remedy = "detach() the tensors that it keeps in plain attributes, or check the part in question"
        raise ModelError("module", got, "one that copy.deepcopy copies", remedy) from error


def _tensors(net: nn.Module, given: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """What is compared, by name, and what is not, with the reason."""
    tensors: dict[str, torch.Tensor] = {}
    skipped: dict[str, str] = {}
    named: list[tuple[str, torch.Tensor]] = list(net.named_parameters())
    named += [(f"input[{i}]" if len(given) > 1 else "input", value) for i, value in enumerate(given)]
    for name, value in named:
        if value.numel() == 0:
            skipped[name] = "empty"
        elif not value.is_floating_point():
            skipped[name] = f"{str(value.dtype).removeprefix('torch.')} has no slope here"
        elif not value.requires_grad:
            skipped[name] = "frozen"
        else:
            tensors[name] = value
    if not tensors:
        raise ModelError(
            "module", "nothing with a gradient", "a parameter or an input", "parameter.requires_grad_(True)"
        )
    return tensors, skipped
