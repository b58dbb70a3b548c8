"""Configuration of the data, of the preparation of inputs, and of augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from striate.errors import ConfigError

Fit = Literal["crop", "stretch", "pad"]
Fill = Literal["edge", "reflect", "zero"]
Layout = Literal["auto", "NF", "NCL", "NLC", "NHW", "NHWC", "NCHW", "NDHW", "NCDHW", "NDHWC"]
Pages = Literal["first", "channels"]
View = Literal["log-mel", "waveform", "rgb", "flow", "both"]
Intensity = Literal["z-score", "percentiles", "window", "as-is"]
Store = Literal["auto", "memory", "pack", "stream"]


@dataclass(frozen=True)
class DataConfig:
    """Fields of `data.*`: where the data come from, how an image becomes an input, and the splits. Open
    fields are decided from the data, and what was decided is written to config.yaml."""

    source: str = "mnist5k"
    """The data: a name (see `striate datasets`), a folder with one subfolder per class, an archive of that, a manifest
    .csv (path,label[,split][,group]), idx files, CIFAR pickles or an .npz."""
    size: tuple[Annotated[int, Ge(1), Le(8192)], Annotated[int, Ge(1), Le(8192)]] | None = None
    """Height and width of the inputs in pixels: 96, or 96x128. Default: the most common image size; for large
    photographs, or photographs of many sizes, 96 to 224 pixels, depending on the available time."""
    channels: Literal[1, 3] | None = None
    """1 for gray, 3 for RGB. Default: RGB if any image has color."""
    pages: Pages | None = None
    """Pictures with several pages: read the `first` page, or the pages of a TIFF as `channels`. Default: the first
    page, reported as a finding."""
    fit: Fit | None = None
    """How an image of another aspect ratio fits the input: `crop` its center, `stretch` it, or `pad` it. Default: crop;
    pad if annotations are places in the image."""
    rate: Annotated[int, Ge(1_000), Le(192_000)] | None = None
    """Sounds: samples per second, to which all files are resampled. Default: the most common rate of the files, halved
    until it is at most 24,000."""
    seconds: Annotated[float, Gt(0), Le(60)] | None = None
    """Sounds: the length of an input in seconds. Longer files are cropped to the middle, shorter ones padded with
    silence. Default: a length that crops at most 5 % of the files, at most 10."""
    view: View | None = None
    """Sounds: `log-mel` spectrograms, in decibels, or the `waveform` itself. Clips: frames in color (`rgb`), their
    motion (`flow`), or `both`, in two streams. Default: log-mel, rgb."""
    frames: Annotated[int, Ge(2), Le(64)] | None = None
    """Clips: the number of frames of an input, evenly spaced in the clip. With this option, or a view of clips, a
    folder of pictures is one clip. Default: 16."""
    voxels: str | None = None
    """Volumes: depth, height and width of the inputs in voxels: 32x48x32. Default: multiples of 8 that contain the
    largest volume."""
    spacing: str | None = None
    """Volumes: distance between voxels in millimeters along depth, height and width, to which all are resampled: 1, or
    1x1x2.5. Default: the median of the files; with one label per volume, coarser if the longest side has more than 64
    voxels."""
    intensity: Literal["z-score", "percentiles", "as-is"] | None = None
    """Volumes: how the values of each volume are scaled. `z-score`: mean 0 and standard deviation 1 of the nonzero
    voxels; `percentiles`: the 0.5th becomes 0, the 99.5th 1; `as-is`: not at all. Default: z-score; for CT a
    window of −1,000 to 1,000."""
    window: str | None = None
    """Volumes: the values that become 0 and 1, the same for all: `lung`, `bone`, `abdomen`, `brain`, or LOW,HIGH, as in
    --data.window=-160,240. For CT, whose values are Hounsfield units."""
    layout: Layout = "auto"
    """The order of axes of the arrays in an `.npz`: N samples, C channels, L positions, D, H and W depth, height and
    width, F features. Default: the most likely order; a finding says so if another order is likely too."""
    names: str | None = None
    """Names of the columns of a manifest, or of the arrays of an `.npz`, that are not called path, label, split, group
    or x, y, groups: `path=filename,label=species`, `x=scans,y=diagnosis`."""
    targets: str | None = None
    """Columns of a manifest that are learned together, each with its kind: `age:number,gender:class,tags:multilabel`.
    Empty fields are ignored. Default: the column label, or labels."""
    class_level: Annotated[int, Ge(1), Le(20)] | Literal["path"] | None = None
    """Which level of nested folders names the class: 1 is the folder directly under the data (or under `train/`,
    `val/`, `test/`), 2 its subfolder; `path` joins all of them. Default: 1."""
    group: str | None = None
    """The column of a manifest with the group of each sample (a speaker, a patient, a day): the splits that striate
    makes never divide a group. Default: `group`, if there is such a column."""
    labels: str | None = None
    """A table `path,label` of corrected labels, which replace the labels of the data; paths as in `split.csv`. A
    sample with an empty label is left out."""
    splits: str | None = None
    """A run, or a split.csv, whose splits are reused: samples that it lists keep their split. New samples join the
    split of their copies or group, others train."""
    ignore: Annotated[int, Ge(0), Le(255)] | None = None
    """Masks: the value of pixels that the loss and the metrics ignore. Default: 255, if it has no name in
    `classes.txt` and there is more than one other value."""
    val_fraction: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of each class that becomes the validation split if the source gives none. Default: 0.1, or what the
    recipe decides."""
    test_fraction: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Share of each class that becomes the test split if the source gives none. 0: no test split,
    if you have separate test data: `striate eval RUN DATA` evaluates on them."""
    split_seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0
    """Seed of the splits. A sample stays in its split when others are added or removed."""
    max_pixels: Annotated[int, Ge(1)] = 64_000_000
    """A picture with more pixels is refused before it is decoded."""
    reduced_decoding: bool = True
    """A JPEG that is much larger than the input is decoded at 1/2, 1/4 or 1/8 of its size, as long as that is at least
    twice the input: ten times as fast for large photographs, and off by less than two of 255 levels on average."""
    store: Store = "auto"
    """Where decoded images are stored: `memory`; `pack`, a file that is written once and mapped into memory; `stream`
    decodes them again in each epoch. `auto` takes the first that has room."""
    packs: str | None = None
    """The folder of packs. Default: `packs` in $STRIATE_CACHE, or else in `striate` in $XDG_CACHE_HOME or ~/.cache."""
    fingerprint: str | None = None
    """Recorded by the run: a hash of inputs, targets and splits. A run resumes only with the same data."""

    @property
    def sides(self) -> tuple[int, int, int] | None:
        """`voxels` as numbers. Raises ConfigError."""
        found = _numbers(self.voxels, "x", 3, least=1)
        if self.voxels is not None and (found is None or any(side % 1 or side > 4096 for side in found)):
            raise ConfigError(
                "data.voxels", self.voxels, "DEPTHxHEIGHTxWIDTH, 1 to 4,096 each", "--data.voxels 32x48x32"
            )
        return None if found is None else (int(found[0]), int(found[1]), int(found[2]))

    @property
    def steps(self) -> tuple[float, float, float] | None:
        """`spacing` as numbers. Raises ConfigError."""
        found = _numbers(self.spacing, "x", 3, least=1e-6) or _numbers(self.spacing, "x", 1, least=1e-6)
        if self.spacing is not None and found is None:
            expected = "millimeters: one number, or DEPTHxHEIGHTxWIDTH"
            raise ConfigError("data.spacing", self.spacing, expected, "--data.spacing 1x1x2.5")
        return None if found is None else (found[0], found[-2 if len(found) > 1 else 0], found[-1])

    @property
    def limits(self) -> tuple[float, float] | None:
        """`window` as numbers. Raises ConfigError."""
        found = _numbers(self.window, ",", 2, least=-1e9)
        if self.window is not None and (found is None or found[0] >= found[1]):
            expected = "lung, bone, abdomen, brain, or the lower limit, a comma and the higher one"
            raise ConfigError("data.window", self.window, expected, "--data.window=-160,240")
        return None if found is None else (found[0], found[1])

    @property
    def validation_share(self) -> float:
        """`val_fraction`, or its default."""
        return 0.1 if self.val_fraction is None else self.val_fraction

    @property
    def has_motion(self) -> bool:
        """Whether the last two channels of the inputs are optical flow."""
        return self.view in ("flow", "both")


def _numbers(text: str | None, sign: str, count: int, *, least: float) -> tuple[float, ...] | None:
    """`count` numbers that `sign` separates; None for any other text."""
    parts = (text or "").split(sign)
    try:
        found = tuple(float(part) for part in parts)
    except ValueError:
        return None
    fits = len(found) == count and all(least <= number <= 1e9 for number in found)
    return found if fits else None


@dataclass(frozen=True)
class AugmentConfig:
    """Fields of `augment.*`: how training images vary. The recipe decides open fields; 0 or false turns an
    augmentation off."""

    shift: Annotated[int, Ge(0), Le(512)] | None = None
    """Largest shift along each axis in pixels, any whole number of pixels being equally likely."""
    flip: bool | Literal["alternate"] | None = None
    """Mirror half of the images left to right, and the motion of clips; `alternate`: flip each image in every second
    epoch, starting at random."""
    vertical_flip: bool | None = None
    """Mirror half of the images upside down."""
    depth_flip: bool | None = None
    """Volumes: mirror half of them along the first axis, so that the last slice comes first."""
    crop: Annotated[float, Gt(0), Le(1)] | None = None
    """Smallest area of a random crop, as a share of the image; the crop is resized to the input size. 1 turns it
    off."""
    window: Annotated[int, Ge(0), Le(8192)] | None = None
    """Side in pixels of a random square window: training sees only this part of each image, predictions are made for
    whole images. For masks. 0 turns it off."""
    foreground: Annotated[float, Ge(0), Le(1)] | None = None
    """Volumes with masks: the share of the patches (`window`) around a voxel of a foreground class. Each class of the
    volume except the first is equally likely, however rare. 0 turns it off."""
    zoom: Annotated[float, Ge(1), Le(8)] | None = None
    """Largest factor by which images in windows are made smaller or larger; 1 turns it off."""
    fill: Fill | None = None
    """How pixels from outside the image are filled: the nearest pixel (`edge`), the image mirrored at its outermost
    pixels (`reflect`), or black (`zero`)."""
    rotate: Annotated[float, Ge(0), Le(180)] | None = None
    """Largest rotation either way in degrees, about the center."""
    quarter_turns: bool | None = None
    """Turn images by 0, 90, 180 or 270°, each equally likely; by 0 or 180° where they are not square."""
    scale: Annotated[float, Ge(0), Lt(1)] | None = None
    """Largest change of size: 0.1 scales by 0.9 to 1.1."""
    shear: Annotated[float, Ge(0), Le(60)] | None = None
    """Largest shear angle in degrees, in either direction: rows are shifted in proportion to their distance from the
    center."""
    color: Annotated[float, Ge(0), Le(1)] | None = None
    """Strength of random brightness, contrast, saturation (factors of 1 ± color) and hue (turned by up to color · 90°);
    0.4 is usual for photographs. Gray images have brightness and contrast only."""
    noise: Annotated[float, Ge(0), Le(1)] | None = None
    """Largest standard deviation of Gaussian noise that is added to standardized inputs: 1 is the standard
    deviation of the data. The strength is drawn per sample, uniformly. Also for tables and grids."""
    blur: Annotated[float, Ge(0), Le(32)] | None = None
    """Largest standard deviation of a Gaussian blur in pixels, uniform up to it."""
    cutout: Annotated[float, Ge(0), Lt(1)] | None = None
    """Side of a square in each image that is filled with its mean color, as a share of the image's shorter side; it may
    reach over the edge."""
    policy: Literal["none", "trivial"] | None = None
    """`trivial`: each image gets one random change of random strength beside the others (TrivialAugment)."""
    time_shift: Annotated[float, Ge(0), Le(1)] | None = None
    """Sounds: largest shift in time, as a share of the length; what leaves at one end enters at the other. Clips:
    largest shift of the beginning; the first or last frame is repeated where frames are missing."""
    gain: Annotated[float, Ge(0), Le(40)] | None = None
    """Sounds: largest gain or attenuation, in decibels."""
    speed: Annotated[float, Ge(0), Lt(1)] | None = None
    """Waveforms: largest change of speed, which changes the pitch too: 0.1 plays 0.9 to 1.1 times as fast."""
    time_mask: Annotated[float, Ge(0), Lt(1)] | None = None
    """Sounds: longest time span that is blanked, as a share of the length; drawn uniformly per sample."""
    frequency_mask: Annotated[float, Ge(0), Lt(1)] | None = None
    """Spectrograms: widest range of bands that is blanked, as a share of all; drawn uniformly per sample."""
    mixup: Annotated[float, Ge(0), Le(100)] | None = None
    """Parameter alpha of the Beta distribution by which pairs of images are blended; 0 turns it off."""
    cutmix: Annotated[float, Ge(0), Le(100)] | None = None
    """Parameter alpha of the Beta distribution by which a box of one image is pasted into another."""
    transform: str | None = None
    """`file.py:name`, which runs that code: a function that transforms a training batch (B, C, H, W) after all other
    augmentations and before standardization, and returns a batch of the same shape and type."""


VOLUME = frozenset(
    (
        *("flip", "vertical_flip", "depth_flip", "shift", "rotate", "scale", "window", "foreground"),
        *("color", "noise", "mixup"),
    )
)
"""Fields of `AugmentConfig` that apply to volumes."""
VOLUME_ALONE = frozenset(("depth_flip", "foreground"))
"""Fields of `AugmentConfig` that apply only to volumes."""
SOUND = frozenset(("time_shift", "gain", "speed", "time_mask", "frequency_mask"))
"""Fields of `AugmentConfig` that apply only to sounds."""
