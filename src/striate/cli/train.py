"""`striate train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from striate.cli.fields import Data, Flag, takes_fields
from striate.errors import UsageError, pasted
from striate.training.processes.launch import first_process

if TYPE_CHECKING:
    from striate.api import Run


@takes_fields()
def train(
    data: Data = None,
    /,
    *,
    fields: dict[str, Any],
    out: Path | None = None,
    resume: Path | None = None,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Train a network on a data set, evaluate it, and write a run directory.

    Every field of the configuration is an option; those that most trainings need come first and have short names.
    Exit code 0 when the training was completed; 1 when its minutes left no time to train.

    Parameters
    ----------
    out
        The run directory, new or empty. Default: runs/<data>-<model>-<number>.
    resume
        Continue this run, bit for bit as if it had not been interrupted. Needs no DATA.
    start
        Train the network of this finished run further, with its configuration and splits, for --epochs or --minutes;
        also on other DATA, with further images and classes.
    config
        A config.yaml, for example of an earlier run; other options go on top of it.
    json
        Print metrics.json on stdout, everything else on stderr.
    """
    if resume is not None:
        try:
            refuse_with_resume("train", resume, [data, out, start, config, *fields.values()])
        except UsageError as error:
            error.remedy = _further(resume, fields.get("budget.epochs")) or error.remedy
            raise
    if start is not None and config is not None:
        remedy = "leave out --config"
        raise UsageError(
            "striate train --from",
            "--config together with --from",
            "--from alone: the run has its own configuration",
            remedy,
        )
    from striate.cli.output import print_json, results_only

    with results_only(json):
        run = _run(data, fields, out, resume, start, config)
    if not first_process():
        return 0
    if json:
        print_json(run.metrics)
    elif "cv" in run.metrics:
        _print_cross_validation(run.path, run.metrics)
    else:
        _print_result(run.path, run.metrics)
    return 1 if "not_trained" in run.metrics else 0


def _further(path: Path, epochs: object) -> str:
    """The command that trains the network of a finished run further; empty where that is not possible."""
    from striate.runs.directory import RunDirectory, further_command
    from striate.training.rewards.player import plays

    run = RunDirectory(path)
    able = run.metrics_json.is_file() and run.last.is_file() and not plays(path)
    return further_command(path, epochs) if able else ""


def refuse_with_resume(verb: str, resume: Path, others: list[object]) -> None:
    """Raise UsageError for other options together with `--resume`: a run that is resumed has its configuration."""
    if any(value is not None for value in others):
        raise UsageError(
            f"striate {verb} --resume",
            "other options together with it",
            "--resume RUN alone: the run continues with its own configuration",
            f"striate {verb} --resume {pasted(resume)}",
        )


def _run(
    data: str | None,
    fields: dict[str, Any],
    out: Path | None,
    resume: Path | None,
    start: Path | None,
    config: Path | None,
) -> Run:
    from striate.api import resume as resume_run
    from striate.api import train_config
    from striate.cli.output import stderr
    from striate.cli.warm_up import prepare_to_draw
    from striate.machine.program_start import seconds_since_start
    from striate.machine.second_process import begin_second
    from striate.training.request import continued, merge_request, read_config

    begin_second(prepare_to_draw)
    if resume is not None:
        return resume_run(resume, console=stderr())
    begun = read_config(config) if start is None else continued(start)
    merged = merge_request(begun, data=data, fields=fields)
    return train_config(merged, out=out, console=stderr(), spent=seconds_since_start())


def _print_cross_validation(path: Path, metrics: dict[str, Any]) -> None:
    from striate.cli.output import print_text
    from striate.runs.directory import final_command
    from striate.studies.cross_validation.cv_summary import summary_lines

    for line in summary_lines(metrics):
        print_text(line)
    print_text(f"run:    {path}\nreport: {path / 'report.html'}")
    print_text(f"Cross-validation saves no network; to train one: {final_command(path)}")


def _print_result(path: Path, metrics: dict[str, Any]) -> None:
    from striate.cli.output import print_text
    from striate.evaluation.baselines import comparison_lines
    from striate.tasks.registry import network_note, split_line

    if "not_trained" in metrics:
        print_text(metrics["not_trained"])
    for finding in metrics.get("findings", ()):
        if finding["code"] == "fit.too-short" and "not_trained" in metrics:
            continue  # `not_trained` says it more strongly
        print_text(f"{finding['severity']}: {finding['measured']}. {finding['why']}\n  {finding['remedy']}")
    for split in (name for name in ("train", "val", "test") if name in metrics):
        print_text(f"{split + ':':<7}{split_line(metrics[split])}")
    if note := network_note(metrics):
        print_text(note)
    if "without_labels" in metrics:
        print_text(metrics["without_labels"])
    for offer in metrics.get("offers", ()):
        print_text(offer)
    for line in comparison_lines(metrics.get("baselines", ())):
        print_text(line)
    print_text(f"run:    {path}\nreport: {path / 'report.html'}")
