"""`striate connectivity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from striate.cli.fields import read_sizes

if TYPE_CHECKING:
    from striate.account.connectivity import Connectivity

_EXAMPLE = "striate connectivity 1x280x320 --kernel 1x2"
_EXACT = (10**15, 10**9)
"""Largest number that is written with all digits; the second one where columns would not fit otherwise."""


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
    """Compare one map as fully connected, locally connected, convolution and sparse matrix.

    All four compute the same outputs from the same inputs; they differ in the number of values that they store and
    learn, and in the number of multiplications and additions. Example: striate connectivity 1x280x320 --kernel 1x2

    Parameters
    ----------
    input
        Channels and sides of the input: 1x280x320.
    kernel
        The sides of the kernel: 3, or 1x2.
    filters
        Number of kernels, which is the number of output channels.
    stride
        Distance between neighboring windows: 2, or 2x1.
    pad
        Zeros around the input: 1, or 1x0, or same.
    bias
        Add a bias to each output; the convolution has one for each filter.
    json
        Print one JSON document on stdout.
    """
    from striate.account.connectivity import compare_connectivity
    from striate.cli.output import print_note, print_result

    found = compare_connectivity(
        read_sizes("INPUT", input, _EXAMPLE),
        read_sizes("--kernel", kernel, "1x2"),
        filters=filters,
        stride=read_sizes("--stride", stride, "1"),
        padding="same" if pad == "same" else read_sizes("--pad", pad, "1"),
        bias=bias,
    )
    print_result(found, _text(found), json=json)
    for remark in found.remarks:
        print_note(f"{remark.where}: {remark.measured}. {remark.why} {remark.remedy}")
    return 0


def _text(found: Connectivity) -> str:
    from textwrap import fill

    from striate.account.table import WIDTH, laid_out
    from striate.wording import show_shape

    columns = ("layer", "weights", "biases", "indices", "operations")
    counts = [(layer.name, (layer.weights, layer.biases, layer.indices, layer.operations)) for layer in found.layers]
    tables = (
        laid_out([columns, *((name, *(_count(n, exact) for n in row)) for name, row in counts)], _SIDES, _NO_LIMIT)
        for exact in _EXACT
    )
    table = next((text for text in tables if len(text.split("\n")[1]) <= WIDTH), "")
    head = f"{show_shape(found.in_shape)} → {show_shape(found.out_shape)}, kernel {show_shape(found.kernel)}"
    notes = [f"ignored inputs: {found.unread}."] if found.unread else []
    notes += [*(f"{layer.name}: {layer.description}." for layer in found.layers), _ratios(found), _OPERATIONS]
    return "\n".join([head, "", table, "", *(fill(text, WIDTH, subsequent_indent="  ") for text in notes)])


_SIDES = ("left", *["right"] * 4)
_NO_LIMIT = 1000  # or the names would give way
_OPERATIONS = (
    "operations: multiplications and additions; n products take n − 1 additions, and one more with a bias. "
    "Products with padding are counted, except in the sparse matrix."
)


def _ratios(found: Connectivity) -> str:
    dense, _, shared, _ = found.layers
    return (
        "Compared with the fully connected layer, the convolution stores "
        f"{_compared(dense.parameters, shared.parameters)} numbers, "
        f"and needs {_compared(dense.operations, shared.operations)} operations."
    )


def _compared(many: int, few: int) -> str:
    """How many times fewer `few` is, computed in whole numbers, since these are too large for floats."""
    if many == few:
        return "as many"
    return f"{_times(many, few)} times fewer" if many > few else f"{_times(few, many)} times more"


def _times(many: int, few: int) -> str:
    """The ratio: rounded to one decimal below 100, else to a whole number."""
    tenths = (20 * many + few) // (2 * few)
    if tenths < 1000 and many % few:
        return f"{tenths // 10}.{tenths % 10}"
    return _count((2 * many + few) // (2 * few), _EXACT[0])


def _count(count: int, exact: int) -> str:
    """The count with all digits up to `exact`, else with three: `3.00·10^20`."""
    if count < exact:
        return f"{count:,}"
    digits, _, power = f"{count:.2e}".partition("e")
    return f"{digits}·10^{int(power)}"
