"""`striate data convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from striate.cli.fields import Flag
from striate.errors import one_line
from striate.wording import several


def convert(data: str, /, *, to: Literal["coco", "voc", "yolo", "csv"], out: Path, json: Flag = False) -> int:
    """Write a data set of boxes in another layout: COCO, Pascal VOC, YOLO, or a manifest.

    Images are copied byte for byte, and all that both layouts can hold is written; what cannot be held is listed. Exit
    code 1 if an image could not be read, and was left out.

    Parameters
    ----------
    data
        Data with boxes, in any form that `striate train` takes.
    to
        The layout: `coco` (annotations/instances_SPLIT.json), `voc` (Annotations/, ImageSets/), `yolo` (labels/,
        data.yaml) or `csv` (boxes.csv: path,x_min,y_min,x_max,y_max,label[,angle][,split][,group]).
    out
        A new folder, or an empty one.
    json
        Print one JSON document on stdout.
    """
    from striate.api import convert_data
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        written = convert_data(data, to, out, announce=print_note)
    if json:
        lists = {"lost": list(written.lost), "unreadable": list(written.unreadable)}
        print_json(vars(written) | {"path": str(written.path), "data": str(written.data)} | lists)
    else:
        what = f"{several(written.boxes, 'box', 'boxes')} in {several(written.images, 'image')}"
        what += f", {several(written.masks, 'mask')}" if written.masks else ""
        print_text(one_line(f"{written.path}: {what}. To train on: {written.command}"))
        print_text("\n".join(one_line(f"lost: {one}") for one in written.lost) or "Nothing was lost.")
    for name in written.unreadable:
        print_note(f"unreadable, left out: {name}")
    return 1 if written.unreadable else 0
