"""`auto`: choose a network by the shape of the data, and say why; free of torch."""

from __future__ import annotations

from striate.data.media.every_medium import medium_of
from striate.data.media.medium import FEW_SAMPLES
from striate.wording import several, show_shape

SMALL_GRAY = 32
SMALLEST_FOR_MNIST_CNN, SMALLEST_FOR_RESNET, UNET_MULTIPLE, UNET3D_MULTIPLE = 16, 8, 4, 8
SMALLEST_FOR_AIRBENCH, LARGE_FOR_AIRBENCH = 9, 64
LARGE_FOR_DECODER = 96
"""Pixels. In smaller images, maps of a quarter of the size lose too much detail at borders."""
DETECTOR = "small-resnet"
PASSES = 5
"""Least number of epochs for which a wider network pays off; with progressive resizing, they are about seven."""
_WIDTHS, _PUBLISHED = (16, 32, 64, 96, 128), 64
FEW = 5_000
"""Samples. From so few, a wider network learns no more, and it takes time that more epochs could use."""


def choose_model(kind: str, input_shape: tuple[int, ...], needs: str, samples: int) -> tuple[str, str]:
    """A zoo model with its arguments, and one sentence that says why.

    `kind` is the name of a medium, `needs` what the task needs of a network (`vector`, `map`, `pyramid`), `samples` the
    size of the training split.
    """
    size = show_shape(input_shape)
    if needs == "map":
        return _for_masks(input_shape)
    medium = medium_of(kind)
    if medium.network is not None and needs == "vector":
        return medium.few_samples if medium.few_samples and samples < FEW_SAMPLES else medium.network
    if medium_of(kind).flat or len(input_shape) == 1:
        return _for_table(input_shape, samples)
    if len(input_shape) == 4 and min(input_shape[1:]) >= SMALLEST_FOR_RESNET:
        return "small-resnet3d", f"volumes of {size} need depth, which residual blocks train well from scratch"
    if len(input_shape) != 3:
        axes = len(input_shape) - 1
        along = "its axis" if axes == 1 else "all axes"
        return "small-cnn", f"an input of {size} is a {axes}-D grid: convolutions along {along}, as deep as it allows"
    shortest, longest, gray = min(input_shape[1:]), max(input_shape[1:]), input_shape[0] == 1
    if shortest < SMALLEST_FOR_RESNET or (gray and longest <= SMALL_GRAY and shortest < SMALLEST_FOR_MNIST_CNN):
        return "small-cnn", f"{size} is too small for 5×5 kernels and pooling, so this network has padded 3×3 kernels"
    if gray and longest <= SMALL_GRAY:
        return "mnist-cnn", f"gray images of {size} are small enough for two convolutions, which train in seconds"
    what = (
        "larger than 32 pixels"
        if gray
        else "in color"
        if input_shape[0] == 3
        else f"of {several(input_shape[0], 'channel')}"
    )
    return "small-resnet", f"images {what} ({size}) need depth, which residual blocks train well from scratch"


def choose_fast_model(
    kind: str,
    input_shape: tuple[int, ...],
    needs: str,
    samples: int,
    macs: float | None = None,
    beside: float = 0.0,
) -> tuple[str, str]:
    """As `choose_model`, for a training with little time: `airbench` for images that it can take.

    `macs`: the multiply–accumulates that there is time for; `beside`: the cost of everything but the epochs, in samples
    of a training step. The network is the widest for which five epochs fit: at least `airbench(width=16)`, and for up
    to 5,000 samples at most the published width. Without a limit of time it has the published width, or half of it for
    gray images.
    """
    image = medium_of(kind).pictures and len(input_shape) == 3 and needs not in ("map", "pyramid")
    if not image or min(input_shape[1:]) < SMALLEST_FOR_AIRBENCH:
        return choose_model(kind, input_shape, needs, samples)
    why = "built for short runs: its first layer whitens image patches, its other convolutions start as identities"
    width = _PUBLISHED // 2 if input_shape[0] == 1 else _PUBLISHED
    if macs is not None:
        widths = [w for w in _WIDTHS if samples > FEW or w <= _PUBLISHED]
        fitting = [w for w in widths if 3 * (PASSES * samples + beside) * airbench_macs(w, input_shape) <= macs]
        width = fitting[-1] if fitting else _WIDTHS[0]
        why += (
            f"; at this width at least {PASSES} epochs are expected to fit"
            if fitting
            else "; the narrowest width, since time is short"
        )
    return "airbench" if width == _PUBLISHED else f"airbench(width={width})", why


def airbench_macs(width: int, input_shape: tuple[int, ...]) -> int:
    """Multiply–accumulates of `airbench` for one image, without the output layer."""
    channels, height, width_of_image = input_shape
    large = max(height, width_of_image) > LARGE_FOR_AIRBENCH
    first = channels * (32 if large else 8)
    sides = [side // 4 if large else side - 1 for side in (height, width_of_image)]
    total = first * (first // 2) * sides[0] * sides[1]
    for wide in (width, 4 * width, 4 * width):
        total += 9 * first * wide * sides[0] * sides[1]
        sides = [side // 2 for side in sides]
        total += 9 * wide * wide * sides[0] * sides[1]
        first = wide
    return total


def _for_masks(input_shape: tuple[int, ...]) -> tuple[str, str]:
    size = show_shape(input_shape)
    if len(input_shape) == 3 and min(input_shape[1:]) >= LARGE_FOR_DECODER:
        return "small-resnet", f"residual blocks, whose maps of all sizes a decoder merges into masks ({size})"
    if len(input_shape) == 4 and all(side % UNET3D_MULTIPLE == 0 for side in input_shape[1:]):
        return "small-unet3d", f"masks need the context of a coarse map and the borders of a fine one ({size})"
    if len(input_shape) == 3 and all(side % UNET_MULTIPLE == 0 for side in input_shape[1:]):
        return "small-unet", f"masks need the context of a coarse map and the borders of a fine one ({size})"
    return "small-dilated", f"{size} cannot be halved twice, so all layers have full resolution"


def network_for_objects(input_shape: tuple[int, ...]) -> tuple[str, str] | None:
    """The network for object detection, with maps of several strides, and the reason; None for images too small."""
    if len(input_shape) != 3 or min(input_shape[1:]) < SMALLEST_FOR_RESNET:
        return None
    size = show_shape(input_shape)
    return DETECTOR, f"maps of several strides of images of {size}, from residual blocks that train from scratch"


def network_for_places(input_shape: tuple[int, ...]) -> tuple[str, str]:
    """Residual blocks on maps of several sizes, from the largest that the head reads, halved down to 4 cells."""
    side = max(input_shape[1:])
    halvings = 0 if side <= _WHOLE else 1 if side <= 2 * _WHOLE else 2
    stem = [f"conv({width},3,stride={1 + (halvings > k)},pad=1) bn relu" for k, width in enumerate(_PLACES[:2])]
    parts, cells = [*stem, _block(_PLACES[1])], min(input_shape[1:]) >> halvings
    for width in _PLACES[2:]:
        if cells < 2 * _COARSEST:
            break
        parts.append(f"conv({width},3,stride=2,pad=1) bn relu {_block(width)}")
        cells //= 2
    size = show_shape(input_shape)
    return " ".join(parts), f"fine maps locate objects ({size}), coarse maps recognize them"


def _block(width: int) -> str:
    return f"res[conv({width},3,pad=1) bn relu conv({width},3,pad=1) bn] relu"


_PLACES, _WHOLE, _COARSEST = (32, 64, 96, 128, 160), 48, 4
"""Channels of the maps; longest side, in pixels, up to which the first map has the size of the image; cells along the
shorter side of the last map."""


def _for_table(input_shape: tuple[int, ...], samples: int) -> tuple[str, str]:
    features = 1
    for side in input_shape:
        features *= side
    hidden = 8
    # Four times as wide as the features, if the first layer then has fewer weights than ten times the samples.
    while hidden < min(256, 4 * features) and 2 * hidden * features <= 10 * samples:
        hidden *= 2
    second = max(8, hidden // 2)
    sizes = f"{several(features, 'feature')} and {several(samples, 'sample')}"
    reason = f"a table has no spatial structure: fully connected layers, sized for {sizes}"
    return f"mlp({hidden},{second})", reason
