"""`striate data show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.api.fields_of_data import SHOWN, refuse_unused
from striate.cli.fields import Flag, takes_fields
from striate.errors import UsageError, one_line

if TYPE_CHECKING:
    from striate.report.data_picture import DataPicture


@takes_fields(*SHOWN)
def show(
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    augment: Flag = False,
    count: int = 8,
    out: Path | None = None,
    force: Flag = False,
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Draw what a network will see of a data set.

    The picture shows images of the training split after resizing, a row a class. With --augment it has a row a sample:
    the image without augmentation, and as `striate train` with the same seed sees it in its first six epochs. Exit code
    1 if some of the data could not be read.

    Parameters
    ----------
    data
        Images in any form that `striate train` takes. Default: mnist5k.
    augment
        Show how training images vary: as the recipe decides, with any field on top (--augment.rotate 15).
    count
        Samples of each class; with --augment, samples in all. 1 to 40.
    out
        The picture, a PNG. Default: data-show.png in this folder, with augmentation data-show-augment.png.
    force
        Overwrite the picture if it exists.
    config
        A config.yaml, for example of a run: its data, seed and augmentation.
    json
        Print one JSON document on stdout.
    """
    from striate.cli.output import exit_code, print_note, print_result, results_only
    from striate.report.data_picture import draw_data
    from striate.training.request import merge_request, read_config

    augmented = augment or any(name.startswith("augment.") for name in fields)
    out = out or Path("data-show-augment.png" if augmented else "data-show.png")
    _refuse(fields, count, out, force)
    merged = merge_request(read_config(config), data=data, fields=fields)
    with results_only(json):
        drawn = draw_data(merged, out, augmented=augmented, count=count, announce=print_note)
    for said in (*drawn.notes, *drawn.findings):
        print_note(str(said))
    print_result(_document(drawn), f"{one_line(drawn.words)}\n{one_line(str(drawn.path))}", json=json)
    return exit_code(drawn.findings)


def _document(drawn: DataPicture) -> dict[str, Any]:
    return {
        "path": str(drawn.path),
        "data": drawn.data,
        "samples": drawn.samples,
        "words": drawn.words,
        "augment": None if drawn.augment is None else vars(drawn.augment),
        "notes": list(drawn.notes),
        "findings": [finding.to_json() for finding in drawn.findings],
    }


def _refuse(fields: dict[str, Any], count: int, out: Path, force: bool) -> None:
    """Raise UsageError for requests that cannot be carried out, before the data are read."""
    from striate.visualize.picture_path import refuse_picture_path

    refuse_unused(fields, SHOWN, "the picture")
    if not 1 <= count <= 40:
        raise UsageError("--count", str(count), "1 to 40", "--count 8")
    refuse_picture_path(out, force=force)
