"""Whether a network computes with its own parts only: a copy may reach for what it was copied from."""

from __future__ import annotations

import torch
from torch import nn

from striate.models.tensors import tensors_in
from striate.models.untouched import on_trial
from striate.observe.module_calls import forward_hooks_everywhere


def uses_others(network: nn.Module, inputs: torch.Tensor) -> bool:
    """Whether a pass over `inputs` (B, *shape), in train mode, calls a module or takes a weight that is no part of
    `network`.

    So does a copy of a network whose forward, or a hook, is a closure: it holds the original, and what is done to the
    copy is done to that. Nothing is changed, neither here nor there. Raises what the network raises.
    """
    own = set(network.modules())
    found: list[nn.Module] = []

    def note(part: nn.Module, _: object) -> None:
        # A loss or an activation that is made on the way has nothing that could be changed.
        if part not in own and _has_state(part):
            found.append(part)

    with on_trial(network, evaluating=False), torch.inference_mode(False), torch.enable_grad():
        network.train()
        with forward_hooks_everywhere(note):
            outputs = network(inputs.detach().clone())
        return bool(found) or _takes_other_weights(network, outputs)


def _takes_other_weights(network: nn.Module, outputs: object) -> bool:
    own = {id(parameter) for parameter in network.parameters()}
    waiting = [tensor.grad_fn for tensor in tensors_in(outputs) if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        weight = getattr(node, "variable", None)  # where gradients are left
        if isinstance(weight, nn.Parameter) and id(weight) not in own:
            return True
        following = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= following
        waiting += following
    return False


def _has_state(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None or next(part.buffers(), None) is not None
