"""`striate eval`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from striate.api.fields_of_data import MEASURED, refuse_unused
from striate.cli.fields import takes_fields
from striate.cli.learning_curve import read_counts, read_seeds
from striate.cli.output import measure_and_write

if TYPE_CHECKING:
    from striate.tasks.evaluation import Evaluation


@takes_fields(*MEASURED)
def evaluate(
    run: Path,
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    plan: Literal["auto", "plain"] = "auto",
    cost: Annotated[list[str] | None, Parameter(negative=())] = None,
    threshold: Annotated[list[str] | None, Parameter(negative=())] = None,
    unknown: str | None = None,
    robustness: Annotated[bool, Parameter(negative=())] = False,
    invariance: Annotated[bool, Parameter(negative=())] = False,
    learning_curve: Annotated[bool, Parameter(negative=())] = False,
    weights: str | None = None,
    counts: str | None = None,
    seeds: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Evaluate a trained network on its test split or on other data.

    Exit code 1 if some of the data could not be read.

    Parameters
    ----------
    run
        A run directory; with DATA also the folder of striate export --format hub.
    data
        Other data in any form that `striate train` takes; classes are matched by name. The given test split is
        used, or everything where there is none. What is measured is written into the run's folder evaluations.
        Default: the test split that the run set aside.
    plan
        `auto`: for many samples the fastest backend is chosen whose predictions agree with plain fp32, and named on
        stderr; `plain` takes plain fp32.
    cost
        The cost of missing a class: ill=10, or ill=10,doubtful=3; 1 for the others. The predicted class is the one
        with the largest cost × probability; probabilities stay as they are.
    threshold
        Predict a class if its probability is at least this threshold, otherwise the most probable other class: ill=0.2.
        Without a number: the threshold with the best F1 on the run's validation split. What changes others the most
        probable class is printed.
    unknown
        Measure instead how well the network recognizes samples of classes that it was not trained on: a folder of such
        pictures, or data in any other form. Reports AUROC, the false positive rate where 95 % of the held-out samples
        are accepted, and the promised and the measured coverage of `predict --reject`.
    robustness
        Measure robustness instead: the accuracy when images of the test split, or of the data (1,000 at most), are
        shifted, rotated, scaled, covered, deformed, tilted, cluttered, lit differently, noisy, blurred or stored as
        JPEG.
        Written into the run: robustness.json and plots/robustness.png; of other data into its folder evaluations.
    invariance
        Measure instead how much the features of each layer and the probability of the true class change when images of
        the test split (200 at most) are shifted, scaled or rotated (Zeiler and Fergus 2014). Written into the run:
        invariance.json and plots/invariance.png.
    learning_curve
        Train the network anew on 1/8, 1/4 and 1/2 of the run's training samples, and estimate what twice as many
        would bring. Takes about 1.6 times as long as the run did. Three seeds are used if that takes two minutes at
        most. Written into the run: learning-curve.json and plots/learning-curve.png.
    weights
        With --learning-curve: a run, or other pretrained weights as `striate train --weights` takes them. Each training
        is done twice, from random weights and from these, and the difference is printed with its 95 % interval.
    counts
        With --learning-curve: numbers of training samples, 100,1000,60000, instead of 1/8, 1/4, 1/2 and all.
    seeds
        With --learning-curve: number of seeds, counted up from that of the run. Each seed draws other samples and
        another initialization.
    json
        Print one JSON document on stdout: metrics, confusion matrix, metrics of each class, and the part of
        evaluation.json about the split.
    """
    refuse_unused(fields, MEASURED, "an evaluation")
    kinds = {"--unknown": unknown, "--robustness": robustness, "--invariance": invariance}
    kinds |= {"--learning-curve": learning_curve}
    curve = {"--weights": weights, "--counts": counts, "--seeds": seeds}
    own = {"--cost": cost, "--threshold": threshold, "other data": data, "--data.names": fields.get("data.names")}
    others = _given(own)
    chosen, of_curve = _given(kinds), _given(curve)
    if _plays(run):
        return _print_episodes(run, [*chosen, *of_curve, *others], json=json)
    if of_curve and not learning_curve:
        raise _without_curve(run, of_curve[0], curve[of_curve[0]])
    if not chosen:
        return _print_evaluation(run, data, fields.get("data.names"), plan, cost, threshold, json=json)
    _refuse_together(run, chosen, others, unknown)
    measure, write = _measurement(run, chosen[0], data, plan, unknown, weights, read_counts(counts), seeds)
    return measure_and_write(run, measure, write, json=json)


def _given(options: Mapping[str, object]) -> list[str]:
    """The options that were given."""
    return [name for name, value in options.items() if value is not None and value is not False and value != []]


def _measurement(
    run: Path,
    kind: str,
    data: str | None,
    plan: Literal["auto", "plain"],
    unknown: str | None,
    weights: str | None,
    counts: tuple[int, ...] | None,
    seeds: int | None,
) -> tuple[Callable[..., Any], Callable[[Path, Any], tuple[Path, ...]]]:
    """The function that measures the run, and the one that writes the result into it."""
    from striate import api

    if kind == "--unknown":
        return lambda run, announce: api.evaluate_unknown(run, str(unknown), announce=announce), lambda *_: ()
    if kind == "--robustness":
        robustness = partial(api.robustness, data=data, plan=plan)
        return robustness, partial(api.write_robustness, other=data is not None)
    if kind == "--invariance":
        return api.invariance, api.write_invariance
    curve = partial(api.learning_curve, weights=weights, counts=counts, seeds=read_seeds(seeds, run))
    return curve, api.write_learning_curve


def _print_evaluation(
    run: Path,
    data: str | None,
    names: Any,
    plan: Literal["auto", "plain"],
    cost: list[str] | None,
    threshold: list[str] | None,
    *,
    json: bool,
) -> int:
    from striate.api import evaluate as evaluate_run
    from striate.cli.output import exit_code, print_note, print_result, results_only

    with results_only(json):
        evaluation = evaluate_run(
            run, data, names=names, plan=plan, cost=cost, threshold=threshold, announce=print_note
        )
    for said in (*evaluation.notes, *evaluation.findings):
        print_note(str(said))
    if line := evaluation.inference.line():
        print_note(line)
    print_result(evaluation if json else replace(evaluation, findings=()), json=json)  # findings are printed already
    if data is not None:
        _write(run, evaluation)
    return exit_code(evaluation.findings)


def _plays(run: Path) -> bool:
    """Whether the run learned from rewards."""
    from striate.data.environments.open_environment import is_environment
    from striate.exporting.exported_file import is_exported
    from striate.runs.directory import open_run
    from striate.training.config_file import config_from_yaml

    return not is_exported(run) and is_environment(config_from_yaml(open_run(run).config).data.source)


def _print_episodes(run: Path, others: list[str], *, json: bool) -> int:
    from striate.api import evaluate_player
    from striate.cli.output import print_result
    from striate.errors import UsageError, pasted
    from striate.tasks.control.play import return_line

    if others:
        got = f"{others[0]} with a network that plays"
        raise UsageError("striate eval", got, "the run alone: its test episodes", f"striate eval {pasted(run)}")
    metrics = evaluate_player(run).metrics()
    print_result({"split": "test", **metrics}, f"test: {return_line(metrics)}", json=json)
    return 0


def _write(run: Path, evaluation: Evaluation) -> None:
    """Write the evaluation on other data into the run."""
    from striate.api import write_evaluation
    from striate.cli.output import print_written

    print_written(lambda: [f"{write_evaluation(run, evaluation)[-1]}, and the same as .json"])


def _without_curve(run: Path, option: str, value: object) -> Exception:
    from striate.errors import UsageError, pasted

    remedy = f"striate eval {pasted(run)} --learning-curve {option} {pasted(str(value))}"
    return UsageError(option, str(value), "this option together with --learning-curve", remedy)


def _refuse_together(run: Path, chosen: Sequence[str], others: Sequence[str], unknown: str | None) -> None:
    """Raise UsageError for a measurement together with another one, or with an option that it does not use."""
    option = chosen[0]
    others = [*chosen[1:], *(name for name in others if name != "other data" or option != "--robustness")]
    if others:
        from striate.errors import UsageError, pasted

        got, value = f"{option} with {others[0]}", f" {pasted(str(unknown))}" if option == "--unknown" else ""
        expected = "one measurement, of the run as it was trained"
        raise UsageError("striate eval", got, expected, f"striate eval {pasted(run)} {option}{value}")
