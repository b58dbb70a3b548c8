"""`striate doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.cli.fields import NOT_FIRST_STEPS, Flag, takes_fields

if TYPE_CHECKING:
    from striate.api import TrainingDiagnosis


@takes_fields(without=NOT_FIRST_STEPS)
def doctor(
    data: str | None = None,
    /,
    *arguments: str,
    fields: dict[str, Any],
    config: Path | None = None,
    seconds: float = 30.0,
    training: int = 1,
    html: Path | None = None,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Find out why a network does not learn, and what to change.

    The doctor trains copies for some seconds. Every finding says what was measured, the threshold, and the change that
    fixes it. Data and runs stay as they are. Exit code 1 if there is an error, 0 otherwise, also with warnings.
    `striate data check` looks at all files of the data.

    `striate doctor script.py` RUNS your training script up to its first optimizer step, including the files that it
    writes until then, and examines the training. If nothing is found, the script continues for some seconds without
    writing files. Its arguments come after `--`. In Python: striate.diagnose.

    Parameters
    ----------
    data
        Data as for `striate train`, or a run directory, whose learning curves are then examined too, or a training
        script, `script.py`. Default: mnist5k.
    arguments
        After `--`: arguments of the script.
    config
        A config.yaml; other options go on top of it.
    seconds
        How long the examination may take, after the data are read.
    training
        The training to examine, counted from 1, if a script trains in several loops one after the other, such as a
        teacher and its student. The loops before it run to their end, with the files that they write.
    html
        Also write the diagnosis as a page with pictures.
    force
        Overwrite the page.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    if data is not None and data.endswith(".py"):  # first, since only the other process needs what is loaded below
        return _examine_script(data, arguments, fields, config, seconds, training, html, force, as_json=json)
    from striate.api import write_diagnosis
    from striate.cli.output import print_note, print_result, results_only, stdout
    from striate.doctor.diagnosis import diagnosis_text
    from striate.visualize.picture_path import refuse_idle_force, refuse_picture_path
    from striate.wording import filled

    if training != 1:
        from striate.errors import UsageError

        raise UsageError(
            "--training",
            f"{training} without a script",
            "a training script",
            "striate doctor script.py --training 2",
        )
    if arguments:
        from striate.errors import UsageError

        raise UsageError("--", " ".join(arguments), "arguments after a script", "striate doctor script.py -- ARGS")
    refuse_idle_force(force, html is not None, "--html")
    if html is not None:
        refuse_picture_path(html, force=force, endings=(".html", ".htm"), option="--html")
    with results_only(json):
        found = _diagnose(data, fields, config, seconds)
    if html is not None:
        write_diagnosis(found, html)
        print_note(f"written: {html}")
    width = stdout().width
    print_result(found, f"{filled(found.subject, width)}\n\n{diagnosis_text(found.diagnosis, width)}", json=json)
    return 1 if found.diagnosis.counts()["error"] else 0


def _examine_script(
    script: str,
    arguments: tuple[str, ...],
    fields: dict[str, Any],
    config: Path | None,
    seconds: float,
    training: int,
    html: Path | None,
    force: bool,
    *,
    as_json: bool,
) -> int:
    """Examine a script in a process of its own, since the script ends in the middle of its training."""
    import subprocess
    import sys

    from striate.errors import StriateError, UsageError, pasted
    from striate.training.config_file import option_of

    given = [option_of(name) for name in fields] + ["--config"] * (config is not None) + ["--html"] * (html is not None)
    given += ["--force"] * force
    if given:
        remedy = f"striate doctor {pasted(script)}; arguments of the script come after --"
        raise UsageError(given[0], f"{given[0]} with a script", "--seconds, --training and --json at most", remedy)
    options = ["--seconds", f"{seconds:g}", "--training", str(training), *(["--json"] if as_json else [])]
    words = [sys.executable, "-m", "striate.doctor", script, *options, "--", *arguments]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode not in (0, 1, 2, 130):
        got = f"its process ended with exit code {done.returncode}"
        raise StriateError("script", got, "a script that runs until its first step", f"python {pasted(script)}")
    return done.returncode


def _diagnose(data: str | None, fields: dict[str, Any], config: Path | None, seconds: float) -> TrainingDiagnosis:
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
        raise UsageError(
            given[0], f"{given[0]} with the run {run}", "the run alone: it has its own configuration", remedy
        )
