"""A task of twenty lines goes where the built-in ones go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import striate
from striate.api import resume
from striate.cli.main import main
from striate.errors import ConfigError, RunError
from striate.runs.checkpoint import load_checkpoint
from striate.tasks.metric import Metric
from striate.tasks.registry import known_metrics, task_class

CODE = '''
import striate
from torch.nn import functional


class Ordinal(striate.Task):
    """Classes in an order: one output, their number."""

    outputs = 1
    metrics = (striate.Metric("off", "classes off", higher_is_better=False),)

    def loss_sum(self, outputs, targets):
        return functional.smooth_l1_loss(outputs[:, 0].float(), targets.float(), reduction="sum")

    @classmethod
    def rows(cls, decoded, targets, classes=0):
        return abs(decoded.reshape(-1) - targets).astype("float64")

    def describe(self, decoded):
        return {"number": round(float(decoded), 1)}
'''
QUICK = ("--model", "mlp(8)", "--plan", "plain")
TASK = ("--task", "ordinal.py:Ordinal")
LINES = [line for line in CODE.splitlines() if line.strip()]


@pytest.fixture
def code() -> Path:
    """The file with the task, in the current folder."""
    Path("ordinal.py").write_text(CODE)
    return Path("ordinal.py").absolute()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `a` and `b`, which differ in their seeds, beside the file of their task: to be read only."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ordinal.py").write_text(CODE)
    task = ("--task", str(folder / "ordinal.py") + ":Ordinal")
    for name, seed in (("a", 0), ("b", 1)):
        words = ("--epochs", "2", "--seed", str(seed), "--out", str(folder / name))
        assert main(["train", "digits", *task, *QUICK, *words]) == 0
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_code_is_short() -> None:
    assert len(LINES) <= 20


def test_the_run_says_what_it_is(trained: Path) -> None:
    name = f"{trained / 'ordinal.py'}:Ordinal"
    config = yaml.safe_load((trained / "a" / "config.yaml").read_text())
    assert config["task"]["name"] == name
    assert config["code"][0][0] == name
    assert load_checkpoint(trained / "a" / "checkpoints" / "best.pt")["task"]["name"] == name
    metrics = json.loads((trained / "a" / "metrics.json").read_text())
    low, high = metrics["test"]["off_interval"]
    assert low < metrics["test"]["off"] < high
    assert "classes off" in (trained / "a" / "report.html").read_text()


def test_eval_and_predict(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    assert "classes off" in told(capsys, "eval", trained / "a")
    other = json.loads(told(capsys, "eval", trained / "a", "digits", "--json"))
    assert other["off"] == pytest.approx(json.loads((trained / "a" / "metrics.json").read_text())["test"]["off"])
    line = json.loads(told(capsys, "predict", trained / "a", "x.png", "--json"))
    assert set(line) == {"path", "number"}
    assert "number" in told(capsys, "predict", trained / "a", "x.png")


def test_two_runs_are_compared(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told(capsys, "compare", trained / "a", trained / "b", "--json"))
    assert found["metric"] == "off"
    assert found["pairs"]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(code: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.training import session

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "append_row", stop)
        words = ("--epochs", "2", "--seed", "0", "--out", "c", "--set", "save_seconds=0.001")
        task = ("--task", f"{trained / 'ordinal.py'}:Ordinal")
        assert main(["train", "digits", *task, *QUICK, *words]) == 130
    assert main(["train", "--resume", "c"]) == 0
    one, two = (load_checkpoint(path / "checkpoints" / "last.pt")["model"] for path in (trained / "a", Path("c")))
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.slow
def test_a_sweep(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--epochs", "3", "--trials", "2", "--over", "optim.lr=0.001|0.01", "--out", "s")
    told(capsys, "sweep", "digits", *TASK, "--model", "mlp(8)", "--set", "execution.plan=plain", *words)
    metrics = json.loads(Path("s/metrics.json").read_text())
    assert "off" in metrics["test"]


@pytest.mark.slow
def test_a_cross_validation(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "train", "digits", *TASK, *QUICK, "--epochs", "1", "--cv", "2x1", "--out", "cv")
    assert "classes off" in out
    assert "off" in json.loads(Path("cv/metrics.json").read_text())["cv"]["mean"]


@pytest.mark.slow
def test_a_learning_curve(trained: Path) -> None:
    curve = striate.learning_curve(trained / "a", seeds=(0,))
    assert curve.metric == "off"
    assert [point.of_run for point in curve.points].count(True) == 1


@pytest.mark.slow
def test_the_doctor(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Healthy" in told(capsys, "doctor", trained / "a")


def test_baselines_say_that_there_are_none(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "digits", *TASK]) == 2
    assert "without baselines" in capsys.readouterr().err


# A class in Python


class Median(striate.Task):
    """Numbers by their absolute error; its headline is its loss."""

    annotation = "number"
    outputs = 1

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def loss_sum(self, outputs, targets):
        return self.scale * (outputs.float() - targets).abs().sum()


class Crossed(Median):
    @classmethod
    def rows(cls, decoded, targets, classes=0):
        del classes
        return abs(decoded - targets)

    def describe(self, decoded):
        return float(decoded)


class Plain:
    """What is no subclass, and is one all the same."""

    outputs = 1

    def loss_sum(self, outputs, targets):
        return (outputs[:, 0].float() - targets).abs().sum()


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(120, 3)).astype(np.float32)
    return x, (x.sum(1) + 0.1 * rng.normal(size=120)).astype(np.float32)


PLAIN = {"execution.plan": "plain"}


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("task", [Median, Median(2.0)], ids=["class", "instance"])
def test_a_task_that_no_file_names(task: object) -> None:
    run = striate.train(table(), "mlp(4)", task=task, epochs=2, out="r", set=PLAIN)
    assert yaml.safe_load(Path("r/config.yaml").read_text())["task"]["name"].startswith("given in Python: Median")
    assert run.metrics["test"]["loss_interval"]
    assert "value" in run.load().predict(np.zeros(3, np.float32)).fields
    assert striate.evaluate(run, table()).metrics["loss"] == run.metrics["test"]["loss"]
    with pytest.raises(ConfigError, match="a float from describe"):
        replace(run.load(), task=Crossed()).predict(np.zeros(3, np.float32))


def test_rows_of_predictions_beside_all_targets_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(5, 5\) from rows of .* for 5 samples(.|\n)*decoded\.reshape\(-1\)"):
        Crossed().rows_for(np.zeros((5, 1)), np.zeros(5))


def test_in_another_process_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.models import trusted_code

    run = striate.train(table(), "mlp(4)", task=Median, epochs=1, out="r", set=PLAIN)
    monkeypatch.setattr(trusted_code, "_objects", {})
    with pytest.raises(RunError, match=r"striate\.load\(path, task=…\)"):
        striate.load("r")
    assert striate.load("r", task=Median).predict(np.zeros(3, np.float32)).fields
    assert striate.evaluate(run, table()).metrics["loss"] == run.metrics["test"]["loss"]
    monkeypatch.setattr(trusted_code, "_objects", {})
    assert resume("r", task=Median, data=table(), quiet=True).metrics == run.metrics


def test_another_class_of_the_same_name_is_another_task() -> None:
    first = striate.train(table(), "mlp(4)", task=Median, epochs=1, set=PLAIN)
    again = type("Median", (Median,), {})
    second = striate.train(table(), "mlp(4)", task=again, epochs=1, set=PLAIN)
    names = [yaml.safe_load((run.path / "config.yaml").read_text())["task"]["name"] for run in (first, second)]
    assert names[0] != names[1]


def test_a_plain_class_will_do() -> None:
    x, y = table()
    run = striate.train((x, (y > 0).astype(np.int64)), "mlp(4)", task=Plain, epochs=1, set=PLAIN)
    assert run.metrics["test"]["loss"] > 0


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (type("Half", (), {"outputs": 1}), "does not define `loss_sum`"),
        (lambda: None, "a function"),
        (3, "an? int"),
        (type("Bare", (Median,), {"metrics": Metric("off")}), r"metrics = Metric\((.|\n)*a tuple"),
        (type("None_", (Median,), {"metrics": ()}), r"metrics = \(\)"),
        (type("Word", (Median,), {"metrics": "off"}), "metrics = 'off'"),
        (type("Plural", (Median,), {"annotation": "classes"}), r"annotation = 'classes'(.|\n)*annotation = \"class\""),
        (type("Needy", (Median,), {"annotation": "class", "__init__": lambda _self, _q: None}), r"task=Needy\("),
        ("clasify", "task='classify'"),
        ("segment", "whose targets|masks, which the task needs"),
    ],
)
def test_what_is_no_task(task: object, told: str) -> None:
    with pytest.raises(Exception, match=told) as caught:
        striate.train("iris", task=task, epochs=1)
    assert isinstance(caught.value, striate.StriateError)
    assert known_metrics()  # those of all tasks, which every later run reads


@pytest.mark.slow
def test_a_file_that_changed_is_refused(code: Path) -> None:
    striate.train("digits", "mlp(8)", task="ordinal.py:Ordinal", epochs=1, out="r", set=PLAIN)
    code.write_text(CODE + "\n# changed\n")
    with pytest.raises(ConfigError, match="has changed since") as caught:
        striate.train(config="r/config.yaml", out="again")
    assert caught.value.remedy.endswith('train again with set={"code": []}')
    striate.train(config="r/config.yaml", out="again", set={"code": []})
    assert main(["train", "--config", "r/config.yaml", "--out", "more", "--set", "code=[]"]) == 0


# An installed package


@pytest.mark.slow
def test_what_a_method_raises_is_told_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ordinal.py").write_text(CODE.replace("return abs(decoded", "return 1 // 0 * abs(decoded"))
    assert main(["train", "digits", *TASK, *QUICK, "--set", "budget.steps=1", "--out", "faulty"]) == 2
    line = next(
        number for number, text in enumerate(Path("ordinal.py").read_text().splitlines(), 1) if "1 // 0" in text
    )
    said = capsys.readouterr().err
    assert f"ordinal.py, line {line}\n  got:      ZeroDivisionError" in said
    assert f"remedy:   correct line {line} of {Path('ordinal.py').absolute()}" in said


def test_an_installed_package_registers_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site" / "ranks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ranks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[striate.tasks]\nordinal = ranks_of_striate:Ordinal\n")
    (tmp_path / "site" / "ranks_of_striate.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert task_class("ordinal").name == "ordinal"
    run = striate.train("digits", "mlp(8)", task="ordinal", epochs=1, out="r", set=PLAIN)
    assert "off" in striate.evaluate(run).metrics
    with pytest.raises(ConfigError, match=r"classify, regress, .*ordinal"):
        task_class("ordinl")
    (info / "entry_points.txt").write_text("[striate.tasks]\nlost = gone_from_striate:Ordinal\n")
    with pytest.raises(ConfigError, match="the package ranks registers as gone_from_striate:Ordinal: ModuleNotFound"):
        task_class("lost")
