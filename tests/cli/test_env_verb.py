"""`striate env --measure`: what the machine can do, beside the lectures' processors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from striate.api import planning
from striate.cli.main import main
from striate.machine.rates import Rate

RATES = (
    Rate("matrix product", "MKL", "fp32", "1024 × 1024", "GFLOP/s", 206.0, 200.0, 150.0, 5),
    Rate("matrix product", "oneDNN", "fp32", "1024 × 1024", "GFLOP/s", 417.0, 400.0, 350.0, 5),
    Rate("matrix product", "oneDNN", "bf16", "2048 × 2048", "GFLOP/s", 881.4, 850.0, 700.0, 5),
    Rate("memory", "copy", None, "128 MiB each", "GB/s", 25.25, 24.0, 20.0, 5),
)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure_machine", lambda: RATES)


@pytest.mark.usefixtures("measured")
def test_rates_are_shown_with_units_and_the_machine_beside_the_lectures_processors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["env", "--measure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [" ".join(line.split()) for line in lines]
    assert "matrix product, fp32 oneDNN 417 400 350 GFLOP/s" in shown
    assert "memory copy 25.2 24.0 20.0 GB/s" in shown
    (here,) = [line for line in shown if line.startswith("here:")]
    assert here.endswith("417 881 bf16"), "the faster library of each precision"
    page = (Path(__file__).parents[2] / "docs" / "lectures.md").read_text(encoding="utf-8")
    told = [" ".join(line.split()) for line in page.splitlines()]
    first = shown.index("for comparison: the processors of the lectures")
    assert [line for line in shown[first:] if line != here and line not in told] == []


@pytest.mark.usefixtures("measured")
def test_one_json_document_has_rates_memory_and_the_lectures_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--measure", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["python"]
    assert [rate["best"] for rate in found["rates"]] == [206.0, 417.0, 881.4, 25.25]
    assert found["rates"][2]["precision"] == "bf16"
    assert 0 < found["memory_bytes"]["available"] <= found["memory_bytes"]["total"]
    assert {row["name"]: row["fp32_rate"] for row in found["lectures"]["processors"]}["Intel Core i7-7700K"] == 540.0


def test_without_measure_nothing_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "measure_machine", lambda: pytest.fail("measured"))
    assert main(["env", "--json"]) == 0
    assert "rates" not in json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_the_machine_itself_is_measured() -> None:
    found = planning.measure_machine()
    assert {rate.what for rate in found} == {"matrix product", "memory", "decoding"}
    whole, small = (next(r for r in found if r.what == "decoding" and r.how.startswith(h)) for h in ("whole", "to"))
    assert whole.unit == small.unit == "images/s"
    assert all(rate.best > 0 for rate in found)
