"""A kept plan that no search could have come to is none, whoever wrote it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
from plan_workloads import OPEN, QUIET, workload

from quick import few_quick
from striate.training.plan import decide, offers
from striate.training.plan.decide import Planned, plan_execution
from striate.training.plan.trial import Trials


@pytest.fixture(scope="module", autouse=True)
def made_up_times() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "seconds", lambda self, candidate, count: count * 1e-3 / candidate.threads)  # noqa: ARG005
        patch.setattr(offers, "has_compiler", lambda: False)
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planned, dict]:
    """What was measured, and the plan as it was kept and read again."""
    read, plans = decide.read_plan, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(decide, "read_plan", lambda kind, key: plans.append(read(kind, key)) or plans[-1])
        first = planned()
        assert planned().record.source == "cached"  # type: ignore[union-attr]
    return first, plans[-1]


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


DAMAGES = [
    *(other(threads=number) for number in (0, -3, 1.5, 2.0, "2", 5000, None, [2])),
    other(allocator="nonsense"),
    other(compile="cuda-graphs"),
    other(precision="fp16"),
    other(memory_format="nhwc"),
    *(in_the_chosen(seconds=number) for number in (-1.0, 0, float("inf"), "fast")),
    in_the_chosen(passed=False),
    lambda plan: plan.update(samples=0),
    lambda plan: plan.update(rows=3),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("damage", few_quick(DAMAGES, DAMAGES[::9]))
def test_a_kept_plan_of_what_is_not_offered_counts_as_none(
    damage: Callable[[dict], None], kept: tuple[Planned, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, plan = kept[0], copy.deepcopy(kept[1])
    damage(plan)
    monkeypatch.setattr(decide, "read_plan", lambda *_: plan)
    found = planned()
    assert found.execution == first.execution
    assert found.record is not None
    assert found.record.source == "measured"
