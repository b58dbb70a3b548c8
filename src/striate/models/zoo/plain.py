"""Networks that a layer string writes.

mlp: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature, 1986.
mnist-cnn: the lectures' network for digits, 16c5–p2–24c5–p2–64–10; dropout: Hinton et al., "Improving neural
networks by preventing co-adaptation of feature detectors", 2012.
lcn-net: the classifier of the lectures, [convolution → local contrast normalization → pooling]* and a fully connected
layer: Jarrett, Kavukcuoglu, Ranzato and LeCun, "What is the best multi-stage architecture for object recognition?",
ICCV 2009. New: rectification and local contrast normalization between filters and pooling matter more than how the
filters are learned. The lectures leave sizes open; 5×5 filters, twice as many a stage, windows of 9×9 for the contrast
(as in the paper) and 2×2 for max pooling are the choices here.
small-cnn: batch normalization: Ioffe and Szegedy, ICML 2015; global average pooling: Lin et al., "Network in network",
ICLR 2014.
m5: Dai, Dai, Qu, Li and Das, "Very deep convolutional neural networks for raw waveforms", ICASSP 2017.
small-dilated: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network
from striate.models.layer_strings.shapes import Shape
from striate.models.zoo.image_size import Slide, check_image, no_image

SMALL_CNN_STAGES = 4
SMALLEST_VOLUME, VOLUME_STAGES = 8, 5
SHORTEST_SOUND, POOLED = 16, 4
DILATIONS = (1, 1, 2, 4, 8, 1)


def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    sizes: tuple[int, ...] = (128, 64),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Hidden layers of `sizes` units, each followed by `activation` and, if not 0, `dropout`: to (N, outputs).

    `mlp` without sizes has hidden layers of 128 and 64. Raises LayerStringError beyond 10⁹ parameters.
    """
    after = f" {activation}" + (f" dropout({dropout!r})" if dropout else "")
    hidden = [f"fc({size}){after}" for size in sizes or (128, 64)]
    return build_network(" ".join([*hidden, f"fc({outputs})"]), input_shape)


def mnist_cnn(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network for images (C, H, W) of at least 16×16: to (N, outputs).

    Raises LayerStringError, whose remedy is a layer string that fits, where they are smaller.
    """
    layers = "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu dropout(0.5)"
    return build_network(f"{layers} fc({outputs})", input_shape)


def lcn_net(input_shape: Shape, outputs: int, stages: int = 3, width: int = 16) -> nn.Module:
    """The network for images (C, H, W): to (N, outputs).

    `stages` of convolution, ReLU, normalization and pooling, each halving the maps, so that images need 2^`stages`
    pixels a side; `width` filters in the first.
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    most = min(input_shape[1:]).bit_length() - 1 if len(input_shape) == 3 else 0
    fitting = f"lcn-net(stages={most},width={width})" if most else ""
    check_image("lcn-net", input_shape, stages * (Slide(5, 1, 2), Slide(2, 2)), fitting)
    words = [f"conv({width << stage},5,pad=2) relu lcn(9) pool(2)" for stage in range(stages)]
    return build_network(" ".join([*words, f"fc({outputs})"]), input_shape)


def small_cnn(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """The network for (C, L), (C, H, W) or (C, D, H, W), every size at least 1: to (N, outputs).

    Stages of two 3-wide convolutions, twice as many filters a stage, halving the map while it is at least 4 wide.
    `width` is the number of filters of the first stage. Raises InputMisfit for tables.
    """
    if len(input_shape) < 2:
        raise no_image("small-cnn", input_shape, "signals, images or volumes (channels, *spatial)")
    return build_network(_small_cnn_layers(input_shape, outputs, width), input_shape)


def _small_cnn_layers(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> str:
    """The layer string for (C, *spatial)."""
    sizes = list(input_shape[1:])
    words: list[str] = []
    for stage in range(SMALL_CNN_STAGES):
        if stage and max(sizes) < 4:
            break
        if stage:
            # Axes that are small already keep their size, so that a 1000×2 grid shrinks along its length only.
            window = [2 if size >= 4 else 1 for size in sizes]
            words.append(f"pool({'x'.join(map(str, window))})")
            sizes = [size // step for size, step in zip(sizes, window, strict=True)]
        words.append(f"2*[conv({width << stage},3,pad=1,bias=false) bn relu]")
    return " ".join([*words, f"gap fc({outputs})"])


def m5(input_shape: tuple[int, ...], outputs: int, width: int = 128) -> nn.Module:
    """The network for waveforms (C, L), 16 samples or more: to (N, outputs).

    A kernel of 80 samples, then kernels of 3; max pooling by 4 while there is room; `width` filters in the first two
    layers, 2·`width` and 4·`width` in the others. Padded, so that short sounds fit. Raises ModelError for other inputs.
    """
    if len(input_shape) != 2 or input_shape[1] < SHORTEST_SOUND:
        raise no_image("m5", input_shape, f"waveforms (channels, samples) of at least {SHORTEST_SOUND} samples")
    words, length = [], (input_shape[1] - 4) // 4 + 1
    for stage, filters in enumerate((width, width, 2 * width, 4 * width)):
        words.append(f"conv({filters},{'80,4,38' if stage == 0 else '3,pad=1'},bias=false) bn relu")
        if length >= POOLED:
            words.append(f"pool({POOLED})")
            length //= POOLED
    return build_network(" ".join([*words, f"gap fc({outputs})"]), input_shape)


def small_resnet3d(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """The network for volumes (C, D, H, W), at least 8 a side: to (N, outputs).

    A kernel of 5, then a residual block at each size; sizes are halved, and `width` filters doubled, down to 4 cells of
    the shortest side. Raises ModelError for other inputs.
    """
    if len(input_shape) != 4 or min(input_shape[1:]) < SMALLEST_VOLUME:
        least = "×".join([str(SMALLEST_VOLUME)] * 3)
        raise no_image("small-resnet3d", input_shape, f"volumes (channels, depth, height, width) of at least {least}")
    words, side, filters = [], min(input_shape[1:]), width
    for stage in range(VOLUME_STAGES):
        if stage and side < SMALLEST_VOLUME:
            break
        words.append(f"conv({filters},{'5,stride=2,pad=2' if stage == 0 else '3,stride=2,pad=1'},bias=false) bn relu")
        words.append(f"res[conv({filters},3,pad=1,bias=false) bn relu conv({filters},3,pad=1,bias=false) bn] relu")
        side, filters = -(-side // 2), 2 * filters
    return build_network(" ".join([*words, f"gap dropout(0.3) fc({outputs})"]), input_shape)


def small_dilated(input_shape: tuple[int, ...], outputs: int, width: int = 32) -> nn.Module:
    """The network for maps (C, *spatial) of any size: to (N, outputs, *spatial).

    Dilations of 1, 2, 4, 8 see far without ever making the map smaller: each output sees 37×37 pixels.
    Raises LayerStringError for tables.
    """
    blocks = [f"conv({width},3,pad={d},dilation={d},bias=false) bn relu" for d in DILATIONS]
    return build_network(" ".join([*blocks, f"conv({outputs},1)"]), input_shape)
