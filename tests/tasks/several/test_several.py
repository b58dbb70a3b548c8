"""Several targets as a composition: each counts as it does alone, what is missing counts for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from striate.cli import main
from striate.data.annotations.target_columns import Column, columns_of, data_of, parse_targets
from striate.data.audit.exchanged import exchanged_rows
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError, ModelError, UsageError
from striate.report.baselines import explain_baseline
from striate.tasks.baseline import Baseline
from striate.tasks.config import TaskConfig
from striate.tasks.evaluation import Evaluation
from striate.tasks.several.head import TargetHeads, with_heads
from striate.tasks.several.metrics import SeveralMetrics
from striate.tasks.several.task import Several

TARGETS = "age:number,gender:class,tags:multilabel"


def _table(folder: Path, rows: list[str], header: str = "path,age,gender,tags") -> DataConfig:
    folder.mkdir(exist_ok=True)
    lines = [header]
    for number, row in enumerate(rows):
        Image.effect_noise((6, 6), 20 + number % 70).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{row}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return DataConfig(source=str(folder / "t.csv"), targets=TARGETS)


def _rows(count: int = 60) -> list[str]:
    ages = [str(20 + k % 37) if k % 5 else "" for k in range(count)]
    genders = [("f", "m", "f")[k % 3] if k % 7 else "" for k in range(count)]
    tags = [("hat", "", "hat|glasses", "nan")[k % 4] for k in range(count)]
    return [",".join(row) for row in zip(ages, genders, tags, strict=True)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    return load_dataset(_table(tmp_path_factory.mktemp("several") / "d", _rows()))


@pytest.fixture(scope="module")
def task(data) -> Several:
    return Several.make(data, TaskConfig(), "sum")


def _outputs(task: Several, count: int) -> torch.Tensor:
    return torch.randn(count, task.outputs, generator=torch.Generator().manual_seed(0))


# Reading


def test_columns_are_read_with_what_is_missing(data) -> None:
    columns = columns_of(data.target_names, data.classes)
    expected = (("age", "number", ()), ("gender", "class", ("f", "m")), ("tags", "labels", ("glasses", "hat")))
    assert columns == tuple(Column(*one) for one in expected)
    assert data.annotation == "columns"
    assert "3 targets: age (48 known), gender (51 known: f" in data.annotated
    alone = data_of(data, 0)
    known = sum(len(split) for split in alone.splits.values())
    assert (alone.annotation, known) == ("number", 48)
    assert data_of(data, 2).splits["train"].targets.shape[1] == 2
    assert len(data_of(data, 0, ("test",)).splits["test"]) == len(data.splits["test"])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert parse_targets(" age:number , gender:class") == {"age": "number", "gender": "class"}
    for text in ("age", "age:year", "age:number,age:class", ""):
        with pytest.raises(ConfigError, match="COLUMN:KIND"):
            parse_targets(text)
    config = _table(tmp_path / "a", _rows())
    with pytest.raises(ConfigError, match="--targets age:number,gender:class,tags:multilabel"):
        list_source(DataConfig(source=config.source, targets="age:number,size:number"))
    with pytest.raises(DataError, match="'old' in the column age"):
        list_source(_table(tmp_path / "b", ["old,f,hat", *_rows(20)]))
    with pytest.raises(ConfigError, match="only a manifest"):
        list_source(DataConfig(source="boston", targets="size:number"))


@pytest.mark.parametrize(("targets", "share"), [("age:number", False), ("age:number,gender:class", True)])
def test_splits_are_described_by_classes_only_where_there_are_some(tmp_path: Path, targets: str, share: bool) -> None:
    rows = [f"{20 + k},{'fm'[k % 2]},hat" for k in range(20)]
    notes = load_dataset(replace(_table(tmp_path / "a", rows), targets=targets)).notes
    assert any("of the first target that has classes" in note for note in notes) == share


# Loss and figures


def test_each_target_counts_as_it_does_alone(data, task: Several) -> None:
    train = data.splits["train"].targets
    outputs, expected = _outputs(task, len(train)), 0.0
    for (known, own, truth), one in zip(task.parts(outputs, train), task.tasks, strict=True):
        expected += float(one.loss(own[known], truth[known]))
    assert float(task.loss(outputs, train)) == pytest.approx(expected, rel=1e-5)


def test_what_is_missing_counts_for_nothing(data, task: Several) -> None:
    some = data.splits["train"].targets[:12].clone()
    outputs = _outputs(task, 12).requires_grad_()
    task.loss_sum(outputs, some).backward()
    assert outputs.grad is not None
    unknown = some[:, 0] == 0
    assert unknown.any()
    assert (outputs.grad[unknown, 0] == 0).all()
    assert (outputs.grad[~unknown, 0] != 0).all()
    other, fixed = some.clone(), outputs.detach()
    other[unknown, 1] = 77
    assert float(task.loss_sum(fixed, other)) == float(task.loss_sum(fixed, some))
    nothing = torch.zeros_like(some)
    assert float(task.loss_sum(fixed, nothing)) == 0
    assert task.headline_of(task.rows_for(task.decode(fixed), nothing).sum(0), 12) == 0


def test_figures_of_each_target_are_those_of_its_own_task(data, task: Several) -> None:
    test = data.splits["test"].targets
    decoded = task.decode(_outputs(task, len(test)))
    found = task.measure(decoded, test)
    for (known, own, truth), one, column in zip(
        task.parts(decoded, test), task.tasks, task.target_columns, strict=True
    ):
        alone = one.measure(own[known], truth[known])
        assert found["targets"][column.name] == {"n": int(known.sum()), **alone}
    assert set(found["targets"]["age"]) == {"n", "rmse", "mae", "r2"}
    accuracy = found["targets"]["gender"]["accuracy"]
    errors = task.rows_for(decoded, test)
    assert errors[:, 1].sum() / errors[:, 4].sum() == pytest.approx(1 - accuracy)
    described = task.describe(decoded[0])
    assert isinstance(described["targets"]["age"], float)
    assert described["targets"]["gender"] in ("f", "m")


def test_always_naming_the_mean_has_an_error_of_one(data, task: Several) -> None:
    train = data.splits["train"].targets
    known, _, truth = task.parts(torch.zeros(len(train), task.outputs), train)[0]
    decoded = torch.zeros(len(train), task.outputs)
    decoded[:, 0] = truth[known].mean()
    rows = task.rows_for(decoded, train)
    assert rows[:, 0].sum() / rows[:, 3].sum() == pytest.approx(1, rel=1e-5)


def test_baselines_name_what_was_chosen_for_each_target_and_nothing_else(data, task: Several) -> None:
    first, second, *_ = task.baselines(data)
    always = first.fit(data, task, 0)
    assert (always.features, always.hyperparameters) == ("none", {})
    chosen = second.fit(data, task, 0)
    made = Baseline("b", "What it is.", chosen.features, chosen.hyperparameters, 9, 1.0, {}, "", chosen.decoded.numpy())
    said = explain_baseline(made)
    assert "Chosen on the validation split: alpha of age = " in said
    assert ", C of gender = " in said
    assert "{" not in said
    assert task.counted == "3 targets"


def test_its_state_makes_the_same_task(task: Several) -> None:
    assert Several.from_state(json.loads(json.dumps(task.state()))) == task


# Weights


def test_weights_are_those_of_the_request(data) -> None:
    train = data.splits["train"].targets
    one = Several.make(data, TaskConfig(target_weights="gender=0,tags=0"), "sum")
    outputs = _outputs(one, len(train))
    known, own, truth = one.parts(outputs, train)[0]
    assert float(one.loss(outputs, train)) == pytest.approx(float(one.tasks[0].loss(own[known], truth[known])))
    assert one.single_targets()["age"]["target_weights"] == "age=1,gender=0,tags=0"
    for wrong in ("size=1", "age=-1", "age=0,gender=0,tags=0"):
        with pytest.raises(ConfigError, match="target_weights"):
            Several.make(data, TaskConfig(target_weights=wrong), "sum")


def test_uncertainty_weighs_by_the_learned_variances(data) -> None:
    task = Several.make(data, TaskConfig(weighting="uncertainty"), "sum")
    train, logs = data.splits["train"].targets, torch.tensor([0.5, -1.0, 2.0])
    outputs, expected = _outputs(task, len(train)), 0.0
    for number, (known, own, truth) in enumerate(task.parts(outputs, train)):
        half = 0.5 if number == 0 else 1.0
        loss = float(task.tasks[number].loss(own[known], truth[known]))
        expected += half * float(torch.exp(-logs[number])) * loss + float(logs[number]) / 2
    whole = torch.cat([outputs, logs.expand(len(train), 3)], 1)
    assert float(task.loss(whole, train)) == pytest.approx(expected, rel=1e-5)
    assert torch.equal(task.decode(whole), task.decode(outputs)), "variances are no predictions"


def test_heads_are_one_layer_and_change_nothing_but_the_gradient() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 5))
    x = torch.randn(7, 5)
    before, keys = network(x), list(network.state_dict())
    for weighting, more in (("gradient-norm", 0), ("uncertainty", 3)):
        made = with_heads(nn.Sequential(*network[:2], network[2]), (1, 2, 2), weighting)
        assert isinstance(made[2], TargetHeads)
        assert torch.allclose(made.train()(x)[:, :5], before)
        assert made(x).shape[1] == 5 + more
        assert torch.equal(made.eval()(x), before)
        assert list(made.state_dict())[:4] == keys
    with pytest.raises(ModelError, match=r"fc\(5\)"):
        with_heads(nn.Sequential(nn.Conv2d(1, 5, 3)), (1, 2, 2), "uncertainty")


def test_gradients_of_all_targets_are_brought_to_one_length() -> None:
    torch.manual_seed(0)
    heads = TargetHeads(nn.Linear(6, 3), (1, 2), balanced=True).train()
    x = torch.randn(4, 6, requires_grad=True)
    alone = []
    for part in (slice(0, 1), slice(1, 3)):
        plain = functional.linear(x, heads.weight, heads.bias)
        alone.append(torch.autograd.grad(plain[:, part].square().sum(), x)[0])
    lengths = [float(gradient.norm()) for gradient in alone]
    outputs = heads(x)
    loss = outputs[:, :1].square().sum() + outputs[:, 1:].square().sum()
    found = torch.autograd.grad(loss, x)[0]
    mean = sum(lengths) / 2
    expected = sum(mean / length * gradient for length, gradient in zip(lengths, alone, strict=True))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


# Labels in the wrong column


def test_exchanged_values_are_found_and_healthy_ones_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ages, heights = rng.normal(40, 8, 60).round(1), rng.normal(170, 9, 60).round(1)
    kinds, moods = rng.choice(["cat", "dog"], 60), rng.choice(["calm", "wild"], 60)
    values = [list(map(str, row)) for row in zip(ages, heights, kinds, moods, strict=True)]
    targets = "age:number,height:number,kind:class,mood:class"

    def found(rows: list[list[str]], name: str):
        config = _table(tmp_path / name, [",".join(row) for row in rows], "path,age,height,kind,mood")
        return exchanged_rows(list_source(DataConfig(source=config.source, targets=targets)))

    assert not found(values, "healthy")
    for row in (3, 17, 40):
        values[row][0], values[row][1] = values[row][1], values[row][0]
        values[row + 1][2], values[row + 1][3] = values[row + 1][3], values[row + 1][2]
    listing = found(values, "planted")
    assert {pair: len(rows) for pair, rows in listing.items()} == {("age", "height"): 3, ("kind", "mood"): 3}


# A run


def test_a_target_with_one_predicted_class_is_named(data, task: Several) -> None:
    test = data.splits["test"].targets
    outputs = _outputs(task, len(test))
    outputs[:, 1] = outputs[:, 1:3].amax() + 1  # gender has the outputs 1 and 2
    decoded = task.decode(outputs)
    metrics, ids = task.measure(decoded, test), np.arange(len(test))
    found = Evaluation("people", "test", task.name, (), len(test), metrics, np.asarray(decoded), np.asarray(test), ids)
    measured = [finding.measured for finding in task.prediction_findings(found)]
    assert measured == [f"gender: {task.target_columns[1].classes[0]} is predicted everywhere"]


def test_the_table_of_the_targets_leaves_out_the_top_five_of_two_classes(data, task: Several) -> None:
    test = data.splits["test"]
    decoded = task.decode(_outputs(task, len(test.targets)))
    found = Evaluation(
        "people", "test", task.name, (), len(test.targets), task.measure(decoded, test.targets),
        np.asarray(decoded), np.asarray(test.targets), np.arange(len(test.targets)),
    )  # fmt: skip
    table = task.tables(found, SeveralMetrics(found.n, {}, {}, {}, ()))["classes"]
    assert table is not None
    assert [row[2] for row in table.rows if row[0] == "gender"] == ["accuracy", "macro F1"]


def test_classes_among_the_targets_are_turned_down_each_by_itself(data, task: Several) -> None:
    split = data.splits["train"]
    decoded = task.decode(_outputs(task, len(split)))
    down = task.rejecting(0.2, lambda: (decoded.numpy(), split.targets.numpy()))
    told = down.describe(decoded[0])["details"]
    assert (set(told["gender"]) > {"label", "set"}, "undecided" in told["tags"]) == (True, True)
    assert told["age"] == task.describe(decoded[0])["details"]["age"]


def test_what_has_no_meaning_is_refused(task: Several, capsys) -> None:
    with pytest.raises(UsageError, match="one target"):
        task.deciding("f=3", None)
    with pytest.raises(UsageError, match="a target: age, gender and tags"):
        task.explained_part(torch.zeros(task.outputs), "size")
    assert main(["train", "iris", "--compare-single", "--epochs", "1", "--model", "mlp(4)"]) == 2
    assert "several targets" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["uncertainty", "gradient-norm"])
def test_weighted_runs_resume_and_predict(tmp_path: Path, weighting: str) -> None:
    config = _table(tmp_path / "d", _rows(90))
    words = ["train", config.source, "--targets", TARGETS, "--model", "conv(4,3) relu gap fc(5)", "--epochs", "2"]
    assert main([*words, "--task.weighting", weighting, "--plan", "plain", "--out", "run"]) == 0
    assert main(["eval", "run"]) == 0
    assert main(["verify", "run"]) == 0
    assert main(["predict", "run", str(tmp_path / "d" / "3.png"), "--json"]) == 0


@pytest.mark.slow
def test_sharing_is_compared_with_each_alone(tmp_path: Path) -> None:
    config = _table(tmp_path / "d", _rows(120))
    words = ["train", config.source, "--targets", TARGETS, "--model", "conv(4,3) relu gap fc(5)", "--epochs", "2"]
    assert main([*words, "--compare-single", "--plan", "plain", "--out", "run"]) == 0
    single = json.loads(Path("run/metrics.json").read_text())["single"]
    assert set(single) == {"age", "gender", "tags"}
    for one in single.values():
        assert 0 <= one["p_value"] <= 1
        assert one["sentence"].startswith("Sharing ")
    assert single["age"]["metric"] == "rmse"
    assert "Does sharing help?" in Path("run/report.html").read_text()
