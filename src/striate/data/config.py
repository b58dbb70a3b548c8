"""Where the data come from, how an image becomes an input, and how training images vary."""

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
    """The data: a name (see `striate datasets`), a folder with one subfolder a class, an archive of that, a manifest
    .csv (path,label[,split][,group]), idx files, CIFAR pickles or an .npz."""
    size: tuple[Annotated[int, Ge(1), Le(8192)], Annotated[int, Ge(1), Le(8192)]] | None = None
    """Height and width of the inputs in pixels: 96, or 96x128. Default: the most common image size; for photographs
    of many sizes, or large ones, 96 to 224 pixels, by the time that there is."""
    channels: Literal[1, 3] | None = None
    """1 for gray, 3 for RGB. Default: RGB if any image has color."""
    pages: Pages | None = None
    """Pictures of several pages: the `first` is read, or the pages of a TIFF are `channels`. Default: the first, which
    is a finding."""
    fit: Fit | None = None
    """How an image of another aspect ratio fits the input: `crop` its center, `stretch` it, or `pad` it. Default: crop;
    pad where an annotation says where something is."""
    rate: Annotated[int, Ge(1_000), Le(192_000)] | None = None
    """Sounds: samples a second, to which all are resampled. Default: the commonest of the files, halved down to 24,000
    or less."""
    seconds: Annotated[float, Gt(0), Le(60)] | None = None
    """Sounds: how long an input is. Of longer files the middle is taken, around shorter ones is silence. Default: what
    leaves 95 % of the files whole, at most 10."""
    view: View | None = None
    """Sounds: `log-mel` spectrograms, in decibels, or the `waveform` itself. Clips: frames in color (`rgb`), their
    motion (`flow`), or `both`, in two streams. Default: log-mel, rgb."""
    frames: Annotated[int, Ge(2), Le(64)] | None = None
    """Clips: how many frames an input has, the middles of even parts of a clip. With it, or a view of clips, a folder
    of pictures is one clip. Default: 16."""
    voxels: str | None = None
    """Volumes: depth, height and width of the inputs in voxels: 32x48x32. Default: multiples of 8 that hold the largest
    volume."""
    spacing: str | None = None
    """Volumes: distance between voxels in millimeters along depth, height and width, to which all are resampled: 1, or
    1x1x2.5. Default: the median of the files; with one label a volume, coarser where its longest side has more than 64
    voxels."""
    intensity: Literal["z-score", "percentiles", "as-is"] | None = None
    """Volumes: how values are scaled, each volume by itself. `z-score`: mean 0 and standard deviation 1 of the voxels
    other than 0; `percentiles`: the 0.5th becomes 0, the 99.5th 1; `as-is`: not at all. Default: z-score; for CT a
    window of −1,000 to 1,000."""
    window: str | None = None
    """Volumes: the values that become 0 and 1, the same for all: `lung`, `bone`, `abdomen`, `brain`, or LOW,HIGH, as in
    --data.window=-160,240. For CT, whose values are Hounsfield units."""
    layout: Layout = "auto"
    """The order of axes of the arrays in an `.npz`: N samples, C channels, L positions, D, H and W depth, height and
    width, F features. Default: the likeliest, which is said where another is likely too."""
    names: str | None = None
    """What the columns of a manifest, or the arrays of an `.npz`, are called where not path, label, split, group or x,
    y, groups: `path=filename,label=species`, `x=scans,y=diagnosis`."""
    targets: str | None = None
    """Columns of a manifest that are learned together, each as what it is: `age:number,gender:class,tags:multilabel`.
    Empty fields count for nothing. Default: the one column label, or labels."""
    class_level: Annotated[int, Ge(1), Le(20)] | Literal["path"] | None = None
    """Which folder names the class where folders lie in folders: 1 is the folder right under the data (or under
    `train/`, `val/`, `test/`), 2 the one in it; `path` joins all of them. Default: 1."""
    group: str | None = None
    """The column of a manifest that says what belongs together (a speaker, a patient, a day): no group is ever in two
    of the splits that are made. Default: `group`, if there is such a column."""
    labels: str | None = None
    """A table `path,label` of corrected labels, laid over those of the data; paths as `split.csv` has them. A sample
    with an empty label is left out."""
    splits: str | None = None
    """A run, or a split.csv, whose splits are kept: the samples that it lists stay where they were, new ones are
    trained on."""
    ignore: Annotated[int, Ge(0), Le(255)] | None = None
    """Masks: the value of pixels that count for nothing, neither in the loss nor in a metric. Default: 255 where it has
    no name in `classes.txt` and the other values number more than one."""
    val_fraction: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of each class that becomes the validation split where the source gives none. Default: 0.1, or what the
    recipe decides."""
    test_fraction: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Share of each class that becomes the test split where the source gives none. 0: no test split,
    if you have separate test data: `striate eval RUN DATA` measures on them."""
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
    """What was decided: a hash of inputs, targets and splits. A run goes on only with the same data."""

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
        """`val_fraction`, or what is usual where it is open."""
        return 0.1 if self.val_fraction is None else self.val_fraction

    @property
    def has_motion(self) -> bool:
        """Whether the last two channels of the inputs are optical flow."""
        return self.view in ("flow", "both")


def _numbers(text: str | None, sign: str, count: int, *, least: float) -> tuple[float, ...] | None:
    """So many numbers that `sign` separates; None where the text is something else."""
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
    """Mirror half of the images left to right, of clips the motion too; `alternate`: flip each image in every second
    epoch, starting at random."""
    vertical_flip: bool | None = None
    """Mirror half of the images upside down."""
    depth_flip: bool | None = None
    """Volumes: mirror half of them along the first axis, so that the last slice comes first."""
    crop: Annotated[float, Gt(0), Le(1)] | None = None
    """Smallest area of a random crop, as a share of the image; the crop is resized to the input size. 1 turns it
    off."""
    window: Annotated[int, Ge(0), Le(8192)] | None = None
    """Side in pixels of a random square part of each training image, which is all that the network sees of it;
    predictions are of whole images. For masks. 0 turns it off."""
    foreground: Annotated[float, Ge(0), Le(1)] | None = None
    """Volumes with masks: the share of the patches (`window`) that lie around a voxel of a foreground class: each class
    but the first that the volume has is equally likely, however rare. 0 turns it off."""
    zoom: Annotated[float, Ge(1), Le(8)] | None = None
    """Windows show images up to so many times smaller or larger; 1 turns it off."""
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
    """Largest slant either way in degrees: rows are shifted the more the further they are from the center."""
    color: Annotated[float, Ge(0), Le(1)] | None = None
    """Strength of random brightness, contrast, saturation (factors of 1 ± color) and hue (turned by up to color · 90°);
    0.4 is usual for photographs. Gray images have brightness and contrast only."""
    noise: Annotated[float, Ge(0), Le(1)] | None = None
    """Largest standard deviation of Gaussian noise that is added to standardized inputs: 1 is the standard
    deviation of the data. Each sample has a strength of its own, uniform up to it. Also for tables and grids."""
    blur: Annotated[float, Ge(0), Le(32)] | None = None
    """Largest standard deviation of a Gaussian blur in pixels, uniform up to it."""
    cutout: Annotated[float, Ge(0), Lt(1)] | None = None
    """Side of a square in each image that is filled with its mean color, as a share of the image's shorter side; it may
    reach over the edge."""
    policy: Literal["none", "trivial"] | None = None
    """`trivial`: each image gets one random change of random strength beside the others (TrivialAugment)."""
    time_shift: Annotated[float, Ge(0), Le(1)] | None = None
    """Sounds: largest shift either way, as a share of the length; what leaves at one end comes in at the other. Clips:
    they begin up to so much earlier or later, and the first or the last frame stands for what there is not."""
    gain: Annotated[float, Ge(0), Le(40)] | None = None
    """Sounds: largest change of loudness either way, in decibels."""
    speed: Annotated[float, Ge(0), Lt(1)] | None = None
    """Waveforms: largest change of speed, which moves pitch too: 0.1 plays 0.9 to 1.1 times as fast."""
    time_mask: Annotated[float, Ge(0), Lt(1)] | None = None
    """Sounds: longest stretch that is blanked, as a share of the length; each sample's is uniform up to it."""
    frequency_mask: Annotated[float, Ge(0), Lt(1)] | None = None
    """Spectrograms: widest range of bands that is blanked, as a share of them; each sample's is uniform up to it."""
    mixup: Annotated[float, Ge(0), Le(100)] | None = None
    """Parameter alpha of the Beta distribution by which pairs of images are blended; 0 turns it off."""
    cutmix: Annotated[float, Ge(0), Le(100)] | None = None
    """Parameter alpha of the Beta distribution by which a box of one image is pasted into another."""
    transform: str | None = None
    """`file.py:name`, which runs that code: a function of a training batch (B, C, H, W), after all of the above and
    before it is standardized, that gives one of the same shape and type."""


VOLUME = frozenset(
    (
        *("flip", "vertical_flip", "depth_flip", "shift", "rotate", "scale", "window", "foreground"),
        *("color", "noise", "mixup"),
    )
)
"""Fields of `AugmentConfig` that have a meaning for volumes."""
VOLUME_ALONE = frozenset(("depth_flip", "foreground"))
"""Those that have for nothing else."""
SOUND = frozenset(("time_shift", "gain", "speed", "time_mask", "frequency_mask"))
"""Fields of `AugmentConfig` that have a meaning for sounds alone."""
