"""Record which modules of a network are called, with which arguments, and what they return."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

Hooks = Iterable[tuple[nn.Module, Callable[..., Any]]]
"""Modules, each with a hook in torch's signature."""


@dataclass(eq=False, slots=True)
class ModuleCall:
    """One call of a module."""

    name: str
    """The module's path."""
    module: nn.Module
    """The module."""
    args: tuple[Any, ...]
    """Positional arguments of its forward."""
    kwargs: dict[str, Any]
    """Keyword arguments of its forward."""
    output: Any = None
    """None until it has returned."""
    outside: BaseException | None = None
    """The exception that was being handled when the call began; None where none was."""


@dataclass(eq=False)
class OpenCalls:
    """The calls that have begun and not ended."""

    stack: list[ModuleCall] = field(default_factory=list)
    """The innermost call last."""
    failed: ModuleCall | None = None
    """The innermost call that the latest exception left; None before an exception."""
    error: BaseException | None = None
    """That exception, until the observation ends."""

    @property
    def innermost(self) -> ModuleCall | None:
        """The module that is running; None between calls of the network."""
        return self.stack[-1] if self.stack else None


Note = Callable[[ModuleCall], object]


@contextmanager
def module_calls(
    parts: nn.Module | Mapping[str, nn.Module],
    begin: Note | None = None,
    end: Note | None = None,
    fail: Note | None = None,
    *,
    prepend: bool = False,
) -> Iterator[OpenCalls]:
    """While the body runs, call `begin` and `end` with each call of `parts`: all modules of a network, or named ones.

    `end` is called for calls that return, in that order, `fail` for calls that raise. The modules' own hooks run before
    `begin` and before `end`; with `prepend` they run after `begin`, as part of the call. A module that is registered
    twice has its first name. Scripted modules take no hooks and are left out.
    """
    named = dict(parts.named_modules()) if isinstance(parts, nn.Module) else parts
    calls = OpenCalls()
    with ExitStack() as stack:
        for name, part in named.items():
            if isinstance(part, torch.jit.ScriptModule):
                continue
            entering, leaving = _begin(calls, name, begin), _end(calls, end, fail)
            handle = part.register_forward_pre_hook(entering, prepend=prepend, with_kwargs=True)
            stack.callback(handle.remove)
            stack.callback(part.register_forward_hook(leaving, with_kwargs=True, always_call=True).remove)
        try:
            yield calls
        finally:
            calls.error = None  # its traceback would keep all tensors of the pass


def _begin(calls: OpenCalls, name: str, begin: Note | None) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = ModuleCall(name, module, args, kwargs, outside=sys.exception())
        calls.stack.append(call)
        if begin is not None:
            begin(call)

    return hook


def _end(calls: OpenCalls, end: Note | None, fail: Note | None) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not calls.stack or calls.stack[-1].module is not module:
            return  # a hook of the module raised before its call began
        call, error = calls.stack.pop(), sys.exception()
        if error is not call.outside:
            if error is not calls.error:  # an exception leaves the innermost call first
                calls.error, calls.failed = error, call
            if fail is not None:
                fail(call)
            return
        call.args, call.kwargs, call.output = args, kwargs, output
        if end is not None:
            end(call)

    return hook


def leaves(module: nn.Module) -> dict[str, nn.Module]:
    """The modules without submodules, by name."""
    return {name: part for name, part in module.named_modules() if next(part.children(), None) is None}


@contextmanager
def forward_hooks(before: Hooks = (), after: Hooks = ()) -> Iterator[None]:
    """While the body runs, register torch's forward hooks `before(module, args)` and `after(module, args, output)`,
    which compiled networks take too. A value that a hook returns replaces `args` or `output`.
    """
    with ExitStack() as stack:
        for part, hook in before:
            stack.callback(part.register_forward_pre_hook(hook).remove)
        for part, hook in after:
            stack.callback(part.register_forward_hook(hook).remove)
        yield


@contextmanager
def forward_hooks_everywhere(
    before: Callable[[nn.Module, Any], None], after: Callable[[nn.Module, Any, Any], None] | None = None
) -> Iterator[None]:
    """While the body runs, call `before(module, args)` and `after(module, args, output)` for every module that this
    thread calls, of all networks."""
    here = threading.get_ident()

    def entering(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == here:
            before(module, args)

    def leaving(module: nn.Module, args: Any, output: Any) -> None:
        if after is not None and threading.get_ident() == here:
            after(module, args, output)

    with ExitStack() as stack:
        stack.callback(nn.modules.module.register_module_forward_pre_hook(entering).remove)
        if after is not None:
            stack.callback(nn.modules.module.register_module_forward_hook(leaving).remove)
        yield


@contextmanager
def optimizer_steps(
    optimizer: Optimizer, before: Callable[[], None], after: Callable[[], None] | None = None
) -> Iterator[None]:
    """While the body runs, call `before` and `after` around each step of the optimizer."""
    with ExitStack() as stack:
        stack.callback(optimizer.register_step_pre_hook(lambda *_: before()).remove)
        if after is not None:
            stack.callback(optimizer.register_step_post_hook(lambda *_: after()).remove)
        yield
