"""Which module of a network has the wrong gradient: each is checked by itself, on what it was given in the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from striate.account.gradients.compare import How, compare_gradients
from striate.errors import ModelError
from striate.models.untouched import untouched


@dataclass(frozen=True)
class Suspect:
    """A module whose own backward pass is wrong: all modules in it that ran are right.

    `name` is empty for the network itself; `kind` its class; `functions`: the `torch.autograd.Function`s written in
    Python that it calls outside of its children, the first to look at; `wrong`: parameters and inputs of the module
    whose gradient is.
    """

    name: str
    kind: str
    functions: tuple[str, ...]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        place = f"{self.name} ({self.kind})" if self.name else f"the network itself ({self.kind})"
        calls = f", which calls {', '.join(self.functions)}" if self.functions else ""
        return f"{place}{calls}: wrong by {', '.join(self.wrong)}"


def find_suspects(module: nn.Module, run: Callable[[], Any], how: How) -> tuple[Suspect, ...]:
    """The innermost modules whose gradients are wrong; `run` is the network's forward pass, in float64 on the CPU."""
    how = replace(how, loss=None)
    suspects: dict[str, Suspect] = {}
    seen = _calls(module, run, how.seed)
    # Innermost first: a module is only to blame for what its children do not do wrong.
    for name, (args, kwargs) in sorted(seen.items(), key=lambda item: -_depth(item[0])):
        if any(_inside(other, name) for other in suspects):
            continue
        part = module.get_submodule(name)
        try:
            wrong, functions = _check(part, args, kwargs, how)
        except ModelError as error:
            wrong, functions = (error.where,), ()
        if wrong:
            suspects[name] = Suspect(name, type(part).__name__, functions, wrong)
    return tuple(suspects[name] for name in seen if name in suspects)


def _calls(module: nn.Module, run: Callable[[], Any], seed: int) -> dict[str, tuple[Any, Any]]:
    """What each module was given when it first ran, in order; a copy, as a module may overwrite it."""
    seen: dict[str, tuple[Any, Any]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, args, kwargs: _keep(seen, name, (args, kwargs))

    parts = list(module.named_modules())
    handles = [part.register_forward_pre_hook(note(name), with_kwargs=True) for name, part in parts]
    try:
        with untouched(module, evaluating=False), torch.enable_grad():
            torch.default_generator.manual_seed(seed)
            run()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _keep(seen: dict[str, tuple[Any, Any]], name: str, given: tuple[Any, Any]) -> None:
    if name not in seen:
        leaves, structure = tree_flatten(given)
        seen[name] = tree_unflatten(
            [leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], structure
        )


def _check(part: nn.Module, args: Any, kwargs: Any, how: How) -> tuple[tuple[str, ...], tuple[str, ...]]:
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

    if not tensors or not _numbers_out(part, call, how.seed):
        return (), ()
    found = compare_gradients(part, call, tensors, how)
    wrong = tuple(name for name, check in found.items() if not check.ok)
    return wrong, tuple(dict.fromkeys(_written_functions(last[0]))) if wrong else ()


def _numbers_out(part: nn.Module, call: Callable[[], Any], seed: int) -> bool:
    """Whether the module gives real numbers at all: what gives indices only has no gradient to check."""
    with untouched(part, evaluating=False), torch.enable_grad():
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
