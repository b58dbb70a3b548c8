"""`striate play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number


def play(
    run: Path,
    /,
    *,
    out: Path = Path("game.gif"),
    episodes: Annotated[int, Parameter(validator=Number(gte=1, lte=1000))] = 1,
    seed: Annotated[int, Parameter(validator=Number(gte=0, lte=2**31))] = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Let a network that learned from rewards play, and write what it does as a GIF.

    It always takes the action with the highest value. The episodes occur neither in training nor in the metrics.

    Parameters
    ----------
    run
        A run of `striate train gym:ID`, or one checkpoint file.
    out
        The GIF; an existing file is replaced.
    episodes
        Number of whole episodes, one after another.
    seed
        Seed of the episodes.
    json
        Print one JSON document: {"path", "episodes": [{"return", "steps"}, …], "actions": {name: times}, "film_is_cut":
        whether the film ends before the episodes do}.
    """
    from striate.api import play as play_run
    from striate.cli.output import print_json, print_note, print_text
    from striate.wording import several

    watched = play_run(run, out, episodes=episodes, seed=seed)
    if watched.cut:
        print_note(f"the film ends after {several(watched.frames, 'frame')}")
    if json:
        print_json(watched.to_json())
        return 0
    for number, (total, steps) in enumerate(zip(watched.played.returns, watched.played.steps, strict=True), 1):
        print_text(f"episode {number}: return {total:g}, {several(int(steps), 'step')}")
    print_text(f"film: {watched.path}")
    return 0
