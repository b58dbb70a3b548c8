"""`striate plan` and `--plan`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from striate.cli import main
from striate.cli.plan import plan_notes, plan_table
from striate.training.plan.plan_table import Candidate, PlanRecord, PlanRow

SMALL = ["--model", "conv(4,3) relu pool(2) fc(10)", "--batch", "32"]
FIXED = ["--execution.precision", "fp32", "--execution.memory_format", "contiguous", "--execution.threads", "1"]


def test_the_document_has_the_table(capsys) -> None:
    assert main(["plan", "digits", *SMALL, "--seconds", "0.2", "--json"]) == 0
    out, _ = capsys.readouterr()
    document = json.loads(out)
    assert list(document) == [
        *("model", "data", "input", "batch", "device"),
        *("chosen", "speedup", "source", "samples", "load", "seconds", "remarks", "notes", "rows"),
    ]
    assert (document["data"], document["input"], document["batch"]) == ("digits", [1, 8, 8], 32)
    rows = document["rows"]
    assert sum(row["chosen"] for row in rows) == 1
    assert rows[0]["candidate"] == {
        "precision": "fp32",
        "memory_format": "contiguous",
        "threads": 1,
        "compile": "off",
        "allocator": "system",
    }
    assert rows[0]["agreement"] == "the reference"
    timed = [row for row in rows if row["seconds"]]
    assert 1 <= document["samples"] <= 32  # fewer where a step of all takes too long
    each = [document["samples"] / row["seconds"] for row in timed]
    assert [row["images_per_second"] for row in timed] == pytest.approx(each, rel=0.01)
    assert document["source"] == "measured"
    assert not Path("runs").exists()


def test_notes_fit_a_narrow_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["plan", "digits", *SMALL, "--seconds", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    notes = lines[next(k for k, line in enumerate(lines) if line.startswith("ms: ")) :]
    assert max(map(len, notes)) <= 60


def test_a_time_of_one_round_has_a_dash_for_its_spread() -> None:
    rows = (
        PlanRow(Candidate("fp32", "contiguous", 1), 0.354, 0.0488, "the reference", True, True),
        PlanRow(Candidate("fp32", "contiguous", 2), 1.069, None, "bit for bit", True),
    )
    record = PlanRecord(rows, 1750, "quiet", 0.31)
    spreads = list(plan_table(record).columns[6].cells)
    assert spreads == ["48.8", "–"]
    quick = PlanRow(Candidate("fp32", "contiguous", 1), 264e-6, 4e-6, "the reference", True, True)
    cells = [list(column.cells) for column in plan_table(PlanRecord((quick,), 16, "quiet", 0.31)).columns]
    assert cells[5:7] == [["0.264"], ["0.004"]]
    assert any(line.endswith("took 0.3 s") for line in plan_notes(record))


def test_the_table_fits_a_terminal(capsys) -> None:
    assert main(["plan", "digits", *SMALL, "--seconds", "0.2"]) == 0
    out = capsys.readouterr().out
    table = out.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    assert table.count("→") == 1
    assert "plan: " in out.splitlines()[-1]


def test_the_table_fits_a_terminal_where_no_gradient_is_compared() -> None:
    plain = PlanRow(Candidate("fp32", "contiguous", 1), 6.71e-4, 2.6e-5, "the reference", True, True)
    other = Candidate("fp32", "channels_last", 1, allocator="keep")
    why = "not compared: no gradient is used"
    record = PlanRecord((plain, PlanRow(other, 6.68e-4, 1.9e-5, why, True)), 100, "quiet", 0.9)
    table = "\n".join(str(line) for line in Console(width=80).render_lines(plan_table(record), pad=False))
    assert "…" not in table
    assert f"fp32, channels_last, 1 thread, reuses freed memory: {why}" in plan_notes(record)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        (["--seconds", "0"], "seconds", "--seconds 20"),
        (["--model", "resnet19"], "model, character 1", "resnet1"),
        ([*FIXED, "--execution.compile", "off"], "plan", "leave out --execution.precision"),
        (["--execution.precision", "fp16"], "execution.precision", "--execution.precision bf16"),
        (["--execution.precision", "tf32"], "execution.precision", "--execution.precision bf16"),
        (["--execution.plan", "plain"], "--execution.plan", "leave out --execution.plan"),
        (["--execution.compile", "cuda-graphs"], "execution.compile", "--execution.compile default"),
    ],
)
def test_what_cannot_be_planned_is_told(words: list[str], where: str, remedy: str, capsys) -> None:
    assert main(["plan", "digits", *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"].startswith(where)
    assert remedy in error["remedy"]


@pytest.mark.slow
def test_what_an_earlier_run_decided_is_measured_and_what_it_was_asked_for_is_not(capsys) -> None:
    train = ["train", "digits", *SMALL, "--epochs", "1", "--execution.precision", "fp32"]
    assert main([*train, "--plan", "plain", "--out", "a"]) == 0
    capsys.readouterr()
    assert main(["plan", "--config", "a/config.yaml", "--seconds", "0.2", "--json"]) == 0
    candidates = [row["candidate"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert {one["memory_format"] for one in candidates} == {"contiguous", "channels_last"}
    assert {one["precision"] for one in candidates} == {"fp32"}


def execution(run: str) -> dict[str, object]:
    return yaml.safe_load(Path(run, "config.yaml").read_text())["execution"]


@pytest.mark.slow
def test_plain_is_plain_and_frozen(capsys) -> None:
    train = ["train", "digits", *SMALL, "--epochs", "1"]
    assert main([*train, "--plan", "plain", "--out", "a"]) == 0
    plain = {"precision": "fp32", "memory_format": "contiguous", "compile": "off", "allocator": "system"}
    alone = {"processes": None, "fsdp": False, "deterministic": False, "evaluation_batch": None, "micro_batch_from": []}
    alone |= {"batch_parts": None}
    assert execution("a") == {"device": "cpu", "plan": "plain", "threads": 1, "micro_batch": None} | plain | alone
    assert not Path("a/plan.json").exists()
    metrics = json.loads(Path("a/metrics.json").read_text())
    assert {name: metrics["plan"][name] for name in plain} == plain
    assert main(["train", "--config", "a/config.yaml", "--execution.precision", "bf16", "--out", "b"]) == 0
    assert execution("b") == execution("a") | {"precision": "bf16"}
    first, second = (Path(run, "metrics.csv").read_text().splitlines()[1].split(",")[3] for run in "ab")
    assert first != second


@pytest.mark.slow
def test_more_threads_than_cores_are_told(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.training.execution.own_cores", lambda: (0,))
    said = "2 threads on 1 core keep waiting for each other: --execution.threads 1 is faster"
    crowded = ["digits", *SMALL, "--execution.threads", "2"]
    assert main(["train", *crowded, "--budget.steps", "2"]) == 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert main(["plan", *crowded, "--seconds", "0.2", "--json"]) == 0
    assert said in json.loads(capsys.readouterr().out)["notes"]
    assert main(["train", "digits", *SMALL, "--budget.steps", "2"]) == 0
    assert "waiting for each other" not in capsys.readouterr().err


def test_bf16_on_a_processor_that_emulates_it_is_told(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.training.execution.bf16_on_cpu", lambda: False)
    said = "no bf16 instructions and emulates them: --execution.precision fp32 is faster"
    asked = ["digits", *SMALL, "--execution.precision", "bf16"]
    assert main(["plan", *asked, "--seconds", "0.2", "--json"]) == 0
    assert said in " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert main(["train", *asked, "--budget.steps", "2"]) == 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert main(["plan", "digits", *SMALL, "--seconds", "0.2", "--json"]) == 0
    assert "emulates" not in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["train", "plan"])
def test_a_layout_of_images_is_refused_where_there_are_none(verb: str, capsys) -> None:
    assert main([verb, "iris", "--execution.memory_format", "channels_last", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"] == "execution.memory_format"
    assert error["remedy"] == "leave out --execution.memory_format"
    assert not Path("runs").exists()


def test_a_plan_that_cannot_be_is_refused(capsys) -> None:
    assert main(["train", "digits", "--plan", "fast"]) == 2
    assert "fast" in capsys.readouterr().err
