"""`striate connectivity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from striate.cli.sizes import read_sizes

if TYPE_CHECKING:
    from striate.account.connectivity import Connectivity

_EXAMPLE = "1x280x320"


def connectivity(
    input: str,
    /,
    *,
    kernel: str,
    filters: int = 1,
    stride: str = "1",
    pad: str = "0",
    bias: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Compare the same map as fully connected, locally connected, convolution and sparse matrix.

    All four compute the same outputs from the same inputs; they differ in how many numbers they store and learn, and
    in how many multiplications and additions they need. Example: striate connectivity 1x280x320 --kernel 1x2

    Parameters
    ----------
    input
        Channels and sides of the input: 1x280x320.
    kernel
        The sides of the kernel: 3, or 1x2.
    filters
        How many kernels, that is, channels of the output.
    stride
        How far apart the windows are: 2, or 2x1.
    pad
        Zeros around the input: 1, or 1x0, or same.
    bias
        With a bias for each output; the convolution has one for each filter.
    json
        Print one JSON document on stdout.
    """
    from striate.account.connectivity import compare_connectivity
    from striate.cli.output import print_json, print_text

    found = compare_connectivity(
        read_sizes("INPUT", input, _EXAMPLE),
        read_sizes("--kernel", kernel, "1x2"),
        filters=filters,
        stride=read_sizes("--stride", stride, "1"),
        padding="same" if pad == "same" else read_sizes("--pad", pad, "1"),
        bias=bias,
    )
    if json:
        print_json(found.to_json())
    else:
        print_text(_text(found))
    return 0


def _text(found: Connectivity) -> str:
    from textwrap import fill

    from striate.account.table import laid_out
    from striate.wording import show_shape

    columns = ("the same map as", "weights", "biases", "indices", "operations")
    rows = [
        (way.name, *(f"{n:,}" for n in (way.weights, way.biases, way.indices, way.operations))) for way in found.ways
    ]
    head = f"{show_shape(found.in_shape)} → {show_shape(found.out_shape)}, kernel {show_shape(found.kernel)}"
    parts = [head, "", laid_out([columns, *rows], ("left", *["right"] * 4))]
    said = [*(f"{way.name}: {way.words}." for way in found.ways), _ratios(found), _OPERATIONS]
    return "\n".join([*parts, "", *(fill(text, 80, subsequent_indent="  ") for text in said)])


_OPERATIONS = (
    "operations: multiplications and additions; n products take n − 1 additions, a bias one more. Products with "
    "padding are counted, except in the sparse matrix."
)


def _ratios(found: Connectivity) -> str:
    dense, _, shared, _ = found.ways
    return (
        f"The convolution stores {_times(dense.parameters, shared.parameters)} times fewer numbers than the fully "
        f"connected layer, and needs {_times(dense.operations, shared.operations)} times fewer operations."
    )


def _times(many: int, few: int) -> str:
    """The ratio, rounded to a whole number; such numbers are too large for floats."""
    return f"{(many + few // 2) // few:,}"
