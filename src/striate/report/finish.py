"""Finish a run after training: measure every split, write pictures, metrics.json and the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from striate.account.ledger import Ledger
from striate.account.summarize import count_parameters, observe
from striate.data.dataset import Dataset
from striate.data.drawn_inputs import drawn_inputs
from striate.data.loader import batch_bounds
from striate.evaluation.assessment import assess_run, save_assessment
from striate.evaluation.evaluate import evaluate_trained, plan_evaluation
from striate.evaluation.written_inference import write_inference, written_inference
from striate.machine.memory import only_new_garbage
from striate.machine.second_process import Later, later
from striate.report.baselines import Compared, describe_baselines, draw_baselines, measure_baselines
from striate.report.boltzmann import measure_boltzmann
from striate.report.codes import draw_codes, find_codes
from striate.report.content import BaselineContent, end_findings, run_content
from striate.report.offers import temperature_offer, views_offer
from striate.report.pictures import draw_curves, draw_first_filters, first_filters
from striate.report.sharing import SharedTarget, measure_sharing, sharing_section
from striate.report.signal import complete_signal, draw_signal, signal_table
from striate.report.streams import measure_streams
from striate.report.write import write_report
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, read_plan_summary
from striate.runs.events import append_event, note_finished
from striate.runs.files import write_json
from striate.tasks.assessment import Assessment
from striate.tasks.evaluation import Evaluation
from striate.tasks.metric import Metric
from striate.tasks.show import drawable_images, slices_section, split_text
from striate.tasks.task import Task
from striate.training.budget.forecast import read_forecast, with_outcome
from striate.training.budget.steps import not_trained
from striate.training.config import Config
from striate.training.config_file import config_to_dict
from striate.training.early_stop import TargetOutcome, best_epoch, early_end, target_outcome
from striate.training.events import EpochRow, StepsChanged
from striate.training.execution import measured_at_once
from striate.training.late_fusion import fuse_streams
from striate.training.loop import validate
from striate.training.measured import measured_part, watched_count, without_labels
from striate.training.prepare import Prepared
from striate.training.step_losses import read_step_losses
from striate.training.trained import Trained, settled
from striate.visualize.canvas import load_drawing
from striate.visualize.inside.filters import FilterBank
from striate.visualize.page_parts import Picture, Section

_OFFERED = 0.02
"""Largest share of the time so far for testing whether test-time augmentation would help."""
_VIEWS_COST = 0.01  # of the accuracy; a smaller loss changes no decision


@only_new_garbage()
def finish_run(
    run: RunDirectory, prepared: Prepared, announce: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure the best epoch's network on every split and write evaluation.json, predictions, plots, report.html and
    metrics.json, in this order.

    With `config.baseline` also its baselines, which are announced. metrics.json is written last: a run that has it is
    complete. Returns its content. Raises RunError.
    """
    began = monotonic()
    for sentence in _endings(prepared):
        # The first two are printed with the results; the other was announced when it happened.
        if sentence not in (_not_trained(prepared), _without_labels(prepared), str(_other_steps(prepared.config))):
            announce(sentence)
    best = load_checkpoint(run.best, prepared.device)
    prepared.state.eval_module.load_state_dict(best.get("ema") or best["model"])
    prepared = replace(prepared, task=settled(prepared.task, best))
    if fused := fuse_streams(run, prepared, best):
        announce(fused)
    trained, data = prepared.trained(), prepared.data
    start, end = complete_signal(run, prepared)
    signal = later(draw_signal, run.plots, start, end, data.name)  # drawn while the splits are measured
    evaluations, offered = _evaluate(run, prepared, trained, announce)
    measured = evaluations[data.held_out]
    figures = later(assess_run, prepared.task, _without_samples(data), evaluations)
    samples = _sample_pictures(run, prepared, measured)
    filters = later(draw_first_filters, run.plots, _first_filters(prepared), data.name)
    curves = _curves(run, prepared)
    codes = later(draw_codes, run.plots, find_codes(prepared))
    ledger = observe(prepared.state.module, data.input_shape)
    load_drawing()  # while the other process computes the assessment
    assessment = figures.result()
    save_assessment(run, assessment, data, evaluations, announce)
    if lost := views_lost(measured.metrics, measured.n, prepared.task.metrics[0]):
        announce(lost)
        append_event(run, "note", text=lost)
    metrics = _metrics(run, prepared, evaluations, ledger)
    if (untrained := _not_trained(prepared)) is not None:
        metrics["not_trained"] = untrained
    if (unlabeled := _without_labels(prepared)) is not None:
        metrics["without_labels"] = unlabeled
    if (outcome := _target_outcome(prepared)) is not None:
        metrics["target"] = outcome.to_json()
    noticed = end_findings(run, prepared, evaluations["val"], measured, metrics["epochs"])
    metrics["offers"] = [
        *offered,
        *temperature_offer(run.path, prepared.task, evaluations["val"], assessment.temperature),
    ]
    metrics["findings"] = [finding.to_json() for finding in noticed]
    # In this process: the other one draws the samples.
    task_fields = of_task(prepared.task, measured, assessment, _names(data, measured))
    pictures = [curves.result(), *samples.result(), signal.result()]
    baselines, drawn, sections = _comparisons(run, prepared, measured, metrics, announce, fused)
    pictures += (*drawn, *codes.result(), *filters.result())
    content = replace(
        run_content(run, prepared, evaluations, metrics, pictures, ledger, _endings(prepared), noticed),
        baselines=baselines,
        offers=metrics["offers"],
        signal=signal_table(start, end),
        assessment=assessment,
        **task_fields,
    )
    content = replace(content, sections=(*sections, *content.sections))
    write_report(run.report, content)
    if (known := read_forecast(run)) is not None:
        taken = prepared.state.elapsed + monotonic() - began
        reached = metrics[data.held_out].get("accuracy")
        metrics["forecast"] = with_outcome(known[0], taken, reached, whole=_early_end(prepared) is None)
    write_json(run.metrics_json, metrics)
    append_event(run, "finished", **{data.held_out: metrics[data.held_out]})
    note_finished(run)
    return metrics


def _comparisons(
    run: RunDirectory,
    prepared: Prepared,
    measured: Evaluation,
    metrics: dict[str, Any],
    announce: Callable[[str], None],
    fused: str,
) -> tuple[BaselineContent | None, list[Picture], tuple[Section, ...]]:
    """Compare the network with baselines, with a network for each target, with its streams, and measure a Boltzmann
    machine.

    The results are added to `metrics`; `fused` says how the streams are fused. Returns the comparison with the
    baselines, pictures, and sections of the report."""
    baselines: BaselineContent | None = None
    pictures, sections = list[Picture](), list[Section]()
    if prepared.config.baseline:
        compared = measure_baselines(prepared, measured, announce)
        metrics["baselines"] = [entry.to_json() for entry in compared]
        baselines = _baseline_content(prepared, compared, measured, metrics["train_seconds"])
        pictures.append(draw_baselines(run.plots, compared, measured, prepared.task))
    shared: tuple[SharedTarget, ...] = ()
    if prepared.config.compare_single:
        shared = measure_sharing(prepared, measured, announce)
        metrics["single"] = {one.name: one.to_json() for one in shared}
        for one in shared:
            announce(one.sentence)
    if (streams := measure_streams(prepared, measured, fused, announce)) is not None:
        metrics |= {"streams": dict(streams.metrics), "fusion": streams.fusion()}
        sections.append(streams.section(split_text(measured)))
    if (boltzmann := measure_boltzmann(prepared, announce)) is not None:
        metrics["boltzmann"] = boltzmann.to_json()
        sections.append(boltzmann.section())
    return baselines, pictures, (*sections, *sharing_section(shared, split_text(measured)))


def _first_filters(prepared: Prepared) -> FilterBank | None:
    """The filters of the first layer, also of a fully connected one if the network has a `filter_shape`."""
    network: Any = prepared.state.eval_module
    return first_filters(network, getattr(network, "filter_shape", None))


def _evaluate(
    run: RunDirectory, prepared: Prepared, trained: Trained, announce: Callable[[str], None]
) -> tuple[dict[str, Evaluation], Sequence[str]]:
    """Evaluate every split with the same backend, which is announced; and, if it takes little of the time, test whether
    test-time augmentation predicts validation better."""
    execution, splits = prepared.config.execution, tuple(prepared.data.splits)
    data, batch = measured_part(prepared.data, prepared.config), measured_at_once(prepared.config)
    recorded = written_inference(run)
    predictor = plan_evaluation(
        trained, data, splits, batch=batch, mode=execution.plan, recorded=recorded, trained_in=execution.precision
    )
    if predictor.plan is not recorded:
        write_inference(run, predictor.plan)
    if line := predictor.plan.line():
        announce(line)
    evaluations: dict[str, Evaluation] = {}
    offered: Sequence[str] = ()
    for name in splits:
        began = monotonic()
        found = evaluate_trained(trained, data, name, batch=batch, predictor=predictor)
        seconds = 2 * (monotonic() - began)
        evaluations[name] = _with_sparsity(found, prepared)
        mirrored = data.medium.pictures and prepared.config.augment.flip and trained.views == "none"
        if name == "val" and mirrored and trained.task.mean_of_views and seconds < _OFFERED * prepared.state.elapsed:
            offered = views_offer(run.path, trained, data, found, predictor, batch)
    return evaluations, offered


def views_lost(metrics: dict[str, Any], n: int, headline: Metric) -> str:
    """A sentence on the accuracy that test-time augmentation costs; empty if it costs none, or so little that chance
    explains it for `n` samples."""
    alone, several = metrics.get(f"{headline.key}_one_view"), metrics.get(headline.key)
    if alone is None or several is None or alone <= several:
        return ""
    # At least this share of the samples changed, each in a random direction by chance.
    if alone - several < max(_VIEWS_COST, 2 * math.sqrt((alone - several) / n)):
        return ""
    points = 100 * (alone - several)
    cost = f"test-time augmentation costs {points:.1f} points of test {headline.name}"
    return f"{cost}: turn it off with --evaluation.views none"


def _with_sparsity(evaluation: Evaluation, prepared: Prepared) -> Evaluation:
    """The evaluation with the share of inactive hidden outputs, if the training penalizes them."""
    if not prepared.config.regularize.penalizes_activations:
        return evaluation
    split, network = prepared.splits[evaluation.split], prepared.state.eval_module
    measured = validate(network, prepared.objective, split, prepared.config, prepared.normalize)
    return replace(evaluation, metrics=evaluation.metrics | {"hidden_sparsity": measured["hidden_sparsity"]})


def _metrics(
    run: RunDirectory, prepared: Prepared, evaluations: dict[str, Evaluation], ledger: Ledger
) -> dict[str, Any]:
    config, history = prepared.config, prepared.state.history
    seconds = sum(row.seconds for row in history)
    return {
        "task": prepared.task.name,
        "model": config.model.name,
        "data": prepared.data.name,
        "params": count_parameters(prepared.state.module),
        "macs": ledger.macs,
        "epochs": _epochs(prepared),
        "steps": prepared.state.step,
        "best_epoch": _best_epoch(prepared),
        "train_seconds": round(seconds, 3),
        "images_per_second": round(sum(row.samples for row in history) / seconds, 1) if seconds else None,
        "data_wait": _mean_share(history, "data_wait"),
        "augment_share": _mean_share(history, "augment_share"),
        "device": config.execution.device,
        "plan": config_to_dict(config)["execution"] | read_plan_summary(run),
        "inference": evaluations[prepared.data.held_out].inference.to_json(),
        **{name: _split_metrics(evaluation, len(prepared.splits[name])) for name, evaluation in evaluations.items()},
    }


def _split_metrics(evaluation: Evaluation, of: int) -> dict[str, Any]:
    """The metrics of a split; `of`: its number of samples, where only `n` of them were measured."""
    return evaluation.metrics | ({"of": of} if evaluation.n < of else {})


def _mean_share(history: list[EpochRow], name: str) -> float | None:
    """A share of the time of all epochs; None unless it was measured in all of them."""
    shares = [(getattr(row, name), row.seconds) for row in history]
    seconds = sum(seconds for _, seconds in shares)
    if not seconds or any(share is None for share, _ in shares):
        return None
    mean: float = sum(share * taken for share, taken in shares) / seconds
    return round(mean, 4)


def _epochs(prepared: Prepared) -> int | float:
    """Passes over the training split; a fraction if the budget ended within one."""
    assert prepared.config.batch is not None
    per_epoch = len(batch_bounds(len(prepared.splits["train"]), prepared.config.batch))
    whole, rest = divmod(prepared.state.step, per_epoch)
    return round(prepared.state.step / per_epoch, 4) if rest else whole


def _best_epoch(prepared: Prepared) -> int:
    rows = prepared.state.history
    return rows[-1].epoch if prepared.config.keep == "last" else best_epoch(rows, prepared.task)


def _endings(prepared: Prepared) -> tuple[str, ...]:
    """Sentences on how training ended if not with its budget."""
    endings = (_not_trained(prepared), _without_labels(prepared), _early_end(prepared))
    every = (*endings, _target_outcome(prepared), _other_steps(prepared.config))
    return tuple(str(ending) for ending in every if ending is not None)


def _not_trained(prepared: Prepared) -> str | None:
    return not_trained(prepared.state.step, _epochs(prepared), prepared.config)


def _without_labels(prepared: Prepared) -> str | None:
    best = _best_epoch(prepared)
    return without_labels(prepared.config, next(row.val for row in prepared.state.history if row.epoch == best))


def _other_steps(config: Config) -> StepsChanged | None:
    """The change from the planned number of steps to the actual one; None without a change."""
    budget = config.budget
    if not budget.steps_before or budget.steps is None or budget.minutes is None:
        return None
    done, first = budget.steps_before[0]
    return None if first == budget.steps else StepsChanged(done, first, budget.steps, 60 * budget.minutes, config)


def _target_outcome(prepared: Prepared) -> TargetOutcome | None:
    state, target = prepared.state, prepared.config.budget.target
    watched = watched_count(len(prepared.splits["val"]), prepared.config)
    return target_outcome(state.history, target, prepared.task, state.elapsed, watched)


def _early_end(prepared: Prepared) -> str | None:
    steps, batch = prepared.config.budget.steps, prepared.config.batch
    assert steps is not None and batch is not None, "recipes decide both"
    epochs = -(-steps // len(batch_bounds(len(prepared.splits["train"]), batch)))
    return early_end(prepared.state.history, prepared.task, epochs, prepared.config.budget.target)


def _curves(run: RunDirectory, prepared: Prepared) -> Later[Picture]:
    """The learning curves, drawn into `plots/`."""
    return later(
        partial(
            draw_curves,
            run.plots,
            [row.flat() for row in prepared.state.history],
            metric=prepared.task.metrics[0],
            data=prepared.data.name,
            sizes={name: len(split) for name, split in prepared.data.splits.items()}
            | {"val": watched_count(len(prepared.splits["val"]), prepared.config)},
            best_epoch=None if prepared.config.keep == "last" else _best_epoch(prepared),
            passes=_epochs(prepared),
            steps=read_step_losses(run),
        )
    )


def _names(data: Dataset, test: Evaluation) -> Sequence[str]:
    return data.facts[test.split].paths if test.split in data.facts else ()


def _sample_pictures(run: RunDirectory, prepared: Prepared, test: Evaluation) -> Later[tuple[Picture, ...]]:
    """Pictures of predictions, drawn into `plots/`."""
    data, task = prepared.data, prepared.task
    inputs = data.splits[test.split].inputs
    names = _names(data, test)
    shown = drawable_images(inputs) if data.medium.shows_itself else drawn_inputs(inputs, data.preparation)
    draw = partial(task.pictures, run.plots, test, shown, names=names)
    # Samples on the disk are not copied between processes.
    return later(draw) if data.store == "memory" else Later(draw, (), None)


def _without_samples(data: Dataset) -> Dataset:
    """The data without samples, as an assessment needs them."""
    return replace(data, splits={}, contents={}, units={})


def of_task(task: Task, test: Evaluation, assessment: Assessment, names: Sequence[str] = ()) -> dict[str, Any]:
    """The task's fields of `ReportContent`, for the held-out split; `names` are those of its samples."""
    figures = assessment.splits.get(test.split)
    of = f"{test.split} split of {assessment.data}, n = {test.n:,}"
    own = () if figures is None else task.sections(assessment, figures, of)
    return {
        "answer": task.headline_text(test),
        "tables": task.tables(test, figures, names),
        "sections": (*own, *(() if figures is None else slices_section(figures, task.metrics[0], of))),
    }


def _baseline_content(
    prepared: Prepared, compared: Sequence[Compared], test: Evaluation, seconds: float
) -> BaselineContent:
    network = test.metrics | {"n_train": len(prepared.data.splits["train"]), "seconds": seconds}
    return describe_baselines(compared, network, f"test split of {prepared.data.name}, n = {test.n:,}")
