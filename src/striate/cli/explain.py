"""`striate explain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def explain(
    run: Path,
    image: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    method: Literal["auto", "saliency", "integrated-gradients", "smoothgrad", "grad-cam", "occlusion"] = "auto",
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show on one page why a network predicts what it does for an image, and how far to trust that.

    The page has attribution maps, each with checks: a map is not trusted where networks with shuffled weights give the
    same map, or where the prediction does not depend on the pixels that the map marks. It also has the smallest change
    that changes the prediction, and the nearest training images. Exit code 1 if the map that is shown first is not
    trusted.

    Parameters
    ----------
    run
        A run directory, or one checkpoint file.
    image
        An image file, or a sample of a named data set: mnist5k#17; for a table, the numbers of a row,
        separated by commas.
    method
        The attribution method. auto computes every map that the network allows, and shows first the one whose pixels
        the prediction depends on most.
    out
        The page. Default: the image's name with -explained.html, in this folder; none with --json.
    force
        Overwrite the page.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import explain as explain_image
    from striate.api import write_explanation
    from striate.cli.output import print_json, print_note, print_text, results_only, stdout
    from striate.visualize.attribution.explanation_record import explanation_text
    from striate.visualize.picture_path import refuse_picture_path

    if out is None and not json:
        name = image if "," in image else Path(image).stem  # a row of numbers ends with decimals, not with a suffix
        stem = re.sub(r"[^\w.-]+", "-", name)[:60]
        stem = f"row{stem}" if stem.startswith("-") else stem  # a name with a minus first would be an option of rm
        out = Path(f"{stem or 'image'}-explained.html")
    if out is not None:
        refuse_picture_path(out, force=force, endings=(".html", ".htm"))
    print_note("several maps, each with its checks: this may take a minute")
    with results_only(json):
        explained = explain_image(run, image, method)
    if out is not None:
        write_explanation(explained, out)
    if json:
        print_json(explained.to_json())
    else:
        print_text(explanation_text(explained, stdout().width))
    if out is not None:
        print_note(f"written: {out}")
    return 0 if explained.trusted else 1
