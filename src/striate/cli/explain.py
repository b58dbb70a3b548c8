"""`striate explain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Method = Literal[
    "auto", "saliency", "integrated-gradients", "smoothgrad", "grad-cam", "occlusion", "deconvnet", "guided-backprop"
]


def explain(
    run: Path,
    image: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *images: Annotated[str, Parameter(allow_leading_hyphen=True)],
    method: Method = "auto",
    cost: Annotated[list[str] | None, Parameter(negative=())] = None,
    threshold: Annotated[list[str] | None, Parameter(negative=())] = None,
    part: str | None = None,
    box: str | None = None,
    pixel: str | None = None,
    point: str | None = None,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show on one page why a network predicts what it does for an image, and how far to trust that.

    The page has attribution maps, each with checks: a map is not trusted where networks with shuffled weights give the
    same map, or where the prediction does not depend on the pixels that the map marks. It also has the smallest change
    that changes the prediction, and the nearest training images. Exit code 1 if the map that is shown first is not
    trusted, or if one of several images cannot be read.

    Parameters
    ----------
    run
        A run directory, one checkpoint file, or the folder of striate export --format hub.
    image
        An image file, or a sample of a named data set: mnist5k#17; of arrays a sample in a file: new.npz#3; for a
        table, the numbers of a row, separated by commas; for a network that plays, the number of a step of its game.
    images
        Further images; a folder means all images in it, at any depth, or the clip whose frames it holds.
    method
        The attribution method. auto computes every map that the network allows, and shows first the one whose pixels
        the prediction depends on most; deconvnet and guided-backprop, which tend to show edges whatever was learned,
        are computed only by name. To see what activates one unit: striate show RUN deconvnet --layer NAME --unit N.
    cost
        The cost of missing a class: ill=10, or ill=10,doubtful=3; 1 for the others. The predicted class is the one
        with the largest cost × probability; probabilities stay as they are.
    threshold
        Predict a class if its probability is at least this threshold, otherwise the most probable other class: ill=0.2.
        Without a number: the threshold with the best F1 on the run's validation split.
    part
        The part of the prediction that is explained: a box, pixel or point, whichever the run predicts. Default: the
        most confident box or point, or the pixels of the largest class.
    box
        The number of the predicted box that is explained, from 1, in the order of `striate predict`.
    pixel
        The pixel of the file that is explained, as X,Y from the upper left corner.
    point
        The name of the point that is explained.
    out
        The page; of several images the folder of the pages. Default: in this folder, the image's name, the part, and
        -explained.html: photo-explained.html, photo-box-3-explained.html; none with --json.
    force
        Overwrite the page.
    json
        Print one JSON document on stdout, a line each of several images, everything else on stderr. The line of an
        image that cannot be read has its path and the error.
    """
    from striate.cli.output import print_json, print_note
    from striate.data.sources.tree import as_text
    from striate.errors import DataError, UsageError, pasted
    from striate.exporting.exported_file import require_layers

    require_layers(run)
    every = _every(run, image, images)
    several = len(every) > 1
    rule: dict[str, Any] = {"cost": cost, "threshold": threshold, "part": part, "box": box}
    rule |= {"pixel": pixel, "point": point}
    if several and out is not None:
        from striate.runs.files import explained

        if out.suffix.lower() in (".html", ".htm") and not out.is_dir():
            wanted, remedy = "a folder, with one page for each image", f"--out {pasted(out.with_suffix(''))}"
            raise UsageError("--out", f"the page {out} for several images", wanted, remedy)
        with explained(out):
            out.mkdir(parents=True, exist_ok=True)
    code = 0
    parts = {"part": part, "box": box, "pixel": pixel, "point": point}
    which = "".join(f"-{name}-{value}" for name, value in parts.items() if value is not None)
    pages = _pages(every, out, which) if out is None or several else [out]
    for one, page in zip(every, [None] * len(every) if json and out is None else pages, strict=True):
        try:
            code |= _explain(run, one, method, page, rule, force=force, json=json, line=several)
        except DataError as error:
            if not several:
                raise
            print_note(f"unreadable: {one}: {error.got}")
            if json:
                print_json({"path": as_text(one), "error": error.got}, indent=None)
            code = 1
    return code


def _every(run: Path, image: str, images: tuple[str, ...]) -> list[str]:
    """The images, with those in folders; a folder that is itself an input, the frames of a clip, stays one."""
    from striate.api import load
    from striate.data.media.every_medium import medium_of
    from striate.data.predict_inputs import list_inputs
    from striate.errors import DataError, UsageError

    found: list[str] = []
    folders = any(Path(one).is_dir() for one in (image, *images))
    medium = medium_of(load(run).preparation.kind) if folders else None
    for one in (image, *images):
        if re.match(r"-+[A-Za-z]", one):  # a row may begin with -1.5
            given, help_of = f"Unknown option: {one}", "striate explain --help"
            raise UsageError("striate explain", given, f"what `{help_of}` lists", help_of)
        inside = list_inputs([one], medium)[0] if Path(one).is_dir() else (one,)
        if not inside:
            raise DataError(one, "a folder without images", "images, or folders of them", "name another folder")
        found += inside
    return found


def _pages(every: list[str], folder: Path | None, part: str) -> list[Path]:
    """A page for this part of each image, all of different names."""
    pages: list[Path] = []
    for one in every:
        page = (folder or Path()) / _page(one, part)
        number = 2
        while page in pages:
            page = (folder or Path()) / f"{number}-{_page(one, part)}"
            number += 1
        pages.append(page)
    return pages


def _page(image: str, part: str) -> Path:
    """The default name of the page that explains this part of an image's prediction."""
    name = image if "," in image else Path(image).stem  # a row of numbers ends with decimals, not with a suffix
    stem = re.sub(r"[^\w.-]+", "-", name)[:60]
    stem = f"row{stem}" if stem.startswith("-") else stem  # commands take a name that begins with a minus as an option
    part = re.sub(r"[^\w.-]+", "-", part)[:60]
    return Path(f"{stem or 'image'}{part}-explained.html")


def _explain(
    run: Path,
    image: str,
    method: Method,
    out: Path | None,
    rule: dict[str, Any],
    *,
    force: bool,
    json: bool,
    line: bool,
) -> int:
    """Explain one image, and write its page."""
    from striate.api import explain as explain_image
    from striate.api import write_explanation
    from striate.cli.output import print_note, print_result, results_only, stdout
    from striate.visualize.attribution.explanation_record import explanation_text
    from striate.visualize.picture_path import refuse_picture_path

    if out is not None:
        refuse_picture_path(out, force=force, endings=(".html", ".htm"))
    with results_only(json):
        explained = explain_image(run, image, method, announce=print_note, **rule)
    if out is not None:
        write_explanation(explained, out)
    print_result(explained, explanation_text(explained, stdout().width), json=json, indent=None if line else 2)
    if out is not None:
        print_note(f"written: {out}")
    return 0 if explained.trusted else 1
