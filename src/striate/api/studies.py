"""Studies of several trainings: learning curves, the search for a learning rate, sweeps of configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from striate.api.announcing import Announce, announce_decisions, announcer
from striate.api.keywords import known_keywords
from striate.api.networks import load
from striate.api.training import Run
from striate.data.sources.objects import Data, given_data
from striate.errors import UsageError
from striate.models.build import Model, named_model
from striate.models.config import NONE
from striate.models.preserved_state import usual_torch
from striate.models.trusted_code import is_given
from striate.runs.directory import RunPath, open_run, path_of_run, read_metrics
from striate.runs.files import explained_in_place, write_json
from striate.studies.learning_curve.learning_curve import LearningCurve
from striate.studies.learning_curve.measure_learning_curve import (
    FinishedRun,
    measure_learning_curve,
    refuse_unmeasurable,
)
from striate.studies.sweep.run_sweep import Sweep, SweepRequest, run_sweep
from striate.studies.sweep.space import refuse_fixed, space_texts
from striate.tasks.registry import metric_named, saved_predictions
from striate.training.config_file import config_from_yaml
from striate.training.execution import memory_explained
from striate.training.learning_rate.records import LearningRateSearch
from striate.training.prepare import prepare, read_data
from striate.training.request import ConfigSource, merge_request, read_config, requested_fields

_DPI = 120


@usual_torch()
def learning_curve(
    run: str | Path | Run,
    *,
    weights: str | Path | None = None,
    counts: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    announce: Announce | None = None,
) -> LearningCurve:
    """Measure the network of a finished run with 1/8, 1/4 and 1/2 of its training samples, and estimate it, by a power
    law, for twice as many.

    The network is trained anew on each part, with the run's configuration; steps as in `steps_for`. `counts`: numbers
    of training samples instead of these parts. `weights`: a run, or other pretrained weights as `train` takes them;
    each training is then done twice, from random weights and from these, and both are compared. `seeds`: by default
    three, counted up from the run's seed, if that takes two minutes at most or trainings are compared; else the run's
    seed. Nothing is written.
    Raises RunError for a run that is not complete or has no network, DataError, ConfigError, ModelError.
    """
    say = announce or (lambda _: None)
    opened = open_run(path_of_run(run))
    load(opened.path)  # says what is missing, where the network cannot be built again
    config, metrics = config_from_yaml(opened.config), read_metrics(opened)
    saved = saved_predictions(opened, "test")
    predicted = None if saved is None else saved.predictions if saved.predicted is None else saved.predicted
    finished = FinishedRun(
        config, int(metrics["steps"]), float(metrics["train_seconds"]), None if saved is None else saved.ids, predicted
    )
    named = None if weights is None else str(weights)
    if named in ("", NONE):
        raise UsageError("--weights", repr(named), "a run or other pretrained weights", "leave out --weights")
    data = read_data(config, announce)[1]
    return measure_learning_curve(
        finished, data, path=opened.path, weights=named, counts=counts, seeds=seeds, announce=say
    )


def refuse_learning_curve(
    data: Data = None,
    *,
    weights: str | None = None,
    counts: Sequence[int] | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
) -> None:
    """Raise the errors that `learning_curve` would raise for a run on these data, before the run is trained. The
    arguments are as in `train`; the data are read, and nothing is written."""
    with given_data(data) as source:
        merged = merge_request(read_config(config), data=source, fields=requested_fields({}, set or {}))
        refuse_unmeasurable(read_data(merged)[1], merged, counts, weights)


@explained_in_place()
def write_learning_curve(run: RunPath, found: LearningCurve) -> tuple[Path, Path]:
    """Write `learning-curve.json` and `plots/learning-curve.png` into the run; their paths. Raises RunError."""
    from striate.visualize.canvas import of_split, save_figure
    from striate.visualize.metric_curves import learning_curve_figure

    opened = open_run(path_of_run(run))
    picture = opened.plots / "learning-curve.png"
    metric, title = metric_named(found.metric), of_split(found.data, "test", found.n_test)
    figure = learning_curve_figure(found.to_json(), title=title, name=metric.name, share=metric.is_share)
    save_figure(figure, picture, _DPI)
    write_json(opened.learning_curve, found.to_json())
    return opened.learning_curve, picture


@known_keywords
@usual_torch()
def find_learning_rate(
    data: Data = None,
    model: Model = "auto",
    *,
    batch: int | None = None,
    size: int | tuple[int, int] | str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    seconds: float = 45.0,
    out: str | Path | None = None,
    force: bool = False,
    announce: Announce | None = None,
) -> LearningRateSearch:
    """Find the learning rate to train with, by short trainings on copies, in about `seconds`.

    The other arguments are as in `train`. An `nn.Module` and all random states stay as they are. `out`: a .png to draw
    the search into, a new one unless `force`; nothing else is written. `announce` is given each step as text. Raises
    StriateError.
    """
    from striate.models.preserved_state import copied
    from striate.report.lr_find import save_lr_find
    from striate.training.learning_rate.find import random_states_preserved, search_learning_rate
    from striate.training.learning_rate.records import how_to_train, refuse_local_rule, refuse_untried
    from striate.visualize.picture_path import refuse_picture_path

    if out is not None:
        refuse_picture_path(Path(out), force=force)  # before minutes are spent
    name, original = named_model(model)
    given = {"batch": batch, "model.name": name}
    fields = requested_fields(given, set or {})
    refuse_untried(fields)
    module = None if original is None else copied(original)
    made = original is not None or is_given(name or "")
    rest = {field: value for field, value in fields.items() if not (made and field == "model.name")}
    with given_data(data, announce) as source:

        def command(lr: float) -> str:
            return how_to_train(lr, source, rest, size, config, module=made)

        merged = merge_request(read_config(config), data=source, size=size, fields=fields)
        say = announce or (lambda _: None)
        with memory_explained(merged), random_states_preserved():
            prepared = prepare(merged, module, announce=say)
            announce_decisions(prepared, say)
            refuse_local_rule(prepared.config, command(prepared.config.optim.lr or 0.0))
            origin: Literal["recipe", "request"] = "recipe" if "optim.lr" in prepared.config.decided else "request"
            search = search_learning_rate(prepared, seconds=seconds, origin=origin, announce=say)
    if search.suggestion is not None:
        search = replace(search, command=command(search.suggestion))
    if out is not None:
        save_lr_find(search, prepared.data.name, prepared.config.model.name, Path(out))
    return search


@known_keywords
@usual_torch()
def sweep(
    data: Data = None,
    over: Mapping[str, str | Sequence[object]] | Iterable[str] = (),
    model: Model = "auto",
    *,
    trials: int | None = None,
    minutes: float | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    size: int | tuple[int, int] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
) -> Sweep:
    """Search configurations, from cheap to expensive, and train the best one as an ordinary run.

    `over`: what is searched, as `{"optim.lr": "1e-4..1e-1", "batch": [16, 32]}` or texts `optim.lr=1e-4..1e-1`; by
    default learning rate and weight decay around the recipe's. `trials` (30 if neither is given) or `minutes`, not
    both; the best are repeated with `seeds` other seeds (1: not at all). The other arguments are as in `train`.
    Progress is shown on standard error when it is a terminal. Raises StriateError; SweepInterrupted after Ctrl-C.
    """
    name, module = named_model(model)
    if module is not None:
        made = type(module).__name__
        expected = "a name, or a class or function that builds a network for each trial"
        raise UsageError("model", f"one instance of {made}", expected, f"give a function: model=lambda: {made}(…)")
    given = {"batch": batch, "optim.lr": lr, "seed": seed or None, "model.name": name}
    fields = requested_fields(given, set or {})
    texts = space_texts(over)
    refuse_fixed(texts, fields | {"data.size": size})
    with given_data(data) as source:
        merged = merge_request(read_config(config), data=source, epochs=epochs, size=size, fields=fields)
        console = Console(stderr=True)
        quiet = not console.is_terminal
        say, place = announcer(console, quiet), None if out is None else Path(out)
        request = SweepRequest(merged, texts, trials, minutes, seeds)
        return run_sweep(request, out=place, console=console, say=say, quiet=quiet)
