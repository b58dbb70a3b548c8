"""What the rest of the program knows of a medium: this class, and nothing more.

A medium subclasses `Medium` and says what differs. Without any change it is an array of numbers, which is given whole.
One that lies in files says their `suffixes`, and writes `header` and `decode`. Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import splitext
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import SOUND, VOLUME_ALONE, AugmentConfig, DataConfig, Fit, Layout, Pages
from striate.data.rotated_boxes import scaled
from striate.errors import ConfigError, DataError
from striate.records import Finding
from striate.wording import listed, several, show_shape

Kind = str
"""The name of a medium: `striate.data.media.every_medium`."""


@dataclass(frozen=True)
class Preparation:
    """How one file becomes one input: all that `predict` must repeat.

    `channels`, `size` (height, width) and `fit` belong to images; a table or grid has only `input_shape`. `layout` is
    the order of axes in which arrays were read; `reduced`: large JPEGs are decoded at a part of their size; `native`:
    all files had the size of the inputs, none was scaled. Of masks: the `values` of the classes, the value to `ignore`,
    and the `colors` in the files (empty: they hold values). Of sounds: the `rate` in samples a second, how many
    `samples` an input is made of, and the `window` and `hop` of a spectrogram in samples. Of pictures from instruments:
    for each channel the values `low` and `high` that levels 0 and 255 stand for, the `depths` of the files, and which
    `pages` of them are read.
    Of volumes: the `spacing` of voxels in millimeters along depth, height and width (empty where files say none), how
    their `intensity` is scaled, and the `limits` between which it is, where these are the same for all.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    fit: Fit = "crop"
    max_pixels: int = 64_000_000
    layout: Layout = "auto"
    reduced: bool = False
    native: bool = False
    values: tuple[int, ...] = ()
    ignore: int | None = None
    colors: tuple[tuple[int, int, int], ...] = ()
    rate: int = 0
    samples: int = 0
    window: int = 0
    hop: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    depths: tuple[str, ...] = ()
    pages: Pages = "first"
    spacing: tuple[float, ...] = ()
    intensity: str = ""
    limits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Where a file of (height, width) `file` lies in an input of (height, width) `canvas`: its point (x, y) is at
    `scale` · (x, y) + `offset`; all in pixels, from the corner of the first one."""

    file: tuple[int, int]
    canvas: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def boxes(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, 4) left, top, right, bottom in the file as they are in the input."""
        placed: NDArray[np.float64] = edges * np.tile(self.scale, 2) + np.tile(self.offset, 2)
        return placed

    def boxes_in_file(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, 4) left, top, right, bottom in the input as they are in the file."""
        back: NDArray[np.float64] = (edges - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        return back

    def rotated_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 5) rotated boxes in the file, edges and angle, as they are in the input."""
        placed: NDArray[np.float64] = scaled(boxes, self.scale) + np.array([*self.offset, *self.offset, 0.0])
        return placed

    def rotated_boxes_in_file(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 5) rotated boxes in the input as they are in the file."""
        return scaled(boxes - np.array([*self.offset, *self.offset, 0.0]), (1 / self.scale[0], 1 / self.scale[1]))


FEW_SAMPLES = 1000
"""To train on: a network that learns all by itself needs more."""
LARGEST_FILE = 4 << 30
"""A file of more bytes is refused: it would be read into memory whole."""


MOST_TILED_PIXELS = 1_000_000_000
"""A picture that is read in parts may have more than `max_pixels`: only its own bytes lie in memory."""


@dataclass(frozen=True)
class Photographs:
    """Pictures whose own size is no size to train at: of several sizes, or large.

    `count`; `usual`, the most common size (height, width) in pixels, and how many `sizes` there are; `shorter`, the
    median of their shorter sides; `aspect`, height by width where nearly all have the same, else 1.
    """

    count: int
    usual: tuple[int, int]
    sizes: int
    shorter: int
    aspect: float

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
    *("size", "channels", "pages", "rate", "seconds", "view", "frames"),
    *("voxels", "spacing", "intensity", "window"),
)
"""Fields of `DataConfig` that have a meaning for some media alone."""

Planned = tuple[Preparation, tuple[str, ...], tuple[Finding, ...]]
"""How every input is prepared, notes on what was decided, and findings."""


class Unreadable(DataError):
    """A file that cannot be read; `reason` says why in plain words."""

    def __init__(
        self, where: str, reason: str, expected: str, remedy: str = "replace the file, or leave it out"
    ) -> None:
        self.reason = reason
        super().__init__(where, reason, expected, remedy)


class WrongSizeError(DataError):
    """A mask that is not as large as its image."""


def suffix_of(path: str) -> str:
    """The suffix of a file in lower case; `.nii.gz` is one."""
    suffix = splitext(path)[1].lower()
    return ".nii.gz" if suffix == ".gz" and path.lower().endswith(".nii.gz") else suffix


def as_array(given: Any) -> NDArray[Any]:
    """One sample as an array. Raises DataError for what is none, such as a whole data set."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError):
        got, remedy = f"a {type(given).__name__}", "give one sample, or a list of them: [x for x, _ in dataset]"
        raise DataError("predict", got, "a path, a PIL image or an array of numbers", remedy) from None


class Medium:
    """What a sample is, and how it becomes an input of a network."""

    name: ClassVar[str]
    """As in `Dataset.kind`, and in checkpoints."""
    a: ClassVar[str]
    """One of them, with its article: "an image"."""
    many: ClassVar[str] = "samples"
    """Several of them, in a word."""
    values: ClassVar[str] = "values"
    """What the numbers of one input are called."""
    dtype: ClassVar[str] = "float32"
    """NumPy's name of the type of inputs."""
    suffixes: ClassVar[frozenset[str]] = frozenset()
    """Those (lower case) of its files; empty where it does not lie in files of its own."""
    largest_file: ClassVar[int] = LARGEST_FILE
    """Bytes that one of its files may have."""
    pictures: ClassVar[bool] = False
    """Whether inputs are pictures, (C, H, W) bytes: looked at, drawn, scaled to a size, moved and mirrored."""
    flat: ClassVar[bool] = False
    """Whether an input is a row of numbers (F,) without positions."""
    takes_whole: ClassVar[bool] = False
    """Whether `whole` prepares a file in its own proportions, for predictions of all of its positions."""
    any_size: ClassVar[bool] = False
    """Whether a sample of any shape can be prepared for a network; else it must have the shape of the inputs."""
    stored: ClassVar[bool] = False
    """Whether inputs, which are then (C, H, W), may lie in packs and streams."""
    augmentations: ClassVar[frozenset[str]] = frozenset(("noise", "mixup"))
    """Fields of `AugmentConfig` that have a meaning for it."""
    usual_augmentation: ClassVar[dict[str, float]] = {}
    """What is on where nobody says, of what is no picture."""
    network: ClassVar[tuple[str, str] | None] = None
    """The network of the zoo that is good on few of them from scratch, and why; None where it depends on the shape."""
    few_samples: ClassVar[tuple[str, str] | None] = None
    """The same for less than FEW_SAMPLES of them, where it is another one."""
    views: ClassVar[dict[str, Kind]] = {}
    """The media of the same files, by `data.view`; empty where there is one view."""
    others: ClassVar[tuple[Kind, ...]] = ()
    """The media that its files may prove to be of when their headers have been read."""
    settings: ClassVar[frozenset[str]] = frozenset()
    """Those of SOME_MEDIA that have a meaning for it."""
    folders: ClassVar[bool] = False
    """Whether a folder of pictures may be a sample."""
    related: ClassVar[str] = "a part or a mirror image"
    """What a sample may be of another one, beside nearly the same."""
    plane: ClassVar[str] = "slice"
    """What one position along the first of three axes is called."""
    motion: ClassVar[bool] = False
    """Whether the last two channels are motion to the right and down, which a mirror turns around."""
    lasting: ClassVar[bool] = False
    """Whether a file lasts, so that there can be a prediction for each part of it."""
    player: ClassVar[str] = ""
    """The element of a page that plays `played`: `audio`; empty for what is not played."""
    bounds: ClassVar[tuple[float, float] | None] = None
    """The least and the largest value that an input can have; None where there are none."""
    given_as: ClassVar[str] = "numbers"
    """What an exported file is given of a sample, where that is no picture: `frames` of a clip, `samples` of a sound,
    `voxels` of a volume, or the `numbers` of the input as it is prepared."""
    unit: ClassVar[str] = "standard deviations"
    """In what a change of an input is measured: in levels of its values where it has bounds."""

    @property
    def one(self) -> str:
        """One sample, in a word."""
        return self.a.partition(" ")[2]

    @property
    def shows_itself(self) -> bool:
        """Whether inputs are bytes of pictures, which need not be drawn."""
        return self.pictures and self.dtype == "uint8"

    @property
    def of_files(self) -> bool:
        """Whether samples lie in files of their own."""
        return bool(self.suffixes)

    def describe(self, shape: tuple[int, ...]) -> str:
        """Inputs of this shape, in a few words: "color images of 96×96 pixels"."""
        return f"{self.many} of {show_shape(shape)}"

    def axes(self, preparation: Preparation) -> str:
        """What the axes of the inputs mean, in a sentence; empty where their shape says it."""
        del preparation
        return ""

    # Files

    def owns(self, path: str) -> bool:
        """Whether the suffix is that of its files."""
        return suffix_of(path) in self.suffixes

    def header(self, data: bytes | Path, where: str, *, max_pixels: int) -> Any:
        """What is known of a file before it is decoded, for `plan` and `size_of`. Raises Unreadable."""
        raise NotImplementedError(f"{type(self).__name__}.header: what a file says before it is decoded")

    def size_of(self, header: Any) -> tuple[int, int] | None:
        """Height and width in pixels of a file; None where it has none."""
        del header
        return None

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[Any]:
        """A file as an input of `preparation.input_shape` and `dtype`, the caller's own. Raises Unreadable."""
        del data
        raise self.no_files(where, preparation)

    def no_files(self, what: str, preparation: Preparation) -> DataError:
        """What is said to a file where the network takes none."""
        return DataError(
            "predict",
            f"{what} for a network trained on {self.a}",
            f"numbers of shape {preparation.input_shape}",
            "striate.load(run).predict(numpy_array)",
        )

    def described(self, headers: Sequence[Any]) -> str:
        """The files of these headers, in a few words: "images of 32×32 to 64×48 pixels"."""
        sizes = sorted({size for header in headers if (size := self.size_of(header))})
        if not sizes:
            return self.many
        least, most = (pick(sizes, key=lambda size: (size[0] * size[1], size)) for pick in (min, max))
        to = "" if len(sizes) == 1 else f" to {show_shape(most)}"
        return f"{self.many} of {show_shape(least)}{to} {self.values}"

    def windows(
        self, path: Path, where: str, preparation: Preparation, every: float
    ) -> Iterator[tuple[tuple[float, float], NDArray[Any]]]:
        """Of a file that lasts, windows as `as_given` has them, one of which begins `every` so many seconds, and from
        and to which second the file has them. Raises DataError."""
        del path, where, every
        raise self.no_files("a file in windows", preparation)

    def placement(self, size: tuple[int, int], preparation: Preparation) -> Placement | None:
        """Where a file of (height, width) `size` lies in its input; None where that has no meaning."""
        del size, preparation
        return None

    def mask_size(self, header: Any) -> tuple[int, ...] | None:
        """The shape that the mask of a file has to have; None where anything goes."""
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
        """The values of a mask in a file of its own, as its sample of this header lies. Raises Unreadable."""
        del data, header, max_pixels, colors
        raise self.no_files(where, Preparation(self.name, ()))

    def place_mask(self, mask: NDArray[np.uint8], header: Any, preparation: Preparation) -> NDArray[np.int16]:
        """A mask in the shape of the inputs; −1 where there is no sample. `header` is that of its sample, None where
        that lies in memory."""
        del header
        if mask.shape != preparation.input_shape[1:]:
            what, expected = f"a mask of shape {mask.shape}", f"{preparation.input_shape[1:]}, as its sample"
            raise WrongSizeError("data, masks", what, expected, "save masks in the shape of their samples")
        return mask.astype(np.int16)

    def for_files(self, headers: Sequence[Any], preparation: Preparation) -> Preparation:
        """The preparation of other data for a trained network."""
        del headers
        return preparation

    def coarser(self, headers: Sequence[Any], config: DataConfig) -> tuple[DataConfig, tuple[str, ...]]:
        """The configuration for annotations that say something of a sample as a whole, and notes on what changed."""
        del headers
        return config, ()

    def mask_findings(self, source: str, pairs: Sequence[tuple[str, Any, str, Any]]) -> tuple[Finding, ...]:
        """What headers say of samples and their masks: path and header of a sample, and of its mask."""
        del source, pairs
        return ()

    def photographs(self, headers: Sequence[Any]) -> Photographs | None:
        """What is known of files whose size is not one to train at; None where theirs is, or they have none."""
        del headers
        return None

    # Inputs

    def refit(self, inputs: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """Arrays (N, …) that lie in memory, as files of them would be prepared."""
        del preparation
        return inputs

    def as_given(self, given: Any, where: str, preparation: Preparation) -> NDArray[Any]:
        """A file, or what `prepare` takes, as an exported file is given it (`given_as`). Raises DataError."""
        del where
        return self.prepare(given, preparation)

    def from_given(self, given: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """The input of what `as_given` gives, or of other such arrays."""
        del preparation
        return given

    def as_in_files(self, inputs: NDArray[Any], preparation: Preparation) -> NDArray[np.float32]:
        """Inputs (N, …) as numbers with the values that files of them would have."""
        del preparation
        return inputs.astype(np.float32)

    def prepare(self, given: Any, preparation: Preparation) -> NDArray[Any]:
        """One sample as `predict` takes it, as a raw input: a path, which is decoded, or an array of exactly the
        input's shape. Raises DataError."""
        if isinstance(given, str | Path):
            return self.decode(Path(given), str(given), preparation)
        if hasattr(given, "getexif"):
            raise self.no_files("a PIL image", preparation)
        raw, shape, dtype = as_array(given), preparation.input_shape, np.dtype(self.dtype)
        if raw.shape == shape[1:] and shape[0] == 1:
            raw = raw[None]
        if raw.shape != shape or (dtype == np.uint8 and raw.dtype != dtype):
            path = "a path or a PIL image, which are resized; or " * self.pictures or "a path, or " * self.of_files
            raise DataError(
                "predict",
                f"an array of shape {raw.shape} and type {raw.dtype}",
                f"shape {shape} and type {dtype}",
                f"give {path}an array of exactly this shape: numpy.array(…); a list is several samples",
            )
        return raw.astype(dtype)

    def whole(self, given: Any, where: str, preparation: Preparation) -> tuple[NDArray[Any], tuple[int, ...] | None]:
        """One sample as `prepare` takes it, in its own proportions at the scale of the inputs, with nothing cut off;
        and the height and width in pixels of its file (of a volume, also its depth), None where it has none. Raises
        DataError."""
        if isinstance(given, Path):
            return self.decode(given, where, preparation), None
        return self.prepare(given, preparation), None

    def parts(self, path: Path, where: str, preparation: Preparation) -> Any:
        """A file of which parts are read: its `size` (height, width), and `read(box)` for (top, left, height, width).
        Raises DataError."""
        del path
        raise self.no_files(where, preparation)

    def refuse_settings(self, source: str, config: DataConfig) -> None:
        """Raise ConfigError for a field that has no meaning for it."""
        for name in SOME_MEDIA:
            if name not in self.settings and (value := getattr(config, name)) is not None:
                raise self.no_setting(source, name, value)

    def no_setting(self, source: str, name: str, value: Any) -> ConfigError:
        """What is said to a field of the data that has no meaning."""
        shown = "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
        remedy = "leave out --size" if name == "size" else f"leave out --data.{name}"
        return ConfigError(f"data.{name}", shown, f"nothing, since {source} is {self.a}", remedy)

    def plan(self, source: str, inputs: NDArray[Any] | None, headers: Sequence[Any], config: DataConfig) -> Planned:
        """What is decided before decoding: how every input is prepared. `inputs` are arrays (N, …) in memory, where
        there are any, else `headers` are those of readable files. Raises ConfigError."""
        del source, headers
        assert inputs is not None
        return Preparation(self.name, tuple(inputs.shape[1:]), layout=config.layout), (), ()

    def decided(self, config: DataConfig, preparation: Preparation) -> DataConfig:
        """The configuration with what was decided about inputs, as config.yaml keeps it."""
        del preparation
        return config

    # Augmentation

    def takes(self, shape: tuple[int, ...]) -> frozenset[str]:
        """Fields of `AugmentConfig` that have a meaning for inputs of `shape`."""
        del shape
        return self.augmentations

    def varied(self, shape: tuple[int, ...], *, windows: bool) -> dict[str, float]:
        """What is on where nobody says, of inputs of `shape` that are no pictures; `windows`: whether a part of an
        input has a target of its own."""
        del shape, windows
        return self.usual_augmentation

    def check_augmentation(
        self, config: AugmentConfig, asked: Sequence[str], name: str, shape: tuple[int, ...]
    ) -> None:
        """Raise ConfigError for the first of the fields that are `asked` for that inputs of `shape` cannot take; `name`
        is that of the data."""
        known_fields = self.takes(shape)
        for field in asked:
            if field not in known_fields:
                takes = listed([f"augment.{known}" for known in sorted(known_fields)], 10)
                others = "sounds" if field in SOUND else "volumes" if field in VOLUME_ALONE else "images"
                raise ConfigError(
                    f"augment.{field}",
                    f"{getattr(config, field)} for {name}, {self.a}",
                    others if self.pictures else f"{others}; {self.a} takes {takes}",
                    f"leave out --augment.{field}",
                )

    # Drawing and playing

    def framed(self, pixels: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
        """A picture (…, H, W, 3), a pixel for each position of an input, with what says where its axes are."""
        del preparation
        return pixels

    def drawings(
        self, data: bytes | Path, where: str, preparation: Preparation
    ) -> tuple[tuple[str, NDArray[np.uint8]], ...]:
        """Of a file that is played, titles and pictures (H, W, 3) of what the network takes of it. Raises
        Unreadable."""
        del data, where, preparation
        return ()

    def played(self, data: bytes | Path, where: str, preparation: Preparation) -> bytes:
        """What the network takes of a file, as a file that browsers play. Raises DataError."""
        del data
        raise self.no_files(where, preparation)

    def across(
        self, given: Any, where: str, mask: NDArray[np.uint8], preparation: Preparation
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Of what is no picture, but has masks: a picture (3, H, W), and what of the mask it shows (H, W)."""
        raise NotImplementedError(f"{type(self).__name__}.across: a picture of a sample with its mask")

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """A raw input as a picture, (H, W) or (H, W, 3) uint8; None where it cannot be drawn."""
        del raw, preparation
        return None
