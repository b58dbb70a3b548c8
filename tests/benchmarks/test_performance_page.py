"""docs/performance.md: everything in it follows from the results; what is slower and what is missing is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from common.page import page, table, tried_page, workload_page
from common.targets import TARGETS, TRIED
from write_performance import WORKLOADS, read_results, write_performance

GOLDEN = Path(__file__).with_name("expected_performance.md")
ENVIRONMENT = {
    "striate": "0.1.0",
    "python": "3.11.7",
    "platform": "Linux",
    "processor": "A processor",
    "cores": 2,
    "memory_gib": 16.0,
    "cpu_capability": "AVX512",
    "gpus": [],
}


def speed_row(name: str, median: float, ratio: float | None, *, ours: bool = False, **more: Any) -> dict[str, Any]:
    spread = {"median": median, "min": 0.9 * median, "max": 1.1 * median}
    row = {"contender": name, "ours": ours, "precision": "fp32", "images_per_second": spread, "ratio": ratio}
    return row | {"utilisation": None, "peak_mib": 400.4, "facts": {}, "turns": [], **more}


def result(
    workload: str, cases: list[dict[str, Any]], claims: dict[str, Any], *, quick: bool = False
) -> dict[str, Any]:
    return {
        "workload": workload,
        "about": "What is measured.",
        "command": f"python benchmarks/{workload}.py --batch 128",
        "quick": quick,
        "repeats": 5,
        "finished": "2026-11-20T12:00:00+00:00",
        "commit": "0123456789",
        "load": [0.25, 0.1, 0.1],
        "environment": ENVIRONMENT,
        "versions": {"torch": "2.13.0"},
        "cases": cases,
        "claims": claims,
    }


def fashion(*, quick: bool = False) -> dict[str, Any]:
    waits = [{"samples": 1, "seconds": 1.0, "data_wait": share} for share in (0.01, 0.02, 0.09)]
    case = {
        "name": "batch 128",
        "rates": [{"precision": "bf16", "how": "oneDNN", "unit": "GFLOP/s", "best": 881.2}],
        "rows": [
            speed_row("striate", 30_000.0, 2.5, ours=True, precision="bf16", utilisation=0.5, turns=waits),
            speed_row("torch | 2 workers", 12_000.0, 1.0),
        ],
        "missing": [{"contender": "Keras on JAX", "reason": "jax is not installed"}],
    }
    claims = {"fashion-epoch": {"measured": "2.50× the best peer", "met": True}}
    return result("fashion_epoch", [case], claims, quick=quick)


def photos() -> dict[str, Any]:
    case = {
        "name": "first epoch",
        "rates": [],
        "rows": [speed_row("torch", 9.0, 1.0), speed_row("striate", 4.5, 0.5, ours=True)],
        "missing": [],
        "note": "A note.",
    }
    return result("photos", [case], {"photo-loading": {"measured": "0.50× plain torch", "met": False}})


def speedrun() -> dict[str, Any]:
    figures = {"accuracy": {"mean": 0.9152, "std": 0.0012}, "seconds": {"mean": 715.0, "std": 2.0}}
    case = {"name": "cifar10", "rows": [{"contender": "striate", "ours": True, **figures, "runs": []}], "missing": []}
    return result("speedrun", [case], {"speedrun-cifar10": {"measured": "91.52 %", "met": None}})


def test_the_page_of_a_small_set_of_results_is_the_golden_one() -> None:
    results = [fashion(), photos(), speedrun()]
    other = fashion() | {"environment": ENVIRONMENT | {"processor": "Another processor"}}
    first = page(results, ("fashion_epoch", "photos", "busy"), {"with_less": [other]})
    workloads = [
        workload_page(fashion(), "../plots/a.svg", {"with_less": other}),
        workload_page(speedrun(), "../plots/a.svg"),
    ]
    made = "\n".join([first, tried_page(results), *workloads])
    assert made == GOLDEN.read_text(encoding="utf-8")


def test_what_is_slower_than_a_peer_is_told() -> None:
    made = page([fashion(), photos()], ())
    assert made.index("times as fast") < made.index("## Targets") < made.index("](measurements/tried.md)")
    assert "- striate: photos, first epoch: 0.50× the best peer" in tried_page([fashion(), photos()])
    assert "Nothing of what was measured." in tried_page([fashion()])


def test_each_thing_asked_is_told_with_its_verdict_or_as_not_measured() -> None:
    lines = page([fashion(), photos()], ()).splitlines()
    for key, text in TARGETS.items():
        (line,) = [line for line in lines if line.startswith(f"| {text} |")]
        assert ("not measured" in line) == (key not in ("fashion-epoch", "photo-loading", "loader-waits"))
    assert any(
        "1.0 %" not in line and "2.0 % at most | met | [fashion epoch](measurements/fashion_epoch.md)" in line
        for line in lines
    )


def test_what_is_not_met_comes_with_what_was_tried() -> None:
    missed = [result("photos", [], {"photo-loading": {"measured": "1.0×", "met": False}})]
    made = tried_page(missed)
    assert f"## What was tried for what is not met\n\n- {TARGETS['photo-loading']}. {TRIED['photo-loading']}\n" in made
    assert "measurements/tried.md" in page(missed, ())
    assert "tried" not in page([fashion()], ())
    assert set(TRIED) <= set(TARGETS)


def test_without_results_everything_is_named_as_not_measured() -> None:
    made = page([], WORKLOADS)
    assert made.count("| not measured |") == len(TARGETS)
    assert all(f"- {name.replace('_', ' ')}: not measured" in made.splitlines() for name in WORKLOADS)


def test_quick_tries_are_told_as_of_no_worth() -> None:
    assert "Of no worth as figures, since they were quick tries: fashion_epoch." in page([fashion(quick=True)], ())


def test_bars_within_a_name_do_not_break_the_table() -> None:
    assert table(["a", "b"], [["x | y", ""]]) == "| a |\n| --- |\n| x \\| y |"


def test_a_folder_of_results_becomes_a_page_with_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for made in (speedrun(), fashion()):
        (folder / f"{made['workload']}.json").write_text(json.dumps(made))
    (folder / "other.json").write_text('{"rows": []}')
    (folder / "elsewhere" / "with_less").mkdir(parents=True)
    elsewhere = fashion() | {"environment": ENVIRONMENT | {"processor": "Another processor"}}
    (folder / "elsewhere" / "with_less" / "fashion_epoch.json").write_text(json.dumps(elsewhere))
    assert [r["workload"] for r in read_results(folder)] == ["fashion_epoch", "speedrun"]
    write_performance(folder, tmp_path / "performance.md")
    measured = (tmp_path / "measurements" / "fashion_epoch.md").read_text()
    assert "![fashion epoch](../plots/fashion_epoch.svg)" in measured
    assert "## On a machine with less\n\nAnother processor, " in measured
    assert "## On a machine with less\n\nAnother processor, " in (tmp_path / "performance.md").read_text()
    drawn = (tmp_path / "plots" / "fashion_epoch.svg").read_text()
    assert "torch | 2 workers" in drawn
    assert not (tmp_path / "plots" / "speedrun.svg").exists(), "it has no speeds"
    write_performance(folder, tmp_path / "performance.md")
    assert (tmp_path / "plots" / "fashion_epoch.svg").read_text() == drawn, "the same results, the same picture"


@pytest.mark.slow
def test_the_page_in_the_documentation_is_what_the_results_there_give(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    if any(r["quick"] for r in read_results(root / "benchmarks" / "results")):
        pytest.fail("a quick try lies among the results")
    write_performance(root / "benchmarks" / "results", tmp_path / "performance.md")
    for made in [tmp_path / "performance.md", *(tmp_path / "measurements").iterdir()]:
        assert made.read_text() == (root / "docs" / made.relative_to(tmp_path)).read_text(), made.name
