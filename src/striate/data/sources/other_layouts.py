"""Layouts that no task reads, or only under other names; they are recognized before folders are taken for classes.

Each recognizer is a function from a tree to what it found and a remedy, or None. No remedy changes the user's files:
files that must lie elsewhere are linked into a new folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from striate.data.media.every_medium import is_sample
from striate.data.media.image.pictures import decode_mask
from striate.data.sources.tree import Tree, summarize_suffixes
from striate.errors import DataError, OtherAnnotationError, pasted
from striate.wording import several

EXPECTED = "one subfolder per class with its files; images/ and masks/; or a manifest .csv with path,label"


class RecognizedLayout(NamedTuple):
    """A recognized layout: what it is, and the remedy."""

    what: str
    remedy: str


def refuse_other_layouts(tree: Tree) -> None:
    """Raise OtherAnnotationError if the tree has boxes, outlines, captions, or pictures and masks, in a layout that is
    not read, or all pictures in one folder with a manifest beside it."""
    for recognize in (_masks_beside_boxes, _outlines, _coco, _mask_pairs, _listed_pictures):
        if found := recognize(tree):
            raise OtherAnnotationError(f"data {tree.where}", found.what, EXPECTED, found.remedy)


def by_hand(tree: Tree, what: str) -> str:
    """The remedy where no task reads `what`."""
    first = next(filter(is_sample, tree.files), "1.jpg")
    if what == "captions":
        manifest = pasted(PurePosixPath(tree.where) / "captions.csv")
        line = f"the line path,caption and one line per caption, such as {first},A dog runs"
        return f"write {manifest} with {line}; then: striate train {manifest}"
    manifest = pasted(PurePosixPath(tree.where) / "labels.csv")
    return (
        f"striate does not read {what} in this form. If each whole picture has one class, write {manifest} with the "
        f"line path,label and one line per picture, such as {first},CLASS; then: striate train {manifest}"
    )


def by_hand_in_table(what: str, table: str | PurePosixPath) -> str:
    """The remedy for a `table` of `what` whose columns are not read."""
    if what == "captions":
        return f"striate train {pasted(table)}, whose columns are path,caption, or --data.names path=COLUMN"
    if what == "named points":
        return "name the columns path,x1,y1,x2,y2,… or path,nose_x,nose_y,…, two for each point"
    return (
        "name the columns path,x_min,y_min,x_max,y_max,label; or, if each whole picture has one class, name its column:"
        f" striate train {pasted(table)} --data.names label=COLUMN"
    )


def other_task(names: Sequence[str]) -> str:
    """What a table with this header, without labels, annotates; empty where that is unknown."""
    joined = " ".join(names)
    if "caption" in names:
        return "captions"
    if re.search(r"\bx_?min\b|\bxtl\b|\bbbox", joined):
        return "boxes"
    if re.search(r"\bx_?1\b.*\by_?1\b|\w+_x\b.*\w+_y\b", joined):
        return "named points"
    return ""


def masks_beside_boxes(tree: Tree) -> str | None:
    """The folder SegmentationClass of Pascal VOC; None where it has no masks."""
    if not any(file.lower().endswith(".xml") for file in tree.files):
        return None
    folders = {PurePosixPath(file).parent for file in tree.files if is_sample(file)}
    return next((str(folder) for folder in sorted(folders) if folder.name == "SegmentationClass"), None)


def _masks_beside_boxes(tree: Tree) -> RecognizedLayout | None:
    """Pascal VOC with boxes and masks."""
    folder = masks_beside_boxes(tree)
    if folder is None:
        return None
    images = str(PurePosixPath(folder).parent / "JPEGImages")
    suffix = next(PurePosixPath(file).suffix for file in tree.files if file.startswith(f"{folder}/"))
    linked = linked_pairs(tree, images, folder, suffix)
    what = f"boxes as in Pascal VOC, with masks in {folder}/"
    return RecognizedLayout(what, f"for the boxes --task detect; for the masks: {linked}")


def _outlines(tree: Tree) -> RecognizedLayout | None:
    """LabelMe: a .json beside each picture."""
    files = [file for file in tree.files if file.lower().endswith(".json")]
    if not any(b'"shapes"' in (data := bytes_if_readable(tree, file)) and b'"imagePath"' in data for file in files[:3]):
        return None
    what = f"outlines as LabelMe writes them: {several(len(files), '.json file')}, the first {files[0]}"
    return RecognizedLayout(what, by_hand(tree, "outlines"))


def _coco(tree: Tree) -> RecognizedLayout | None:
    """One .json for many pictures, as in COCO."""
    files = [file for file in tree.files if file.lower().endswith(".json") and file.count("/") <= 2]
    for file in files if len(files) <= 10 else ():
        data = bytes_if_readable(tree, file)
        if b'"annotations"' not in data or b'"images"' not in data:
            continue
        kinds = {
            b'"keypoints"': "named points",
            b'"segmentation"': "outlines",
            b'"caption"': "captions",
        }
        kind = next((name for key, name in kinds.items() if key in data), None)
        if kind is not None:
            return RecognizedLayout(f"{kind} as in COCO: {file}", by_hand(tree, kind))
    return None


_MASKS = re.compile(r"mask|seg|annot|label|gt|truth|target", re.IGNORECASE)


def _mask_pairs(tree: Tree) -> RecognizedLayout | None:
    """Two folders of pictures that have the same stems, except for an ending: PNGImages/ and PedMasks/."""
    tops = sorted(tree.tops())
    if len(tops) > 6 or not any(map(_MASKS.search, tops)):
        return None
    stems = {
        top: {_stem(file): file for file in tree.files if file.startswith(f"{top}/") and is_sample(file)}
        for top in tops
    }
    for masks in filter(_MASKS.search, tops):
        for images in tops:
            if images == masks or not stems[masks] or not stems[images] or _MASKS.search(images):
                continue
            ending = _ending(sorted(stems[masks]), stems[images])
            first = min(stems[masks].values())
            if ending is not None and _is_drawn(tree, first):
                what = f"pictures in {images}/ and probably their masks in {masks}/, such as {first}"
                suffix = ending + PurePosixPath(next(iter(stems[masks].values()))).suffix
                return RecognizedLayout(what, linked_pairs(tree, images, masks, suffix))
    return None


_MOST_VALUES = 64
"""A mask has at most so many different values; gray photographs have more."""


def _is_drawn(tree: Tree, file: str) -> bool:
    """Whether a picture is a mask, not a photograph: class folders may also be called `target` and `other`, and have
    files with the same names."""
    try:
        return len(np.unique(decode_mask(tree.read(file), file))) <= _MOST_VALUES
    except (OSError, DataError):
        return False


def _ending(masks: Sequence[str], images: dict[str, str]) -> str | None:
    """The ending that stems of masks add to those of images; None where less than 90 % of the masks belong to an
    image."""
    for ending in dict.fromkeys(
        mask.removeprefix(image) for mask in masks[:1] for image in images if mask.startswith(image)
    ):
        if sum(mask.endswith(ending) and mask[: len(mask) - len(ending)] in images for mask in masks) >= 0.9 * len(
            masks
        ):
            return ending
    return None


def _listed_pictures(tree: Tree) -> RecognizedLayout | None:
    """A .csv beside a single folder, with rows for its pictures: then the name of the folder is not a class."""
    for name in listing_tables(tree):
        if len({file.rpartition("/")[0] for file in tree.files if is_sample(file)}) != 1:
            return None
        table = PurePosixPath(tree.where) / name
        header = bytes_if_readable(tree, name).decode("utf-8", "replace").split("\n")[0].strip().lower()
        what = other_task(re.split(r"[,;\t]", header))
        remedy = by_hand_in_table(what, table) if what else f"striate train {pasted(table)}"
        return RecognizedLayout(f"all pictures in one folder, and {name} lists them{what and ': '}{what}", remedy)
    return None


def listing_tables(tree: Tree) -> Iterator[str]:
    """Each .csv directly under the root whose first row names a file of the tree."""
    files = set(tree.files)
    for name in tree.loose():
        if name.lower().endswith((".csv", ".tsv")):
            lines = bytes_if_readable(tree, name).decode("utf-8", "replace").split("\n")[1:2]
            if any(field.strip('" \r') in files for line in lines for field in re.split(r"[,;\t]", line)):
                yield name


def table_beside(tree: Tree, fits: Callable[[Path], bool], *, requested: bool) -> Path | None:
    """The only table beside the images that `fits`; None where there is none, and in an archive. Unless its annotation
    is requested, the images must be in one folder, whose name is then not a class."""
    folders = {file.rpartition("/")[0] for file in tree.files if is_sample(file)}
    if not Path(tree.where).is_dir() or (not requested and len(folders) > 1):
        return None
    fitting = [table for name in listing_tables(tree) if fits(table := Path(tree.where) / name)]
    return fitting[0] if len(fitting) == 1 else None


def bytes_if_readable(tree: Tree, file: str) -> bytes:
    """The bytes of a file; empty where it cannot be read, which is reported later if it belongs to the data."""
    with suppress(OSError, DataError):
        return tree.read(file)
    return b""


def _stem(file: str) -> str:
    return PurePosixPath(*PurePosixPath(file).parts[1:]).with_suffix("").as_posix()


def linked_pairs(tree: Tree, images: str, masks: str, suffix: str) -> str:
    """The command that makes a folder of links with images/ and masks/, and trains on it."""
    if not Path(tree.where).is_dir():
        return "unpack the archive and give the folder: striate then shows the command that makes images/ and masks/"
    name = pasted(f"{tree.name}-masks")
    pictures, drawn = (pasted(PurePosixPath(tree.where) / folder) for folder in (images, masks))
    ending = f".{suffix.rpartition('.')[2]}"
    return (
        f'mkdir -p {name}/images {name}/masks && for m in {drawn}/*{suffix}; do s=$(basename "$m" {suffix});'
        f' ln -s "$m" {name}/masks/"$s"{ending}; ln -s {pictures}/"$s".* {name}/images/; done && striate train {name}'
    )


class _Family(NamedTuple):
    """Files of a medium whose formats are not read."""

    what: str
    suffixes: tuple[str, ...]
    remedy: str


_FAMILIES: tuple[_Family, ...] = (
    _Family(
        "sound",
        (".m4a", ".aac", ".opus", ".aif", ".aiff", ".wma"),
        "sounds are read from .wav, .flac, .ogg and .mp3. To convert them:"
        ' for f in *.m4a; do ffmpeg -i "$f" "${f%.*}.flac"; done',
    ),
    _Family(
        "films",
        (".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"),
        "clips are read from .mp4, .mov, .avi, .mkv, .webm and .gif. To convert them:"
        ' for f in *.wmv; do ffmpeg -i "$f" -an "${f%.*}.mp4"; done',
    ),
    _Family(
        "volumes",
        (".dicom", ".mha", ".mhd", ".nrrd", ".mgz"),
        "volumes are read from .nii, .nii.gz, .npy, .npz, TIFF stacks and folders of .dcm. To convert one:"
        " python -c \"import SimpleITK as s; s.WriteImage(s.ReadImage('scan.nrrd'), 'scan.nii.gz')\"",
    ),
)


def _unread(files: Sequence[str]) -> _Family | None:
    """The family to which most of the files belong; None where there is none."""
    found = {family: sum(file.lower().endswith(family.suffixes) for file in files) for family in _FAMILIES}
    most = max(_FAMILIES, key=lambda family: found[family])
    return most if found[most] else None


def of_another_medium(manifest: Path, files: Sequence[str]) -> DataError | None:
    """The error for a manifest of sounds, clips or volumes in formats that are not read; None where some file may be a
    picture."""
    family = None if any(map(is_sample, files)) else _unread(files)
    if family is None:
        return None
    return DataError(f"manifest {manifest}", f"{family.what}: {summarize_suffixes(files)}", "pictures", family.remedy)


def instead_of_pictures(tree: Tree) -> str:
    """The remedy for a tree without pictures: a file in it that can be given, or how to convert its files."""
    if family := _unread(tree.files):
        return family.remedy
    for file in tree.loose():
        if file.lower().endswith((".npz", ".csv", ".tsv", ".zip", ".tar", ".tar.gz", ".tgz", ".mat")):
            return f"give the file: striate train {pasted(PurePosixPath(tree.where) / file)}"
    return "give the folder (or archive) that contains the pictures"
