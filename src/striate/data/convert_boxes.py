"""Writes a data set of boxes, or of masks of single objects, in another layout: images byte for byte, and everything
that both layouts can hold."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from xml.sax.saxutils import escape

import yaml

from striate.data.box_records import Box, Edges
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.mask_codes import as_entry
from striate.data.new_folder import new_folder
from striate.data.progress import announce_tenths
from striate.data.rotated_boxes import upright_box
from striate.data.scan import why_unreadable
from striate.data.sources.list_source import list_source
from striate.errors import DataError, OtherAnnotationError, pasted
from striate.wording import listed, several

BoxLayout = Literal["coco", "voc", "yolo", "csv"]


@dataclass(frozen=True)
class ConvertedBoxes:
    """The result of a conversion of boxes."""

    path: Path
    """The folder that was written."""
    to: BoxLayout
    images: int
    """Number of images."""
    boxes: int
    """Number of boxes."""
    lost: tuple[str, ...]
    """What the layout cannot hold, one sentence each."""
    unreadable: tuple[str, ...]
    """Files that were left out, and why."""
    masks: int = 0
    """Number of boxes with a mask."""

    @property
    def data(self) -> Path:
        """The path to train on."""
        return self.path / "boxes.csv" if self.to == "csv" else self.path

    @property
    def command(self) -> str:
        """The command that trains on it; with masks, if all objects have one."""
        return f"striate train {pasted(self.data)}" + (" --task instances" if 0 < self.masks == self.boxes else "")


@dataclass(frozen=True)
class _Image:
    """One image as it is written."""

    name: str
    """The name of its file, without folders."""
    split: str | None
    size: tuple[int, int]
    """(height, width)."""
    boxes: tuple[Box, ...]
    group: str | None
    masked: tuple[int, int] | None
    """The size of the masks."""
    file: str
    """The annotation file that it comes from."""
    entry: Mapping[str, Any] = field(default_factory=dict)
    """Its entry in a COCO file."""
    objects: tuple[Mapping[str, Any], ...] = ()
    """The entries of its boxes in a COCO file; empty for other layouts."""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem


def convert_boxes(
    config: DataConfig, to: BoxLayout, out: Path, *, announce: Callable[[str], None] = lambda _: None
) -> ConvertedBoxes:
    """Write the boxes and images of a data set into `out`, a new or empty folder. After an error, nothing is left
    there. Raises DataError, UsageError."""
    listing = _listed(config)
    read = listing.read_document
    documents = {} if read is None else {file: read(file) for file in sorted({one.file for one in listing.boxes})}
    with new_folder(out) as part:
        images, unreadable = _write_images(listing, documents, to, config.max_pixels, part, announce)
        lost = _write_coco(part, images, listing.classes, documents) if to == "coco" else _further_fields(documents)
        if to != "coco":
            _WRITERS[to](part, images, listing.classes)
    count = sum(len(image.boxes) for image in images)
    masks = sum(box.mask is not None for image in images for box in image.boxes)
    masks += sum(bool(entry.get("segmentation")) for image in images for entry in image.objects)
    lost = (*_lost(listing, images, to), *lost)
    return ConvertedBoxes(out, to, len(images), count, lost, unreadable, masks if to == "coco" else 0)


def _listed(config: DataConfig) -> Listing:
    """The listing of the source; with the masks of the objects if images number them. Of COCO files, boxes are read,
    since these need not be those around the outlines, and outlines are copied from the files."""
    try:
        listing = list_source(config, "instance")
    except DataError:
        try:
            return list_source(config, "box")
        except OtherAnnotationError as error:
            remedy = "give data with boxes: COCO, Pascal VOC, YOLO, a manifest, or masks that number objects"
            raise DataError(error.where, error.got, "boxes, which all these layouts hold", remedy) from None
    return listing if listing.read_document is None else list_source(config, "box")


def _write_images(
    listing: Listing,
    documents: Mapping[str, Mapping[str, Any]],
    to: BoxLayout,
    max_pixels: int,
    out: Path,
    announce: Callable[[str], None],
) -> tuple[list[_Image], tuple[str, ...]]:
    names = _names(listing.paths, stems=to in ("voc", "yolo"))
    progress = announce_tenths(f"Writing {listing.name}", len(listing), listing.medium.many, announce)
    images, unreadable = [], []
    assert listing.read is not None
    for number, path in enumerate(listing.paths):
        try:
            data = listing.read(number)
            size = listing.medium.size_of(listing.medium.header(data, path, max_pixels=max_pixels))
        except (OSError, DataError) as error:
            unreadable.append(f"{path}: {why_unreadable(error)}")
            continue
        assert size is not None
        boxed, group = listing.boxes[number].in_pixels(size), listing.groups[number] if listing.groups else None
        image = _Image(names[number], listing.given[number], size, boxed.boxes, group, boxed.size, boxed.file)
        if document := documents.get(boxed.file):
            objects = tuple(document["annotations"][box.line] for box in boxed.boxes)
            image = replace(image, entry=document["images"][boxed.entry], objects=objects)
        file = out / _folder(to, image) / image.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        images.append(image)
        progress(1)
    if not images:
        raise DataError(f"data {listing.source}", "no image that can be read", "at least one", "striate data check")
    return images, tuple(unreadable)


def _names(paths: Sequence[str], *, stems: bool) -> list[str]:
    """Names without folders: those of the files, with a prefix where names, or `stems`, repeat."""

    def key(name: str) -> str:
        return (PurePosixPath(name).stem if stems else name).lower()

    bare = [PurePosixPath(path).name for path in paths]
    counts = Counter(map(key, bare))
    names = [name if counts[key(name)] == 1 else path.replace("/", "_") for name, path in zip(bare, paths, strict=True)]
    again = Counter(map(key, names))
    return [name if again[key(name)] == 1 else f"{number}_{name}" for number, name in enumerate(names)]


def _folder(to: BoxLayout, image: _Image) -> str:
    if to == "voc":
        return "JPEGImages"
    return "images" if image.split is None or to == "csv" else f"images/{image.split}"


def _upright(box: Box) -> Edges:
    """The edges; for a rotated box, those of the upright box around it."""
    return upright_box(box.edges, box.angle)


def _number(value: float) -> float | int:
    """Integers without a fraction: 12, not 12.0."""
    return int(value) if value == int(value) else value


def _write_coco(
    out: Path, images: Sequence[_Image], classes: Sequence[str], documents: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Write a file for each split, and return what was lost. Entries of COCO files are copied; where several files
    become one, ids and categories are numbered anew."""
    (out / "annotations").mkdir()
    merged: dict[str, Mapping[str, Any]] = {}
    for split in sorted({image.split or "" for image in images}):
        chosen = [image for image in images if (image.split or "") == split]
        sources = {image.file: documents[image.file] for image in chosen if image.file in documents}
        single = next(iter(sources.values())) if len(sources) == 1 else None
        merged |= sources if single is None else {}
        text = json.dumps(_coco_document(chosen, classes, single), ensure_ascii=False)
        (out / "annotations" / f"instances{split and f'_{split}'}.json").write_text(text, encoding="utf-8")
    ids = f"ids of images, annotations and categories: {several(len(merged), 'file')} become one."
    return (ids, *_further_fields(merged, ("categories", ""))) if merged else ()


def _coco_document(
    images: Sequence[_Image], classes: Sequence[str], source: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The content of one file; with the ids, categories and further fields of its `source`, if that is one COCO
    file."""
    numbers = {name: number for number, name in enumerate(classes, 1)}
    documents: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        height, width = image.size
        ids: dict[str, Any] = {} if source else {"id": number}
        documents.append(
            {"id": number, "height": height, "width": width, **image.entry, **ids, "file_name": image.name}
        )
        for place, box in enumerate(image.boxes):
            entry = image.objects[place] if image.objects else _coco_entry(box, image.masked)
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[box.label]}
            annotations.append({**_coco_entry(box, None), **entry, **({} if source else ids)})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"categories": categories, **(source or {}), "images": documents, "annotations": annotations}


def _coco_entry(box: Box, masked: tuple[int, int] | None) -> dict[str, Any]:
    """The entry of a box, without ids; with its mask, where the size of masks is given."""
    left, top, right, bottom = _upright(box)
    wide, high = right - left, bottom - top
    outline = {} if box.mask is None or masked is None else {"segmentation": as_entry(box.mask, masked)}
    edges = [_number(value) for value in (left, top, wide, high)]
    return {**outline, "bbox": edges, "area": _number(wide * high), "iscrowd": int(box.crowd)}


_HELD = {
    *("images", "annotations", "categories", "id", "image_id", "category_id", "file_name", "height", "width", "name"),
    *("bbox", "area", "iscrowd", "segmentation", "keypoints", "num_keypoints", "skeleton"),
}
"""Fields of COCO files that are written in every layout, follow from others, or are listed as lost on their own."""


def _further_fields(
    documents: Mapping[str, Mapping[str, Any]], parts: Sequence[str] = ("images", "annotations", "categories", "")
) -> tuple[str, ...]:
    """A sentence that names further fields of COCO files, those at the top for the part ""; none where there are
    none."""
    entries = [
        entry for document in documents.values() for part in parts for entry in (document[part] if part else [document])
    ]
    found = sorted({key for entry in entries for key, value in entry.items() if value} - _HELD)
    return (f"further fields of COCO: {listed(found, 12)}.",) if found else ()


def _write_voc(out: Path, images: Sequence[_Image], classes: Sequence[str]) -> None:
    del classes
    (out / "Annotations").mkdir()
    lists: dict[str, list[str]] = {}
    for image in images:
        height, width = image.size
        objects = "".join(map(_voc_object, image.boxes))
        text = (
            f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{escape(image.name)}</filename>\n"
            f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
            f"\t<segmented>0</segmented>\n{objects}</annotation>\n"
        )
        (out / "Annotations" / f"{image.stem}.xml").write_text(text, encoding="utf-8")
        if image.split is not None:
            lists.setdefault(image.split, []).append(image.stem)
    if lists:
        (out / "ImageSets" / "Main").mkdir(parents=True)
    for split, stems in lists.items():
        (out / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")


def _voc_object(box: Box) -> str:
    left, top, right, bottom = _upright(box)
    # Pixels are counted from 1, and a box includes both of its corners. A box without an area is written unchanged.
    first = right > left and bottom > top
    corners = (left + first, top + first, right, bottom)
    edges = "".join(
        f"\t\t\t<{name}>{_number(value)}</{name}>\n"
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return (
        f"\t<object>\n\t\t<name>{escape(box.label)}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n{edges}\t\t</bndbox>\n\t</object>\n"
    )


def _write_yolo(out: Path, images: Sequence[_Image], classes: Sequence[str]) -> None:
    numbers = {name: number for number, name in enumerate(classes)}
    for image in images:
        height, width = image.size
        lines = []
        for box in image.boxes:
            left, top, right, bottom = _upright(box)
            center = (left + right) / 2 / width, (top + bottom) / 2 / height
            shares = (*center, (right - left) / width, (bottom - top) / height)
            lines.append(" ".join([str(numbers[box.label]), *(f"{share:.10g}" for share in shares)]) + "\n")
        file = out / "labels" / (image.split or "") / f"{image.stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines), encoding="utf-8")
    splits = {image.split for image in images}
    named: dict[str, Any] = {split: f"images/{split}" for split in ("train", "val", "test") if split in splits}
    named |= {"train": "images"} if None in splits else {}
    text = yaml.safe_dump({**named, "names": dict(enumerate(classes))}, sort_keys=False, allow_unicode=True)
    (out / "data.yaml").write_text(text, encoding="utf-8")


def _write_csv(out: Path, images: Sequence[_Image], classes: Sequence[str]) -> None:
    del classes
    boxes = [box for image in images for box in image.boxes]
    further = [
        *(["angle"] if any(box.angle is not None for box in boxes) else []),
        *(["split"] if any(image.split for image in images) else []),
        *(["group"] if any(image.group for image in images) else []),
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "x_min", "y_min", "x_max", "y_max", "label", *further])
    for image in images:
        known = {"split": image.split or "", "group": image.group or ""}
        for box in image.boxes or (None,):
            edges = ["", "", "", ""] if box is None else [_number(edge) for edge in box.edges]
            values = known | {"angle": "" if box is None else _number(box.angle or 0.0)}
            row = [f"images/{image.name}", *edges, "" if box is None else box.label]
            writer.writerow([*row, *(values[name] for name in further)])
    (out / "boxes.csv").write_text(text.getvalue(), encoding="utf-8")


_WRITERS: dict[BoxLayout, Callable[[Path, Sequence[_Image], Sequence[str]], None]] = {
    "voc": _write_voc,
    "yolo": _write_yolo,
    "csv": _write_csv,
}


def _lost(listing: Listing, images: Sequence[_Image], to: BoxLayout) -> tuple[str, ...]:
    """What the source has and the layout cannot hold, one sentence each."""
    boxes = [box for image in images for box in image.boxes]
    lost = []
    crowds, turned = sum(box.crowd for box in boxes), sum(bool(box.angle) for box in boxes)
    if crowds and to != "coco":
        lost.append(f"{several(crowds, 'crowd')} (iscrowd): written as single objects.")
    masks = sum(box.mask is not None for box in boxes)
    if masks and to != "coco":
        lost.append(f"{several(masks, 'mask')}: written as the boxes around them.")
    lost += [
        note for note in listing.notes if "not read" in note.lower() and not (to == "coco" and listing.read_document)
    ]
    if turned and to != "csv":
        lost.append(f"{several(turned, 'angle')}: written as the upright boxes around the rotated ones.")
    if any(image.group for image in images) and to != "csv":
        lost.append(f"groups of {several(sum(bool(image.group) for image in images), 'image')}.")
    unseen = [name for name in listing.classes if name not in {box.label for box in boxes}]
    if unseen and to in ("voc", "csv"):
        lost.append(f"classes without an object: {', '.join(unseen[:10])}.")
    if to in ("voc", "csv") and list(listing.classes) != sorted(listing.classes):
        lost.append("the order of the classes: they are read in the order of their names.")
    renamed = sum(PurePosixPath(path).parent.as_posix() != "." for path in listing.paths)
    folders = {PurePosixPath(path).parent.as_posix() for path in listing.paths}
    if renamed and len(folders) > 1 + len({image.split for image in images}):
        lost.append(f"the folder of each image ({several(len(folders), 'folder')}).")
    return tuple(lost)
