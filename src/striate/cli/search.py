"""`striate search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number


def search(
    run: Path,
    /,
    *queries: str,
    folder: Annotated[Path, Parameter(name="--in")],
    top: Annotated[int, Parameter(validator=Number(gte=1, lte=10_000))] = 5,
    alike: Annotated[int, Parameter(validator=Number(gte=0, lte=1_000_000))] = 0,
    outliers: Annotated[int, Parameter(validator=Number(gte=0, lte=1_000_000))] = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find the files of a folder that are most like a picture.

    A trained network compares the pictures: by the cosine of their vectors, the embeddings of a run of --task embed, or
    the features before the output layer of any other network. Up to 100,000 files are compared one by one; for more an
    index is built, and striate measures and prints how many of the ten nearest it finds. Vectors are cached by the
    content of files. Exit code 1 if a file could not be read.

    Parameters
    ----------
    run
        A run directory, or one checkpoint file.
    queries
        Pictures to search for, or folders of them. May be left out with --alike or --outliers.
    folder
        The folder that is searched, at any depth.
    top
        Number of files for each query; its own file is left out.
    alike
        Also list this many pairs of files of the folder that are most alike: near-duplicates come first.
    outliers
        Also list this many files of the folder that are least like any other.
    json
        Print JSON lines: {"query", "hits": [[path, similarity], …]}, {"pair", "similarity"}, {"outlier", "similarity"}.
    """
    from striate.api import search as search_folder
    from striate.cli.output import print_json, print_note, print_text
    from striate.errors import UsageError, one_line, pasted

    if not (queries or alike or outliers):
        remedy = f"striate search {pasted(run)} --in {pasted(folder)} --alike 20 --outliers 20"
        raise UsageError("striate search", "no picture to search for", "a picture, --alike or --outliers", remedy)
    found = search_folder(run, queries, folder, top=top, alike=alike, outliers_shown=outliers, announce=print_note)
    print_note(found.how)
    failed = [(hit.query, hit.error) for hit in found.hits if hit.error is not None]
    for path, reason in (*found.unreadable, *failed):
        print_note(f"unreadable: {path}: {reason}")
    if json:
        for line in found.to_json():
            print_json(line, indent=None)
        return 1 if found.unreadable or failed else 0
    for hit in found.hits:
        if hit.error is None:
            print_text(one_line(hit.query))
            for path, similarity in hit.hits:
                print_text(f"  {similarity:6.3f}  {one_line(path)}")
    if found.alike:
        print_text("most alike")
        for pair in found.alike:
            print_text(f"  {pair.similarity:6.3f}  {'  '.join(map(one_line, pair.paths))}")
    if found.outliers:
        print_text("least like any other (mean of the five nearest)")
        for outlier in found.outliers:
            print_text(f"  {outlier.similarity:6.3f}  {one_line(outlier.path)}")
    return 1 if found.unreadable or failed else 0
