"""`striate lr-find`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from striate.cli.fields import TaskName, chosen_fields


def lr_find(
    data: str | None = None,
    /,
    *,
    model: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    recipe: Literal["quick", "standard", "speedrun", "fine-tune"] | None = None,
    task: TaskName = None,
    batch: int | None = None,
    size: str | None = None,
    seed: int | None = None,
    config: Path | None = None,
    seconds: float = 45.0,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find the learning rate to train with, by short trainings on copies of the network.

    Any field of the configuration is an option too: --optim.name sgd, --schedule.name cosine. The last line is the
    command that trains with what was found. Exit code 1 if the trials cannot tell.

    Parameters
    ----------
    data
        As for `striate train`. Default: mnist5k.
    model
        As for `striate train`. Default: chosen by the shape of the data.
    epochs
        How long the training will be that the rate is for.
    minutes
        The same in wall-clock minutes.
    recipe
        How everything left open is chosen, as for `striate train`.
    batch
        Samples in one step.
    size
        Height and width of the inputs in pixels: 96, or 96x128.
    seed
        Initialization, and with it the weights that every trial begins with. Default: 0.
    config
        A config.yaml, for example of an earlier run; other options go on top of it.
    seconds
        About how long it may take. More gives longer trials and more of them; large networks take longer anyway.
    out
        Draw the range test and the trials into this .png. Nothing is written otherwise.
    force
        Overwrite the picture if it exists.
    set
        A field of the configuration: `--set optim.momentum=0.8`, or shorter `--optim.momentum 0.8`.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import find_learning_rate
    from striate.cli.output import print_json, print_note, print_text, results_only

    given = {"model.name": model, "recipe": recipe, "task.name": task, "batch": batch, "seed": seed}
    fields = chosen_fields(given | {"budget.epochs": epochs, "budget.minutes": minutes}, set or [])
    with results_only(json):
        search = find_learning_rate(
            data, config=config, size=size, set=fields, seconds=seconds, out=out, force=force, announce=print_note
        )
    if json:
        print_json(search.to_json())
    else:
        print_text(str(search))
    return 0 if search.informative else 1
