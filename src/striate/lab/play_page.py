"""The page Play: the windows of a kernel on a map, number by number, and classic kernels on a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response

from striate.account.remarks.window_arithmetic import arithmetic, ways_out
from striate.errors import ShapeError, UsageError
from striate.lab.page_images import as_png
from striate.lab.problems import problem_record
from striate.lab.workbench import Lab
from striate.layers.axis_windows import AxisWindows
from striate.layers.kernels import KERNELS, PURPOSES, Kernel
from striate.reference import convolve, im2col
from striate.reference.windows import pad, windows
from striate.visualize.filter_picture import explain_pixel, filter_picture
from striate.visualize.kernel_text import parse_kernel
from striate.visualize.picture import Picture, to_gray

Mode = Literal["zeros", "reflect", "replicate", "circular"]
SIDE = 512
"""Pictures with a longer side are reduced before a kernel is applied."""

_LARGEST, _KERNEL, _STEP = 16, 7, 8
_LONGEST = 2000  # letters of a kernel


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page."""
    router = APIRouter()

    @router.get("/windows")
    def windows_of_axis(
        size: Annotated[int, Query(ge=1, le=_LARGEST)],
        kernel: Annotated[int, Query(ge=1, le=_KERNEL)],
        stride: Annotated[int, Query(ge=1, le=_STEP)] = 1,
        padding: Annotated[int, Query(ge=0, le=_STEP)] = 0,
        dilation: Annotated[int, Query(ge=1, le=_STEP)] = 1,
        mode: Mode = "zeros",
        weights: str = "ones",
    ) -> dict[str, Any]:
        return windows_on_map(AxisWindows(size, kernel, stride, padding, padding, dilation), mode, weights)

    @router.get("/kernels")
    def kernels() -> list[dict[str, Any]]:
        return [_written(kernel) | {"purpose": PURPOSES[name]} for name, kernel in KERNELS.items()]

    @router.get("/filter")
    def filtered_about(
        image: str, kernel: str, mode: Mode = "replicate", gray: bool = False, x: int = 0, y: int = 0
    ) -> dict[str, Any]:
        try:
            return _explained(lab, image, kernel, mode, gray, x, y)
        except UsageError as error:
            return {"error": problem_record(error)}

    @router.get("/filtered")
    def filtered(image: str, kernel: str, mode: Mode = "replicate", gray: bool = False) -> Response:
        picture = filter_picture(_picture(lab, image, gray), read_kernel(kernel), mode)
        return Response(as_png(picture), media_type="image/png")

    @router.get("/original")
    def original(image: str, gray: bool = False) -> Response:
        return Response(as_png(_picture(lab, image, gray)), media_type="image/png")

    return router


def windows_on_map(along: AxisWindows, mode: Mode, weights: str = "ones") -> dict[str, Any]:
    """The windows of a square kernel on a square map of digits, the same along both axes, as a JSON object.

    `arithmetic`: that of the output's size; `uncovered`: positions that no window reads; `ways_out`: what would fix
    that. If windows fit: the `padded` map, with `before` positions of border on each side, the positions of each window
    in it (`taps`), and of each output its `products` and their sum. If none fits: `problem`.
    """
    classic = [name for name, kernel in KERNELS.items() if kernel.shape == (along.kernel, along.kernel)]
    shown = {
        **{"arithmetic": arithmetic(along), "count": along.count, "span": along.span, "room": along.padded},
        **{"uncovered": along.uncovered(), "ways_out": ways_out(along)},
        "choices": ["ones", "digits", *classic],
    }
    try:
        return shown | _numbers(along, mode, weights)
    except ShapeError as error:
        fits = {}
        if error.where == "kernel":
            fits = {"remedy": _what_fits(along, mode)}
        elif error.where == "padding":  # wider than this mode allows
            fits = {"remedy": "padding mode replicate"}
        return shown | {"problem": problem_record(error) | fits}


def _what_fits(along: AxisWindows, mode: Mode) -> str:
    """The remedy for a kernel that is larger than its map, with the page's fields: the smallest padding, or the largest
    dilation or kernel, that fits."""
    padding = -(-(along.span - along.size) // 2)
    if padding <= _STEP:
        return f"padding {padding}" if mode == "zeros" else f"padding {padding}, padding mode zeros"
    dilation = (along.padded - 1) // (along.kernel - 1)
    if dilation:
        return f"dilation {dilation}"
    return f"kernel {along.padded}" + (", dilation 1" if along.dilation > 1 else "")


def _numbers(along: AxisWindows, mode: Mode, weights: str) -> dict[str, Any]:
    x_HW, kernel = digits(along.size), kernel_of(weights, along.kernel)
    x_NCHW, w_KCRS = x_HW[None, None], np.array(kernel.weights)[None, None]
    settings: dict[str, Any] = {"stride": along.stride, "padding": along.before, "dilation": along.dilation}
    sums = convolve(x_NCHW, w_KCRS, padding_mode=mode, **settings)[0, 0]
    fitted = windows(x_HW.shape, along.kernel, along.stride, along.before, along.dilation, mode)
    padded = pad(x_NCHW, fitted.pads, mode)
    # The map is padded already, so its windows need no padding.
    patches = im2col(padded, along.kernel, along.stride, 0, along.dilation)[0]
    positions = np.arange(along.padded, dtype=float)[None, None]
    return {
        "before": along.before,
        "padded": _whole(padded[0, 0]),
        "kernel": kernel.weights,
        "divisor": kernel.divisor,
        "taps": _whole(im2col(positions, along.kernel, along.stride, 0, along.dilation)[0].T),
        "products": _whole((patches * np.reshape(kernel.weights, (-1, 1))).T),
        "sums": _whole(sums),
    }


def digits(size: int) -> np.ndarray:
    """A map of digits, the same each time."""
    return np.random.default_rng(size).integers(0, 10, (size, size))


def kernel_of(name: str, size: int) -> Kernel:
    """The kernel of that name, of `size` × `size`: `ones`, `digits` from −2 to 2, or a classic one of this size."""
    if name in KERNELS and KERNELS[name].shape == (size, size):
        return KERNELS[name]
    if name == "digits":
        return Kernel(tuple(map(tuple, np.random.default_rng(size).integers(-2, 3, (size, size)).tolist())))
    return Kernel(((1,) * size,) * size)


def read_kernel(text: str) -> Kernel:
    """The classic kernel of that name, or the kernel of the numbers; files are not read. Raises UsageError."""
    text = text.strip()
    if text in KERNELS:
        return KERNELS[text]
    if len(text) > _LONGEST or not any(letter.isdigit() for letter in text):
        expected = f"a name ({', '.join(KERNELS)}), or numbers"
        raise UsageError("the kernel", text[:60] or "nothing", expected, 'write "0 -1 0; -1 5 -1; 0 -1 0"')
    return parse_kernel(text, "the kernel")


def _picture(lab: Lab, name: str, gray: bool) -> Picture:
    """The image without transparency, reduced to the size that a page shows."""
    picture = lab.images.reduced(name, SIDE)
    if picture.alpha is not None:
        note = "alpha is left out: transparent pixels count with the colors that the file has for them"
        picture = replace(picture, alpha=None, notes=(*picture.notes, note))
    return to_gray(picture) if gray else picture


def _explained(lab: Lab, image: str, text: str, mode: Mode, gray: bool, x: int, y: int) -> dict[str, Any]:
    picture, kernel = _picture(lab, image, gray), read_kernel(text)
    width, height = picture.size
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    pixel = explain_pixel(picture, kernel, mode, f"{x},{y}")
    return {
        **{"width": width, "height": height, "notes": picture.notes, "kernel": _written(kernel)},
        "pixel": pixel.to_json(),
    }


def _written(kernel: Kernel) -> dict[str, Any]:
    return {"name": kernel.name, "weights": kernel.weights, "divisor": kernel.divisor}


def _whole(values: np.ndarray) -> Any:
    return values.astype(int).tolist()
