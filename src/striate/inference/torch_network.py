"""A copy of a network, prepared for a faster computation by torch.

The network is traced to a graph of calls. Batch normalization is folded into the layer before it: an affine
normalization after a convolution is a convolution with other weights, γ (w * x + b − μ) / √(σ² + ε) + β = (γ w / √(σ² +
ε)) * x + γ (b − μ) / √(σ² + ε) + β. On a CPU, oneDNN computes a convolution together with the addition and the ReLU
after it: y = relu(w * x + b + other). These only move memory, and cost nearly nothing while the output is still in the
cache. The operation and the layout of weights are those of torch's own compiler.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from striate.data.memory_layout import channels_last, contiguous
from striate.inference.plan import Backend
from striate.machine.precision import dtype_of, fp32_products
from striate.models.preserved_state import copied, on_trial

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FOLDABLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Tracer(fx.Tracer):
    """Traces into modules only where there is something to fold or fuse, and not into modules of the types `whole`.
    `fault` is the innermost module that could not be traced."""

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
    """The graph of a network in eval mode. It shares the layers of `module`, so give it a copy. Modules whose code
    depends on values or shapes of their inputs stay calls. Raises what the network raises."""
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
    """Fold every batch normalization, in eval mode with its own statistics, into the convolution or linear layer before
    it, if nothing else uses that layer's output. Layers that are called more than once stay. Returns the number of
    folded normalizations."""
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
        graph.set_submodule(before.target, new)
        modules[before.target] = new
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
        folded += 1
    graph.delete_all_unused_submodules()
    graph.recompile()
    return folded


def _is_normalization(node: fx.Node, modules: dict[str, Any]) -> bool:
    if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
        return False
    norm = modules[str(node.target)]
    return type(norm) in _FOLDABLE and isinstance(norm.running_var, torch.Tensor) and not norm.training


_RECTIFIERS = (torch.relu, functional.relu, torch.relu_)
_ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """The two-dimensional convolution `layer`, the addition of a second input if one is given, and ReLU if `rectified`.
    Its weights are laid out for inputs of `input_shape`; other shapes give the same numbers."""

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
    """Replace every two-dimensional convolution of the graph by a fused one, together with the addition of an equally
    large tensor and the ReLU after it, if nothing else uses the values in between. `sample`: an input batch. Returns
    the number of fused convolutions. Raises RuntimeError where this torch or processor lacks the operation."""
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
    """The tensor that is added to the output of a convolution, if nothing else uses that output, and the tensor is as
    large and known when the convolution is computed."""
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
    """Replace the calls of `chain`, each of which takes the result of the one before, by one call of `layer`."""
    node, last = chain[0], chain[-1]
    graph.add_submodule(name, layer)
    with graph.graph.inserting_after(node):
        new = graph.graph.call_module(name, (node.args[0],) if other is None else (node.args[0], other))
    new.meta = dict(last.meta)
    last.replace_all_uses_with(new)
    for replaced in reversed(chain):
        graph.graph.erase_node(replaced)


Network = Callable[[torch.Tensor], torch.Tensor]
"""From a normalized batch (B, *input_shape) float32 to outputs (B, …) float32."""

# Their statistics and factors need more digits than bf16 has.
_NORMALIZATIONS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def prepare_torch(backend: Backend, module: nn.Module, sample: torch.Tensor) -> Network:
    """The network as the backend computes it, prepared for batches like `sample` (B, *input_shape), correct for others.
    Raises whatever prevents that."""
    with on_trial(module):
        network = copied(module).eval().requires_grad_(False)
    layout = memory_format_of(backend, sample)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    if not backend.fused:
        return _by_autocast(backend, network, sample.device, layout)
    with on_trial(network):
        graph = traced(network)
    folded, fused, dtype = fold_normalization(graph), 0, dtype_of(backend.precision)
    _convert(graph, dtype)
    if sample.device.type == "cpu":
        fused = fuse_convolutions(graph, _laid_out(sample.to(dtype), layout))
    if not folded and not fused:
        raise ValueError("nothing to fold or fuse")

    def predict(x: torch.Tensor) -> torch.Tensor:
        with fp32_products(tf32=backend.precision == "tf32"):
            outputs: torch.Tensor = graph(_laid_out(x.to(dtype), layout))
        return outputs.float()

    return predict


def memory_format_of(backend: Backend, sample: torch.Tensor) -> torch.memory_format:
    """The backend's memory format for batches like `sample`, as torch names it: channels last exists for images and
    volumes."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d} if backend.memory_format == "channels_last" else {}
    return layouts.get(sample.ndim, torch.contiguous_format)


def _laid_out(x: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    return contiguous(x) if layout == torch.contiguous_format else channels_last(x)


def _by_autocast(backend: Backend, network: nn.Module, device: torch.device, layout: torch.memory_format) -> Network:
    dtype, tf32 = dtype_of(backend.precision), backend.precision == "tf32"
    half = dtype != torch.float32

    def predict(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=half), fp32_products(tf32=tf32):
            outputs: torch.Tensor = network(_laid_out(x, layout))
        return outputs.float()

    return predict


def _convert(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert all floating-point numbers to `dtype`, except those of normalizations."""
    if dtype == torch.float32:
        return
    for part in network.modules():
        if isinstance(part, _NORMALIZATIONS):
            continue
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                converted = tensor.detach().to(dtype)
                setattr(part, name, nn.Parameter(converted, False) if isinstance(tensor, nn.Parameter) else converted)
