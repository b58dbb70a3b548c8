"""`striate match`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from striate.wording import formatted, probability_text


def match(run: Path, one: str, other: str, /, *, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Decide whether two pictures show the same person, character or class.

    The similarity is the cosine of their embeddings. They count as the same if it reaches the threshold at which both
    kinds of errors are equally frequent on the run's validation split. The classes may be new to the network.

    Parameters
    ----------
    run
        A run of --task embed, or one of its checkpoint files.
    one
        A picture.
    other
        Another picture.
    json
        Print one JSON document: same, similarity, threshold, probability.
    """
    from striate.api import match as match_pictures
    from striate.cli.output import print_json, print_text

    found = match_pictures(run, one, other)
    if json:
        print_json(found.to_json())
        return 0
    verdict = "the same" if found.same else "not the same"
    print_text(
        f"{verdict}: similarity {formatted(found.similarity, '.3f')}, threshold {formatted(found.threshold, '.3f')},"
        f" probability {probability_text(found.probability)}"
    )
    return 0
