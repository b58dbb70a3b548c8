"""Does a network give what the data ask for? One forward pass that leaves no trace on the network."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from striate.errors import ModelError, StriateError
from striate.models.outputs import show_expected
from striate.models.untouched import trial_copy, untouched

BATCH = 2


@dataclass(frozen=True)
class _Failure:
    """An exception of a forward pass, and the innermost module it came from with the shapes it was given."""

    error: Exception
    name: str
    module: nn.Module
    shapes: tuple[tuple[int, ...], ...]


def check_outputs(
    module: nn.Module,
    input_shape: tuple[int, ...],
    outputs: int,
    dense: bool = False,
    *,
    classes: tuple[str, ...] = (),
) -> None:
    """Runs one batch of two through the network, on the meta device where it can be.

    Raises ModelError unless the output is a tensor (N, outputs), or (N, outputs, *spatial of the input) if `dense`;
    an exception inside names the module and the shapes it was given. Mode, buffers and random state of the network
    stay as they are. Softmax at the end is allowed here.
    """
    result = _forward(module, input_shape)
    if isinstance(result, _Failure):
        raise _failed(result, module, input_shape) from result.error
    wanted = (BATCH, outputs, *input_shape[1:]) if dense else (BATCH, outputs)
    if isinstance(result, torch.Tensor) and tuple(result.shape) == wanted:
        return
    if isinstance(result, torch.Tensor):
        shape = tuple(result.shape)
        shown = ", ".join(map(str, shape[1:]))
        got = f"{shape[1]} outputs" if len(shape) == 2 and not dense else f"an output of (N, {shown})"
        if not shape or shape[0] != BATCH:
            got = f"an output of {shape} for a batch of {BATCH}"
    else:
        got = f"an output of type {type(result).__name__}"
    remedy = f"let the network end in {outputs} {'channels of the size of its input' if dense else 'outputs'}"
    remedy += f", or use --model {'small-unet' if dense else 'auto'}"
    expected = show_expected(outputs, input_shape, dense, classes)
    raise ModelError(f"output of {type(module).__name__}", got, expected, remedy)


def _forward(module: nn.Module, input_shape: tuple[int, ...]) -> object:
    """The output of the module, or the _Failure; on the meta device, or else for real on a copy."""
    tensors = [*module.parameters(), *module.buffers()]
    lazy = any(nn.parameter.is_lazy(t) for t in tensors)
    floating = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    given = torch.zeros(BATCH, *input_shape, dtype=floating.dtype, device="meta")
    if not lazy:
        try:
            memo = {id(t): _to_meta(t) for t in tensors}
            result = _run(copy.deepcopy(module, memo), given)
        except Exception:  # a module that cannot be copied: run for real below
            result = None
        if result is not None and not isinstance(result, _Failure):
            return result
        if result is not None and floating.device.type == "meta":
            return result
    return _run(trial_copy(module), torch.zeros(BATCH, *input_shape, dtype=floating.dtype, device=floating.device))


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    meta = tensor.detach().to("meta")
    return nn.Parameter(meta, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta


def _run(module: nn.Module, given: torch.Tensor) -> object:
    entered: list[tuple[str, nn.Module, tuple[tuple[int, ...], ...]]] = []
    # What the user's code prints stays off stdout, where a verb's --json promises one document.
    with untouched(module), torch.no_grad(), redirect_stdout(sys.stderr), _watched(module, entered):
        try:
            return module(given)
        except StriateError:
            raise
        except Exception as error:
            name, inner, shapes = entered[-1] if entered else ("", module, (tuple(given.shape),))
            return _Failure(error, name, inner, shapes)


@contextmanager
def _watched(module: nn.Module, entered: list[tuple[str, nn.Module, tuple[tuple[int, ...], ...]]]) -> Iterator[None]:
    """`entered` holds, while the module runs, the modules that have begun and not ended."""
    handles: list[RemovableHandle] = []
    for name, inner in module.named_modules():

        def begin(m: nn.Module, inputs: tuple[object, ...], name: str = name) -> None:
            entered.append((name, m, tuple(tuple(x.shape) for x in inputs if isinstance(x, torch.Tensor))))

        def end(*_: object) -> None:
            entered.pop()

        handles += [inner.register_forward_pre_hook(begin), inner.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _failed(failure: _Failure, module: nn.Module, input_shape: tuple[int, ...]) -> ModelError:
    inner, shapes = failure.module, failure.shapes
    named = f"`{failure.name}` ({type(inner).__name__})" if failure.name else type(module).__name__
    shown = " and ".join(f"(N, {', '.join(map(str, shape[1:]))})" for shape in shapes) or "no tensor"
    reason = " ".join(str(failure.error).split())[:300]
    expected, remedy = f"a network that takes inputs of {input_shape}", "make the layers before and after fit together"
    width = shapes[0][-1] if shapes and len(shapes[0]) > 1 else None
    if isinstance(inner, nn.Linear) and width not in (None, inner.in_features):
        expected = f"{inner.in_features} features, as `in_features` says"
        remedy = f"make it nn.Linear({width}, {inner.out_features})"
        if len(shapes[0]) > 2:
            remedy = f"flatten before it and make it nn.Linear({math.prod(shapes[0][1:])}, {inner.out_features})"
    elif isinstance(inner, nn.Conv1d | nn.Conv2d | nn.Conv3d) and shapes and shapes[0][1:2] != (inner.in_channels,):
        expected = f"{inner.in_channels} channels, as `in_channels` says"
        remedy = f"make its in_channels {shapes[0][1]}" if len(shapes[0]) > 1 else remedy
    return ModelError(named, f"input {shown}: {type(failure.error).__name__}: {reason}", expected, remedy)


def check_forward(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Runs one batch of two through the network; ModelError with module and shapes where an exception comes out.

    The network stays as it is.
    """
    result = _forward(module, input_shape)
    if isinstance(result, _Failure):
        raise _failed(result, module, input_shape) from result.error
