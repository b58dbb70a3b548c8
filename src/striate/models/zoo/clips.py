"""Networks for clips (C, T, H, W): small residual networks that see motion in three ways, and two streams.

`small_tsm`: each frame for itself, but an eighth of the channels comes from the frame before and one from the frame
after (Lin, Gan and Han, "TSM: Temporal shift module for efficient video understanding", ICCV 2019, in its residual
form): no product more than a network of images. `small_r2plus1d`: each convolution is one over space and one over time
(Tran et al., "A closer look at spatiotemporal convolutions for action recognition", CVPR 2018). `small_r3d`: kernels of
3×3×3 (the same paper's R3D). `motion_entropy`: how disorderly things move, for few clips, by histograms of directions
(Chaudhry et al., "Histograms of oriented optical flow and Binet–Cauchy kernels on nonlinear dynamical systems for the
recognition of human actions", CVPR 2009). `two_stream`: one network sees color, frame by frame, another their flow
(Simonyan and Zisserman, "Two-stream convolutional networks for action recognition in videos", NIPS 2014).

Convolutions over space are of kernels 1×3×3, so that a map of any layer is (N, C, T, H, W).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from striate.errors import InputMisfit
from striate.layers.late_fusion import LateFusion
from striate.layers.motion_entropy import MotionEntropy
from striate.layers.pooling import GlobalAveragePool
from striate.models.initialization.initialize import initialize_output
from striate.models.zoo.image_size import no_image
from striate.wording import show_shape

SMALLEST, SMALL, LARGE = 8, 20, 48
COLORS = 3
MakeConvolution = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, stride over space) to a convolution of kernel 3."""


class TemporalShift(nn.Module):
    """(N, C, T, H, W): of the first C // `share` channels each frame shows those of the frame after it, of as many
    others those of the frame before; zeros beyond the ends."""

    def __init__(self, share: int) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part = x.shape[1] // self.share
        after = functional.pad(x[:, :part, 1:], (0, 0, 0, 0, 0, 1))
        before = functional.pad(x[:, part : 2 * part, :-1], (0, 0, 0, 0, 1, 0))
        return torch.cat([after, before, x[:, 2 * part :]], 1)

    def extra_repr(self) -> str:
        return f"1/{self.share} of the channels each way"


def _over_space(in_channels: int, out_channels: int, stride: int, kernel: int = 3) -> nn.Conv3d:
    size, steps = (1, kernel, kernel), (1, stride, stride)
    return nn.Conv3d(in_channels, out_channels, size, steps, padding=(0, kernel // 2, kernel // 2), bias=False)


def _shifted(share: int) -> MakeConvolution:
    def make(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        space = _over_space(in_channels, out_channels, stride)
        return nn.Sequential(OrderedDict(shift=TemporalShift(share), space=space)) if share else space

    return make


def _factored(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Over space, then over time, with as many parameters as one of 3×3×3."""
    middle = 27 * in_channels * out_channels // (9 * in_channels + 3 * out_channels)
    time = nn.Conv3d(middle, out_channels, (3, 1, 1), padding=(1, 0, 0), bias=False)
    space = _over_space(in_channels, middle, stride)
    return nn.Sequential(OrderedDict(space=space, bn=nn.BatchNorm3d(middle), relu=nn.ReLU(), time=time))


def _whole(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Conv3d(in_channels, out_channels, 3, (1, stride, stride), padding=1, bias=False)


class ClipBlock(nn.Module):
    """Two convolutions of kernel 3 with batch normalization, added to the input (projected where shapes differ)."""

    def __init__(self, in_channels: int, channels: int, stride: int, make: MakeConvolution) -> None:
        super().__init__()
        self.conv1 = make(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm3d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = make(channels, channels, 1)
        self.bn2 = nn.BatchNorm3d(channels)
        nn.init.zeros_(self.bn2.weight)  # a fresh network is shallow
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            projection = _over_space(in_channels, channels, stride, kernel=1)
            self.shortcut = nn.Sequential(OrderedDict(conv=projection, bn=nn.BatchNorm3d(channels)))
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: torch.Tensor = self.relu2((x if self.shortcut is None else self.shortcut(x)) + added)
        return out


class FusedStreams(nn.Module):
    """(N, C, T, H, W) to (N, outputs): the fusion of what several networks make of some of the channels each: the mean
    of their outputs, or what `fusion` makes of them.

    `parts`: each stream by name, and the channels that it gets. In training mode a tuple: the mean without its
    gradient, and the outputs of each stream, of which each learns from its own loss alone, as if it were trained apart.
    """

    def __init__(self, parts: dict[str, tuple[nn.Module, slice]], fusion: LateFusion | None = None) -> None:
        super().__init__()
        for name, (network, _) in parts.items():
            self.add_module(name, network)
        self.channels = {name: channels for name, (_, channels) in parts.items()}
        self.streams = tuple(parts)
        self.auxiliary_weights = (1.0,) * len(parts)
        self.fusion = fusion

    def alone(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs of each stream."""
        return {name: self.get_submodule(name)(x[:, channels]) for name, channels in self.channels.items()}

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        outputs = tuple(self.alone(x).values())
        if not self.training and self.fusion is not None:
            fused: torch.Tensor = self.fusion(*outputs)
            return fused
        mean: torch.Tensor = sum(outputs[1:], outputs[0]) / len(outputs)
        return (mean.detach(), *outputs) if self.training else mean


def _clip_network(
    name: str, input_shape: tuple[int, ...], outputs: int, width: int, blocks: int, make: MakeConvolution
) -> nn.Module:
    """A stem over space and three stages, of which the second and third halve the size; the mean over all positions and
    frames, and one linear layer. The stem divides frames of more than 20 pixels (longer side) by 2, of more than 48
    by 4."""
    if len(input_shape) != 4 or min(input_shape[2:]) < SMALLEST:
        expected = f"clips (channels, frames, height, width) of at least {SMALLEST}×{SMALLEST} pixels"
        if len(input_shape) != 4:
            raise no_image(name, input_shape, expected)
        fitting = (*input_shape[:2], *(max(size, SMALLEST) for size in input_shape[2:]))
        got = f"inputs of {show_shape(input_shape)}"
        raise InputMisfit(name, got, expected, "use --model small-cnn", fitting=fitting, instead="small-cnn")
    longest = max(input_shape[2:])
    stride, kernel = (2, 5) if longest > SMALL else (1, 3)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = _over_space(input_shape[0], width, stride, kernel)
    layers["bn1"] = nn.BatchNorm3d(width)
    layers["relu"] = nn.ReLU()
    if longest > LARGE:
        layers["maxpool"] = nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1))
    channels = width
    for stage, wide in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers[f"layer{stage + 1}_{block}"] = ClipBlock(channels, wide, stride, make)
            channels = wide
    layers["avgpool"] = GlobalAveragePool()
    head = layers["fc"] = nn.Linear(channels, outputs)
    initialize_output(head)
    return nn.Sequential(layers)


def small_tsm(
    input_shape: tuple[int, ...], outputs: int, width: int = 32, blocks: int = 1, shift: int = 8
) -> nn.Module:
    """The network for clips (C, T, H, W): to (N, outputs). A `shift`-th of the channels moves each way in time; with 0
    each frame is seen alone, and only the mean is over frames. Raises ModelError for other inputs."""
    return _clip_network("small-tsm", input_shape, outputs, width, blocks, _shifted(shift))


def small_r2plus1d(input_shape: tuple[int, ...], outputs: int, width: int = 32, blocks: int = 1) -> nn.Module:
    """The network for clips (C, T, H, W): to (N, outputs). Raises ModelError for other inputs."""
    return _clip_network("small-r2plus1d", input_shape, outputs, width, blocks, _factored)


def small_r3d(input_shape: tuple[int, ...], outputs: int, width: int = 32, blocks: int = 1) -> nn.Module:
    """The network for clips (C, T, H, W): to (N, outputs). Raises ModelError for other inputs."""
    return _clip_network("small-r3d", input_shape, outputs, width, blocks, _whole)


def motion_entropy(input_shape: tuple[int, ...], outputs: int, bins: int = 16) -> nn.Module:
    """The network for the motion in few clips (2, T, H, W): to (N, outputs). One linear layer on the mean over time of
    `MotionEntropy` of so many directions, standardized. Raises ModelError for other inputs."""
    if len(input_shape) != 4 or input_shape[0] != 2:
        raise no_image("motion-entropy", input_shape, "the optical flow of clips (--data.view flow)")
    head = nn.Linear(2, outputs)
    initialize_output(head)
    layers = OrderedDict(entropy=MotionEntropy(bins), bn=nn.BatchNorm3d(2), avgpool=GlobalAveragePool(), fc=head)
    return nn.Sequential(layers)


_MOTION = {"tsm": small_tsm, "r2plus1d": small_r2plus1d, "r3d": small_r3d}


def two_stream(
    input_shape: tuple[int, ...],
    outputs: int,
    width: int = 32,
    blocks: int = 1,
    motion: str = "tsm",
    directions: int = 0,
    fusion: str = "average",
) -> nn.Module:
    """The network for clips in two streams (5, T, H, W): to (N, outputs). `motion`: what looks at the flow. With
    `directions` a stream more, `motion_entropy` of so many; then also for flow alone (2, T, H, W). `fusion`: the
    mean of the outputs, or what is fitted once all are trained: a support vector machine (`svm`), or whichever of these
    and of the streams alone is best on validation (`best`). Raises ModelError for other inputs."""
    channels = input_shape[0] if len(input_shape) == 4 else 0
    if channels != COLORS + 2 and not (channels == 2 and directions):
        raise no_image("two-stream", input_shape, "clips of 5 channels (--data.view both), color and flow")
    seen = (2, *input_shape[1:])
    parts: dict[str, tuple[nn.Module, slice]] = {
        "flow": (_MOTION[motion](seen, outputs, width, blocks), slice(-2, None))
    }
    if channels != 2:
        rgb = small_tsm((COLORS, *input_shape[1:]), outputs, width, blocks, shift=0)
        parts = {"rgb": (rgb, slice(COLORS)), **parts}
    if directions:
        parts["entropy"] = (motion_entropy(seen, outputs, directions), slice(-2, None))
    return FusedStreams(parts, None if fusion == "average" else LateFusion(outputs, fusion, len(parts)))
