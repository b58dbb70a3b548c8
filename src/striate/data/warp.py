"""Where the pixels of an augmented batch come from; images and masks are moved by the same record."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Warp:
    """How each image of a batch is moved.

    `flip`: (B,) bool, mirrored left to right. `shift`: (B, 2) int64 pixels down and right, applied after the flip.
    `box`: (B, 4) float32 top, left, height, width of the kept part as shares of the image (0 to 1), applied first
    and resized back; None where whole images are kept. Without a box no value is interpolated: bytes stay bytes.
    """

    flip: torch.Tensor
    shift: torch.Tensor
    box: torch.Tensor | None = None

    def apply(self, x_BCHW: torch.Tensor, *, nearest: bool = False, fill: float = 0.0) -> torch.Tensor:
        """The moved batch, of the same shape and dtype; `nearest` keeps class numbers what they are.

        What is moved in from outside is `fill`. Interpolated bytes are rounded to nearest.
        """
        out = x_BCHW if self.box is None else _crop(x_BCHW, self.box, nearest)
        out = torch.where(self.flip.view(-1, 1, 1, 1).to(out.device), out.flip(-1), out)
        return _shift(out, self.shift, fill)


def _shift(x_BCHW: torch.Tensor, shift: torch.Tensor, fill: float) -> torch.Tensor:
    reach = int(shift.abs().max()) if len(shift) else 0
    if reach == 0:
        return x_BCHW
    batch, _, height, width = x_BCHW.shape
    padded = functional.pad(x_BCHW, (reach,) * 4, value=fill)
    # Every window of the padded batch as a view; one advanced index then copies the wanted one of each image.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    start = reach - shift.to(x_BCHW.device)
    return windows[torch.arange(batch, device=x_BCHW.device), :, start[:, 0], start[:, 1]]


def _crop(x_BCHW: torch.Tensor, box: torch.Tensor, nearest: bool) -> torch.Tensor:
    top, left, height, width = box.to(x_BCHW.device).unbind(1)
    # affine_grid's coordinates run from -1 to 1 over the image: scale, then the center of the box.
    theta = torch.zeros(len(box), 2, 3, device=x_BCHW.device)
    theta[:, 0, 0], theta[:, 0, 2] = width, 2 * left + width - 1
    theta[:, 1, 1], theta[:, 1, 2] = height, 2 * top + height - 1
    grid = functional.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    moved = functional.grid_sample(
        x_BCHW.float(),
        grid,
        mode="nearest" if nearest else "bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return moved if x_BCHW.is_floating_point() else moved.round().to(x_BCHW.dtype)
