"""`auto`: a network by the shape of the data, with the reason; free of torch."""

from __future__ import annotations

from striate.wording import show_shape

SMALL_GRAY = 32
SMALLEST_FOR_MNIST_CNN, SMALLEST_FOR_RESNET, UNET_MULTIPLE = 16, 8, 4
SMALLEST_FOR_AIRBENCH = 9


def choose_model(kind: str, input_shape: tuple[int, ...], annotation: str, samples: int) -> tuple[str, str]:
    """A zoo model with its arguments, and one sentence that says why.

    `kind` is `image`, `grid` or `table`, `annotation` `class`, `number` or `mask`, `samples` the size of the training
    split.
    """
    size = show_shape(input_shape)
    if annotation == "mask":
        return _for_masks(input_shape)
    if kind == "table" or len(input_shape) == 1:
        return _for_table(input_shape, samples)
    if len(input_shape) != 3:
        axes = len(input_shape) - 1
        along = "its axis" if axes == 1 else "all axes"
        return "small-cnn", f"an input of {size} is a {axes}-D grid: convolutions along {along}, as deep as it allows"
    shortest, longest, gray = min(input_shape[1:]), max(input_shape[1:]), input_shape[0] == 1
    if shortest < SMALLEST_FOR_RESNET or (gray and longest <= SMALL_GRAY and shortest < SMALLEST_FOR_MNIST_CNN):
        return "small-cnn", f"{size} is too small for 5×5 kernels and pooling: 3×3 kernels that keep the size"
    if gray and longest <= SMALL_GRAY:
        return "mnist-cnn", f"gray images of {size} are small enough for two convolutions, which train in seconds"
    what = "larger than 32 pixels" if gray else "in color" if input_shape[0] == 3 else f"of {input_shape[0]} channels"
    return "small-resnet", f"images {what} ({size}) need depth, which residual blocks train well from scratch"


def choose_fast_model(kind: str, input_shape: tuple[int, ...], annotation: str, samples: int) -> tuple[str, str]:
    """As `choose_model`, for a training that has little time: `airbench` for the images that it takes.

    Half as wide for gray images: they have a third of the values and, being digits or shapes, fewer looks.
    """
    image = kind == "image" and len(input_shape) == 3 and annotation != "mask"
    if not image or min(input_shape[1:]) < SMALLEST_FOR_AIRBENCH:
        return choose_model(kind, input_shape, annotation, samples)
    gray = input_shape[0] == 1
    why = "made for short trainings: its first layer whitens patches of the images, the others begin as identities"
    return "airbench(width=32)" if gray else "airbench", why


def _for_masks(input_shape: tuple[int, ...]) -> tuple[str, str]:
    size = show_shape(input_shape)
    if len(input_shape) == 3 and all(side % UNET_MULTIPLE == 0 for side in input_shape[1:]):
        return "small-unet", f"masks need the context of a coarse map and the borders of a fine one ({size})"
    return "small-dilated", f"{size} cannot be halved twice, so the masks are made at full resolution throughout"


def _for_table(input_shape: tuple[int, ...], samples: int) -> tuple[str, str]:
    features = 1
    for side in input_shape:
        features *= side
    hidden = 8
    # As wide as four times the features, while the first layer has fewer weights than ten times the samples.
    while hidden < min(256, 4 * features) and 2 * hidden * features <= 10 * samples:
        hidden *= 2
    second = max(8, hidden // 2)
    reason = (
        f"a table has no neighborhoods: fully connected layers, sized for {features} features and {samples} samples"
    )
    return f"mlp({hidden},{second})", reason
