"""Check the output shape of a network by one forward pass that does not change the network."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import nn

from striate.errors import ModelError, ShapeError, StriateError
from striate.models.features import network_features
from striate.models.layer_strings.outputs import show_expected
from striate.models.preserved_state import is_lazy, on_trial, trial_copy, without_numbers, zero_input
from striate.models.shape_error import Failure, shape_error
from striate.observe.module_calls import ModuleCall, module_calls
from striate.wording import several

BATCH = 2
_SHAPES = "torch.fx.experimental.symbolic_shapes"
"""The module that torch loads, with its compiler, for the first pass with shapes only; it takes 1.5 s."""
_QUICK = 4e11  # weights × positions: 50 ms for usual networks, 3 s where each weight is used at each position


def check_outputs(
    module: nn.Module,
    input_shape: tuple[int, ...],
    outputs: int,
    dense: bool = False,
    *,
    classes: tuple[str, ...] = (),
) -> None:
    """Run a batch of two through the network and check the output's shape: with zeros, or with shapes only if faster.

    Raises ModelError unless the output is a tensor (N, outputs), or (N, outputs, *spatial of the input) if `dense`.
    Where the network raises an exception, the error names the module and the shapes of its inputs. Mode, buffers and
    random state of the network do not change. Softmax at the end is allowed.
    """
    result = _forward(module, input_shape)
    if isinstance(result, Failure):
        raise _explained(result, module, input_shape) from result.error
    wanted = (BATCH, outputs, *input_shape[1:]) if dense else (BATCH, outputs)
    if isinstance(result, torch.Tensor) and tuple(result.shape) == wanted:
        return
    if isinstance(result, torch.Tensor):
        shape = tuple(result.shape)
        shown = ", ".join(map(str, shape[1:]))
        got = several(shape[1], "output") if len(shape) == 2 and not dense else f"an output of (N, {shown})"
        if not shape or shape[0] != BATCH:
            got = f"an output of {shape} for a batch of {BATCH}"
    else:
        got = f"an output of type {type(result).__name__}"
    remedy = f"let the network end in {outputs} {'channels of the size of its input' if dense else 'outputs'}"
    if not isinstance(result, torch.Tensor):
        key = next(iter(result), 0) if isinstance(result, Mapping) else 0
        remedy = f"let forward return one tensor, such as outputs[{key!r}]"
    # A map where a vector is needed, or a vector where a map is needed: a network for another task.
    elif result.ndim != len(wanted):
        usual = "small-unet3d" if len(input_shape) == 4 else "small-unet"
        remedy += f", or use --model {usual if dense else 'auto'}"
        got += _offered(module, input_shape)
    expected = show_expected(outputs, input_shape, dense, classes)
    raise ModelError(f"output of {type(module).__name__}", got, expected, remedy)


def refuse_without_numbers(module: nn.Module) -> None:
    """Raise ModelError for a network on the meta device, whose weights have no values."""
    tensors = (*module.parameters(), *module.buffers())
    if any(tensor.is_meta for tensor in tensors):
        got, remedy = (
            "weights on the meta device, which have no values",
            "build the network outside of torch.device('meta')",
        )
        raise ModelError(f"model {type(module).__name__}", got, "weights on the CPU or a GPU", remedy)


def refuse_scripted(module: nn.Module) -> None:
    """Raise ModelError for a TorchScript network, whose parts are not Python modules."""
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        got, remedy = "a network scripted or traced by torch.jit", "give the nn.Module that it was made from"
        raise ModelError(f"model {type(module).__name__}", got, "an nn.Module", remedy)


def _offered(module: nn.Module, input_shape: tuple[int, ...]) -> str:
    """The features that the network offers instead, for the message."""
    try:
        copy = trial_copy(module)
        return f"; the network offers {network_features(copy, zero_input(copy, input_shape, BATCH))}"
    except Exception:  # a user's network may raise anything; the message is about another error
        return ""


def _forward(module: nn.Module, input_shape: tuple[int, ...]) -> object:
    """The output of the module, or the Failure: with real numbers on a copy if that is quick or the module cannot be
    copied to the meta device, else on the meta device."""
    if _SHAPES not in sys.modules and _is_quick(module, input_shape):
        result = _run(trial_copy(module), zero_input(module, input_shape, BATCH))
        if not isinstance(result, Failure):
            return result
    result = _run_without_numbers(module, input_shape)
    without = any(tensor.is_meta for tensor in module.parameters())
    if result is not None and (without or not isinstance(result, Failure)):
        return result
    return _run(trial_copy(module), zero_input(module, input_shape, BATCH))


def _is_quick(module: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether a pass with zeros takes less time than loading the compiler for a pass with shapes only."""
    tensors = list(module.parameters())
    if is_lazy(module) or any(tensor.is_meta for tensor in tensors):
        return False
    return sum(tensor.numel() for tensor in tensors) * math.prod(input_shape[1:]) <= _QUICK


def _run_without_numbers(module: nn.Module, input_shape: tuple[int, ...]) -> object:
    """The output on the meta device, or the Failure; None where the module cannot be copied to it."""
    bare = None if is_lazy(module) else without_numbers(module)
    return None if bare is None else _run(bare, zero_input(module, input_shape, BATCH, device="meta"))


def _run(module: nn.Module, given: torch.Tensor) -> object:
    inner: dict[ModuleCall, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)

    def end(call: ModuleCall) -> None:
        if calls.innermost is not None and isinstance(call.output, torch.Tensor):
            inner[calls.innermost].append((call.name, tuple(call.output.shape)))

    with on_trial(module), torch.no_grad(), module_calls(module, end=end) as calls:
        try:
            return module(given)
        except StriateError as error:
            if isinstance(error, ShapeError) and calls.failed is not None and calls.failed.name:
                error.where += f" (`{calls.failed.name}`)"
            raise
        except Exception as error:
            call = calls.failed or ModuleCall("", module, (given,), {})
            shapes = tuple(tuple(x.shape) for x in call.args if isinstance(x, torch.Tensor))
            return Failure(error, call.name, call.module, shapes, tuple(inner[call]))


def _explained(failure: Failure, module: nn.Module, input_shape: tuple[int, ...]) -> ModelError:
    def runs(shape: tuple[int, ...]) -> bool:
        try:
            return not isinstance(_run_without_numbers(module, shape), Failure | None)
        except StriateError:  # a layer that refuses this size, which is a trial and not the user's
            return False

    return shape_error(failure, module, input_shape, runs)


def gives_vector(module: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether the network's output for a batch is (N, K), not a map. The network is not changed."""
    result = _forward(module, input_shape)
    return isinstance(result, torch.Tensor) and result.ndim == 2


def check_forward(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Run a batch of two through the network, which is not changed.

    Raises ModelError, with module and shapes, where the network raises an exception.
    """
    result = _forward(module, input_shape)
    if isinstance(result, Failure):
        raise _explained(result, module, input_shape) from result.error
