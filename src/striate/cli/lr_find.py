"""`striate lr-find`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from striate.cli.fields import NOT_ONE_TRAINING, Data, Flag, takes_fields


@takes_fields(without=NOT_ONE_TRAINING)
def lr_find(
    data: Data = None,
    /,
    *,
    fields: dict[str, Any],
    config: Path | None = None,
    seconds: float = 45.0,
    out: Path | None = None,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Find the learning rate to train with, by short trainings on copies of the network.

    Give --epochs or --minutes of the training that the rate is for; with --lr, that rate is compared with the one that
    is found. The last line of the output is the command that
    trains with the rate that was found. Exit code 1 if the trials do not decide.

    Parameters
    ----------
    config
        A config.yaml, for example of an earlier run; other options go on top of it.
    seconds
        About how long it may take. More time gives longer trials and more of them; large networks take longer anyway.
    out
        Draw the range test and the trials into this .png. Without it nothing is written.
    force
        Overwrite the picture if it exists.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import find_learning_rate
    from striate.cli.output import print_note, print_result, results_only
    from striate.visualize.picture_path import refuse_idle_force

    refuse_idle_force(force, out is not None, "--out")
    with results_only(json):
        search = find_learning_rate(
            data, config=config, set=fields, seconds=seconds, out=out, force=force, announce=print_note
        )
    print_result(search, json=json)
    return 0 if search.informative else 1
