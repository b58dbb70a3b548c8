"""`striate data show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from striate.cli.fields import TaskName
from striate.errors import UsageError, one_line

_ASKED = ("data.", "augment.", "task.name", "seed")


def show(
    data: str | None = None,
    /,
    *,
    augment: Annotated[bool, Parameter(negative=())] = False,
    size: str | None = None,
    task: TaskName = None,
    count: int = 8,
    out: Path = Path("data-show.png"),
    force: Annotated[bool, Parameter(negative=())] = False,
    seed: int | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Draw what a network will see of a data set.

    Images of the training split after resizing, a row a class. With --augment a row a sample: as it is, and as
    `striate train` with the same seed sees it in its first six epochs. Exit code 1 if some of the data could not be
    read.

    Parameters
    ----------
    data
        Images in any form that `striate train` takes. Default: mnist5k.
    augment
        Show how training images vary: as the recipe decides, with any field on top (--augment.rotate 15).
    size
        Height and width of the inputs in pixels: 96, or 96x128.
    count
        Samples of each class; with --augment, samples in all. 1 to 40.
    out
        The picture, a PNG.
    force
        Overwrite the picture if it exists.
    seed
        Which samples are shown, and how they vary, follows from it. Default: 0.
    config
        A config.yaml, for example of a run: its data, seed and augmentation.
    set
        A field of the configuration, also as --augment.rotate 15: data.*, augment.*, task.name, seed.
    json
        Print one JSON document on stdout.
    """
    from striate.cli.fields import chosen_fields
    from striate.cli.output import print_json, print_note, print_text, results_only
    from striate.report.data_picture import draw_data
    from striate.training.request import merge_request, read_config

    fields = chosen_fields({"task.name": task, "seed": seed}, set or [])
    _refuse(fields, count, out, force)
    merged = merge_request(read_config(config), data=data, size=size, fields=fields)
    augmented = augment or any(name.startswith("augment.") for name in fields)
    with results_only(json):
        drawn = draw_data(merged, out, augmented=augmented, count=count, announce=print_note)
    for said in (*drawn.notes, *drawn.findings):
        print_note(str(said))
    if json:
        print_json(
            {
                "path": str(drawn.path),
                "data": drawn.data,
                "samples": drawn.samples,
                "words": drawn.words,
                "augment": None if drawn.augment is None else vars(drawn.augment),
                "notes": list(drawn.notes),
                "findings": [finding.to_json() for finding in drawn.findings],
            }
        )
    else:
        print_text(f"{one_line(drawn.words)}\n{one_line(str(drawn.path))}")
    return 1 if any(finding.severity == "error" for finding in drawn.findings) else 0


def _refuse(fields: dict[str, Any], count: int, out: Path, force: bool) -> None:
    """What cannot be asked for, before the data are read."""
    from striate.visualize.picture_path import refuse_picture_path

    foreign = [name for name in fields if not name.startswith(_ASKED)]
    if foreign:
        raise UsageError(
            f"--{foreign[0]}",
            "a field that changes nothing in the picture",
            "fields of data.* and augment.*, task.name, seed",
            f"leave out --{foreign[0]}",
        )
    if not 1 <= count <= 40:
        raise UsageError("--count", str(count), "1 to 40", "--count 8")
    refuse_picture_path(out, force=force)
