"""`striate eval`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from striate.api.fields_of_data import MEASURED, refuse_unused
from striate.cli.fields import takes_fields
from striate.cli.kept_measure import print_kept_measure
from striate.cli.learning_curve import read_counts, read_seeds

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
        A run directory.
    data
        Other data in any form that `striate train` takes; classes are matched by name. The given test split is
        used, or everything where there is none. What is measured is written into the run's folder evaluations.
        Default: the test split that the run set aside.
    plan
        `auto`: for many samples the fastest backend is chosen whose predictions agree with plain fp32, and named on
        stderr; `plain` takes plain fp32.
    cost
        What it costs to miss a class, 1 where not named: ill=10, or ill=10,doubtful=3. The predicted class is the one
        with the largest cost × probability; probabilities stay as they are.
    threshold
        The probability from which on a class is predicted, else the most probable other class is: ill=0.2. Without a
        number, the threshold with the best F1 on the run's validation split. What changes beside the most probable
        class is printed.
    unknown
        Measure instead how well the network tells that a sample is of nothing that it was trained on: a folder of
        pictures of other things, or data in any other form. AUROC, and how many of them pass where 95 % of the held-out
        samples do; and what the sets of `predict --reject` promise and hold.
    robustness
        Measure robustness instead: the accuracy when images of the test split, or of the data (1,000 at most), are
        shifted, rotated, scaled, covered, deformed, tilted, cluttered, lit differently, noisy, blurred or stored as
        JPEG.
        Written into the run: robustness.json and plots/robustness.png; of other data into its folder evaluations.
    invariance
        Measure instead how far the features of each layer move, and the probability of the true class, when images of
        the test split (200 at most) are shifted, scaled or turned (Zeiler and Fergus 2014). Written into the run:
        invariance.json and plots/invariance.png.
    learning_curve
        Train the network anew on 1/8, 1/4 and 1/2 of the run's training samples, and estimate what twice as many
        would bring. Takes about 1.6 times as long as the run did. It is repeated with three seeds where that takes two
        minutes at most. Written into the run: learning-curve.json and plots/learning-curve.png.
    weights
        With --learning-curve: a run, or other pretrained weights as `striate train --weights` takes them. Each training
        is done twice, from random weights and from these, and the difference is told with its 95 % interval.
    counts
        With --learning-curve: numbers of training samples, 100,1000,60000, instead of 1/8, 1/4, 1/2 and all.
    seeds
        With --learning-curve: how many seeds, from that of the run on. Each draws other parts and other weights.
    json
        Print one JSON document on stdout: metrics, confusion matrix, metrics of each class, and the part of
        evaluation.json about the split.
    """
    refuse_unused(fields, MEASURED, "an evaluation")
    if _plays(run):
        options: dict[str, object] = {"--cost": cost, "--threshold": threshold, "--unknown": unknown, "DATA": data}
        options |= {"--robustness": robustness, "--learning-curve": learning_curve, "--invariance": invariance}
        options |= {"--weights": weights, "--counts": counts, "--seeds": seeds}
        return _print_episodes(run, [name for name, given in options.items() if given], json=json)
    curve = {"--weights": weights, "--counts": counts, "--seeds": seeds}
    asked = [option for option, value in curve.items() if value is not None]
    if asked and not learning_curve:
        raise _without_curve(run, asked[0], curve[asked[0]])
    if unknown is not None:
        others: dict[str, object] = {"--robustness": robustness, "--invariance": invariance}
        others |= {"--learning-curve": learning_curve}
        others |= {"--cost": cost, "--threshold": threshold, "other data": data}
        return _print_unknown(run, unknown, [name for name, given in others.items() if given], json=json)
    if cost or threshold:
        for option, given in (
            ("--robustness", robustness),
            ("--invariance", invariance),
            ("--learning-curve", learning_curve),
        ):
            if given:
                raise _with_rule(run, option)
    others = {"--invariance": invariance, "--learning-curve": learning_curve}
    beside = next((option for option, given in others.items() if given), "")
    if robustness:
        _refuse_together(run, None, "--robustness", beside)
        from striate.api import robustness as measure_robustness
        from striate.api import write_robustness

        write = partial(write_robustness, other=data is not None)
        return print_kept_measure(run, partial(measure_robustness, data=data, plan=plan), write, json=json)
    if invariance:
        _refuse_together(run, data, "--invariance", "--learning-curve" if learning_curve else "")
        from striate.api import invariance as measure_invariance
        from striate.api import write_invariance

        return print_kept_measure(run, measure_invariance, write_invariance, json=json)
    if learning_curve:
        _refuse_together(run, data, "--learning-curve")
        from striate.api import learning_curve as measure_learning_curve
        from striate.api import write_learning_curve

        measure = partial(
            measure_learning_curve, weights=weights, counts=read_counts(counts), seeds=read_seeds(seeds, run)
        )
        return print_kept_measure(run, measure, write_learning_curve, json=json)
    from striate.api import evaluate as evaluate_run
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        evaluation = evaluate_run(
            run, data, names=fields.get("data.names"), plan=plan, cost=cost, threshold=threshold, announce=print_note
        )
    for said in (*evaluation.notes, *evaluation.findings):
        print_note(str(said))
    if line := evaluation.inference.line():
        print_note(line)
    if json:
        print_json(evaluation.to_json())
    else:
        print_text(str(evaluation))
    if data is not None:
        _keep(run, evaluation)
    return 1 if any(finding.severity == "error" for finding in evaluation.findings) else 0


def _plays(run: Path) -> bool:
    """Whether the run learned from rewards."""
    from striate.data.environments.open_environment import is_environment
    from striate.runs.directory import open_run
    from striate.training.config_file import config_from_yaml

    return is_environment(config_from_yaml(open_run(run).config).data.source)


def _print_episodes(run: Path, others: list[str], *, json: bool) -> int:
    from striate.api import evaluate_player
    from striate.cli.output import print_json, print_text
    from striate.errors import UsageError, pasted
    from striate.tasks.control.play import return_line

    if others:
        got = f"{others[0]} for a network that plays"
        raise UsageError("striate eval", got, "the run alone: its test episodes", f"striate eval {pasted(run)}")
    metrics = evaluate_player(run).metrics()
    if json:
        print_json({"split": "test", **metrics})
    else:
        print_text(f"test: {return_line(metrics)}")
    return 0


def _print_unknown(run: Path, unknown: str, others: list[str], *, json: bool) -> int:
    from striate.api import evaluate_unknown
    from striate.cli.output import print_json, print_note, print_text, results_only
    from striate.errors import UsageError, pasted

    if others:
        remedy = f"striate eval {pasted(run)} --unknown {pasted(unknown)}"
        raise UsageError("striate eval", f"--unknown with {others[0]}", "one measurement", remedy)
    with results_only(json):
        found = evaluate_unknown(run, unknown, announce=print_note)
    if json:
        print_json(found.to_json())
    else:
        print_text(str(found))
    return 0


def _keep(run: Path, evaluation: Evaluation) -> None:
    """Write what was measured on other data into the run; say so, and also where the run cannot be written to."""
    from striate.api import write_evaluation
    from striate.cli.output import print_note
    from striate.errors import RunError

    try:
        print_note(f"written: {write_evaluation(run, evaluation)[-1]}, and the same as .json")
    except RunError as error:
        print_note(f"not written: {error.where}: {error.got}")


def _without_curve(run: Path, option: str, value: object) -> Exception:
    from striate.errors import UsageError, pasted

    remedy = f"striate eval {pasted(run)} --learning-curve {option} {pasted(str(value))}"
    return UsageError(option, str(value), "this option beside --learning-curve", remedy)


def _with_rule(run: Path, option: str) -> Exception:
    from striate.errors import UsageError, pasted

    return UsageError(
        "striate eval",
        f"--cost or --threshold with {option}",
        "one of them; a run trained with --task.cost is measured by it",
        f"striate eval {pasted(run)} {option}",
    )


def _refuse_together(run: Path, data: str | None, option: str, beside: str = "") -> None:
    """Raise UsageError where an option comes with data, or with another option, that it has no use for."""
    got = f"{option} with other data, {data}" if data is not None else ""
    got = got or (f"{option} with {beside}" if beside else "")
    if got:
        from striate.errors import UsageError, pasted

        raise UsageError(
            "striate eval", got, "one measurement of the run's own data", f"striate eval {pasted(run)} {option}"
        )
