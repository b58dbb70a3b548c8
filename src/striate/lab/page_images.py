"""Images that a page may show and compute with: samples of data, and pictures that were sent, which are cached.

An image has a name in addresses: `mnist5k#17` is a sample of a named set on this machine, `run#17` a sample of the
run's data, in the order of split.csv, and `upload:DIGEST` a picture that was sent: an upload, a photograph of the
webcam, a drawing.
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from striate.data.dataset import Preparation
from striate.data.media.every_medium import PICTURE, medium_of
from striate.data.media.image.pictures import UnreadableImage, decode_image
from striate.data.media.medium import REPLACE
from striate.data.sources.named import catalogue, info, place
from striate.errors import DataError, RunError, StriateError
from striate.machine.allocator import trim
from striate.visualize.picture import Picture, listed_picture, read_picture_bytes, to_gray

if TYPE_CHECKING:
    from striate.data.listing import Listing
    from striate.lab.workbench import Lab
    from striate.training.config import Config


def run_config(lab: Lab) -> Config:
    """The configuration of the run. Raises RunError where the lab has none, or only a checkpoint."""
    from striate.runs.directory import open_run
    from striate.training.config_file import config_from_yaml

    if lab.run is None:
        raise RunError("the lab", "no run", "a run directory", "striate lab RUN")
    return config_from_yaml(open_run(lab.run).config)


def run_listing(lab: Lab) -> Listing:
    """The samples of the run's data. Raises DataError where they no longer exist, RunError without a run."""
    from striate.data.sources.list_source import list_source
    from striate.tasks.registry import annotation_for

    config = run_config(lab)
    return list_source(config.data, annotation_for(config.task))


MAX_PIXELS = 24_000_000
"""Pictures that are sent and have more pixels are refused before they are decoded."""
RUN = "run"
"""Name of the run's data."""
_MOST_BYTES = 256 << 20  # of pictures that were sent
_MOST_LISTINGS = 2
_MOST_REDUCED = 16
_THUMBNAIL = 56
_ALPHA = "with alpha (transparency): its numbers are those of the file, blended with no background"
_MOST_AT_ONCE = 60


@dataclass(frozen=True)
class NamedImage:
    """A picture that pages may request."""

    name: str
    """Its name in addresses."""
    title: str
    """Its name for readers."""
    picture: Picture
    """The pixels."""
    label: str = ""
    """Its label; empty where it has none."""

    def to_json(self) -> dict[str, Any]:
        """The record for a page, without the pixels."""
        width, height = self.picture.size
        channels = [*self.picture.channels, *([] if self.picture.alpha is None else ["alpha"])]
        alpha = self.picture.alpha
        notes = self.picture.notes if alpha is None or bool((alpha == 255).all()) else (*self.picture.notes, _ALPHA)
        return {
            **{"name": self.name, "title": self.title, "label": self.label, "notes": notes},
            **{"width": width, "height": height, "channels": channels},
        }


class Images:
    """The images of one lab. Pictures that were sent are cached until newer ones need the memory."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._sent: OrderedDict[str, NamedImage] = OrderedDict()
        self._listings: OrderedDict[str, Listing] = OrderedDict()
        self._reduced: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._lock = threading.RLock()
        self._decoding = threading.Semaphore(2)  # a large picture takes hundreds of megabytes while it is decoded

    def find(self, name: str) -> NamedImage:
        """The image of that name. Raises DataError."""
        if name.startswith("upload:"):
            with self._lock:
                if name not in self._sent:
                    got = "a picture that was not sent to this lab, or is no longer cached"
                    raise DataError(name[:80], got, "a picture that is cached", "choose the image again")
                self._sent.move_to_end(name)
                return self._sent[name]
        data, _, digits = name.partition("#")
        listing = self.listing(data)
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else -1
        if not 0 <= number < len(listing):
            expected = f"a whole number from 0 to {len(listing) - 1}"
            raise DataError(f"image {name[:80]}", digits[:20] or "no number", expected, f"{data}#0")
        try:
            picture = listed_picture(listing, number)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"image {name[:80]}", reason, "a file that can be read", "choose another image") from None
        return NamedImage(name, f"sample {number} of {listing.name}", picture, _label(listing, number))

    def add(self, data: bytes, title: str, *, gray: bool = False) -> NamedImage:
        """Cache a picture that was sent, converted to gray if requested. Raises UnreadableImage."""
        with self._decoding:
            try:
                picture = read_picture_bytes(data, title, MAX_PIXELS)
            except UnreadableImage as error:
                remedy = "choose another picture" if error.remedy == REPLACE else error.remedy
                remedy = "choose a smaller picture" if "max_pixels" in remedy else remedy
                raise UnreadableImage(title, error.reason, remedy, error.expected) from None
            finally:
                trim()
        if picture.alpha is not None and bool((picture.alpha == 255).all()):
            picture = replace(picture, alpha=None)
        if gray:
            picture = replace(to_gray(picture), notes=())
        digest = hashlib.sha256(data + bytes([gray])).hexdigest()[:16]
        image = NamedImage(f"upload:{digest}", title, picture)
        with self._lock:
            self._sent[image.name] = image
            while len(self._sent) > 1 and sum(_bytes(cached.picture) for cached in self._sent.values()) > _MOST_BYTES:
                self._sent.popitem(last=False)
        return image

    def reduced(self, name: str, side: int) -> Picture:
        """The image, reduced with a note if a side has more than `side` pixels. Raises DataError."""
        with self._lock:
            cached = self._reduced.get((name, side))
        if cached is None:
            cached = reduce_picture(self.find(name).picture, side)
            with self._lock:
                self._reduced[name, side] = cached
                while len(self._reduced) > _MOST_REDUCED:
                    self._reduced.popitem(last=False)
        return cached

    def listing(self, data: str) -> Listing:
        """The samples of a named set of images that is on this machine, or of the run. Raises DataError."""
        with self._lock:
            if data not in self._listings:
                self._listings[data] = self._read(data)
                while len(self._listings) > _MOST_LISTINGS:
                    self._listings.popitem(last=False)
            self._listings.move_to_end(data)
            return self._listings[data]

    def sets(self) -> list[dict[str, Any]]:
        """The data whose samples can be chosen, those of the run first."""
        own = []
        if self._lab.run is not None:
            try:
                listing = self.listing(RUN)
                own = [{"name": RUN, "title": f"the data of the run, {listing.name}", "samples": len(listing)}]
            except StriateError:
                own = []  # the run's data no longer exist, or are not images
        named = [entry for entry in catalogue() if medium_of(entry.kind).shows_itself and place(entry.name) is not None]
        return [
            *own,
            *({"name": entry.name, "title": entry.title, "samples": sum(entry.samples)} for entry in named),
        ]

    def _read(self, data: str) -> Listing:
        from striate.data.config import DataConfig
        from striate.data.sources.list_source import list_source

        if data == RUN:
            listing = run_listing(self._lab)
        else:
            entry = info(data)
            if entry is None or place(data) is None:
                names = ", ".join(one["name"] for one in self.sets())
                raise DataError("data", data[:80], f"images that are on this machine: {names}", "mnist5k")
            listing = list_source(DataConfig(data))
        if not listing.medium.shows_itself:
            expected = "images: this page shows no others"
            raise DataError("data", f"samples of another kind ({listing.kind})", expected, "open the page Predict")
        return listing


def reduce_picture(picture: Picture, side: int) -> Picture:
    """The picture, reduced by averaging, with a note, if its longer side has more than `side` pixels."""
    image = as_image(picture)
    if max(image.size) <= side:
        return picture
    image.thumbnail((side, side), Image.Resampling.BOX)
    planes = np.asarray(image).reshape(image.height, image.width, -1)
    values, alpha = (planes, None) if picture.alpha is None else (planes[..., :-1], planes[..., -1])
    sizes = f"{' × '.join(map(str, picture.size))} to {image.width} × {image.height} pixels"
    return Picture(np.ascontiguousarray(values), alpha, None, (*picture.notes, f"made smaller, from {sizes}"))


def as_png(picture: Picture, side: int | None = None) -> bytes:
    """The picture as a PNG file, reduced if its longer side has more than `side` pixels."""
    out = BytesIO()
    as_image(picture if side is None else reduce_picture(picture, side)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def as_image(picture: Picture) -> Image.Image:
    """The picture as an image of Pillow."""
    planes = picture.values if picture.alpha is None else np.dstack([picture.values, picture.alpha])
    return Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)


def as_address(png: bytes) -> str:
    """A PNG file as an address that an `<img>` takes."""
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the image chooser."""
    router, images = APIRouter(), lab.images

    @router.get("/sets")
    def sets() -> dict[str, Any]:
        return {"sets": images.sets(), "most_pixels": MAX_PIXELS}

    @router.get("/samples")
    def samples(
        data: str, start: Annotated[int, Query(ge=0)] = 0, count: Annotated[int, Query(ge=1, le=_MOST_AT_ONCE)] = 24
    ) -> dict[str, Any]:
        listing = images.listing(data)
        numbers = [_mixed(start + k, len(listing)) for k in range(min(count, len(listing)))]
        return {"data": data, "total": len(listing), "samples": [_thumbnail(images, data, n) for n in numbers]}

    @router.get("/about")
    def about(name: str) -> dict[str, Any]:
        return images.find(name).to_json()

    @router.get("/picture")
    def picture(name: str, side: Annotated[int, Query(ge=1, le=1024)] = 1024) -> Response:
        return Response(as_png(images.reduced(name, side)), media_type="image/png")

    @router.post("/upload")
    async def upload(request: Request, title: str = "picture", gray: bool = False) -> dict[str, Any]:
        body = await request.body()
        added = await run_in_threadpool(images.add, body, title[:120], gray=gray)
        return added.to_json()

    return router


def _thumbnail(images: Images, data: str, number: int) -> dict[str, Any]:
    name, listing = f"{data}#{number}", images.listing(data)
    try:
        if listing.read is None:
            small = reduce_picture(listed_picture(listing, number), _THUMBNAIL)
        else:
            # Decoding two dozen photographs at full size would take too long.
            square = Preparation(PICTURE, (3, _THUMBNAIL, _THUMBNAIL), fit="crop", reduced=True)
            pixels_CHW = decode_image(listing.read(number), listing.paths[number], square)
            small = Picture(np.ascontiguousarray(np.moveaxis(pixels_CHW, 0, -1)))
    except (OSError, DataError) as error:
        reason = error.got if isinstance(error, DataError) else error.strerror
        return {"name": name, "label": f"unreadable: {reason}", "picture": None}
    return {"name": name, "label": _label(listing, number), "picture": as_address(as_png(small))}


def _mixed(position: int, count: int) -> int:
    """The sample at a position of a page: steps of about 0.618 of all samples mix the classes, by which sets are
    sorted."""
    step = max(1, round(count * 0.618))
    while np.gcd(step, count) != 1:
        step += 1
    return (position * step) % count


def _label(listing: Listing, number: int) -> str:
    return listing.labels[number] if not listing.has_masks and number < len(listing.labels) else ""


def _bytes(picture: Picture) -> int:
    return picture.values.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
