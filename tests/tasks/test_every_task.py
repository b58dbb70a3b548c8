"""What every task must pass: one suite, run for each entry of the list of tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_task import COUNT, EXAMPLES, Example

import striate
from quick import few_quick
from striate.cli import main
from striate.data.augment.augment import augment_batch
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.targets import Ragged
from striate.runs.checkpoint import load_checkpoint
from striate.tasks.accumulator import Accumulator
from striate.tasks.every import TASKS
from striate.tasks.outputs import map_outputs
from striate.tasks.registry import task_class, task_from_state, task_to_state
from striate.training import session
from striate.training.events import StepDone
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request, read_config
from striate.training.saving import Saver

USUAL = {"--plan": "plain", "--epochs": "3", "--batch": "16", "--seed": "1", "--optim.lr": "0.01"}

Say = Callable[..., Any]


def test_every_task_has_an_example() -> None:
    assert set(EXAMPLES) == set(TASKS), "tests/tasks/every_task.py: each task of tasks/every.py needs its example"


ONE_TASK = pytest.mark.parametrize("example", few_quick(sorted(TASKS), ["segment"]), indirect=True, scope="module")
"""What asks of a task only what the other tests do: quick for the task whose targets are the largest."""


# These have quick tests of their own, and take the longest here.
OWN = {"caption", "detect", "embed", "instances", "keypoints", "multilabel", "reconstruct", "several"}


@pytest.fixture(scope="module", params=few_quick(sorted(TASKS), sorted(set(TASKS) - OWN)))
def example(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


@pytest.fixture(scope="module")
def name(example: Example) -> str:
    return next(name for name, known in EXAMPLES.items() if known is example)


@pytest.fixture(scope="module")
def source(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.make(tmp_path_factory.mktemp("made") / "data")


def _train(example: Example, source: Path, out: Path, *options: str) -> list[str]:
    """The words of a training; `options` in pairs, in place of the usual ones."""
    chosen = USUAL | dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in chosen.items() for word in pair]
    return ["train", str(source), "--model", example.network, *words, *example.train, "--out", str(out)]


@pytest.fixture(scope="module")
def run(example: Example, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained as a user would, once for all tests that only look at it."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with torch.random.fork_rng():
        assert main(_train(example, source, out)) == 0
    return out


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Gives the words to the program; what it prints as JSON."""

    def call(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture(scope="module")
def prepared(example: Example, source: Path) -> Prepared:
    fields = {"model.name": example.network, "execution.plan": "plain", "batch": 16}
    names = {"--task": "task.name", "--targets": "data.targets"}
    fields |= {names[option]: value for option, value in zip(example.train[::2], example.train[1::2], strict=True)}
    with torch.random.fork_rng():
        return prepare(merge_request(read_config(None), data=str(source), epochs=2, fields=fields))


@contextmanager
def _interrupted_after(step: int) -> Iterator[None]:
    """A training that saves at every event, and is interrupted after this step."""
    original = session.training_events

    def events(*arguments: object, **options: object) -> Iterator[object]:
        for event in original(*arguments, **options):
            yield event
            if isinstance(event, StepDone) and event.step == step:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "training_events", events)
        patch.setattr(Saver, "due", lambda *_, **__: True)
        yield


def _same_weights(one: Path, two: Path) -> None:
    for file in ("last", "best"):
        a, b = (load_checkpoint(run / "checkpoints" / f"{file}.pt")["model"] for run in (one, two))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), file


def _outputs(prepared: Prepared, split: str = "train", count: int = 12) -> tuple[Any, Any]:
    part = prepared.splits[split]
    module = prepared.state.module.eval()
    with torch.no_grad():
        inputs, targets = prepared.normalize(part.inputs[:count]), part.targets[:count]
        return prepared.task.outputs_for(module, inputs, targets), targets


def _some(outputs: Any, part: slice) -> Any:
    """These samples of a tensor, or of each tensor of a tree."""
    return map_outputs(lambda tensor: tensor[part], outputs)


# The class


def test_the_names_are_those_of_the_list(name: str) -> None:
    task = task_class(name)
    assert task.name == name
    assert task.metrics, "the headline comes first"
    assert len({metric.key for metric in task.metrics}) == len(task.metrics)
    assert all(metric.name for metric in task.metrics)


@pytest.mark.each_nth(2)
def test_its_state_makes_the_same_task_again(prepared: Prepared) -> None:
    state = json.loads(json.dumps(task_to_state(prepared.task)))
    again = task_from_state(state, "here")
    assert type(again) is type(prepared.task)
    assert task_to_state(again) == task_to_state(prepared.task)


def test_losses_of_parts_add_up_to_that_of_the_batch(prepared: Prepared) -> None:
    task, (outputs, targets) = prepared.task, _outputs(prepared)
    parts = [slice(0, 5), slice(5, 12)]
    total = sum(task.loss_sum(_some(outputs, part), targets[part]) for part in parts)
    assert float(total) == pytest.approx(float(task.loss_sum(outputs, targets)), rel=1e-5)
    weights = sum(float(task.weight(targets[part])) for part in parts)
    assert weights == pytest.approx(float(task.weight(targets)), rel=1e-6)
    mean = float(task.loss(outputs, targets))
    assert mean == pytest.approx(float(total) / weights, rel=1e-5)


def test_accumulators_merge_and_lie_in_a_checkpoint(prepared: Prepared, tmp_path: Path) -> None:
    task, (outputs, targets) = prepared.task, _outputs(prepared)

    def measured(*parts: slice) -> Accumulator:
        accumulator = task.accumulator()
        for part in parts:
            accumulator.update(_some(outputs, part), targets[part])
        return accumulator

    whole = measured(slice(0, 12)).compute()
    merged = measured(slice(0, 4))
    merged.merge(measured(slice(4, 9), slice(9, 12)))
    assert merged.compute() == pytest.approx(whole)
    torch.save(merged.state_dict(), tmp_path / "state.pt")
    restored = task.accumulator()
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert restored.compute() == merged.compute()
    restored.merge(measured(slice(0, 12)))
    assert restored.compute() == pytest.approx(whole), "the same samples twice have the same means"
    assert "loss" in whole


def test_the_headline_of_rows_is_that_of_the_measured_predictions(prepared: Prepared) -> None:
    task, (outputs, targets) = prepared.task, _outputs(prepared)
    decoded = task.decode(outputs)
    rows = task.rows_for(decoded.numpy(), targets.numpy())
    assert len(rows) == 12
    measured = task.measure(decoded, targets)
    assert task.headline_metric().value(rows) == pytest.approx(measured[task.headline])
    assert str(task.measure_each([task] * 12, decoded, targets)) == str(measured)  # also of what is not a number


def test_a_flip_twice_is_the_identity(prepared: Prepared) -> None:
    train = prepared.data.splits["train"]
    flipped, warp = augment_batch(train.inputs, AugmentConfig(flip=True), 0, 0, train.ids)
    assert not torch.equal(flipped, train.inputs)
    again, back = augment_batch(flipped, AugmentConfig(flip=True), 0, 0, train.ids)
    assert torch.equal(again, train.inputs), "the same samples are flipped in the same epoch"
    targets = train.targets
    for moved in (warp, back):
        targets = targets if moved is None else _warped(prepared, targets, moved)
    if isinstance(targets, Ragged):
        assert all(torch.equal(targets.fields[key], train.targets.fields[key]) for key in targets.fields)
    else:
        assert torch.equal(targets, train.targets)


def _warped(prepared: Prepared, targets: Any, warp: Warp) -> Any:
    return prepared.task.warp_targets(targets, warp)


# A run


@pytest.mark.each_nth(2)
def test_a_run_has_the_metrics_of_its_task(example: Example, run: Path, name: str) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == name
    for split in ("train", "val", "test"):
        assert example.keys | {"n", "loss"} <= set(metrics[split])
    known = {metric.key for metric in task_class(name).metrics} | {"targets"}
    assert {key for key in example.keys if not key.endswith("_interval")} <= known


def test_its_summary_is_of_all_that_was_trained(run: Path, say: Say) -> None:
    trained, found = json.loads((run / "metrics.json").read_text()), say("summary", run)
    assert (found["params"], found["macs"]) == (trained["params"], trained["macs"])
    assert striate.summarize(run).params == trained["params"]
    assert sum(weights.numel() for weights in striate.build(run).parameters()) == trained["params"]


@pytest.mark.each_nth(2)
def test_eval_measures_the_same_with_an_interval(run: Path, name: str, say: Say, capsys) -> None:
    told = say("eval", run)
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    headline = task_class(name).metrics[0].key
    assert told[headline] == metrics[headline]
    figure = told["assessment"]["metrics"][headline]
    low, high = figure["interval"] or (figure["value"], figure["value"])
    assert low <= figure["value"] <= high
    assert (run / "evaluation.json").is_file()
    assert main(["eval", str(run)]) == 0
    text = capsys.readouterr().out
    assert task_class(name).metrics[0].name in text
    assert not [line for line in text.splitlines() if len(line) > 80]


@ONE_TASK
def test_other_data_of_the_same_form_are_measured(run: Path, source: Path, name: str, say: Say) -> None:
    told = say("eval", run, source)
    assert task_class(name).metrics[0].key in told


def test_predict_has_a_json_line_for_each_image(example: Example, run: Path, source: Path, capsys) -> None:
    files = example.ask(source)
    assert main(["predict", str(run), *map(str, files), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == [str(file) for file in files]
    assert all(example.fields <= set(line) for line in lines)
    assert main(["predict", str(run), str(files[0])]) == 0
    assert str(files[0]) in capsys.readouterr().out


def test_a_predicted_file_that_is_cut_is_named(example: Example, run: Path, source: Path, capsys) -> None:
    Path("cut.png").write_bytes(example.ask(source)[0].read_bytes()[:30])
    assert main(["predict", str(run), "cut.png", "--json"]) == 1
    assert "error" in json.loads(capsys.readouterr().out)


def test_predictions_are_kept_and_read_again(run: Path, name: str) -> None:
    from striate.runs.directory import open_run
    from striate.runs.predictions import read_predictions

    kept = read_predictions(open_run(run), "test")
    assert kept is not None
    assert kept.task == name
    task = task_class(name)
    said = kept.predictions if kept.predicted is None else kept.predicted
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    own = task.has_rows()  # else only the task that was trained knows what the columns are
    rows = (
        task.rows(said, kept.targets, len(kept.classes)) if own else striate.load(run).task.rows_for(said, kept.targets)
    )
    value = task.headline_metric().value(rows)
    assert value == pytest.approx(metrics[task.metrics[0].key], rel=1e-6)


def test_the_report_names_the_headline_and_opens_alone(example: Example, run: Path) -> None:
    page = (run / "report.html").read_text()
    assert example.headline in page
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@ONE_TASK
def test_a_repeated_run_has_the_same_bits(run: Path) -> None:
    assert main(["train", "--config", str(run / "config.yaml"), "--out", "again"]) == 0
    _same_weights(run, Path("again"))


@ONE_TASK
def test_a_resumed_run_ends_with_the_same_bits(example: Example, source: Path, run: Path) -> None:
    with _interrupted_after(8):  # within an epoch
        assert main(_train(example, source, Path("broken"))) == 130
    saved = load_checkpoint(Path("broken/checkpoints/last.pt"))
    assert saved["tally"] is not None
    assert main(["train", "--resume", "broken"]) == 0
    _same_weights(run, Path("broken"))
    rows = [
        [line.split(",")[:3] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (run, Path("broken"))
    ]
    assert rows[0] == rows[1]


@ONE_TASK
@pytest.mark.parametrize("store", few_quick(["pack", "stream"], ["stream"]))
def test_each_store_ends_with_the_same_bits(example: Example, source: Path, run: Path, store: str) -> None:
    where = () if store == "stream" else ("--data.packs", "packs")
    assert main(_train(example, source, Path(store), "--data.store", store, *where)) == 0
    _same_weights(run, Path(store))


@pytest.mark.slow
def test_two_processes_end_as_one(example: Example, source: Path, run: Path, name: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "striate"]
    done = subprocess.run(
        [*launcher, *_train(example, source, Path("two"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (run, Path("two")))
    assert two["task"] == name
    assert two["test"]["n"] == one["test"]["n"]
    # Later ones tell less: sums in another order and other dropout masks are made larger by every step.
    first = [(folder / "metrics.csv").read_text().splitlines()[1].split(",") for folder in (run, Path("two"))]
    assert first[0][:2] == first[1][:2], "epoch and step"
    assert float(first[1][3]) == pytest.approx(float(first[0][3]), rel=0.1), "the loss of the first epoch"


# Studies


@pytest.mark.slow
@ONE_TASK
def test_two_runs_are_compared(example: Example, source: Path, run: Path, name: str, say: Say) -> None:
    assert main(_train(example, source, Path("other"), "--seed", "2")) == 0
    told = say("compare", run, "other")
    assert told["task"] == name
    assert told["metric"] == task_class(name).metrics[0].key
    (pair,) = told["pairs"]
    assert 0 <= pair["p_value"] <= 1
    assert pair["sentence"]


@ONE_TASK
def test_runs_without_kept_predictions_are_compared_too(run: Path, say: Say) -> None:
    bare = Path("bare")
    shutil.copytree(run, bare)
    shutil.rmtree(bare / "predictions")
    told = say("compare", run, bare)
    assert told["pairs"][0]["difference"] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
@ONE_TASK
def test_it_is_cross_validated(example: Example, source: Path, name: str, say: Say) -> None:
    told = say(*_train(example, source, Path("folds"), "--cv", "2x1", "--epochs", "2"))
    headline = task_class(name).metrics[0].key
    assert told["cv"]["mean"][headline] is not None
    assert Path("folds/predictions.csv").read_text().count("\n") == 1 + COUNT
    assert Path("folds/report.html").is_file()


@pytest.mark.slow
@ONE_TASK
def test_it_is_searched(example: Example, source: Path, name: str) -> None:
    words = ["sweep", str(source), "--model", example.network, *example.train, "--over", "optim.lr=0.001..0.1"]
    assert (
        main([*words, "--trials", "2", "--seeds", "1", "--epochs", "2", "--execution.plan", "plain", "--out", "sweep"])
        == 0
    )
    metrics = json.loads(Path("sweep/metrics.json").read_text())
    assert metrics["study"]["metric"] == task_class(name).metrics[0].key


@pytest.mark.slow
@ONE_TASK
def test_it_has_a_learning_curve(run: Path, name: str) -> None:
    shutil.copytree(run, "curve")
    assert main(["eval", "curve", "--learning-curve", "--json"]) == 0
    curve = json.loads(Path("curve/learning-curve.json").read_text())
    assert curve["metric"] == task_class(name).metrics[0].key
    assert len({point["n"] for point in curve["points"]}) == 4


@pytest.mark.slow
@ONE_TASK
def test_it_has_baselines_and_a_comparison_with_each(prepared: Prepared) -> None:
    from striate.evaluation.baselines import fit_baselines
    from striate.evaluation.evaluate import evaluate_trained

    task = prepared.task
    network = evaluate_trained(prepared.trained(), prepared.data, "test")
    found = fit_baselines(prepared.data, task)
    assert found, "something that needs no network"
    for baseline in found:
        assert task.headline in baseline.metrics
        compared = task.compare_baseline(network, baseline)
        assert 0 <= compared.p_value <= 1
        assert compared.sentence.endswith((".", ")."))


@pytest.mark.slow
@ONE_TASK
def test_robustness_is_measured(run: Path) -> None:
    shutil.copytree(run, "shaken")
    assert main(["eval", "shaken", "--robustness", "--json"]) == 0
    assert json.loads(Path("shaken/robustness.json").read_text())["curves"]


# Why


@pytest.mark.each_nth(2)
def test_a_prediction_is_explained(example: Example, run: Path, source: Path) -> None:
    before = load_checkpoint(run / "checkpoints/best.pt")["model"]
    explained = striate.explain(run, example.ask(source)[0], method="saliency")
    assert explained.maps
    after = load_checkpoint(run / "checkpoints/best.pt")["model"]
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
@ONE_TASK
def test_the_doctor_looks_at_data_and_run(example: Example, source: Path, run: Path, capsys) -> None:
    words = ["doctor", str(source), "--model", example.network, *example.train, "--seconds", "1", "--json"]
    assert main(words) in (0, 1)
    told = json.loads(capsys.readouterr().out)
    assert "findings" in told
    assert not [finding for finding in told["findings"] if finding["severity"] == "error"], "the example is healthy"
    assert main(["doctor", str(run), "--json"]) in (0, 1)


@pytest.mark.each_nth(2)
def test_the_lab_opens_the_run(run: Path) -> None:
    from striate.lab.application import make_application
    from striate.lab.workbench import Lab

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like httpx2 better than httpx
        from starlette.testclient import TestClient

    lab = Lab(run)
    try:
        client = TestClient(make_application(lab, 8000), base_url="http://127.0.0.1:8000")
        for page in ("/", "/watch", "/explore", "/train"):
            answer = client.get(page, params={"token": lab.token})
            assert answer.status_code == 200, page
    finally:
        lab.end()


# What is wrong


@pytest.mark.each_nth(2)
def test_a_wrong_annotation_is_named(example: Example, tmp_path: Path, capsys) -> None:
    source = example.make(tmp_path / "spoiled")
    named = example.spoil(source)
    code = main(_train(example, source, Path("never"), "--epochs", "1"))
    out, err = capsys.readouterr()
    text = " ".join((out + err).split())
    assert all(word in text for word in named), text
    if code:
        assert code == 2
        assert "remedy:" in err
        assert not Path("never").exists(), "nothing half-written"


@pytest.mark.each_nth(2)
def test_a_loss_of_another_task_is_refused(example: Example, source: Path, capsys) -> None:
    assert main(_train(example, source, Path("never"), "--task.loss", "nonsense")) == 2
    assert "remedy:" in capsys.readouterr().err
    assert not Path("never").exists()


def test_nan_in_predictions_is_refused(prepared: Prepared) -> None:
    from striate.errors import StriateError
    from striate.evaluation.evaluate import evaluate_split

    class Broken(torch.nn.Module):
        def forward(self, *given: torch.Tensor) -> Any:
            return map_outputs(lambda tensor: tensor * np.nan, prepared.state.module(*given))

    with pytest.raises(StriateError):
        evaluate_split(
            Broken(),
            prepared.task,
            prepared.splits["test"],
            normalize=prepared.normalize,
            device="cpu",
            data_name="made",
            split_name="test",
            classes=prepared.data.classes,
        )
