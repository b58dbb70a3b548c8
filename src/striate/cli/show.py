"""`striate show`."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from striate.cli.fields import read_sizes
from striate.errors import NoImage, NoInputShape, UsageError, one_line, pasted


def show(
    run: str,
    what: Literal[
        "filters",
        "maps",
        "patches",
        "deconvnet",
        "guided-backprop",
        "maximize",
        "invert",
        "embedding",
        "correlation",
        "tuning",
        "field",
        "landscape",
        "statistics",
    ],
    image: str | None = None,
    /,
    *,
    layer: str | None = None,
    unit: int | None = None,
    position: str | None = None,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    classes: int | None = None,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Draw what a network does: its filters, feature maps, and what its units respond to.

    Parameters
    ----------
    run
        A run, the folder of striate export --format hub, or a network: a zoo name, a layer string,
        path/to/file.py:function (which runs that code).
    what
        For any network (one that is only named has random weights): filters (weights of a layer), maps (feature maps
        of IMAGE), maximize (images that maximize a unit), invert (images with the same features as IMAGE), tuning
        (response to bars of each orientation), field (receptive fields of units, on IMAGE). For a run also: patches
        (parts of images with the highest response), deconvnet and guided-backprop (the same, beside what
        activates the unit in them, projected back to the pixels; with IMAGE for any network), embedding (samples by the
        features of the last layer), correlation (how similar feature maps are, and which are dead), landscape (the loss
        around the weights), statistics (activations and gradients by layer).
    image
        A picture file, or a sample of a named data set: mnist5k#17. Default: the first validation sample of
        the run. For a network that plays: the number of a step of its game, 20 by default.
    layer
        A layer, as striate summary names it.
    unit
        A unit of the layer (a channel of a map), counted from 0.
    position
        For deconvnet and guided-backprop: ROW,COLUMN in the map of the unit, counted from 0. Default: where its
        activation is largest, in each image.
    input
        The shape of one input, for a network by name: 1x28x28. Default: the published one.
    classes
        The number of outputs of a named network or of the network that a function makes. Default: the published one,
        or the network's own.
    out
        The picture, a PNG. Default: WHAT.png in this folder, with the options that choose what is drawn: filters.png,
        deconvnet-relu2-5.png.
    force
        Overwrite the picture if it exists.
    json
        Print the numbers behind the picture as one JSON document on stdout.
    """
    from striate.cli.output import print_note, print_result, results_only
    from striate.visualize.picture_path import refuse_picture_path

    shape = None if input is None else read_sizes("--input", input, "1x28x28")
    chosen = "-".join(str(one) for one in (what, layer, unit, position) if one is not None)
    picture = out or Path(re.sub(r"[^\w.-]+", "-", chosen)[:100] + ".png")
    refuse_picture_path(picture, force=force)
    from striate.api.showing import show as draw

    place = None if position is None else _position(position)
    again = partial(_command, run, what, layer=layer, unit=unit, position=position, classes=classes, out=out)
    again = partial(again, force=force, json=json)
    try:
        with results_only(json):
            shown = draw(
                run,
                what,
                image,
                layer=layer,
                unit=unit,
                position=place,
                input_shape=shape,
                outputs=classes,
                announce=print_note,
            )
            path = shown.save(picture)
    except NoInputShape as error:
        remedy = again(image, input="1x28x28")
        raise UsageError("--input", f"none, for {error.where}", error.expected, remedy) from None
    except NoImage as error:
        error.remedy = again("mnist5k#17", input=input)
        raise
    for note in shown.notes:
        print_note(note)
    document = {"path": str(path), **shown.to_json()}
    print_result(document, f"{one_line(shown.words)}\n{one_line(str(path))}", json=json, indent=None)
    return 0


def _position(text: str) -> tuple[int, ...]:
    """A row and a column. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError("--position", repr(text[:40]), "a row and a column of the map, from 0", "--position 0,0")
    return tuple(map(int, parts))


def _command(run: str, what: str, image: str | None, **options: object) -> str:
    """The command with all given options, and the missing one."""
    words: list[object] = ["striate", "show", run, what, *([] if image is None else [image])]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", value]
    return " ".join(map(pasted, words))
