"""A whole sweep on small data: pruning, resuming, repeating, and the test split that nobody looks at before the end."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import striate
from quick import few_quick
from striate.cli import main
from striate.errors import ConfigError, RunError, StriateError, UsageError
from striate.evaluation.evaluate import evaluate_trained
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory
from striate.runs.files import write_json
from striate.studies.sweep import run_sweep as sweep_module
from striate.studies.sweep import search as search_module
from striate.studies.sweep.journal import Journal, locked
from striate.studies.sweep.run_sweep import Sweep, SweepInterrupted, SweepRequest, resume_sweep, run_sweep
from striate.studies.sweep.space import parse_space
from striate.studies.sweep.train_once import plan, without_test
from striate.training import prepare as prepare_module
from striate.training.budget import steps as budget_module
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, with_fields
from striate.training.prepare import Prepared
from striate.training.request import merge_request

OVER = ("optim.lr=1e-4..1", "batch=16|64")
DIGITS = {"data.source": "digits", "model.name": "fc(10)"}
BASE = {"data.source": "iris", "model.name": "mlp(4)", "budget.epochs": 9}


def request(trials: int | None = 6, seeds: int = 2, over: tuple[str, ...] = OVER, **fields: object) -> SweepRequest:
    return SweepRequest(with_fields(Config(), BASE | fields), over, trials, None, seeds)


def run(out: str | Path, asked: SweepRequest | None = None, said: list[str] | None = None) -> Sweep:
    say = (said if said is not None else []).append
    return run_sweep(asked or request(), out=Path(out), console=Console(quiet=True), say=say, quiet=True)


def resume(path: str | Path) -> Sweep:
    return resume_sweep(Path(path), console=Console(quiet=True), say=lambda _: None, quiet=True)


def rows(folder: str | Path) -> list[dict[str, str]]:
    with (Path(folder) / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def timeless(folder: str | Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


def measured(directory: RunDirectory, prepared: Prepared, _: object) -> dict[str, object]:
    """`finish_run` without its pictures, of which one sweep is enough."""
    best = load_checkpoint(directory.best, prepared.device)
    prepared.state.eval_module.load_state_dict(best.get("ema") or best["model"])
    metrics = {"test": evaluate_trained(prepared.trained(), prepared.data, "test").metrics}
    write_json(directory.metrics_json, metrics)
    return metrics


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the sweep of `done`, which a test that asks for it gets before this, draws and writes reports."""
    monkeypatch.setattr(sweep_module, "finish_run", measured)
    monkeypatch.setattr(sweep_module, "write_sweep_report", lambda *_: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """One finished sweep that several tests look at."""
    return run(tmp_path_factory.mktemp("done") / "sweep")


def test_a_sweep_prunes_repeats_and_leaves_an_ordinary_run(done: Sweep) -> None:
    study = done.metrics["study"]
    assert study["trials"] == 6
    assert study["complete"] + study["pruned"] + study["diverged"] == 6
    assert study["pruned"] >= 1
    assert study["epochs_trained"] < study["epochs_without_pruning"] == 6 * 9
    table = rows(done.path)
    assert {row["epochs"] for row in table} == {"1", "3", "9"}
    assert [row["number"] for row in table if row["state"] == "pruned"]
    assert {row["seed"] for row in table if row["state"] == "repeat"} == {"1", "2"}
    assert {row["seed"] for row in table if row["state"] != "repeat"} == {"0"}
    best = RunDirectory(done.best)
    assert json.loads(best.metrics_json.read_text())["test"] == done.metrics["test"]
    assert best.best.exists()
    assert best.report.exists()
    text = done.report.read_text()
    assert "optimistic" in text
    assert "http" not in text.replace("http-equiv", "")
    assert done.lines[0].startswith("val accuracy")


def test_rungs_of_the_same_epochs_are_one_row_since_they_are_one_training() -> None:
    run("few", request(trials=4, seeds=1, **{"budget.epochs": 2}))
    table = [row for row in rows("few") if row["state"] != "repeat"]
    assert len({(row["number"], row["epochs"]) for row in table}) == len(table)
    assert all(float(row["seconds"]) > 0 for row in table)
    assert {row["state"] for row in table if row["epochs"] == "2"} == {"complete"}
    assert {row["state"] for row in table if row["epochs"] == "1"} <= {"promoted", "pruned"}


def test_the_winner_has_the_best_mean_over_other_seeds(done: Sweep) -> None:
    table = rows(done.path)
    score = {}
    for number in {row["number"] for row in table if row["state"] == "repeat"}:
        mine = [row for row in table if row["number"] == number and row["state"] == "repeat"]
        score[number] = sum(float(row["val_accuracy"]) for row in mine) / len(mine)
    assert score[str(done.metrics["best"]["trial"])] == max(score.values())
    assert done.metrics["val"]["accuracy"]["mean"] == pytest.approx(max(score.values()))
    assert done.metrics["val"]["accuracy"]["seeds"] == 2


def test_best_yaml_is_what_the_best_run_was_trained_with(done: Sweep) -> None:
    config = config_from_yaml(done.path / "best.yaml")
    assert config == config_from_yaml(done.best / "config.yaml")
    fields = done.metrics["best"]["fields"]
    assert config.optim.lr == fields["optim.lr"]
    assert config.batch == fields["batch"]
    assert not {"optim.lr", "batch"} & set(config.decided)


def test_the_first_trial_is_the_recipe(done: Sweep) -> None:
    first = rows(done.path)[0]
    recipe = plan(request().config, without_test()).config
    assert (float(first["optim.lr"]), int(first["batch"])) == (recipe.optim.lr, recipe.batch)
    assert first["number"] == "0"
    assert done.metrics["recipe"] is not None


@pytest.mark.slow
def test_the_same_request_gives_the_same_trials_and_another_seed_others(done: Sweep) -> None:
    run("again")
    assert timeless("again") == timeless(done.path)
    run("other", request(seed=5))
    assert [r["optim.lr"] for r in rows("other")] != [r["optim.lr"] for r in rows(done.path)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "killed_at",
    few_quick([1, 4, 7, 11], [4]),
)
def test_a_killed_sweep_goes_on_as_if_it_had_not_been(done: Sweep, killed_at: int, monkeypatch) -> None:
    real, calls = search_module.train_once, 0

    def dies(*arguments):
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise SystemExit("killed")  # nothing of ours sees it, as with kill -9
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(search_module, "train_once", dies)
        with pytest.raises(SystemExit):
            run("sweep")
    with Path("sweep/study.journal").open("a") as journal:
        journal.write('{"op_code":4,"wor')  # half a line, as a process leaves it that is killed while writing
    after = resume("sweep")
    assert timeless("sweep") == timeless(done.path)
    assert after.metrics["test"] == done.metrics["test"]
    assert after.metrics["best"] == done.metrics["best"]


@pytest.mark.slow
def test_a_process_that_is_killed_outright_loses_one_training_at_most() -> None:
    words = [
        "iris",
        "--model",
        "mlp(4)",
        "--epochs",
        "9",
        "--trials",
        "12",
        "--over",
        "optim.lr=1e-4..1",
        "--seeds",
        "2",
    ]
    command = [sys.executable, "-m", "striate", "sweep"]
    with subprocess.Popen([*command, *words, "--out", "killed"]) as program:
        deadline = time.monotonic() + 60
        while not (Path("killed/trials.csv").exists() and len(rows("killed")) > 5) and time.monotonic() < deadline:
            time.sleep(0.01)
        program.kill()
    before = timeless("killed")
    assert not Path("killed/metrics.json").exists()
    subprocess.run([*command, "--resume", "killed"], check=True)
    subprocess.run([*command, *words, "--out", "whole"], check=True)
    assert timeless("killed") == timeless("whole")
    assert timeless("killed")[: len(before)] == before


@pytest.mark.slow
def test_a_sweep_killed_between_two_lines_of_the_journal_goes_on(done: Sweep, monkeypatch) -> None:
    real, calls = Journal.close, 0

    def dies(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise SystemExit("killed")
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "close", dies)
        with pytest.raises(SystemExit):
            run("sweep")
    resume("sweep")
    assert timeless("sweep") == timeless(done.path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "function"),
    few_quick(
        [(search_module, "train_once"), (sweep_module, "run_training"), (sweep_module, "finish_run")],
        [(search_module, "train_once")],
        unpack=True,
    ),
)
def test_an_interrupted_sweep_says_how_to_go_on(done: Sweep, module, function: str, monkeypatch) -> None:
    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, function, stops)
        with pytest.raises(SweepInterrupted, match="striate sweep --resume sweep"):
            run("sweep")
    assert Path("sweep/best/config.yaml").exists() == (module is sweep_module)
    assert resume("sweep").metrics["test"] == done.metrics["test"]
    assert timeless("sweep") == timeless(done.path)


def test_a_finished_sweep_is_only_read(done: Sweep, monkeypatch) -> None:
    for module, name in ((search_module, "train_once"), (sweep_module, "run_training"), (sweep_module, "without_test")):
        monkeypatch.setattr(module, name, None)  # not even the data are read
    again = resume(done.path)
    assert again.metrics == done.metrics
    assert again.lines == done.lines


@pytest.mark.slow
def test_the_test_split_is_read_once_and_last(monkeypatch) -> None:
    seen: list[set[str]] = []
    real_train, real_finish = search_module.train_once, sweep_module.finish_run
    order: list[str] = []

    def train(prepared):
        seen.append(set(prepared.splits) | set(prepared.data.splits))
        order.append("train")
        return real_train(prepared)

    def finish(run_, prepared, say):
        order.append("test")
        assert "test" in prepared.splits
        return real_finish(run_, prepared, say)

    monkeypatch.setattr(search_module, "train_once", train)
    monkeypatch.setattr(sweep_module, "finish_run", finish)
    run("sweep", request(trials=3))
    assert all(splits == {"train", "val"} for splits in seen)
    assert order.count("test") == 1
    assert order[-1] == "test"


@pytest.mark.slow
def test_one_seed_repeats_nothing_and_chooses_by_the_search() -> None:
    swept = run("sweep", request(trials=4, seeds=1))
    table = rows("sweep")
    assert not [row for row in table if row["state"] == "repeat"]
    complete = [row for row in table if row["state"] == "complete"]
    best = max(complete, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert str(swept.metrics["best"]["trial"]) == best["number"]
    assert swept.metrics["val"]["accuracy"]["std"] is None
    assert swept.metrics["study"]["seeds"] == []


@pytest.mark.slow
def test_a_training_that_diverges_is_told_and_the_search_goes_on() -> None:
    said: list[str] = []
    over = ("optim.lr=1e20|0.01",)
    swept = run("sweep", request(trials=5, seeds=1, over=over, **{"optim.name": "sgd"}), said)
    assert swept.metrics["study"]["diverged"] >= 1
    assert swept.metrics["best"]["fields"] == {"optim.lr": 0.01}
    assert any("not finite" in line and "diverged" in line for line in said)


def test_where_everything_diverges_it_says_so() -> None:
    with pytest.raises(StriateError, match="no trial completed"):
        run("sweep", request(trials=3, over=("optim.lr=1e20|1e21",), **{"optim.name": "sgd"}))


@pytest.mark.slow
def test_a_combination_that_cannot_be_trained_is_passed_over() -> None:
    # Each value is possible beside the first of the others; the last of all three are not.
    over = ("model.name=fc(4) relu fc(3)|fc(4) bn relu fc(3)", "batch=16|1")
    said: list[str] = []
    with pytest.raises(ConfigError):
        run("sweep", request(over=("model.name=fc(4) bn fc(3)|fc(3)", "batch=16|1")))
    swept = run("sweep", request(trials=12, seeds=1, over=over, **{"budget.epochs": 2}), said)
    assert swept.metrics["study"]["refused"] >= 1
    assert any("refused: batch: 1 sample, with batch normalization" in line for line in said)


def test_the_verb_prints_the_result_and_one_document_with_json(capsys) -> None:
    words = ["sweep", "iris", "--model", "mlp(4)", "--epochs", "2", "--trials", "3", "--seeds", "1"]
    assert main([*words, "--over", "optim.lr=1e-3..0.1", "--over", "batch=16|32", "--optim.clip", "1"]) == 0
    out, err = capsys.readouterr()
    assert "striate train --config runs/iris-sweep-1/best.yaml" in out
    assert err.count("trial ") >= 3
    assert config_from_yaml(Path("runs/iris-sweep-1/best.yaml")).optim.clip == 1
    assert main(["sweep", "--resume", "runs/iris-sweep-1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) >= {"study", "best", "val", "test", "recipe"}


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["iris", "--over", "optim.lr=1..2", "--lr", "0.1"], "both 1..2 and 0.1"),
        (["iris", "--over", "optim.lr=1..2", "--optim.lr", "0.1"], "both 1..2 and 0.1"),
        (["iris", "--over", "batch = 16|32", "--batch", "8"], "both 16|32 and 8"),
        (["digits", "--over", "data.size=8|12", "--size", "8"], "both 8|12 and 8"),
        (["iris", "--trials", "3", "--minutes", "1"], "both 3 trials"),
        (["iris", "--over", "optim.lr=2..1"], "empty range"),
        (["--resume", "nowhere"], "nowhere"),
        (["--resume", "nowhere", "--trials", "3"], "--resume RUN alone"),
        (["nowhere-to-be-found"], "nowhere-to-be-found"),
    ],
)
def test_a_wrong_command_ends_with_2_and_a_message(words: list[str], said: str, capsys) -> None:
    assert main(["sweep", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not list(Path().glob("runs/*"))


def test_without_optuna_it_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "iris"]) == 2
    assert "pip install 'striate[sweep]'" in capsys.readouterr().err


def test_in_python_a_space_is_a_mapping() -> None:
    over = {"optim.lr": "1e-3..0.1", "batch": [16, 32], "optim.nesterov": [True, False]}
    swept = striate.sweep("iris", over, "mlp(4)", trials=2, seeds=1, epochs=1, out="sweep", set={"optim.name": "sgd"})
    texts = {"optim.lr": "log:0.001..0.1", "batch": "16|32", "optim.nesterov": "true|false"}
    assert swept.metrics["study"]["over"] == texts
    with pytest.raises(UsageError, match="over="):
        striate.sweep("iris", "optim.lr=1e-3..0.1")


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (request(trials=0), UsageError, "--trials"),
        (request(seeds=0), UsageError, "--seeds"),
        (SweepRequest(Config(), OVER, 3, 2.0), UsageError, "both 3 trials and 2 minutes"),
        (SweepRequest(Config(), OVER, None, -1.0), UsageError, "--minutes"),
        (request(**{"cv": "5x5"}), ConfigError, "leave out --cv"),
        (request(**{"auxiliary.rotation": 1.0, "auxiliary.task": 0.0}, **DIGITS), ConfigError, "--auxiliary.task 1"),
        (SweepRequest(with_fields(Config(), {"budget.minutes": 1}), OVER), ConfigError, "--epochs"),
        (request(over=("model.name=mlp(4)|lenet5",)), ConfigError, "model.name=lenet5"),
        (request(over=("model.name=mlp(4)|lenet6",)), ConfigError, "lenet5"),
        (request(over=("augment.shift=0..2",)), ConfigError, "leave out --over augment.shift"),
        (request(over=("augment.shift=1..40",), **DIGITS), ConfigError, "--over augment.shift=0..1"),
        (request(over=("optim.name=sgd|adamw", "optim.momentum=0.5..0.8")), ConfigError, "leave out --over optim.mom"),
    ],
)
def test_what_cannot_be_searched_leaves_no_trace(asked: SweepRequest, error: type[StriateError], said: str) -> None:
    with pytest.raises(error) as caught:
        run("sweep", asked)
    assert said in str(caught.value)
    assert not Path("sweep").exists()


@pytest.mark.slow
def test_sizes_of_images_are_read_anew_and_the_samples_stay_the_same(photos) -> None:
    fields = {"data.source": str(photos(each=15)), "model.name": "fc(3)", "budget.epochs": 1}
    swept = run("sweep", request(trials=4, seeds=1, over=("data.size=8|12",), **fields))
    assert {row["data.size"] for row in rows("sweep")} == {"[8, 8]", "[12, 12]"}
    size = swept.metrics["best"]["fields"]["data.size"]
    assert config_from_yaml(swept.path / "best.yaml").data.size == tuple(size)


@pytest.mark.slow
def test_a_sweep_goes_on_top_of_an_earlier_runs_configuration(done: Sweep) -> None:
    base = merge_request(config_from_yaml(done.path / "best.yaml"), fields={"optim.clip": 0.5})
    swept = run("sweep", SweepRequest(base, ("augment.noise=0..0.1",), 3, None, 1))
    assert swept.metrics["study"]["over"] == {"augment.noise": "linear:0.0..0.1"}
    config = config_from_yaml(swept.path / "best.yaml")
    assert config.optim.lr == done.metrics["best"]["fields"]["optim.lr"]
    assert config.optim.clip == 0.5
    assert config.budget.epochs == 9


@pytest.mark.slow
def test_each_network_trains_for_its_own_recipes_epochs() -> None:
    asked = SweepRequest(
        with_fields(Config(), {"data.source": "iris", "budget.patience": 1}), ("model.name=mlp(2)|mlp(3)",), 2, None, 1
    )
    swept = run("sweep", asked)
    epochs = max(int(row["epochs"]) for row in rows("sweep"))
    assert epochs == config_from_yaml(swept.path / "best.yaml").budget.epochs > 9


def test_losses_of_a_regression_are_not_compared_with_one_another() -> None:
    fields = {"data.source": "boston", "model.name": "mlp(4)"}
    with pytest.raises(ConfigError, match="the scores of this task are losses"):
        run("sweep", request(over=("task.loss=squared|huber",), **fields))


@pytest.mark.slow
def test_a_regression_is_searched_for_the_smallest_error() -> None:
    fields = {"data.source": "boston", "model.name": "mlp(4)", "budget.epochs": 3}
    swept = run("sweep", request(trials=4, over=("optim.lr=1e-3..0.1",), **fields))
    means = [f["val"]["rmse"]["mean"] for f in swept.metrics["finalists"]]
    assert means[0] == min(means)
    assert any("RMSE" in line for line in swept.lines)


def test_without_a_space_rate_and_decay_are_searched_and_it_is_said() -> None:
    said: list[str] = []
    swept = run("sweep", request(trials=2, seeds=1, over=()), said)
    assert set(swept.metrics["study"]["over"]) == {"optim.lr", "optim.weight_decay"}
    assert any("no --over" in line and "optim.lr log:" in line for line in said)


class Enough:
    """A pace at which so many steps take the time, whatever it is."""

    finish, epoch_steps = 0.0, 1

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def steps_within(self, _: float) -> int:
        return self.steps

    def seconds(self, _: int) -> float:
        return 0.0


@pytest.fixture
def second_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training takes a second an epoch by its own figures, however fast the machine is."""
    real = search_module.train_once
    monkeypatch.setattr(budget_module, "measure_pace", lambda *_, **__: Enough(9 * 7))
    monkeypatch.setattr(search_module, "train_once", lambda p: replace(o := real(p), seconds=float(o.epochs)))
    monkeypatch.setattr(search_module, "perf_counter", lambda: 0.0)  # deciding takes no time


@pytest.mark.slow
def test_minutes_end_the_search(second_an_epoch) -> None:
    said: list[str] = []
    run("sweep", SweepRequest(with_fields(Config(), BASE), OVER, None, 1.0, 2), said)
    spent: dict[str, float] = {}
    for row in rows("sweep"):
        assert row["state"] != "repeat"
        spent[row["number"]] = spent.get(row["number"], 0) + float(row["seconds"])
    *before, last = spent.values()
    assert sum(before) <= 30 < sum(before) + last  # half of the minute, the rest being for repeats and the last run
    assert any("time is left for none" in line for line in said)


@pytest.mark.slow
def test_seconds_are_those_of_deciding_and_building_too(second_an_epoch, monkeypatch) -> None:
    real, clock = search_module.plan, [0.0]

    def slow(*arguments):
        clock[0] += 5.0
        return real(*arguments)

    monkeypatch.setattr(search_module, "plan", slow)
    monkeypatch.setattr(search_module, "perf_counter", lambda: clock[0])
    run("sweep", request(trials=1, seeds=2))
    assert [(row["epochs"], float(row["seconds"])) for row in rows("sweep")] == [
        ("1", 6.0), ("3", 8.0), ("9", 14.0), ("9", 14.0), ("9", 14.0)
    ]  # fmt: skip


@pytest.mark.slow
def test_where_time_is_short_the_recipe_is_repeated_beside_the_best(second_an_epoch, monkeypatch) -> None:
    monkeypatch.setattr(search_module, "is_promoted", lambda *_: True)  # all come to the end, the recipe too
    swept = run("sweep", SweepRequest(with_fields(Config(), BASE), ("optim.lr=1e-3..1",), None, 2.0, 2))
    finalists = swept.metrics["finalists"]
    complete = [row for row in rows("sweep") if row["state"] == "complete"]
    best = max(complete, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert {f["trial"] for f in finalists} == {0, int(best["number"])}
    assert any(f["recipe"] for f in finalists)
    assert swept.metrics["recipe"] is not None


@pytest.mark.slow
def test_a_sweep_killed_before_its_first_trial_goes_on(monkeypatch) -> None:
    def killed() -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(sweep_module, "describe_environment", killed)
        with pytest.raises(SystemExit):
            run("sweep", request(trials=1, seeds=1))
    assert [path.name for path in Path("sweep").iterdir() if path.name != "plots" and path.name != ".lock"] == [
        "study.yaml"
    ]
    resume("sweep")
    assert json.loads(Path("sweep/env.json").read_text())["python"]


@pytest.mark.slow
def test_epochs_that_were_left_open_are_so_few_that_several_trainings_fit(second_an_epoch, monkeypatch) -> None:
    per_epoch = 7  # batches of 16 of iris' 105
    monkeypatch.setattr(budget_module, "measure_pace", lambda *_, **__: Enough(4 * per_epoch))
    opened = with_fields(Config(), {name: value for name, value in BASE.items() if name != "budget.epochs"})
    said: list[str] = []
    swept = run("open", SweepRequest(opened, ("optim.lr=1e-3..0.1",), None, 0.01, 1), said)
    assert config_from_yaml(swept.path / "best.yaml").budget.epochs == 4
    assert any("the longest trainings have 4 epochs" in line for line in said)
    asked = SweepRequest(with_fields(Config(), BASE), ("optim.lr=1e-3..0.1",), None, 0.01, 1)
    swept = run("asked", asked, said)
    assert config_from_yaml(swept.path / "best.yaml").budget.epochs == 9
    assert any("--epochs 4 allows more trials" in line for line in said)


def test_two_processes_do_not_share_a_sweep(done: Sweep) -> None:
    with locked(done.path), pytest.raises(RunError, match="another process"):
        resume(done.path)


def test_a_folder_that_is_taken_or_no_sweep_is_refused(done: Sweep) -> None:
    with pytest.raises(RunError, match="already holds"):
        run(done.path)
    Path("empty").mkdir()
    with pytest.raises(RunError, match="made by striate sweep"):
        resume("empty")
    with pytest.raises(RunError, match="a run of striate train") as told:
        resume(f"{done.path}/best")
    assert told.value.remedy == f"striate train --resume {done.path}/best"
    Path("empty/study.yaml").write_text("over: 3\n")
    with pytest.raises(RunError, match="no sweep") as told:
        resume("emtpy")
    assert told.value.remedy == "striate sweep --resume empty"
    with pytest.raises(RunError, match="no readable study"):
        resume("empty")


def test_all_trials_and_the_best_are_of_the_same_samples_whatever_the_recipe() -> None:
    rng, y = np.random.default_rng(0), np.arange(3400) % 2
    x = rng.integers(0, 100, (3400, 1, 4, 4)) + 100 * y[:, None, None, None]
    np.savez("set.npz", x=x.astype(np.uint8), y=y)
    fields = {"data.source": "set.npz", "model.name": "fc(2)", "budget.epochs": 1, "recipe": "speedrun"}
    swept = run("sweep", request(trials=2, seeds=1, over=("batch=32|64",), **fields))
    with (swept.best / "split.csv").open() as file:
        validated = sum(row["split"] == "val" for row in csv.DictReader(file))
    assert validated == swept.metrics["study"]["n_val"] < 100  # the share of speedrun, not the usual one


def test_photographs_have_the_size_for_the_network_in_all_trials_and_the_best(photos, monkeypatch) -> None:
    sizes = []
    real = search_module.train_once

    def train(prepared):
        sizes.append(prepared.data.input_shape[1:])
        return real(prepared)

    def choose_size_for(config, _):
        side = 24 if config.model.name == "fc(3)" else 16
        return lambda _: ((side, side), "")

    monkeypatch.setattr(search_module, "train_once", train)
    monkeypatch.setattr(prepare_module, "choose_size_for", choose_size_for)
    fields = {"data.source": str(photos(each=10, size=300)), "model.name": "fc(3)", "budget.epochs": 1}
    swept = run("sweep", request(trials=2, seeds=1, over=("batch=4|8",), **fields))
    config = config_from_yaml(swept.path / "best.yaml")
    assert {config.data.size, *sizes} == {(24, 24)}
    assert "data.size" in config.decided


def test_changed_data_are_refused() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    np.savez("set.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    run("sweep", request(trials=2, seeds=1, **{"data.source": "set.npz", "budget.epochs": 1}))
    np.savez("set.npz", x=x + 1, y=(x[:, 0] > 0).astype(np.int64))
    Path("sweep/metrics.json").unlink()
    with pytest.raises(StriateError, match="changed since"):
        resume("sweep")


def test_a_damaged_journal_is_told(done: Sweep) -> None:
    Path("study.journal").write_text("no json\nat all\n")
    with pytest.raises(RunError, match="damaged"):
        Journal(Path("study.journal"), parse_space(OVER), 0)
