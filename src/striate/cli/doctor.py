"""`striate doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from striate.cli.fields import TaskName, chosen_fields


def doctor(
    data: str | None = None,
    /,
    *,
    model: str | None = None,
    recipe: Literal["quick", "standard", "fine-tune", "speedrun"] | None = None,
    task: TaskName = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    size: str | None = None,
    config: Path | None = None,
    seconds: float = 30.0,
    html: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find out why a network does not learn, and what to change.

    The training is tried for some seconds on copies: every finding says what was measured, what limit it is held
    against, and the change that mends it. Nothing is written. Exit code 1 if there is an error, 0 otherwise, also with
    warnings. `striate data check` looks at all files of the data. For networks and loops of your own:
    striate.diagnose in Python.

    Parameters
    ----------
    data
        Data as for `striate train`, or a run directory: then its curves are looked at too. Default: mnist5k.
    model
        As for `striate train`. Default: chosen by the shape of the data.
    recipe
        How everything left open is chosen, as for `striate train`.
    batch
        Samples in one step.
    lr
        The peak learning rate.
    seed
        Of first weights, batches and augmentation.
    size
        Height and width of the inputs in pixels: 96, or 96x128.
    config
        A config.yaml; other options go on top of it.
    seconds
        How long it may try, after the data are read.
    html
        Write the diagnosis as a page with pictures too.
    force
        Overwrite the page.
    set
        A field of the configuration: `--set optim.lr=0.1`, or shorter `--optim.lr 0.1`.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import diagnose_run, diagnose_training, write_diagnosis
    from striate.cli.output import print_json, print_note, print_text, results_only, stdout
    from striate.doctor.diagnosis import diagnosis_text
    from striate.visualize.picture_path import refuse_picture_path
    from striate.wording import filled

    if html is not None:
        refuse_picture_path(html, force=force, endings=(".html", ".htm"), option="--html")
    given = {"model.name": model, "recipe": recipe, "task.name": task, "batch": batch, "optim.lr": lr, "seed": seed}
    fields = chosen_fields(given, set or [])
    with results_only(json):
        if data is not None and _is_run(Path(data)):
            _refuse_options(data, fields, size, config)
            found = diagnose_run(data, seconds=seconds, announce=print_note)
        else:
            found = diagnose_training(data, size=size, config=config, set=fields, seconds=seconds, announce=print_note)
    if html is not None:
        write_diagnosis(found, html)
        print_note(f"written: {html}")
    if json:
        print_json(found.to_json())
    else:
        width = stdout().width
        print_text(f"{filled(found.subject, width)}\n\n{diagnosis_text(found.diagnosis, width)}")
    return 1 if found.diagnosis.counts()["error"] else 0


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _refuse_options(run: str, fields: dict[str, object], size: str | None, config: Path | None) -> None:
    from striate.errors import UsageError, pasted

    given = [f"--{name}" for name in fields] + ["--size"] * (size is not None) + ["--config"] * (config is not None)
    if given:
        remedy = f"striate doctor {pasted(run)}, or striate doctor DATA --config {pasted(Path(run) / 'config.yaml')}"
        raise UsageError(given[0], f"an option beside the run {run}", "the run alone: it has its configuration", remedy)
