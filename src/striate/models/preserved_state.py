"""Preserved state: running a network without changing it, and copies to experiment on."""

from __future__ import annotations

import copy
import random
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any

import torch
from torch import nn

from striate.errors import ModelError
from striate.machine.memory import ran_out
from striate.observe.module_calls import forward_hooks_everywhere
from striate.observe.tensors import tensors_in

TRIALS = threading.RLock()
"""Held during a trial. Modes and hooks belong to a network, stdout and torch's backends to the process: if two threads
changed them at once, each would restore what the other one has set."""


@contextmanager
def on_trial(module: nn.Module, *, evaluating: bool = True) -> Iterator[None]:
    """Like `preserved`, for one thread at a time. What the network prints goes to stderr, as it is not part of the
    program's output. Compiled modules run uncompiled. Modules that the network calls without having registered them are
    preserved too."""
    with (
        TRIALS,
        preserved(module, evaluating=evaluating),
        _unregistered_preserved(module, evaluating),
        nothing_compiled(),
        redirect_stdout(sys.stderr),
    ):
        yield


@contextmanager
def _unregistered_preserved(module: nn.Module, evaluating: bool) -> Iterator[None]:
    """Preserve the modules that `module` calls without having registered them, through a closure or a list."""
    known = set(module.modules())

    def guard(part: nn.Module, _: object) -> None:
        if part not in known:
            known.update(part.modules())
            stack.enter_context(preserved(part, evaluating=evaluating))

    with ExitStack() as stack, forward_hooks_everywhere(guard):
        yield


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """While the body runs, compiled networks run uncompiled."""
    if "torch._dynamo" not in sys.modules:  # nothing can be compiled; loading torch's compiler would take a second
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", r"Using `torch.compile\(module\)` when there are global hooks")
        yield


def zero_input(
    module: nn.Module, input_shape: tuple[int, ...], batch: int = 1, *, device: str | None = None
) -> torch.Tensor:
    """Zeros (batch, *input_shape) in the network's data type, on its device or on `device`."""
    tensors = (*module.parameters(), *module.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    dtype = torch.get_default_dtype() if like is None else like.dtype
    place = next(iter(tensors), torch.empty(0)).device if like is None else like.device
    return torch.zeros(batch, *input_shape, dtype=dtype, device=device or place)


@contextmanager
def preserved(module: nn.Module, *, evaluating: bool = True) -> Iterator[None]:
    """While the body runs, the network is in eval mode (if `evaluating`). Its state is restored afterwards, also when
    the body raises.

    Restored are the train/eval mode of each submodule (a frozen normalization stays frozen), buffers, and the random
    state of Python, NumPy, torch, and the accelerators that hold the network.
    """
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.detach().clone() if _has_values(buffer) else None)
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    places = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    cuda = [place.index or 0 for place in places if place.type == "cuda"]
    with same_random_state(cuda):
        try:
            if evaluating:
                with suppress(NotImplementedError):  # an exported program (torch.export) has no modes
                    module.eval()
            yield
        finally:
            for part, training in modes:
                part.training = training
            for part, name, buffer, before in buffers:
                setattr(part, name, buffer)
                # Written only if changed, as a write would invalidate a graph whose backward pass is still to come.
                if before is not None and not torch.equal(buffer, before):
                    with torch.no_grad():
                        buffer.copy_(before)


@contextmanager
def original_preserved(module: nn.Module) -> Iterator[None]:
    """Restore the state of the original after work on a copy, which may call the original through a closure: what
    `preserved` restores, without a change of mode, and gradients."""
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    with preserved(module, evaluating=False):
        try:
            for parameter, _ in gradients:
                parameter.grad = None  # so that backward passes accumulate in a new tensor
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient


@contextmanager
def same_random_state(cuda: Iterable[int] = ()) -> Iterator[None]:
    """Restore the random state of Python, NumPy, torch on the CPU and the given CUDA devices after the body."""
    python = random.getstate()
    # Loading numpy.random takes 0.1 s; if it is not loaded, nobody has seeded it.
    numpy = sys.modules["numpy.random"].get_state() if "numpy.random" in sys.modules else None
    with torch.random.fork_rng(devices=list(cuda)):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy is not None:
                sys.modules["numpy.random"].set_state(numpy)
            elif "numpy.random" in sys.modules:
                sys.modules["numpy.random"].seed()


@contextmanager
def usual_torch() -> Iterator[None]:
    """While the body, or the decorated function, runs, gradients are computed and new weights are float32, whatever the
    caller has set in torch."""
    dtype = torch.get_default_dtype()
    with torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def seed_all(seed: int) -> None:
    """Seed the generators of Python, torch, and NumPy if it is loaded: a training step may draw from any of them."""
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(seed)


def has_forward_of_its_own(module: nn.Module) -> bool:
    """Whether the forward of a module or submodule was replaced on the instance: the replacement may hold the original
    module, which a copy would then run."""
    return any(
        "forward" in vars(part) and not type(part).__module__.startswith("torch._dynamo.") for part in module.modules()
    )


def trial_copy(module: nn.Module) -> nn.Module:
    """A deep copy for trials; the module itself where it cannot be copied (it holds a lock or a generator), or a copy
    would run the original."""
    if has_forward_of_its_own(module):
        return module
    try:
        with TRIALS:  # or the copy would have another thread's hooks
            return _copy(module)
    except Exception:
        return module


def without_numbers(module: nn.Module) -> nn.Module | None:
    """A copy on torch's meta device, whose tensors have shapes only; None where such a copy cannot be made, or would
    run the original."""
    if has_forward_of_its_own(module):
        return None
    memo: dict[int, Any] = {}
    kept = []
    try:
        with TRIALS:  # or the copy would have another thread's hooks
            for part in module.modules():
                # Attributes too: there is no other way to copy a weight that is computed from others.
                for tensor in tensors_in([value for key, value in vars(part).items() if key != "_modules"]):
                    kept.append(tensor)
                    memo[id(tensor)] = _shape_only(tensor)
            return copy.deepcopy(module, memo)
    except Exception:  # whatever the attributes of a user's network raise
        return None


def _shape_only(tensor: torch.Tensor) -> torch.Tensor:
    bare = tensor.detach().to("meta")
    return nn.Parameter(bare, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare


def is_lazy(module: nn.Module) -> bool:
    """Whether any parameter or buffer has no shape yet."""
    return any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers()))


def copied(module: nn.Module) -> nn.Module:
    """A deep copy. Raises ModelError where the module cannot be copied."""
    with copying_explained(module):
        return _copy(module)


def _copy(module: nn.Module) -> nn.Module:
    # torch cannot copy lazy buffers.
    lazy: list[Any] = [t for t in (*module.parameters(), *module.buffers()) if nn.parameter.is_lazy(t)]
    memo = {id(t): type(t)(requires_grad=t.requires_grad, device=t.device, dtype=t.dtype) for t in lazy}
    return copy.deepcopy(module, memo)


@contextmanager
def copying_explained(module: nn.Module) -> Iterator[None]:
    """Turn an exception from copying `module`, other than out-of-memory, into a ModelError."""
    try:
        yield
    except Exception as error:  # whatever the attributes of a user's network raise
        if ran_out(error):
            raise
        raise ModelError(
            f"model {type(module).__name__}",
            f"a network that cannot be copied: {' '.join(str(error).split())[:200]}",
            "a network that copy.deepcopy can copy, for trials, timing and weight averages",
            "remove locks, files and results of earlier passes from its attributes",
        ) from None


def _has_values(buffer: torch.Tensor) -> bool:
    return not buffer.is_meta and not nn.parameter.is_lazy(buffer)


def uses_others(network: nn.Module, inputs: torch.Tensor) -> bool:
    """Whether a pass over `inputs` (B, *shape), in train mode, calls a module or uses a weight that is not a part of
    `network`.

    A copy of a network does if its forward or a hook is a closure: the closure holds the original, so that changes
    meant for the copy reach the original. Neither module is changed here. Exceptions of the network are raised
    unchanged."""
    own = set(network.modules())
    if all(map(_holds_no_closure, own)):
        return False
    found: list[nn.Module] = []

    def note(part: nn.Module, _: object) -> None:
        # A loss or an activation that the forward creates has no state to change.
        if part not in own and _has_state(part):
            found.append(part)

    with on_trial(network, evaluating=False), torch.inference_mode(False), torch.enable_grad():
        network.train()
        with forward_hooks_everywhere(note):
            outputs = network(inputs.detach().clone())
        return bool(found) or _takes_other_weights(network, outputs)


def _holds_no_closure(part: nn.Module) -> bool:
    """Whether a module is torch's or striate's own, without hooks and without functions that may hold others."""
    own_code = type(part).__module__.partition(".")[0] in ("torch", "striate")
    hooked = part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
    return own_code and not hooked and not any(map(_may_hold_others, vars(part).values()))


def _may_hold_others(value: object) -> bool:
    return callable(value) and not isinstance(value, type) and getattr(value, "__closure__", True) is not None


def _takes_other_weights(network: nn.Module, outputs: object) -> bool:
    own = {id(parameter) for parameter in network.parameters()}
    waiting = [tensor.grad_fn for tensor in tensors_in(outputs) if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        weight = getattr(node, "variable", None)  # AccumulateGrad, of a leaf tensor
        if isinstance(weight, nn.Parameter) and id(weight) not in own:
            return True
        following = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= following
        waiting += following
    return False


def _has_state(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None or next(part.buffers(), None) is not None
