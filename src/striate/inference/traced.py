"""The network as a graph of calls, and batch normalization folded into the layer before it.

An affine normalization after a convolution is a convolution with other weights:
γ (w * x + b − μ) / √(σ² + ε) + β = (γ w / √(σ² + ε)) * x + γ (b − μ) / √(σ² + ε) + β.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Tracer(fx.Tracer):
    """Looks into modules only as far as there is something to fold or fuse in them, and not into those of the kinds
    `whole`; of what cannot be traced, `fault` is the innermost."""

    def __init__(self, whole: frozenset[type]) -> None:
        super().__init__()
        self.whole = whole
        self.fault: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if super().is_leaf_module(m, module_qualified_name) or type(m) in self.whole:
            return True
        return not any(isinstance(part, _CONVOLUTIONS) for part in m.modules())

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.fault = self.fault or m
            raise


def traced(module: nn.Module) -> fx.GraphModule:
    """The graph of a network in eval mode, which shares the layers of `module`: give it a copy. Parts that decide by
    values or shapes of their inputs stay whole.

    Raises whatever is raised where the network itself does so.
    """
    whole: frozenset[type] = frozenset()
    while True:
        tracer = _Tracer(whole)
        try:
            return fx.GraphModule(module, tracer.trace(module))
        except Exception:
            if tracer.fault is None:
                raise
            whole |= {type(tracer.fault)}


def fold_normalization(graph: fx.GraphModule) -> int:
    """Fold every batch normalization, in eval mode with statistics of its own, into the convolution or linear layer
    whose output nothing else takes; how many were folded. Layers that are called more than once are left alone."""
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    modules = dict(graph.named_modules())
    folded = 0
    for node in list(graph.graph.nodes):
        if not _is_normalization(node, modules) or calls[node.target] > 1:
            continue
        before = node.args[0]
        if before.op != "call_module" or calls[before.target] > 1 or len(before.users) > 1:
            continue
        layer, norm = modules[before.target], modules[node.target]
        if type(layer) in _CONVOLUTIONS:
            new: nn.Module = fuse_conv_bn_eval(layer, norm)
        elif type(layer) is nn.Linear and isinstance(norm, nn.BatchNorm1d):
            new = fuse_linear_bn_eval(layer, norm)
        else:
            continue
        replace_module(graph, before.target, new)
        modules[before.target] = new
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
        folded += 1
    graph.delete_all_unused_submodules()
    graph.recompile()
    return folded


def replace_module(graph: fx.GraphModule, name: str, module: nn.Module) -> None:
    """Put another module in the place that `name` (with dots) names."""
    parent, _, last = name.rpartition(".")
    setattr(graph.get_submodule(parent), last, module)


def _is_normalization(node: fx.Node, modules: dict[str, Any]) -> bool:
    if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
        return False
    norm = modules[str(node.target)]
    return type(norm) in _NORMALIZATIONS and isinstance(norm.running_var, torch.Tensor) and not norm.training
