"""Benchmarks: contenders take turns in processes of their own; who cannot take part is named; figures are as stated."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from common import measure as measuring
from common.contender import Contender
from common.machine_rates import best_rates, utilisation
from common.measure import Measured, measure, spread
from common.results import best_ratio, case, show

from quick import parsed

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILE = Path(__file__).with_name("made_workload.py")
RATES = [
    {"precision": "fp32", "how": "MKL", "best": 200.0},
    {"precision": "fp32", "how": "oneDNN", "best": 400.0},
    {"precision": "bf16", "how": "oneDNN", "best": 800.0},
]


def test_what_benchmarks_import_of_the_program_is_there() -> None:
    gone = []
    for path in sorted(BENCHMARKS.glob("*.py")) + sorted((BENCHMARKS / "common").glob("*.py")):
        for node in ast.walk(parsed(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("striate."):
                module = importlib.import_module(node.module or "")
                names = [name.name for name in node.names if not hasattr(module, name.name)]
                gone += [f"{path.name}: {node.module} has no {name}" for name in names if not _is_module(module, name)]
    assert gone == []


def _is_module(package: ModuleType, name: str) -> bool:
    return importlib.util.find_spec(f"{package.__name__}.{name}") is not None if hasattr(package, "__path__") else False


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured here does not look at the load."""
    monkeypatch.setattr(measuring, "REST", 0.0)


def steady(name: str, samples: int, *, ours: bool = False) -> Contender:
    return Contender(name, "steady", {"samples": samples, "seconds": 2.0}, ours=ours)


def test_each_turn_is_one_repeat_and_warm_ups_do_not_count() -> None:
    (one,) = measure(FILE, [steady("a", 100)], repeats=3, warm_up=1)
    assert one.lost is None
    assert one.rates == [50.0, 50.0, 50.0]
    assert len(one.warm_up) == 1
    assert 0 <= one.turns[0].pop("others") <= 1
    assert one.turns[0] == {"samples": 100, "seconds": 2.0, "loss": 0.5}
    assert one.facts == {"precision": "bf16", "plan": "none"}
    assert one.peak_bytes > 2**20


def test_without_seconds_the_gate_s_clock_counts() -> None:
    (one,) = measure(FILE, [Contender("clocked", "clocked")], repeats=1, warm_up=0)
    assert one.turns[0]["seconds"] >= 0.01


@pytest.mark.slow
def test_contenders_take_turns_in_alternating_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [Contender(name, "ordered", {"file": str(log), "name": name}) for name in "ab"]
    measure(FILE, both, repeats=3, warm_up=1)
    assert log.read_text() == "abbaabba"


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("not_installed", "surely_not_installed is not installed"),
        ("failing", "ValueError: a reason"),
        ("dying", "it ended"),
        ("hanging", "no answer for 1 s"),
        ("returning", "returned instead of waiting"),
        ("unheard_of", "unheard_of"),
    ],
)
def test_who_cannot_take_part_is_named_and_the_others_go_on(function: str, reason: str) -> None:
    limit = 1.0 if function == "hanging" else 30.0
    lost, kept = measure(FILE, [Contender("x", function), steady("a", 10)], repeats=2, warm_up=0, limit=limit)
    assert lost.lost is not None
    assert reason in lost.lost
    assert len(kept.turns) == 2


def test_settings_of_the_shell_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    (one,) = measure(FILE, [Contender("x", "environment", environment={"MADE": "yes"})], repeats=1, warm_up=0)
    assert (one.turns[0]["spin"], one.turns[0]["made"]) == (None, "yes")


@pytest.mark.slow
def test_memory_of_helpers_counts_and_they_end_with_their_contender() -> None:
    (one,) = measure(FILE, [Contender("x", "with_a_child")], repeats=0, warm_up=1)
    assert one.peak_bytes > 64 * 2**20
    child = one.warm_up[0]["child"]  # in a container without an init it stays as a zombie
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_case_holds_ours_against_the_best_peer_and_the_machine() -> None:
    contenders = [steady("slow", 200), steady("fast", 400), steady("ours", 1000, ours=True)]
    measured = [made(one) for one in contenders]
    measured.append(Measured(Contender("gone", "x"), lost="gone is not installed"))
    products = Measured(Contender("products", "matrix_products"), turns=[{"samples": 1, "seconds": 1, "rates": RATES}])
    found = case("a case", [*measured, products], macs=100_000_000)
    assert [row["contender"] for row in found["rows"]] == ["ours", "fast", "slow"]
    assert [row["ratio"] for row in found["rows"]] == [2.5, 1.0, 0.5]
    assert found["missing"] == [{"contender": "gone", "reason": "gone is not installed"}]
    # 500 images/s × 10⁸ MACs × 2 FLOPs × 3 passes = 300 GFLOP/s, of 800
    assert found["rows"][0]["utilisation"] == pytest.approx(0.375)
    assert best_ratio([found, found]) == 2.5
    text = show(found)
    assert "500 images/s" in text
    assert "37.5 % of bf16" in text
    assert "gone is not installed" in text


def made(contender: Contender) -> Measured:
    turn = {"samples": contender.options["samples"], "seconds": contender.options["seconds"]}
    return Measured(contender, turns=[turn] * 3, facts={"precision": "bf16"}, peak_bytes=2**20)


def test_without_peers_there_is_no_ratio() -> None:
    found = case("alone", [made(steady("ours", 10, ours=True))])
    assert found["rows"][0]["ratio"] is None
    assert best_ratio([found]) is None


def test_utilisation_is_held_against_the_fastest_library_of_the_same_precision() -> None:
    assert utilisation(1000, 10**8, "fp32", RATES, training=False) == pytest.approx(0.5)
    assert utilisation(1000, 10**8, "fp16", RATES, training=False) is None


def test_of_several_turns_the_best_rate_of_the_machine_counts() -> None:
    turns = [{"rates": [{"precision": "fp32", "how": "MKL", "best": best}]} for best in (100.0, 300.0, 200.0)]
    (found,) = best_rates(Measured(Contender("products", "matrix_products"), turns=turns))
    assert found["best"] == 300.0


def test_the_spread_is_told_whole() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
