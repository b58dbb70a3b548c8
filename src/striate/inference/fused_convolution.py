"""A convolution computed together with what follows it, by oneDNN: y = relu(w * x + b + other).

What follows a convolution only moves memory; computed while the output is still in the cache it costs nearly nothing.
The operation and the layout of weights are those that torch's own compiler uses on a CPU.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

_RECTIFIERS = (torch.relu, functional.relu, torch.relu_)
_ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """The two-dimensional convolution `layer`, with weights laid out for inputs of `input_shape` (others give the same
    numbers), the addition of a second input if one is given, and rectification where `rectified`."""

    def __init__(self, layer: nn.Conv2d, input_shape: tuple[int, ...], rectified: bool) -> None:
        super().__init__()
        self.geometry = [list(map(int, sizes)) for sizes in (layer.padding, layer.stride, layer.dilation)]
        self.groups, self.rectified = layer.groups, rectified
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        weight = reorder(layer.weight.detach().to_mkldnn(), *self.geometry, self.groups, list(input_shape))
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        operation: Any = torch.ops.mkldnn._convolution_pointwise
        layer = (self.weight, self.bias, *self.geometry, self.groups)
        if other is None:
            alone: torch.Tensor = operation(x, *layer, "relu" if self.rectified else "none", [], "")
            return alone
        after = "relu" if self.rectified else None
        added: torch.Tensor = operation.binary(x, other, *layer, "add", 1.0, after, [], None)
        return added


def fuse_convolutions(graph: fx.GraphModule, sample: torch.Tensor) -> int:
    """Replace every two-dimensional convolution of the graph, with the addition of an equally large tensor and the
    rectification after it, where nothing else takes what lies between; how many. `sample` is a batch as the network
    takes it. Raises RuntimeError where this torch or processor has no such operation."""
    ShapeProp(graph).propagate(sample)
    modules, fused = dict(graph.named_modules()), 0
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not _is_fusible(modules[node.target], node):
            continue
        other = _added(graph, node)
        chain = [node] if other is None else [node, *node.users]
        following = list(chain[-1].users)
        rectified = len(following) == 1 and _is_rectifier(following[0], modules)
        chain += following if rectified else []
        shape = tuple(node.args[0].meta["tensor_meta"].shape)
        _replace(graph, chain, other, FusedConvolution(modules[node.target], shape, rectified), f"fused_{fused}")
        fused += 1
    graph.delete_all_unused_submodules()
    graph.recompile()
    return fused


def _is_fusible(layer: nn.Module, node: fx.Node) -> bool:
    simple = len(node.args) == 1 and not node.kwargs and isinstance(node.args[0], fx.Node)
    return simple and type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _added(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """What is added to the output of a convolution, if that is all that becomes of it, is as large, and is known when
    the convolution is computed."""
    if len(node.users) != 1:
        return None
    (user,) = node.users
    if user.op != "call_function" or user.target not in _ADDITIONS or user.kwargs or len(user.args) != 2:
        return None
    others = [argument for argument in user.args if argument is not node]
    if len(others) != 1 or not isinstance(others[0], fx.Node):
        return None
    known = next(n for n in graph.graph.nodes if n is others[0] or n is node) is others[0]
    sizes = [n.meta["tensor_meta"].shape for n in (others[0], node) if "tensor_meta" in n.meta]
    return others[0] if known and len(sizes) == 2 and sizes[0] == sizes[1] else None


def _is_rectifier(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(modules[str(node.target)]) is nn.ReLU
    return (node.op == "call_function" and node.target in _RECTIFIERS) or (
        node.op == "call_method" and node.target in ("relu", "relu_")
    )


def _replace(graph: fx.GraphModule, chain: list[fx.Node], other: fx.Node | None, layer: nn.Module, name: str) -> None:
    """The calls of `chain`, each of which takes the one before it, become one call of `layer`."""
    node, last = chain[0], chain[-1]
    graph.add_submodule(name, layer)
    with graph.graph.inserting_after(node):
        new = graph.graph.call_module(name, (node.args[0],) if other is None else (node.args[0], other))
    new.meta = dict(last.meta)
    last.replace_all_uses_with(new)
    for replaced in reversed(chain):
        graph.graph.erase_node(replaced)
