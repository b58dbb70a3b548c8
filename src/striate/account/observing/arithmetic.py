"""How many operations one call of torch performs: multiply–accumulates, and all other arithmetic.

Multiply–accumulates: of convolutions and matrix products, by the formulas of torch's own counter, which gives 2 FLOPs
for each; absent connections of a connection table are not counted. Everything else is counted in operations:

| what | operations |
|---|---|
| activation, sum, product, comparison, root, … | 1 for each output number |
| bias of a convolution or matrix product | 1 for each output number |
| pooling | the size of the window for each output number |
| sum, mean, maximum, … over some axes; cumulative sums | 1 for each input number |
| softmax | 5 for each number: maximum, difference, exponential, sum, quotient |
| normalization with given statistics | 2 for each number: one product, one sum |
| normalization with the statistics of its input | 7: mean, difference, square, sum, quotient, scale, shift |
| bilinear layer | 1 for each pair of its two inputs, their product; its weights are a matrix product of these |
| weight normalization | 4 for each weight: square, sum, quotient, product |
| interpolation over n neighbors | 2n − 1: 7 for bilinear, 31 for bicubic maps, antialiased or not |
| copies, views, padding, constants | 0 |

Other operations are not counted; the ledger lists them as uncounted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import flop_registry

from striate.account.field.window import CONVOLUTIONS, POOLS, read_window
from striate.observe.torch_calls import Operation, is_pointwise


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`macs` multiply–accumulates, and `operations` others under the name of a `function`."""

    macs: int = 0
    operations: int = 0
    function: str = ""


_NOTHING = Arithmetic()


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MOVEMENT = _names(
    "_conj _copy_from _local_scalar_dense _pack_padded_sequence _pad_packed_sequence _reshape_alias _to_copy "
    "_unsafe_index _unsafe_view alias arange as_strided chunk clone conj constant_pad_nd contiguous copy detach "
    "diag_embed diagonal embedding empty empty_like empty_strided equal expand eye fill flip full full_like gather "
    "im2col index index_put index_select is_same_size item lift_fresh lift_fresh_copy linspace masked_fill "
    "masked_scatter masked_select narrow native_channel_shuffle native_dropout new_empty new_empty_strided new_full "
    "new_ones new_zeros ones ones_like permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d "
    "reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape "
    "resize resolve_conj roll rot90 scalar_tensor scatter select select_scatter set slice slice_scatter split "
    "split_with_sizes squeeze stack cat sym_size t take take_along_dim transpose tril triu unbind unfold "
    "unsafe_chunk unsafe_split unsqueeze upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d view view_as_complex "
    "view_as_real zero zeros zeros_like bernoulli uniform normal rand rand_like randn randn_like randint randperm "
    "dropout real imag nonzero max_unpool2d max_unpool3d _assert_async _assert_scalar device "
    "index_copy index_fill tril_indices triu_indices complex flatten unflatten movedim channel_shuffle "
    "profiler._record_function_enter_new profiler._record_function_exit"
)
_REDUCTIONS = _names(
    "all amax amin any argmax argmin count_nonzero cumprod cumsum cummax cummin linalg_vector_norm logcumsumexp "
    "logsumexp max mean min norm nansum prod topk std std_mean sum trace var var_mean _fused_rms_norm"
)
_BY_VECTOR = _names("mv addmv dot vdot")
_SOFTMAX = frozenset(("_softmax", "_log_softmax", "_safe_softmax"))
_NORMALIZATION = _names(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
    "_batch_norm_with_update _batch_norm_no_update native_layer_norm native_group_norm"
)
_ADAPTIVE = frozenset(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"))
_NEIGHBORS = {
    "upsample_linear1d": 2,
    "upsample_bilinear2d": 4,
    "upsample_trilinear3d": 8,
    "upsample_bicubic2d": 16,
    "_upsample_bilinear2d_aa": 4,
    "_upsample_bicubic2d_aa": 16,
}


def arithmetic(operation: Operation) -> Arithmetic | None:
    """The arithmetic of one call; None where the operation is unknown."""
    name = operation.name
    if name in _MOVEMENT:
        return _NOTHING
    packet = operation.func.overloadpacket
    if packet in flop_registry:
        flops = flop_registry[packet](*operation.args, **operation.kwargs, out_val=operation.out)
        return Arithmetic(int(flops) // 2, _bias(operation), "bias")
    if name == "_trilinear":
        return _bilinear(operation)
    if name in _BY_VECTOR:  # torch's counter leaves these out
        matrix = list(operation.inputs())[-2]
        return Arithmetic(matrix.numel(), _bias(operation), "bias")
    count, function = _others(operation, name)
    return None if count is None else Arithmetic(0, count, function)


def _others(operation: Operation, name: str) -> tuple[int | None, str]:
    outputs = operation.outputs()
    size = outputs[0].numel() if outputs else 0
    inputs = next((tensor.numel() for tensor in operation.inputs()), 0)
    if name in POOLS:
        window = read_window(operation)
        assert window is not None
        return size * math.prod(window.kernel), name.removesuffix("_with_indices")
    if name in _ADAPTIVE or name == "col2im":  # overlapping windows are added up
        return inputs, name.removeprefix("_")
    if name.startswith("fractional_max_pool"):
        return size * math.prod(operation.args[1]), name
    if name in ("max", "min") and len(list(operation.inputs())) > 1:
        return size, f"{name}imum"
    if name in _REDUCTIONS:
        return inputs, name.removeprefix("_")
    if name in _SOFTMAX:
        return 5 * size, name.removeprefix("_").removeprefix("safe_")
    if name in _NORMALIZATION:
        return size * (7 if _own_statistics(operation) else 2), _normalization_name(name)
    if name in _NEIGHBORS:
        return size * (2 * _NEIGHBORS[name] - 1), name.removeprefix("_")
    if name == "_weight_norm_interface":
        return 4 * size, "weight_norm"
    if name == "glu" or is_pointwise(operation):
        return size, name.removeprefix("_").removesuffix("_kernel")
    return None, name


def _bilinear(operation: Operation) -> Arithmetic:
    """Σ w[o, i, j] · x[i] · y[j], broadcast as the call says."""
    shapes = []
    for tensor, missing in zip(operation.args[:3], operation.args[3:6], strict=True):
        sides = list(tensor.shape)
        for dim in sorted(missing):
            sides.insert(dim, 1)
        shapes.append(sides)
    terms, pairs = math.prod(torch.broadcast_shapes(*shapes)), math.prod(torch.broadcast_shapes(*shapes[::2]))
    return Arithmetic(terms, pairs, "mul")


def _bias(operation: Operation) -> int:
    out = operation.outputs()[0]
    if operation.name in CONVOLUTIONS:
        return out.numel() if operation.get("bias") is not None else 0
    return out.numel() if operation.name in ("addmm", "baddbmm", "addmv") else 0


def _own_statistics(operation: Operation) -> bool:
    return "layer" in operation.name or "group" in operation.name or bool(operation.get("training", False))


def _normalization_name(name: str) -> str:
    return "batch_norm" if "batch_norm" in name else name.removeprefix("native_")
