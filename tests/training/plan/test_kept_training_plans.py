"""A kept plan that no search could have come to is none, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plan_workloads import OPEN, QUIET, workload

from striate.training.plan import decide, offers
from striate.training.plan.decide import Planned, plan_execution
from striate.training.plan.trial import Trials


@pytest.fixture(autouse=True)
def made_up_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trials, "seconds", lambda self, candidate, count: count * 1e-3 / candidate.threads)  # noqa: ARG005
    monkeypatch.setattr(offers, "has_compiler", lambda: False)


def planned() -> Planned:
    return plan_execution(workload(), OPEN, load=lambda: QUIET)


def other(**fields: object) -> Callable[[dict], None]:
    def damage(plan: dict) -> None:
        chosen = next(row for row in plan["rows"] if row["chosen"])
        plan["rows"].append(chosen | {"candidate": chosen["candidate"] | fields, "chosen": True})
        chosen["chosen"] = False

    return damage


def in_the_chosen(**fields: object) -> Callable[[dict], None]:
    return lambda plan: next(row for row in plan["rows"] if row["chosen"]).update(fields)


@pytest.mark.parametrize(
    "damage",
    [
        *(other(threads=number) for number in (0, -3, 1.5, 2.0, "2", 5000, None, [2])),
        other(allocator="nonsense"),
        other(compile="cuda-graphs"),
        other(precision="fp16"),
        other(memory_format="nhwc"),
        *(in_the_chosen(seconds=number) for number in (-1.0, 0, float("inf"), "fast")),
        in_the_chosen(passed=False),
        lambda plan: plan.update(samples=0),
        lambda plan: plan.update(rows=3),
    ],
)
def test_a_kept_plan_of_what_is_not_offered_counts_as_none(
    damage: Callable[[dict], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned()
    assert planned().record.source == "kept"  # type: ignore[union-attr]
    read = decide.read_plan

    def damaged(kind: str, key: dict) -> dict:
        plan = read(kind, key)
        assert plan is not None
        damage(plan)
        return plan

    monkeypatch.setattr(decide, "read_plan", damaged)
    found = planned()
    assert found.execution == first.execution
    assert found.record is not None
    assert found.record.source == "measured"
