"""`striate sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from striate.cli.fields import TaskName, chosen_fields
from striate.errors import UsageError, pasted


def sweep(
    data: str | None = None,
    /,
    *,
    over: Annotated[list[str] | None, Parameter(negative=())] = None,
    trials: int | None = None,
    minutes: float | None = None,
    seeds: int | None = None,
    model: str | None = None,
    epochs: int | None = None,
    recipe: Literal["quick", "standard", "speedrun", "fine-tune"] | None = None,
    task: TaskName = None,
    batch: int | None = None,
    lr: float | None = None,
    size: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    resume: Path | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Search configurations, from cheap to expensive, and train the best one.

    Every trial trains for a ninth of the epochs; the best third of them anew for a third, the best third of those
    for all. The best 3, and the recipe, are repeated with other seeds. The winner by their mean is trained as an
    ordinary run, which alone is measured on the test split. Needs optuna: pip install 'striate[sweep]'.

    Parameters
    ----------
    data
        As for `striate train`. Default: mnist5k.
    over
        A field to search: optim.lr=1e-4..1e-1, augment.shift=0..3, batch='16|32|64', model.name='lenet5|mlp(64)'.
        A range of positive numbers is logarithmic where its ends differ by 20 times or more; log:1..4 or
        linear:1..40 say it. Repeat it for more fields. Default: learning rate and weight decay, ten times either
        way of the recipe's.
    trials
        Configurations to try. Default: 30.
    minutes
        Wall-clock minutes for all of it instead, about.
    seeds
        Other seeds that the best are repeated with; 1 repeats nothing. Default: 3.
    model
        As for `striate train`.
    epochs
        Passes over the training data of the longest trainings. Default: the recipe's for each trial.
    recipe
        As for `striate train`.
    batch
        Samples in one step.
    lr
        Peak learning rate.
    size
        Height and width of the inputs in pixels: 96, or 96x128.
    out
        The directory of the sweep, new or empty. Default: runs/<data>-sweep-<number>.
    seed
        The search, and the seed of all its trainings, follow from it. Default: 0.
    resume
        Go on with this sweep. Needs no DATA.
    config
        A config.yaml; other options go on top of it.
    set
        A fixed field of the configuration: `--set optim.momentum=0.8`, or shorter `--optim.momentum 0.8`.
    json
        Print metrics.json on stdout, everything else on stderr.
    """
    given = {"model.name": model, "recipe": recipe, "task.name": task, "batch": batch, "optim.lr": lr, "seed": seed}
    chosen = chosen_fields(given, set or [])
    if resume is not None:
        others = [data, over, trials, minutes, seeds, epochs, size, out, config, *chosen.values()]
        if any(value is not None for value in others):
            raise UsageError(
                "striate sweep --resume",
                "other options beside it",
                "--resume DIR alone: a sweep goes on as it was started",
                f"striate sweep --resume {pasted(resume)}",
            )
    from striate.api import announcer
    from striate.cli.output import print_json, print_text, results_only, stderr
    from striate.studies.sweep.run import SweepRequest, resume_sweep, run_sweep
    from striate.studies.sweep.space import refuse_fixed
    from striate.training.request import merge_request, read_config

    console = stderr()
    say = announcer(console, quiet=False)
    with results_only(json):
        if resume is not None:
            done = resume_sweep(resume, console=console, say=say)
        else:
            refuse_fixed(over or (), chosen | {"data.size": size})
            merged = merge_request(read_config(config), data=data, epochs=epochs, size=size, fields=chosen)
            request = SweepRequest(merged, tuple(over or ()), trials, minutes, 3 if seeds is None else seeds)
            done = run_sweep(request, out=out, console=console, say=say)
    if json:
        print_json(done.metrics)
    else:
        for line in done.lines:
            print_text(line)
        print_text(f"again:  striate train --config {pasted(done.path / 'best.yaml')}")
        print_text(f"run:    {done.best}\nreport: {done.report}")
    return 0
