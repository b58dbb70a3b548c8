"""The gradient check of a network: gradients of each parameter and of the input, compared with central differences.

If one is wrong, each module is checked by itself, on the inputs that it got in the network, to find the cause.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from striate.account.gradients.compare import ComparisonOptions, Loss, compare_gradients, own_generator
from striate.errors import ModelError, UsageError
from striate.models.preserved_state import preserved
from striate.observe.module_calls import ModuleCall, module_calls
from striate.reference.check_gradient import STEP, TOLERANCE, GradientCheck


@dataclass(frozen=True)
class Suspect:
    """A module whose own backward pass is wrong: the gradients of all modules within it that ran are right."""

    name: str
    """Path of the module; empty for the network itself."""
    kind: str
    """Name of its class."""
    functions: tuple[str, ...]
    """`torch.autograd.Function`s written in Python that it calls outside of its children: the most likely cause."""
    wrong: tuple[str, ...]
    """Parameters and inputs of the module whose gradient is wrong."""

    def __str__(self) -> str:
        place = f"{self.name} ({self.kind})" if self.name else f"the network itself ({self.kind})"
        calls = f", which calls {', '.join(self.functions)}" if self.functions else ""
        return f"{place}{calls}: wrong by {', '.join(self.wrong)}"


def find_suspects(module: nn.Module, run: Callable[[], Any], options: ComparisonOptions) -> tuple[Suspect, ...]:
    """The innermost modules whose gradients are wrong; `run` is the network's forward pass, in float64 on the CPU."""
    options = replace(options, loss=None)
    suspects: dict[str, Suspect] = {}
    seen = _calls(module, run, options.seed)
    # Innermost first: a module with a wrong child is not a suspect itself.
    for name, (args, kwargs) in sorted(seen.items(), key=lambda item: -_depth(item[0])):
        if any(_inside(other, name) for other in suspects):
            continue
        part = module.get_submodule(name)
        try:
            wrong, functions = _check(part, args, kwargs, options)
        except ModelError as error:
            wrong, functions = (error.where,), ()
        if wrong:
            suspects[name] = Suspect(name, type(part).__name__, functions, wrong)
    return tuple(suspects[name] for name in seen if name in suspects)


def _calls(module: nn.Module, run: Callable[[], Any], seed: int) -> dict[str, tuple[Any, Any]]:
    """The arguments of each module's first call, in order of execution; copies, as a module may overwrite them."""
    seen: dict[str, tuple[Any, Any]] = {}

    def keep(call: ModuleCall) -> None:
        if call.name not in seen:
            leaves, structure = tree_flatten((call.args, call.kwargs))
            copies = [leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            seen[call.name] = tree_unflatten(copies, structure)

    with preserved(module, evaluating=False), torch.enable_grad(), module_calls(module, keep):
        torch.default_generator.manual_seed(seed)
        run()
    return seen


def _check(
    part: nn.Module, args: Any, kwargs: Any, options: ComparisonOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the wrong gradients of one module by itself, and the hand-written functions it calls."""
    leaves, structure = tree_flatten((args, kwargs))
    given = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()}
    tensors = {f"input[{i}]" if len(given) > 1 else "input": leaf.requires_grad_(True) for i, leaf in given.items()}
    tensors |= {name: value for name, value in part.named_parameters() if value.requires_grad and value.numel()}
    last: list[Any] = []

    def call() -> Any:
        # Copies, so that a module that works in place may overwrite them.
        fresh = [leaf.clone() if i in given else leaf for i, leaf in enumerate(leaves)]
        args_, kwargs_ = tree_unflatten(fresh, structure)
        last[:] = [part(*args_, **kwargs_)]
        return last[0]

    if not tensors or not _numbers_out(part, call, options.seed):
        return (), ()
    found = compare_gradients(part, call, tensors, options)
    wrong = tuple(name for name, check in found.items() if not check.ok)
    return wrong, tuple(dict.fromkeys(_written_functions(last[0]))) if wrong else ()


def _numbers_out(part: nn.Module, call: Callable[[], Any], seed: int) -> bool:
    """Whether the module outputs floating-point numbers: a module that outputs only indices has no gradient."""
    with preserved(part, evaluating=False), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        return any(isinstance(leaf, torch.Tensor) and leaf.is_floating_point() for leaf in tree_leaves(call()))


def _written_functions(outputs: Any) -> Iterator[str]:
    """The names of the `torch.autograd.Function`s in the graph behind the outputs, the last first."""
    waiting: list[Any] = [leaf.grad_fn for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    known: set[Any] = set()
    while waiting:
        node = waiting.pop(0)
        if node is None or node in known:
            continue
        known.add(node)
        if isinstance(node, BackwardCFunction):
            yield type(node).__name__.removesuffix("Backward")
        waiting += [following for following, _ in node.next_functions]


def _depth(name: str) -> int:
    return name.count(".") + 1 if name else 0


def _inside(inner: str, outer: str) -> bool:
    return outer == "" or inner.startswith(f"{outer}.")


ENTRIES = 24
NUDGE = 1e-3


@dataclass(frozen=True)
class NetworkGradientCheck:
    """The result of `check_gradients`. It is `ok` if no relative error exceeds the tolerance."""

    checks: dict[str, GradientCheck]
    """One comparison for each parameter, by its name, and `input`; for several inputs `input[0]`, `input[1]`, …"""
    suspects: tuple[Suspect, ...]
    """The innermost modules whose own backward pass is wrong."""
    skipped: dict[str, str]
    """Parameters and inputs without a gradient to compare, each with the reason."""

    @property
    def ok(self) -> bool:
        """Whether every compared gradient is right."""
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
            lines.append("each module alone is correct: check the loss, and the code between the modules")
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
    """Compare the gradients of any network with respect to its parameters and its input with central differences.

    `input`: a batch, or one tensor for each argument of the network. `loss(outputs)` returns a scalar; by default, it
    is a sum of all outputs with weights drawn from `seed`. `entries`: how many numbers of each tensor are compared,
    None for all; each costs two forward passes of the batch, so use a small one. The other arguments are those of
    `reference.check_gradient`. The check works on a copy in float64 on the CPU, with its hooks, in the train or eval
    mode of the network. The network, its gradients, buffers and the random state do not change. Weights and inputs of
    the copy are first moved by about a thousandth: weights initialized with zero and blank parts of a picture put ReLU
    and max-pooling on their kink, where there is no slope to compare. If a gradient is wrong, the result names the
    innermost modules whose backward pass is wrong. Raises UsageError for a wrong `input`; ModelError where the network
    cannot be copied or run, or has nothing to compare."""
    options = ComparisonOptions(loss, entries, step, tolerance, seed)
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

        checks = compare_gradients(net, run, tensors, options)
        right = all(check.ok for check in checks.values())
        suspects = () if right else find_suspects(net, run, options)
    return NetworkGradientCheck(checks, suspects, skipped)


@contextmanager
def _one_thread() -> Iterator[None]:
    """While the body runs, torch uses one thread: in thousands of tiny forward passes, threads mostly wait."""
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
    """The difference from each number to the middle of the input's range, as the network may expect that range."""
    low, high = value.detach().aminmax()
    if high > low:
        return (low + high) / 2 - value
    # An input with one value everywhere has no range.
    return -value if high != 0 else torch.ones_like(value)


def _copy(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise UsageError("module", type(module).__name__, "a torch.nn.Module", "striate.build(name)")
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta or nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise ModelError("module", "parameters without values", "a network with weights", "run it once: module(input)")
    try:
        return copy.deepcopy(module).cpu().double()
    except Exception as error:
        got = f"a network that cannot be copied ({type(error).__name__})"
        remedy = "detach() the tensors in plain attributes, or check only a part of the network"
        raise ModelError("module", got, "a network that copy.deepcopy can copy", remedy) from error


def _tensors(net: nn.Module, given: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors that are compared, by name, and those that are not, with the reason."""
    tensors: dict[str, torch.Tensor] = {}
    skipped: dict[str, str] = {}
    named: list[tuple[str, torch.Tensor]] = list(net.named_parameters())
    named += [(f"input[{i}]" if len(given) > 1 else "input", value) for i, value in enumerate(given)]
    for name, value in named:
        if value.numel() == 0:
            skipped[name] = "empty"
        elif not value.is_floating_point():
            skipped[name] = f"{str(value.dtype).removeprefix('torch.')} is not floating-point"
        elif not value.requires_grad:
            skipped[name] = "frozen"
        else:
            tensors[name] = value
    if not tensors:
        raise ModelError(
            "module", "no tensor with a gradient", "a parameter or an input", "parameter.requires_grad_(True)"
        )
    return tensors, skipped
