"""Changes of a batch of images; each is a pure function of (seed, kind of change, sample id).

Pixel values: light, noise, blur, JPEG. Movements: shift, rotation, scale, deformation, viewpoint; pixels from outside
repeat the edge, and all but shifts interpolate (bilinear) and round to bytes. Occlusion: a blank patch, or fragments of
other images around the center.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from striate.data.augment.pixels import blur as blurred
from striate.data.augment.warp import Warp
from striate.data.counter_normal import normals
from striate.data.counter_random import hash_key, uniforms


@dataclass(frozen=True, eq=False)
class Draws:
    """The random numbers of one batch. They are the same for every strength, so that a curve follows each image in one
    direction."""

    seed: int
    """Seed of the measurement."""
    kind: str
    """Name of the kind of change."""
    ids: NDArray[np.int64]
    """(B,) sample ids."""
    places: NDArray[np.int64]
    """(B,) positions of the batch's images in `pool`."""
    pool: torch.Tensor
    """(N, C, H, W) uint8, all images that are measured; clutter is taken from the others of them."""

    @property
    def key(self) -> int:
        """The key of the random numbers, which depends on the seed and the kind alone."""
        return hash_key(self.seed, zlib.crc32(self.kind.encode()))

    def uniform(self, count: int) -> NDArray[np.float64]:
        """(B, count) uniform in [0, 1)."""
        return uniforms(self.key, self.ids, count)

    def normal(self, count: int) -> torch.Tensor:
        """(B, count) float32, standard normal."""
        return normals(self.key, torch.from_numpy(self.ids), count)


_GAMMA = 2.2
"""Light intensity is about the byte value to this power (sRGB)."""


def relight(images: torch.Tensor, stops: float, draws: Draws) -> torch.Tensor:
    """Multiply the light by 2 to the power of `stops`; values brighter than white are clipped to white."""
    del draws
    table = (torch.arange(256).float() * 2 ** (stops / _GAMMA)).round().clamp(0, 255).to(torch.uint8)
    return table[images.long()]


def add_noise(images: torch.Tensor, deviation: float, draws: Draws) -> torch.Tensor:
    """Add independent normal noise of this standard deviation in gray levels (0 to 255) to each value."""
    noise = draws.normal(math.prod(images.shape[1:])).view(images.shape)
    return (images.float() + deviation * noise).round_().clamp_(0, 255).to(torch.uint8)


def blur(images: torch.Tensor, pixels: float, draws: Draws) -> torch.Tensor:
    """Blur with a Gaussian of this standard deviation in pixels."""
    del draws
    return blurred(images, torch.full((len(images),), pixels), pixels)


def compress(images: torch.Tensor, quality: float, draws: Draws) -> torch.Tensor:
    """Write as a JPEG of this quality (Pillow's, 1 to 95) and read again; where there are not 1 or 3 channels, each
    channel by itself."""
    del draws
    return torch.from_numpy(np.stack([_through_jpeg(image, int(quality)) for image in images.numpy()]))


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    if len(image) == 3:
        return _decoded(np.ascontiguousarray(image.transpose(1, 2, 0)), quality).transpose(2, 0, 1)
    return np.stack([_decoded(plane, quality) for plane in image])


def _decoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


_DISTANCE = 2.0
"""Distance of the camera from the tilted picture, in units of the picture's longer side."""
_CONTROL = 5
"""Number of control points of the elastic net along each side."""


def shift(images: torch.Tensor, pixels: float, draws: Draws) -> torch.Tensor:
    """Shift by whole pixels up, down, left or right, without interpolation."""
    return shifted(pixels, draws).apply(images)


def shifted(pixels: float, draws: Draws) -> Warp:
    """The movement of `shift`."""
    directions = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    chosen = directions[torch.from_numpy((draws.uniform(1)[:, 0] * 4).astype("int64"))]
    return Warp(torch.zeros(len(chosen), dtype=torch.bool), int(pixels) * chosen)


def rotate(images: torch.Tensor, degrees: float, draws: Draws) -> torch.Tensor:
    """Rotate about the center, counterclockwise or clockwise."""
    angle = math.radians(degrees) * (1 - 2 * (torch.from_numpy(draws.uniform(1)[:, 0]) < 0.5).float())
    x, y = _from_center(images)
    cos, sin = (f(angle).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    return _sampled(images, cos * x + sin * y, cos * y - sin * x)


def scale(images: torch.Tensor, factor: float, draws: Draws) -> torch.Tensor:
    """Scale about the center; factors above 1 enlarge."""
    del draws
    x, y = _from_center(images)
    every = torch.ones(len(images), 1, 1)
    return _sampled(images, every * x / factor, every * y / factor)


def deform(images: torch.Tensor, percent: float, draws: Draws) -> torch.Tensor:
    """Deform elastically along a smooth random field, whose root mean square length is the strength in percent of the
    shorter side.

    A net of 5 × 5 points is drawn and interpolated (bicubic), similar to P. Simard, D. Steinkraus and J. Platt, "Best
    practices for convolutional neural networks", 2003.
    """
    height, width = images.shape[2:]
    net = draws.normal(2 * _CONTROL**2).view(-1, 2, _CONTROL, _CONTROL)
    field = functional.interpolate(net, (height, width), mode="bicubic", align_corners=True)
    length = field.square().sum(1).mean((1, 2)).sqrt().view(-1, 1, 1, 1)
    field = field / length.clamp(min=1e-6) * (percent / 100 * min(height, width))
    x, y = _from_center(images)
    return _sampled(images, x + field[:, 0], y + field[:, 1])


def tilt(images: torch.Tensor, degrees: float, draws: Draws) -> torch.Tensor:
    """Apply a homography: the picture is a flat card that is tilted by the angle about a random line through its center
    and seen by a camera two sides away."""
    axis = math.tau * torch.from_numpy(draws.uniform(1)[:, 0]).float().view(-1, 1, 1)
    x, y = _from_center(images)
    along, across = axis.cos() * x + axis.sin() * y, axis.cos() * y - axis.sin() * x
    distance = _DISTANCE * max(images.shape[2:])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # The point of the card on the ray through each pixel, along the axis of rotation and across it.
    across = across * distance / (distance * cos - across * sin)
    along = along * (distance + across * sin) / distance
    return _sampled(images, axis.cos() * along - axis.sin() * across, axis.sin() * along + axis.cos() * across)


def _from_center(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, H, W) distances to the right and (1, H, W) down from the center, in pixels."""
    height, width = images.shape[2:]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    return x[None], y[None]


def _sampled(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The images, sampled for each pixel at the position (B, H, W) right and down from the center."""
    sides = [max(1, side - 1) / 2 for side in images.shape[2:]]
    grid = torch.stack([x / sides[1], y / sides[0]], dim=3).float()
    moved = functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.round_().clamp_(0, 255).to(torch.uint8)


_FRAGMENT = 5
"""The image's sides are this multiple of a fragment's."""


def occlude(images: torch.Tensor, percent: float, draws: Draws) -> torch.Tensor:
    """Cover this share of the area by a rectangle of the image's proportions and mean color."""
    share, sides = math.sqrt(percent / 100), images.shape[2:]
    inside = []
    for drawn, side in zip(torch.from_numpy(draws.uniform(2)).T, sides, strict=True):
        length = max(1, round(share * side))
        first = (drawn * (side - length + 1)).long()[:, None]
        places = torch.arange(side)[None]
        inside.append((places >= first) & (places < first + length))
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    mean = images.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    return torch.where(covered, mean, images)


def clutter(images: torch.Tensor, fragments: float, draws: Draws) -> torch.Tensor:
    """Place this number of fragments of other images, each a fifth of the sides long, with centers outside of the inner
    half of height and width. Similar to the cluttered MNIST of V. Mnih et al., 2014."""
    count, (height, width) = int(fragments), images.shape[2:]
    lengths = [max(1, round(side / _FRAGMENT)) for side in (height, width)]
    # Five numbers for each fragment, in order: a weaker strength has the first fragments of a stronger one.
    drawn = draws.uniform(5 * count).reshape(len(images), count, 5)
    others = (draws.places[:, None] + 1 + (drawn[..., 0] * max(1, len(draws.pool) - 1)).astype(np.int64)) % len(
        draws.pool
    )
    cut = _firsts(drawn[..., 1:3], (height, width), lengths)
    put = np.clip(_around(drawn[..., 3:5], (height, width)) - np.array(lengths) / 2, 0, None).round().astype(np.int64)
    put = np.minimum(put, np.array([height, width]) - lengths)
    out, pool = images.clone().numpy(), draws.pool.numpy()
    for image in range(len(out)):
        for piece in range(count):
            (a, b), (c, d) = put[image, piece], cut[image, piece]
            source = pool[others[image, piece]]
            out[image, :, a : a + lengths[0], b : b + lengths[1]] = source[:, c : c + lengths[0], d : d + lengths[1]]
    return torch.from_numpy(out)


def _firsts(drawn: np.ndarray, sides: tuple[int, int], lengths: list[int]) -> np.ndarray:
    """Random positions inside at which pieces of these lengths begin."""
    first: np.ndarray = (drawn * (np.array(sides) - lengths + 1)).astype(np.int64)
    return first


def _around(drawn: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Random points, uniform over the frame around the inner half of both sides."""
    angle = math.tau * drawn[..., 0]
    direction = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    direction /= np.abs(direction).max(-1, keepdims=True)
    reach = np.sqrt(0.25 + 0.75 * drawn[..., 1])[..., None]
    points: np.ndarray = (1 + reach * direction) * np.array(sides) / 2
    return points
