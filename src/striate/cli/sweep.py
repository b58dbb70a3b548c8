"""`striate sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from striate.cli.fields import FIRST, Data, Flag, takes_fields
from striate.cli.train import refuse_with_resume
from striate.errors import pasted

if TYPE_CHECKING:
    from striate.studies.sweep.run_sweep import Sweep


_SEARCH = Parameter(group=Group("Search", sort_key=FIRST))


@takes_fields(without=("budget.minutes", "budget.target", "cv", "baseline", "compare_single", "execution.fsdp"))
def sweep(
    data: Data = None,
    /,
    *,
    fields: dict[str, Any],
    over: Annotated[list[str] | None, Parameter(negative=()), _SEARCH] = None,
    trials: Annotated[int | None, _SEARCH] = None,
    minutes: Annotated[float | None, _SEARCH] = None,
    seeds: Annotated[int | None, _SEARCH] = None,
    out: Path | None = None,
    resume: Path | None = None,
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Search configurations, from cheap to expensive, and train the best one.

    Every trial trains for a ninth of the epochs. The best third of the trials train anew for a third of the epochs, and
    the best third of those for all epochs. The best 3, and the recipe, are repeated with other seeds. The configuration
    with the best mean is trained as an ordinary run, and only that run is evaluated on the test split. Needs optuna:
    pip install 'striate[sweep]'.

    Parameters
    ----------
    over
        A field to search: optim.lr=1e-4..1e-1, augment.shift=0..3, batch='16|32|64', model.name='lenet5|mlp(64)'.
        A range of positive numbers is logarithmic if its ends differ by a factor of 20 or more; log:1..4 or
        linear:1..40 choose it. Repeat the option for more fields. Default: learning rate and weight decay, from a
        tenth of the recipe's to ten times the recipe's.
    trials
        Configurations to try. Default: 30.
    minutes
        Wall-clock minutes for the whole search instead, about.
    seeds
        How many further seeds the best configurations are trained with; 1 trains none again. Default: 3.
    out
        The directory of the sweep, new or empty. Default: runs/<data>-sweep-<number>.
    resume
        Continue this sweep. Needs no DATA.
    config
        A config.yaml; other options go on top of it.
    json
        Print metrics.json on stdout, everything else on stderr.
    """
    if resume is not None:
        refuse_with_resume("sweep", resume, [data, over, trials, minutes, seeds, out, config, *fields.values()])
    from striate.api import announcer
    from striate.cli.output import print_json, results_only, stderr
    from striate.studies.sweep.run_sweep import SweepRequest, resume_sweep, run_sweep
    from striate.studies.sweep.space import refuse_fixed
    from striate.training.request import merge_request, read_config

    console = stderr()
    say = announcer(console, quiet=False)
    with results_only(json):
        if resume is not None:
            done = resume_sweep(resume, console=console, say=say)
        else:
            refuse_fixed(over or (), fields)
            merged = merge_request(read_config(config), data=data, fields=fields)
            request = SweepRequest(merged, tuple(over or ()), trials, minutes, 3 if seeds is None else seeds)
            done = run_sweep(request, out=out, console=console, say=say)
    if json:
        print_json(done.metrics)
    else:
        _print_sweep(done)
    return 0


def _print_sweep(done: Sweep) -> None:
    from striate.cli.output import print_text

    for line in done.lines:
        print_text(line)
    print_text(f"again:  striate train --config {pasted(done.path / 'best.yaml')}")
    print_text(f"run:    {done.best}\nreport: {done.report}")
