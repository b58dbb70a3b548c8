"""Special convolutions: by a connection table, locally connected, with TensorFlow's "same" padding, and whitening."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ShapeError, UsageError
from striate.layers.axis_windows import AxisWindows, same_padding
from striate.layers.windows import Size, check_positive, per_axis
from striate.wording import several


class PartialConvolution(nn.Module):
    """Convolution whose output map k reads the input maps `table[k]`: (N, C, H, W) to (N, len(table), H', W').

    `weight` has one kernel for each connection, (connections, kernel, kernel), in the order of the table; `bias` one
    number for each output map. Absent connections have no parameters; the dense convolution uses zeros for them.
    Initial weights are uniform in ±1 / √fan-in of each map, as those of torch's convolutions.
    Raises UsageError for an output map without inputs, with the same input twice, or with an input that does not exist.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, table I.
    """

    def __init__(self, in_channels: int, table: Sequence[Sequence[int]], kernel_size: int) -> None:
        super().__init__()
        for number, seen in enumerate(table):
            if not seen or len(set(seen)) < len(seen) or not set(seen) <= set(range(in_channels)):
                fitting = sorted(set(seen) & set(range(in_channels))) or [0]
                expected = f"distinct inputs of 0 to {in_channels - 1}, at least one"
                raise UsageError("table", f"map {number} sees {tuple(seen)}", expected, f"table[{number}] = {fitting}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, len(table), kernel_size
        # Numbers instead of buffers: on the meta device, or after to_empty, buffers would have no values.
        self.table = tuple(tuple(seen) for seen in table)
        self.weight = nn.Parameter(torch.empty(sum(map(len, self.table)), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases from torch's random state."""
        for number, kernels in enumerate(self.weight.split([len(seen) for seen in self.table])):
            bound = 1 / math.sqrt(kernels.numel())
            nn.init.uniform_(kernels, -bound, bound)
            nn.init.uniform_(self.bias[number], -bound, bound)

    @property
    def share_connected(self) -> Fraction:
        """Share of the pairs of an input and an output map that are connected."""
        return Fraction(len(self.weight), self.in_channels * self.out_channels)

    def dense_weight(self) -> torch.Tensor:
        """The kernels of the dense convolution, (out, in, kernel, kernel), with zeros for absent connections."""
        pairs = [(number, channel) for number, seen in enumerate(self.table) for channel in seen]
        outputs, inputs = torch.tensor(pairs, device=self.weight.device).T
        zeros = self.weight.new_zeros(self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)
        return zeros.index_put((outputs, inputs), self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.dense_weight(), self.bias)

    def extra_repr(self) -> str:
        connections = f"{len(self.weight)} of {self.in_channels * self.out_channels} connections"
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, {connections}"


class LocallyConnected(nn.Module):
    """A convolution without shared weights: every output position has its own filters.

    (N, C, *in_size) to (N, out_channels, *out_size), 1 to 3 spatial axes; `padding` adds zeros; `same` (stride 1)
    keeps the size. `weight` is (*out_size, out_channels, C, *kernel), `bias` (out_channels, *out_size).
    Initialized like `torch.nn.Conv2d`. Raises ShapeError where the kernel is larger than the padded map, and for inputs
    of another shape.
    Source: Taigman et al., "DeepFace", CVPR 2014; LeCun, "Generalization and network design strategies", 1989.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_size: Sequence[int],
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        axes = len(in_size)
        self.in_channels, self.out_channels, self.in_size = in_channels, out_channels, tuple(in_size)
        self.kernel_size = per_axis(kernel_size, axes, "kernel_size")
        self.stride = per_axis(stride, axes, "stride")
        self.pads = self._pads(padding, axes)
        sizes = zip(self.in_size, self.kernel_size, self.stride, self.pads, strict=True)
        along = [AxisWindows(size, kernel, stride, *pads) for size, kernel, stride, pads in sizes]
        self.out_size = tuple(windows.count for windows in along)
        if min(self.out_size) < 1:
            padded = tuple(windows.padded for windows in along)
            fitting = tuple(map(min, self.kernel_size, padded))
            got = f"{self.kernel_size} on a padded map of {padded}"
            raise ShapeError("kernel_size", got, f"at most {padded}", f"kernel_size={fitting}")
        self.weight = nn.Parameter(torch.empty(*self.out_size, out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels, *self.out_size)) if bias else None
        bound = 1 / math.sqrt(self.fan_in)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def fan_in(self) -> int:
        """Number of inputs that one output is computed from."""
        return self.in_channels * math.prod(self.kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if tuple(x.shape[1:]) != (self.in_channels, *self.in_size):
            expected = f"(N, {', '.join(map(str, (self.in_channels, *self.in_size)))}), for which the weights were made"
            remedy = f"in_channels={self.in_channels} and in_size={self.in_size} are fixed: resize the input"
            raise ShapeError("input of LocallyConnected", f"shape {tuple(x.shape)}", expected, remedy)
        patches = functional.pad(x, [pad for pads in reversed(self.pads) for pad in pads])
        for axis, (kernel, stride) in enumerate(zip(self.kernel_size, self.stride, strict=True)):
            patches = patches.unfold(2 + axis, kernel, stride)
        axes, positions = len(self.in_size), math.prod(self.out_size)
        # (N, C, *out, *kernel) to one matrix product for each position: (positions, N, C·kernel).
        order = (*range(2, 2 + axes), 0, 1, *range(2 + axes, 2 + 2 * axes))
        columns = patches.permute(order).reshape(positions, x.shape[0], self.fan_in)
        weights = self.weight.reshape(positions, self.out_channels, self.fan_in)
        out = torch.bmm(columns, weights.transpose(1, 2)).permute(1, 2, 0)
        # For one sample, a reshape alone would keep strides with which torch's batch normalization, in eval mode,
        # computes wrong gradients.
        out = out.reshape(x.shape[0], self.out_channels, *self.out_size).contiguous()
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, in_size={self.in_size}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.pads}, bias={self.bias is not None}"
        )

    def _pads(self, padding: Size | str, axes: int) -> tuple[tuple[int, int], ...]:
        if not isinstance(padding, str):
            return tuple((pad, pad) for pad in per_axis(padding, axes, "padding"))
        if padding != "same" or max(self.stride) > 1:
            got = f"{padding!r} with stride {self.stride}"
            raise UsageError("padding", got, "numbers, or 'same' with stride 1", "padding=0")
        return tuple(same_padding(k) for k in self.kernel_size)


class SamePadding(nn.Module):
    """Pads (N, C, *spatial), 1 to 3 spatial axes, so that the output of the next convolution or pooling has ⌈size /
    stride⌉ positions: TensorFlow's SAME, which `padding="same"` of `torch.nn.Conv2d` gives for stride 1 only.

    The arguments are kernel, stride and dilation of the next layer, whose own padding is 0. Along an axis, the padding
    is max((⌈size/stride⌉ − 1)·stride + dilation·(kernel − 1) + 1 − size, 0) positions; half of it goes before the
    input, and if it is odd, the extra position after it. `value` is the padded number: 0, or `-math.inf` before a max
    pooling, so that padding is never the maximum. An average pooling counts the padded zeros. Raises ShapeError for
    another number of axes, an empty axis, and where a dilated window would lie in padding of −∞ alone. Source: the
    documentation of tf.nn.convolution."""

    def __init__(self, kernel_size: Size, stride: Size = 1, dilation: Size = 1, value: float = 0.0) -> None:
        super().__init__()
        for name, size in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)):
            check_positive(name, size)
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        if math.isnan(value):
            raise UsageError("value", "nan", "0, or -math.inf before a max pooling", "value=0.0")
        self.value = value

    def pads(self, size: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The padding before and after a map of `size`, one pair for each spatial axis."""
        axes = len(size)
        kernel, stride = per_axis(self.kernel_size, axes, "kernel_size"), per_axis(self.stride, axes, "stride")
        dilation = per_axis(self.dilation, axes, "dilation")
        totals = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        if not 1 <= len(size) <= 3 or 0 in size:
            expected = "(N, C, *spatial) with 1 to 3 spatial axes, none empty"
            raise ShapeError(
                "input of SamePadding", f"shape {tuple(x.shape)}", expected, "x[None] for one sample alone"
            )
        pads = self.pads(size)
        if self.value == -math.inf:
            self._refuse_windows_of_padding(size, pads)
        flat = [pad for pair in reversed(pads) for pad in pair]
        return functional.pad(x, flat, value=self.value) if any(flat) else x

    def extra_repr(self) -> str:
        value = "" if self.value == 0 else f", value={self.value}"
        return f"{self.kernel_size}, stride={self.stride}, dilation={self.dilation}{value}"

    def _refuse_windows_of_padding(self, size: Sequence[int], pads: tuple[tuple[int, int], ...]) -> None:
        axes = len(size)
        kernel, stride = per_axis(self.kernel_size, axes, "kernel_size"), per_axis(self.stride, axes, "stride")
        dilation = per_axis(self.dilation, axes, "dilation")
        for n, k, s, d, (before, _) in zip(size, kernel, stride, dilation, pads, strict=True):
            # Windows without dilation always overlap the map, and so do windows that fit into it.
            if d == 1 or d * (k - 1) < n:
                continue
            starts = range(-before, -(-n // s) * s - before, s)
            if not all(any(0 <= start + d * tap < n for tap in range(k)) for start in starts):
                got = f"a window of {several(k, 'position')}, {d} apart, on a map of {n}: one lies in the padding alone"
                raise ShapeError("SamePadding", got, f"a dilation of less than {n}", f"dilation={max(1, n // 2)}")


class WhiteningConv2d(nn.Conv2d):
    """A convolution that whitens patches: (N, C, H, W) to (N, 2·C·k², ⌊(H − k) / stride⌋ + 1, …). Its outputs are the
    components of a patch along the eigenvectors of the patches' covariance, scaled to variance 1, each with both signs,
    so that a following ReLU loses no information.

    The kernels are frozen; the bias is trained. `models.initialization.whiten` computes the kernels from training
    images; before, they are random. The convolution runs in float32 even under autocast: neighboring pixels differ by
    less than bfloat16 resolves, and whitening amplifies these differences.

    Source: Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", 2024, section 3.2; Page, "How to train your
    ResNet", 2019.
    """

    def __init__(self, in_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, 2 * in_channels * kernel_size**2, kernel_size, stride)
        self.weight.requires_grad_(False)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Patches (N, C', H', W') in the precision of the layers after it."""
        kind = self.weight.device.type
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
            return super().forward(x)
        with torch.autocast(kind, enabled=False):
            y: torch.Tensor = super().forward(x.float())
        return y.to(torch.get_autocast_dtype(kind))
