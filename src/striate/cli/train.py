"""`striate train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from striate.cli.fields import TaskName, chosen_fields
from striate.errors import UsageError, pasted
from striate.training.processes.launch import first_process


def train(
    data: str | None = None,
    /,
    *,
    model: str | None = None,
    weights: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    target: float | None = None,
    recipe: Literal["quick", "standard", "speedrun", "fine-tune"] | None = None,
    task: TaskName = None,
    batch: int | None = None,
    lr: float | None = None,
    size: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    keep: Literal["best", "last"] | None = None,
    baseline: Annotated[bool, Parameter(negative=())] = False,
    cv: str | None = None,
    plan: Literal["auto", "plain"] | None = None,
    deterministic: Annotated[bool, Parameter(negative=())] = False,
    fsdp: Annotated[bool, Parameter(negative=())] = False,
    resume: Path | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Train a network on a data set, evaluate it, and write a run directory.

    Any field of the configuration is an option too: --optim.weight_decay 0.1, --augment.flip true,
    --schedule.name cosine; docs/configuration.md lists them. Exit code 0 when the training was completed.

    Parameters
    ----------
    data
        A name (see `striate datasets`), a folder with one subfolder a class, an archive of that, a manifest
        .csv (path,label[,split][,group]), idx files, CIFAR pickles or an .npz. Default: mnist5k.
    model
        A name (see `striate models`), with arguments: "mlp(128,64)"; a layer string: "conv(16,5) relu pool(2)
        fc(10)"; or file.py:function, which RUNS that file; or a run. Default: chosen by the shape of the data.
    weights
        What the network begins with: a run, a checkpoint, a state_dict saved with torch.save, or .safetensors. A run
        or checkpoint names its network. Nothing of the file is executed.
    epochs
        Passes over the training data.
    minutes
        Wall-clock minutes instead, for the whole command; the number of steps follows from the speed measured at the
        start, and is changed where steps become slower or faster.
    target
        End as soon as validation reaches this: accuracy or IoU as a share (0.94), for numbers the RMSE in their units.
    recipe
        How everything left open is chosen: standard (the default), quick, with a quarter of the epochs,
        speedrun, for the best network in little time (with --minutes), or fine-tune, for a network that begins with
        weights (the default there).
    batch
        Samples in one step.
    lr
        Peak learning rate.
    size
        Height and width of the inputs in pixels: 96, or 96x128.
    out
        The run directory, new or empty. Default: runs/<data>-<model>-<number>.
    seed
        Initialization, order, augmentation and dropout follow from it. Default: 0.
    keep
        Which epoch's network is the result: the best on validation, or the last. Default: best, where validation has
        at least 200 samples to tell by.
    baseline
        Also fit what a network has to beat, on the same splits: majority class, logistic regression, HOG and SVM.
        See `striate baseline`.
    cv
        FOLDSxREPEATS of cross-validation, such as 5x5, instead of one training: how good such a network is, as mean
        and deviation over held-out folds. Keeps no network. `null` turns it off on top of --config.
    plan
        How it is computed: auto measures precisions, memory layouts and threads where the run is long enough, checks
        each against plain fp32, and takes the fastest; plain is fp32 as torch computes it by itself. Default: auto.
    deterministic
        Refuse every operation without a deterministic form, and decide nothing by measuring: the same command gives the
        same bits on the same machine.
    fsdp
        Spread the network over the processes that torchrun started, for one that does not fit into the memory of each.
    resume
        Go on with this run, bit for bit as if it had not been interrupted. Needs no DATA.
    config
        A config.yaml, for example of an earlier run; other options go on top of it.
    set
        A field of the configuration: `--set optim.momentum=0.8`, or shorter `--optim.momentum 0.8`.
    json
        Print metrics.json on stdout, everything else on stderr.
    """
    given = {
        "model.name": model,
        "model.weights": weights,
        "recipe": recipe,
        "task.name": task,
        "batch": batch,
        "optim.lr": lr,
        "budget.target": target,
        "seed": seed,
        "keep": keep,
        "baseline": baseline or None,
        "cv": cv,
        "execution.plan": plan,
        "execution.fsdp": fsdp or None,
        "execution.deterministic": deterministic or None,
    }
    chosen = chosen_fields(given, set or [])
    if resume is not None:
        others = [data, epochs, minutes, size, out, config, *chosen.values()]
        if any(value is not None for value in others):
            raise UsageError(
                "striate train --resume",
                "other options beside it",
                "--resume RUN alone: a run goes on with the configuration that it started with",
                f"striate train --resume {pasted(resume)}",
            )
    from striate.api import resume as resume_run
    from striate.api import train_config
    from striate.cli.output import print_json, results_only, stderr
    from striate.machine.program_start import seconds_since_start
    from striate.training.request import merge_request, read_config

    with results_only(json):
        if resume is not None:
            run = resume_run(resume, console=stderr())
        else:
            merged = merge_request(
                read_config(config), data=data, epochs=epochs, minutes=minutes, size=size, fields=chosen
            )
            run = train_config(merged, out=out, console=stderr(), spent=seconds_since_start())
    if not first_process():
        return 0
    if json:
        print_json(run.metrics)
    elif "cv" in run.metrics:
        _print_cross_validation(run.path, run.metrics)
    else:
        _print_result(run.path, run.metrics)
    return 0


def _print_cross_validation(path: Path, metrics: dict[str, Any]) -> None:
    from striate.cli.output import print_text
    from striate.studies.cross_validation.content import final_command
    from striate.studies.cross_validation.summary import summary_lines

    for line in summary_lines(metrics):
        print_text(line)
    print_text(f"run:    {path}\nreport: {path / 'report.html'}")
    print_text(f"no network is kept; to train one: {final_command(path)}")


def _print_result(path: Path, metrics: dict[str, Any]) -> None:
    from striate.cli.output import print_text
    from striate.evaluation.baselines import comparison_lines
    from striate.tasks.metric_names import split_line

    for split in ("train", "val", "test"):
        print_text(f"{split + ':':<7}{split_line(metrics[split])}")
    for line in comparison_lines(metrics.get("baselines", ())):
        print_text(line)
    print_text(f"run:    {path}\nreport: {path / 'report.html'}")
