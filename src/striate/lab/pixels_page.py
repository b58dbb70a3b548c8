"""The page Pixels: an image as numbers, channel by channel, down to the pixel."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from striate.errors import UsageError
from striate.lab.page_images import as_png
from striate.lab.workbench import Lab
from striate.visualize.picture import Picture
from striate.visualize.pixel_table import pixel_table

MOST_ACROSS = 64
"""Largest number of rows and of columns of numbers."""

_Place = Annotated[int, Query(ge=0)]
_Count = Annotated[int, Query(ge=1, le=MOST_ACROSS)]


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page."""
    router = APIRouter()

    @router.get("/region")
    def region(image: str, x: _Place, y: _Place, width: _Count, height: _Count) -> dict[str, Any]:
        return pixel_table(lab.images.find(image).picture, f"{x},{y},{width},{height}").to_json()

    @router.get("/channel")
    def channel(image: str, name: str, side: Annotated[int, Query(ge=1, le=2048)] = 256) -> Response:
        return Response(as_png(one_channel(lab.images.find(image).picture, name), side), media_type="image/png")

    return router


def one_channel(picture: Picture, name: str) -> Picture:
    """A channel, or the transparency, as a gray picture. Raises UsageError for an unknown name."""
    if name == "alpha" and picture.alpha is not None:
        return Picture(picture.alpha[..., None])
    if name not in picture.channels:
        raise UsageError("channel", name[:40], " or ".join(picture.channels), picture.channels[0])
    place = picture.channels.index(name)
    return Picture(picture.values[..., place : place + 1])
