"""`striate doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.cli.fields import NOT_ONE_TRAINING, WRITTEN, Flag, takes_fields

if TYPE_CHECKING:
    from striate.api import Consultation


@takes_fields(without=(*NOT_ONE_TRAINING, *WRITTEN))
def doctor(
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    config: Path | None = None,
    seconds: float = 30.0,
    html: Path | None = None,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Find out why a network does not learn, and what to change.

    The doctor trains copies for some seconds. Every finding says what was measured, the threshold, and the change that
    fixes it. Nothing is written. Exit code 1 if there is an error, 0 otherwise, also with warnings. `striate data
    check` looks at all files of the data. For your own networks and training loops: striate.diagnose in Python.

    Parameters
    ----------
    data
        Data as for `striate train`, or a run directory, whose learning curves are then examined too. Default: mnist5k.
    config
        A config.yaml; other options go on top of it.
    seconds
        How long the examination may take, after the data are read.
    html
        Also write the diagnosis as a page with pictures.
    force
        Overwrite the page.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import write_diagnosis
    from striate.cli.output import print_json, print_note, print_text, results_only, stdout
    from striate.doctor.diagnosis import diagnosis_text
    from striate.visualize.picture_path import refuse_picture_path
    from striate.wording import filled

    if html is not None:
        refuse_picture_path(html, force=force, endings=(".html", ".htm"), option="--html")
    with results_only(json):
        found = _diagnose(data, fields, config, seconds)
    if html is not None:
        write_diagnosis(found, html)
        print_note(f"written: {html}")
    if json:
        print_json(found.to_json())
    else:
        width = stdout().width
        print_text(f"{filled(found.subject, width)}\n\n{diagnosis_text(found.diagnosis, width)}")
    return 1 if found.diagnosis.counts()["error"] else 0


def _diagnose(data: str | None, fields: dict[str, Any], config: Path | None, seconds: float) -> Consultation:
    from striate.api import diagnose_run, diagnose_training
    from striate.cli.output import print_note

    if data is None or not (Path(data) / "config.yaml").is_file():
        return diagnose_training(data, config=config, set=fields, seconds=seconds, announce=print_note)
    _refuse_options(data, fields, config)
    return diagnose_run(data, seconds=seconds, announce=print_note)


def _refuse_options(run: str, fields: dict[str, Any], config: Path | None) -> None:
    from striate.errors import UsageError, pasted
    from striate.training.config_file import option_of

    given = [option_of(name) for name in fields] + ["--config"] * (config is not None)
    if given:
        remedy = f"striate doctor {pasted(run)}, or striate doctor DATA --config {pasted(Path(run) / 'config.yaml')}"
        raise UsageError(given[0], f"an option beside the run {run}", "the run alone: it has its configuration", remedy)
