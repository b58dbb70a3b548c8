"""The interface of a medium: other packages know a medium only by the class `Medium`.

A medium is a subclass that overrides what differs. Without any override, samples are arrays of numbers. A medium whose
samples lie in files sets `suffixes` and implements `header` and `decode`. Free of torch.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import splitext
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import SOUND, VOLUME_ALONE, AugmentConfig, DataConfig, Fit, Layout, Pages
from striate.data.rotated_boxes import scale_boxes
from striate.errors import ConfigError, DataError
from striate.records import Finding
from striate.wording import listed, several, show_shape

Kind = str
"""The name of a medium: `striate.data.media.every_medium`."""


@dataclass(frozen=True)
class Preparation:
    """How a file becomes an input: everything that `predict` must repeat."""

    kind: Kind
    input_shape: tuple[int, ...]
    """(C, *spatial) or (F,), without the batch."""
    fit: Fit = "crop"
    """Images: how a picture of another aspect ratio is fitted into the input."""
    max_pixels: int = 64_000_000
    """A picture with more pixels is refused before it is decoded."""
    layout: Layout = "auto"
    """The order of axes in which arrays were read."""
    reduced: bool = False
    """Whether large JPEGs are decoded at a fraction of their size."""
    native: bool = False
    """Whether all files had the size of the inputs, so that none was scaled."""
    values: tuple[int, ...] = ()
    """Masks: the value of each class."""
    ignore: int | None = None
    """Masks: the value that is left out of loss and metrics."""
    colors: tuple[tuple[int, int, int], ...] = ()
    """Masks: (r, g, b) of the values 0, 1, … in the files; empty where these hold values."""
    rate: int = 0
    """Sounds: samples per second."""
    samples: int = 0
    """Sounds: the number of samples that an input is computed from."""
    window: int = 0
    """Spectrograms: length of a window in samples."""
    hop: int = 0
    """Spectrograms: distance of windows in samples."""
    low: tuple[float, ...] = ()
    """Pictures from instruments: for each channel, the value that becomes level 0."""
    high: tuple[float, ...] = ()
    """Pictures from instruments: for each channel, the value that becomes level 255."""
    depths: tuple[str, ...] = ()
    """Pictures from instruments: the data types of the files."""
    pages: Pages = "first"
    """Pictures from instruments: which pages of a file are read."""
    spacing: tuple[float, ...] = ()
    """Volumes: millimeters between voxels along depth, height and width; empty where files do not say."""
    intensity: str = ""
    """Volumes: how intensities are scaled."""
    limits: tuple[float, ...] = ()
    """Volumes: the intensities between which they are scaled, where these are the same for all volumes."""
    features: tuple[str, ...] = ()
    """Tables: the names of the features in their order; empty where the source does not name them."""


@dataclass(frozen=True)
class Placement:
    """Where a file lies in its input: a point (x, y) of the file is at `scale` · (x, y) + `offset`, in pixels from the
    corner of the first pixel."""

    file: tuple[int, int]
    """(height, width) of the file."""
    canvas: tuple[int, int]
    """(height, width) of the input."""
    scale: tuple[float, float]
    """Along x and y."""
    offset: tuple[float, float]
    """Along x and y."""

    def boxes(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes of the file, (…, 4) left, top, right, bottom, in the input."""
        placed: NDArray[np.float64] = edges * np.tile(self.scale, 2) + np.tile(self.offset, 2)
        return placed

    def boxes_in_file(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes of the input, (…, 4) left, top, right, bottom, in the file."""
        back: NDArray[np.float64] = (edges - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        return back

    def rotated_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rotated boxes of the file, (M, 5) edges and angle, in the input."""
        placed: NDArray[np.float64] = scale_boxes(boxes, self.scale) + np.array([*self.offset, *self.offset, 0.0])
        return placed

    def rotated_boxes_in_file(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rotated boxes of the input, (M, 5) edges and angle, in the file."""
        return scale_boxes(boxes - np.array([*self.offset, *self.offset, 0.0]), (1 / self.scale[0], 1 / self.scale[1]))


FEW_SAMPLES = 1000
"""Fewer training samples than this are too few for a network that learns all of its features."""
LARGEST_FILE = 4 << 30
"""A file of more bytes is refused: all of it would be read into memory."""
MOST_TILED_PIXELS = 1_000_000_000
"""The limit for pictures that are read in parts, in place of `max_pixels`: only the bytes of the file lie in memory."""


@dataclass(frozen=True)
class Photographs:
    """Pictures that cannot be trained on at their own size: of several sizes, or large."""

    count: int
    usual: tuple[int, int]
    """The most common size (height, width) in pixels."""
    sizes: int
    """The number of different sizes."""
    shorter: int
    """The median of the shorter sides in pixels."""
    aspect: float
    """Height divided by width where nearly all pictures agree, else 1."""

    def at(self, side: int) -> tuple[int, int]:
        """Height and width in pixels, multiples of 8, of an input with about side × side pixels; not enlarged."""
        side = max(8, min(side, self.shorter))
        height, width = side * self.aspect**0.5, side / self.aspect**0.5
        return _in_eights(height), _in_eights(width)

    def sized(self, side: int) -> str:
        """`Size: 128 × 128 pixels (height × width) for photographs of 306 sizes, most often 333 × 500`."""
        (height, width), (h, w) = self.at(side), self.usual
        of = f"of {several(self.sizes, 'size')}, most often {h} × {w}" if self.sizes > 1 else f"of {h} × {w}"
        return f"Size: {height} × {width} pixels (height × width) for photographs {of}"


def _in_eights(pixels: float) -> int:
    return max(8, int(pixels / 8 + 0.49) * 8)  # 100 to 96 rather than to 104, which would enlarge


ChooseSize = Callable[[Photographs], tuple[tuple[int, int], str]]
"""Height and width in pixels for photographs, and why."""

SOME_MEDIA = (
    *("size", "channels", "pages", "fit", "max_pixels", "reduced_decoding", "rate", "seconds", "view", "frames"),
    *("voxels", "spacing", "intensity", "window"),
)
"""Fields of `DataConfig` that apply only to some media."""

Planned = tuple[Preparation, tuple[str, ...], tuple[Finding, ...]]
"""The preparation of inputs, notes on what was decided, and findings."""


REPLACE = "replace the file, or leave it out"
"""The remedy where nothing more specific is known."""


class Unreadable(DataError):
    """A file that cannot be read; `reason` says why."""

    def __init__(self, where: str, reason: str, expected: str, remedy: str = REPLACE) -> None:
        self.reason = reason
        super().__init__(where, reason, expected, remedy)


def sample_bytes(
    data: bytes | Path, where: str, most: int, expected: str, less: str, folder: Callable[[Path], bytes] | None = None
) -> bytes:
    """The bytes of a sample. A file of more than `most` is refused, with `less` as what was expected; so is a pipe
    or device, which might never end. `folder` reads a sample that is a folder. Raises Unreadable."""
    if isinstance(data, bytes):
        return data
    try:
        status = data.stat()
        if folder is not None and stat.S_ISDIR(status.st_mode):
            return folder(data)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(where, "not a regular file", expected)
        if status.st_size > most:
            raise Unreadable(where, f"a file of {several(status.st_size, 'byte')}, more than {most:,}", less)
        return data.read_bytes()
    except OSError as error:
        raise Unreadable(where, error.strerror or str(error), expected) from None


class WrongSizeError(DataError):
    """A mask that is not as large as its image."""


def suffix_of(path: str) -> str:
    """The suffix of a file in lower case; `.nii.gz` is one."""
    suffix = splitext(path)[1].lower()
    return ".nii.gz" if suffix == ".gz" and path.lower().endswith(".nii.gz") else suffix


def as_array(given: Any) -> NDArray[Any]:
    """One sample as an array of numbers. Raises DataError for anything else, such as a data set."""
    try:
        array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    except (ValueError, TypeError, RuntimeError):
        array = None
    if array is None or array.dtype.kind not in "uifb":
        got, remedy = f"a {type(given).__name__}", "give one sample, or a list of them: [x for x, _ in dataset]"
        if hasattr(given, "dtype"):  # complex numbers, text, and torch's bfloat16, which NumPy lacks
            got, remedy = f"{got} of type {given.dtype}", "convert it to float32 first: x.float() in torch"
        raise DataError("predict", got, "a path, a PIL image or an array of numbers", remedy)
    return array


def channels_first(x: NDArray[Any], positions: tuple[int, ...], channels: Collection[int]) -> NDArray[Any] | None:
    """One sample as (C, *positions), given with its channels first, last or, if it has one, without their axis; None
    where it has other positions or none of these numbers of `channels`."""
    if x.shape == positions and 1 in channels:
        return x[None]
    if x.shape[1:] == positions and len(x.shape) and x.shape[0] in channels:
        return x
    if x.shape[:-1] == positions and len(x.shape) and x.shape[-1] in channels:
        return np.moveaxis(x, -1, 0)
    return None


def _as_bytes(raw: NDArray[Any]) -> tuple[str, str]:
    """The range of values that are not bytes, in words, and how they become bytes."""
    if not np.isfinite(raw).all():
        return " with NaN or Inf", "replace NaN and Inf by numbers first"
    low, high = float(raw.min()) + 0.0, float(raw.max()) + 0.0  # no negative zero
    values = f" with values from {low:.4g} to {high:.4g}"
    if low < 0 or high > 255:
        return values, "scale the values to 0 to 255, as in the training images; then: predict(x.astype('uint8'))"
    if high <= 1:
        return values, "for values of 0 to 1: predict((255 * x).round().astype('uint8'))"
    return values, "for values of 0 to 255: predict(x.round().astype('uint8'))"


class Medium:
    """A kind of samples, and how they become inputs of a network."""

    name: ClassVar[str]
    """The value of `Dataset.kind`, also in checkpoints."""
    a: ClassVar[str]
    """The noun of a sample with its article: "an image"."""
    many: ClassVar[str] = "samples"
    """The plural of that noun."""
    values: ClassVar[str] = "values"
    """The noun for the numbers of an input: "pixels"."""
    dtype: ClassVar[str] = "float32"
    """NumPy's name of the type of inputs."""
    convertible: ClassVar[tuple[int, ...]] = ()
    """Numbers of channels that are converted to those of the input, as files are."""
    suffixes: ClassVar[frozenset[str]] = frozenset()
    """Suffixes (lower case) of its files; empty where samples do not lie in files of their own."""
    largest_file: ClassVar[int] = LARGEST_FILE
    """A larger file, in bytes, is refused."""
    pictures: ClassVar[bool] = False
    """Whether inputs are pictures, (C, H, W) bytes, which can be drawn, scaled to a size, moved and mirrored."""
    flat: ClassVar[bool] = False
    """Whether an input is a row of numbers (F,) without positions."""
    takes_uncropped: ClassVar[bool] = False
    """Whether `uncropped` prepares a file with its own aspect ratio, for predictions at all of its positions."""
    any_size: ClassVar[bool] = False
    """Whether a sample of any shape can be prepared for a network; else it must have the shape of the inputs."""
    stored: ClassVar[bool] = False
    """Whether inputs can be stored in packs and streams; they are (C, H, W) then."""
    augmentations: ClassVar[frozenset[str]] = frozenset(("noise", "mixup"))
    """Fields of `AugmentConfig` that apply to it."""
    usual_augmentation: ClassVar[dict[str, float]] = {}
    """The default augmentation of media that are not pictures."""
    network: ClassVar[tuple[str, str] | None] = None
    """The default network of the zoo when training from scratch, and why; None where it depends on the shape."""
    few_samples: ClassVar[tuple[str, str] | None] = None
    """The default network for less than FEW_SAMPLES samples, and why; None where it is the same."""
    views: ClassVar[dict[str, Kind]] = {}
    """The media that `data.view` selects for the same files; empty where there is only one."""
    augmented_in: ClassVar[dict[str, str]] = {}
    """Fields of `AugmentConfig` that apply to the same files with another `data.view`, and that view."""
    others: ClassVar[tuple[Kind, ...]] = ()
    """Media that files with these suffixes may also belong to, by their headers."""
    settings: ClassVar[frozenset[str]] = frozenset()
    """Those fields of SOME_MEDIA that apply to it."""
    folders: ClassVar[bool] = False
    """Whether a folder of pictures may be a sample."""
    related: ClassVar[str] = "a part or a mirror image"
    """How two samples can be related that are not nearly the same, in words."""
    plane: ClassVar[str] = "slice"
    """The noun for a position along the first of three axes."""
    motion: ClassVar[bool] = False
    """Whether the last two channels are motion to the right and down, whose sign mirroring changes."""
    lasting: ClassVar[bool] = False
    """Whether a file has a duration, so that windows of it can have predictions of their own."""
    player: ClassVar[str] = ""
    """The HTML element that plays `played`: `audio`; empty where samples are not played."""
    bounds: ClassVar[tuple[float, float] | None] = None
    """The least and the largest value of an input; None where values have no bounds."""
    given_as: ClassVar[str] = "numbers"
    """The input of an exported file, where samples are not pictures: `frames` of a clip, `samples` of a sound, `voxels`
    of a volume, or the `numbers` of the prepared input."""
    unit: ClassVar[str] = "standard deviations"
    """The unit of changes of an input: `unit_size` of its levels where it has bounds."""
    unit_size: ClassVar[float] = 1.0
    """One level of the values of an input, in its unit."""

    @property
    def one(self) -> str:
        """The noun of a sample, without its article."""
        return self.a.partition(" ")[2]

    @property
    def shows_itself(self) -> bool:
        """Whether inputs are bytes of pictures, which can be shown as they are."""
        return self.pictures and self.dtype == "uint8"

    @property
    def of_files(self) -> bool:
        """Whether samples lie in files of their own."""
        return bool(self.suffixes)

    def describe(self, shape: tuple[int, ...]) -> str:
        """Inputs of this shape, in a few words: "color images of 96×96 pixels"."""
        return f"{self.many} of {show_shape(shape)}"

    def axes(self, preparation: Preparation) -> str:
        """A sentence on the axes of the inputs; empty where their shape is clear."""
        del preparation
        return ""

    # Files

    def owns(self, path: str) -> bool:
        """Whether the path has a suffix of this medium."""
        return suffix_of(path) in self.suffixes

    def header(self, data: bytes | Path, where: str, *, max_pixels: int) -> Any:
        """The header of a file, read without decoding it, for `plan` and `size_of`. Raises Unreadable."""
        raise NotImplementedError(f"{type(self).__name__}.header: the header of a file, before it is decoded")

    def size_of(self, header: Any) -> tuple[int, int] | None:
        """Height and width of a file in pixels; None where files have no such size."""
        del header
        return None

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[Any]:
        """The input of a file: a new array of `preparation.input_shape` and `dtype`. Raises Unreadable."""
        del data
        raise self.no_files(where, preparation)

    def no_files(self, what: str, preparation: Preparation) -> DataError:
        """The error for a file that the network cannot take."""
        return DataError(
            "predict",
            f"{what} for a network trained on {self.a}",
            f"numbers of shape {preparation.input_shape}",
            "striate.load(run).predict(numpy_array)",
        )

    def described(self, headers: Sequence[Any]) -> str:
        """The files with these headers, in a few words: "images of 32×32 to 64×48 pixels"."""
        sizes = sorted({size for header in headers if (size := self.size_of(header))})
        if not sizes:
            return self.many
        least, most = (pick(sizes, key=lambda size: (size[0] * size[1], size)) for pick in (min, max))
        to = "" if len(sizes) == 1 else f" to {show_shape(most)}"
        return f"{self.many} of {show_shape(least)}{to} {self.values}"

    def windows(
        self, path: Path, where: str, preparation: Preparation, every: float
    ) -> Iterator[tuple[tuple[float, float], NDArray[Any]]]:
        """Windows of a file that has a duration, one of which begins every `every` seconds: start and end in seconds,
        and the window as `as_given` returns it. Raises DataError."""
        del path, where, every
        raise self.no_files("a file in windows", preparation)

    def placement(self, size: tuple[int, int], preparation: Preparation) -> Placement | None:
        """Where a file of (height, width) `size` lies in its input; None for media without pixels."""
        del size, preparation
        return None

    def mask_size(self, header: Any) -> tuple[int, ...] | None:
        """The shape that the mask of a file must have; None where any shape is allowed."""
        return self.size_of(header)

    def read_mask(
        self,
        data: bytes | Path,
        where: str,
        header: Any = None,
        *,
        max_pixels: int = 64_000_000,
        colors: Sequence[tuple[int, int, int]] = (),
    ) -> NDArray[np.uint8]:
        """The values of a mask file, in the orientation of its sample with this `header`. Raises Unreadable."""
        del data, header, max_pixels, colors
        raise self.no_files(where, Preparation(self.name, ()))

    def place_mask(self, mask: NDArray[np.uint8], header: Any, preparation: Preparation) -> NDArray[np.int16]:
        """A mask in the shape of the inputs; −1 where the sample does not reach. `header`: header of its sample, None
        for samples in memory."""
        del header
        if mask.shape != preparation.input_shape[1:]:
            what, expected = f"a mask of shape {mask.shape}", f"{preparation.input_shape[1:]}, as its sample"
            raise WrongSizeError("data, masks", what, expected, "save masks in the shape of their samples")
        return mask.astype(np.int16)

    def for_files(self, headers: Sequence[Any], preparation: Preparation) -> Preparation:
        """The preparation of a trained network, for files of other data with these headers."""
        del headers
        return preparation

    def coarser(self, headers: Sequence[Any], config: DataConfig) -> tuple[DataConfig, tuple[str, ...]]:
        """The configuration for annotations of a sample as a whole, and notes on what changed."""
        del headers
        return config, ()

    def mask_findings(self, source: str, pairs: Sequence[tuple[str, Any, str, Any]]) -> tuple[Finding, ...]:
        """Findings about the headers of samples and their masks. `pairs`: path and header of the sample, and of the
        mask."""
        del source, pairs
        return ()

    def photographs(self, headers: Sequence[Any]) -> Photographs | None:
        """Sizes of files that cannot be trained on at their own size; None where they can, or have no size."""
        del headers
        return None

    # Inputs

    def refit(self, inputs: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """Arrays (N, …) in memory, prepared as files with the same values are."""
        del preparation
        return inputs

    def as_given(self, given: Any, where: str, preparation: Preparation) -> NDArray[Any]:
        """The input of an exported file (`given_as`), from a path or anything that `prepare` takes. Raises
        DataError."""
        del where
        return self.prepare(given, preparation)

    def from_given(self, given: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """The input of the network, from an array as `as_given` returns it."""
        del preparation
        return given

    def as_in_files(self, inputs: NDArray[Any], preparation: Preparation) -> NDArray[np.float32]:
        """Inputs (N, …) as numbers on the scale of the values in files."""
        del preparation
        return inputs.astype(np.float32)

    def prepare(self, given: Any, preparation: Preparation) -> NDArray[Any]:
        """The raw input of one sample that is given to `predict`: a path, which is decoded, or an array of the input's
        shape, with channels first or last. Raises DataError."""
        if isinstance(given, str | Path):
            return self.decode(Path(given), str(given), preparation)
        if hasattr(given, "getexif"):
            raise self.no_files("a PIL image", preparation)
        array, shape, dtype = as_array(given), preparation.input_shape, np.dtype(self.dtype)
        raw = channels_first(array, shape[1:], shape[:1])
        if raw is None or (dtype == np.uint8 and raw.dtype != dtype):
            path = "a path or a PIL image, which are resized; or " * self.pictures or "a path, or " * self.of_files
            remedy = f"give {path}an array of exactly this shape, or a batch of them; a list is several samples"
            values, as_bytes = ("", remedy) if raw is None else _as_bytes(raw)
            got = f"an array of shape {array.shape} and type {array.dtype}{values}"
            raise DataError("predict", got, f"shape {shape} and type {dtype}", as_bytes)
        return raw.astype(dtype)

    def batch_of(self, given: NDArray[Any], preparation: Preparation) -> bool:
        """Whether an array is a batch of samples by its shape, and not a single sample."""
        shape = preparation.input_shape
        for channels in (shape[:1], self.convertible):
            if channels_first(given, shape[1:], channels) is not None:
                return False
            if given.ndim and len(given) and channels_first(given[0], shape[1:], channels) is not None:
                return True
        return False

    def uncropped(
        self, given: Any, where: str, preparation: Preparation
    ) -> tuple[NDArray[Any], tuple[int, ...] | None]:
        """The uncropped input of one sample, with its own aspect ratio, at the scale of the inputs; and the size of its
        file in pixels: (height, width), of a volume (depth, height, width), None where it has no such size.

        `given`: see `prepare`. Raises DataError."""
        if isinstance(given, Path):
            return self.decode(given, where, preparation), None
        return self.prepare(given, preparation), None

    def parts(self, path: Path, where: str, preparation: Preparation) -> Any:
        """A file that is read in parts: an object with its `size` (height, width) and `read(box)` for a box (top, left,
        height, width). Raises DataError."""
        del path
        raise self.no_files(where, preparation)

    def refuse_settings(self, source: str, config: DataConfig) -> None:
        """Raise ConfigError for a field of `SOME_MEDIA` that is set and does not apply."""
        usual = DataConfig()
        for name in SOME_MEDIA:
            if name not in self.settings and (value := getattr(config, name)) != getattr(usual, name):
                raise self.no_setting(source, name, value)

    def no_setting(self, source: str, name: str, value: Any) -> ConfigError:
        """The error for a field of the data that does not apply."""
        shown = "×".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
        remedy = "leave out --size" if name == "size" else f"leave out --data.{name}"
        return ConfigError(f"data.{name}", shown, f"nothing, since {source} holds {self.many}", remedy)

    def plan(self, source: str, inputs: NDArray[Any] | None, headers: Sequence[Any], config: DataConfig) -> Planned:
        """Decide before decoding how every input is prepared.

        `inputs`: arrays (N, …) in memory; None where samples are files, whose `headers` are given. Raises
        ConfigError."""
        del source, headers
        assert inputs is not None
        return Preparation(self.name, tuple(inputs.shape[1:]), layout=config.layout), (), ()

    def decided(self, config: DataConfig, preparation: Preparation) -> DataConfig:
        """The configuration with the decisions about inputs, as config.yaml records it."""
        del preparation
        return config

    # Augmentation

    def takes(self, shape: tuple[int, ...]) -> frozenset[str]:
        """Fields of `AugmentConfig` that apply to inputs of `shape`."""
        del shape
        return self.augmentations

    def varied(self, shape: tuple[int, ...], *, windows: bool) -> dict[str, float]:
        """The default augmentation of inputs of `shape` that are not pictures. `windows`: whether each part of an input
        has a target of its own."""
        del shape, windows
        return self.usual_augmentation

    def check_augmentation(
        self, config: AugmentConfig, requested: Sequence[str], name: str, shape: tuple[int, ...]
    ) -> None:
        """Raise ConfigError for the first of the `requested` fields that does not apply to inputs of `shape`; `name`:
        name of the data."""
        known_fields = self.takes(shape)
        for field in requested:
            if field not in known_fields:
                takes = listed([f"augment.{known}" for known in sorted(known_fields)], 10)
                others = "sounds" if field in SOUND else "volumes" if field in VOLUME_ALONE else "images"
                leave_out, view = f"leave out --augment.{field}", self.augmented_in.get(field)
                others, this = (f"data.view {view}", f"a {self.name}") if view else (others, self.a)
                raise ConfigError(
                    f"augment.{field}",
                    f"{getattr(config, field)} for {name}, {this}",
                    others if self.pictures else f"{others}; {this} takes {takes}",
                    f"--data.view {view}; or {leave_out}" if view else leave_out,
                )

    # Drawing and playing

    def framed(self, pixels: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
        """A picture (…, H, W, 3), with a pixel for each position of an input, with its axes drawn around it."""
        del preparation
        return pixels

    def drawings(
        self, data: bytes | Path, where: str, preparation: Preparation
    ) -> tuple[tuple[str, NDArray[np.uint8]], ...]:
        """Titles and pictures (H, W, 3) of the inputs that the network takes from a file that is played. Raises
        Unreadable."""
        del data, where, preparation
        return ()

    def played(self, data: bytes | Path, where: str, preparation: Preparation) -> bytes:
        """The part of a file that the network takes, as a file that browsers play. Raises DataError."""
        del data
        raise self.no_files(where, preparation)

    def across(
        self, given: Any, where: str, mask: NDArray[np.uint8], preparation: Preparation
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A picture (3, H, W) of a sample that is not an image but has a mask, and that part of the mask (H, W)."""
        raise NotImplementedError(f"{type(self).__name__}.across: a picture of a sample with its mask")

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """A picture of a raw input, (H, W) or (H, W, 3) uint8; None where it cannot be drawn."""
        del raw, preparation
        return None
