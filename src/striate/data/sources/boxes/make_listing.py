"""The listing of images with boxes, for all layouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from striate.data.box_records import ImageBoxes, counts_text
from striate.data.dataset import Annotation
from striate.data.listing import Listing, order_classes
from striate.data.media.every_medium import medium_of
from striate.data.sources.tree import Tree
from striate.errors import DataError
from striate.wording import several


def box_listing(
    tree: Tree,
    found: Mapping[str, tuple[ImageBoxes, str | None]],
    *,
    classes: Sequence[str] = (),
    used: Collection[str] = (),
    notes: Sequence[str] = (),
    annotation: Annotation = "box",
) -> Listing:
    """The images of `found`, which has boxes and split of each image by path.

    `classes`: in the order of their numbers; without them, classes are in the order of their names. `used`: files that
    were read beside the images.

    Raises DataError where there are no images or no boxes.
    """
    if not any(boxed.boxes for boxed, _ in found.values()):
        raise DataError(
            f"data {tree.where}",
            f"{several(len(found), 'image')} with annotations, but no box",
            "boxes to train on or to evaluate predictions with",
            "check that annotations and images have the same names; add images with objects to images of background",
        )
    image = medium_of("image")
    paths = tuple(sorted(found))
    named = {box.label for boxed, _ in found.values() for box in boxed.boxes}
    taken = {*paths, *used}
    empty = sum(not found[path][0].boxes for path in paths)
    background = (f"{several(empty, 'image')} without objects: used as background.",) if empty else ()
    return Listing(
        name=tree.name,
        source=tree.where,
        kind=image.name,
        annotation=annotation,
        paths=paths,
        labels=tuple(counts_text(found[path][0].boxes) for path in paths),
        given=tuple(found[path][1] for path in paths),
        targets=None,
        classes=tuple(classes) or order_classes(named),
        read=lambda number: tree.read(paths[number]),
        ignored=tuple(sorted({*tree.hidden, *(file for file in tree.files if file not in taken)})),
        notes=(*tree.notes, *notes, *background),
        boxes=tuple(found[path][0] for path in paths),
    )


def damaged(tree: Tree, file: str, line: int | None, got: str, expected: str, remedy: str | None = None) -> DataError:
    """The error for an annotation file that cannot be read, with the line if it is known."""
    place = f"{tree.where}/{file}" + ("" if line is None else f", line {line}")
    remedy = remedy or ("correct the line, or leave it out" if line else "correct the file")
    return DataError(place, got, expected, remedy)
