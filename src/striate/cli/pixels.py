"""`striate pixels`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def pixels(
    image: str,
    /,
    *,
    region: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    channel: str | None = None,
    max_pixels: int = 64_000_000,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the pixels of a picture as numbers.

    Each channel is a table of bytes, 0 for dark, 255 for bright. By default the upper left corner is shown, as much
    as fits a terminal.

    Parameters
    ----------
    image
        A picture, or a sample of a named data set: mnist5k#17.
    region
        The part to show: x,y,width,height in pixels, counted from 0 at the upper left.
    channel
        One channel only: gray, red, green, blue or alpha.
    max_pixels
        Pictures with more pixels are refused before they are decoded.
    json
        Print one JSON document on stdout, with the values as rows of numbers.
    """
    from striate.cli.output import print_note, print_result
    from striate.errors import one_line
    from striate.visualize.picture import names_sample, read_picture, sample_picture
    from striate.visualize.pixel_table import pixel_table

    read = sample_picture(image, print_note) if names_sample(image) else read_picture(image, max_pixels)
    table = pixel_table(read, region, channel)
    for note in read.notes:
        print_note(note)
    document = {"image": image, **table.to_json(), "notes": read.notes}
    print_result(document, f"{one_line(image)}\n{table}", json=json, indent=None)
    return 0
