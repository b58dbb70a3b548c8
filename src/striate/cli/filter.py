"""`striate filter`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from striate.errors import UsageError, one_line, pasted

if TYPE_CHECKING:
    from striate.visualize.filter_picture import PixelArithmetic
    from striate.visualize.picture import Picture


def filter(
    picture: Path | None = None,
    out: Path | None = None,
    /,
    *,
    kernel: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    padding_mode: Literal["replicate", "zeros", "reflect", "circular"] = "replicate",
    gray: Annotated[bool, Parameter(negative=())] = False,
    explain: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    list: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    max_pixels: int = 64_000_000,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Apply a filter kernel to every pixel of a picture.

    Each output pixel is the sum of the pixels under the kernel, each times its weight (the cross-correlation, as in
    convolutional networks), divided exactly, rounded to nearest, halves up, and limited to 0 to 255. The picture keeps
    its size; color is filtered a channel at a time; gray stays gray.

    Parameters
    ----------
    picture
        The picture, in any format that striate reads.
    out
        The filtered picture: .png, .tif, .bmp, .ppm, .pgm, or .jpg, which changes values a little. With --explain it
        may be left out.
    kernel
        A name (see --list), a file, or numbers with rows parted by ;, for example "0 -1 0; -1 5 -1; 0 -1 0",
        "1/9 1/9 1/9" or "1 2 1 /4". Odd sides of at most 99.
    padding_mode
        What lies beyond the border: the nearest pixel, 0, the picture mirrored, or its other side.
    gray
        Make the picture gray first: 0.299 red + 0.587 green + 0.114 blue.
    explain
        Print the arithmetic of one output pixel: x,y, column and row, counted from 0.
    list
        List the kernels that have a name.
    force
        Overwrite OUT if it exists.
    max_pixels
        Pictures with more pixels are refused before they are decoded.
    json
        Print one JSON document on stdout.
    """
    if list:
        given = {"a picture": picture, "--kernel": kernel, "--gray": gray, "--explain": explain, "--force": force}
        given["--padding-mode"] = padding_mode != "replicate"
        if unused := [name for name, value in given.items() if value]:
            remedy = "striate filter --list; or leave out --list"
            raise UsageError("--list", f"--list with {unused[0]}", "--list alone, which filters nothing", remedy)
        return _print_list(json)
    source = _refuse_incomplete(picture, out, kernel, explain, force)
    _print(*_filter(_Request(source, out, kernel or "", padding_mode, gray, explain, force, max_pixels)), json)
    return 0


@dataclass(frozen=True)
class _Request:
    """The complete request."""

    source: Path
    out: Path | None
    kernel: str
    padding_mode: str
    gray: bool
    explain: str | None
    force: bool
    max_pixels: int


def _filter(request: _Request) -> tuple[dict[str, Any], str, PixelArithmetic | None]:
    """Filter; returns what was done as plain values, the kernel in words, and the arithmetic of the requested pixel."""
    from striate.runs.files import user_path
    from striate.visualize.filter_picture import explain_pixel, filter_picture
    from striate.visualize.kernel_text import choose_kernel
    from striate.visualize.picture_path import save_picture

    out = None if request.out is None else user_path(str(request.out))
    chosen = choose_kernel(request.kernel)
    read = _read(request, out)
    at = request.explain
    pixel = None if at is None else explain_pixel(read, chosen.kernel, request.padding_mode, at)
    filtered = filter_picture(read, chosen.kernel, request.padding_mode)
    lossy = None if out is None else save_picture(filtered, out)
    record = {
        "input": str(request.source),
        "output": None if out is None else str(out),
        "kernel": _as_json(chosen.kernel) | {"source": chosen.source},
        "padding_mode": request.padding_mode,
        "width": read.size[0],
        "height": read.size[1],
        "channels": read.channels,
        "alpha": read.alpha is not None,
        "notes": [*filtered.notes, *([lossy] if lossy else [])],
        "explain": None if pixel is None else pixel.to_json(),
    }
    return record, chosen.words, pixel


def _read(request: _Request, out: Path | None) -> Picture:
    """Read the picture, after checking that the result can be written."""
    from striate.visualize.picture import read_picture, to_gray
    from striate.visualize.picture_path import refuse_out

    if out is not None:
        refuse_out(out, force=request.force)
    picture = read_picture(request.source, request.max_pixels)
    picture = to_gray(picture) if request.gray else picture
    if out is not None:
        refuse_out(out, picture, force=request.force)
    return picture


def _refuse_incomplete(
    picture: Path | None, out: Path | None, kernel: str | None, explain: str | None, force: bool
) -> Path:
    from striate.layers.kernels import KERNELS
    from striate.visualize.picture_path import refuse_idle_force

    source = pasted(picture or "photo.png")
    example = f"striate filter {source} edges.png --kernel {pasted(kernel or 'sobel-x')}"
    if picture is None:
        raise UsageError("striate filter", "no picture", "IN, OUT and --kernel", example)
    if kernel is None:
        names = ", ".join(KERNELS)
        raise UsageError("--kernel", "nothing", f"a name ({names}), a file, or numbers", "--kernel sobel-x")
    if out is None and explain is None:
        raise UsageError("OUT", "nothing", "a file to write to, or --explain x,y", example)
    refuse_idle_force(force, out is not None, "OUT")
    return picture


def _print(record: dict[str, Any], words: str, pixel: PixelArithmetic | None, as_json: bool) -> None:
    from striate.cli.output import print_json, print_note, print_text

    for note in record["notes"]:
        print_note(note)
    if as_json:
        print_json(record)
        return
    kernel = record["kernel"]
    rows, columns = len(kernel["weights"]), len(kernel["weights"][0])
    divided = f", divided by {kernel['divisor']}" if kernel["divisor"] > 1 else ""
    print_text(one_line(f"{words}: {rows} × {columns}{divided}; border {record['padding_mode']}"))
    if pixel is not None:
        print_text(str(pixel))
    if record["output"]:
        size = f"{record['width']} × {record['height']} pixels, {' '.join(record['channels'])}"
        print_text(one_line(f"{record['output']}: {size}{', alpha' if record['alpha'] else ''}"))


def _print_list(as_json: bool) -> int:
    from rich.table import Table

    from striate.cli.output import print_json, stdout
    from striate.layers.kernels import KERNELS, PURPOSES

    if as_json:
        print_json([_as_json(kernel) | {"description": PURPOSES[name]} for name, kernel in KERNELS.items()])
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "kernel", "what it shows"):
        table.add_column(column, no_wrap=column == "name")
    for name, kernel in KERNELS.items():
        rows = "\n".join(" ".join(f"{weight:2}" for weight in row) for row in kernel.weights)
        table.add_row(name, rows + (f"  /{kernel.divisor}" if kernel.divisor > 1 else ""), PURPOSES[name])
    stdout().print(table)
    return 0


def _as_json(kernel: Any) -> dict[str, Any]:
    return {"name": kernel.name or None, "weights": kernel.weights, "divisor": kernel.divisor}
