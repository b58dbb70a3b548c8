"""What a plan costs, and how much faster another way to compute would have been.

Command: python benchmarks/plan_regret.py [--networks mnist-cnn resnet18 …] [--repeats 3]

A run of one minute is prepared as `striate train` does it, with nothing kept from earlier runs; then all ways to
compute that it could have taken (precision, layout, threads, plain) take turns, in steps of whole batches on copies of
its network. `regret` is images/s of the choice over those of the best way; the best is named by the even turns, and
both are measured in the odd ones, since the fastest of many is partly the luckiest. Ways are compared within a turn,
so that a moment in which the machine is busy counts for all of them, and the median of turns is told. `cost` is the
plan's share of the minute: its seconds, less those that all else until the second step takes longer in a process that
is given the plan's choice, since the plan has loaded the kernels of that way already. The data are noise: how fast a
step is does not depend on what images show.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from common.page import table
from common.quick import quick_data
from common.results import arguments, claim, parsed, write_result

MINUTES, TURNS, FEWEST, SECONDS, SLICE, FIRST_STEPS = 1.0, 48, 12, 8.0, 0.03, 2
DECIDED = ("precision", "memory_format", "threads", "compile", "allocator")
MEDIAN, WORST, PLAIN, COST = 0.97, 0.92, 0.97, 0.02
NETWORKS = (
    ("perceptron", (1, 28, 28), (128, 512)),
    ("mlp", (1, 28, 28), (32, 512)),
    ("lenet5", (1, 32, 32), (32, 128)),
    ("mnist-cnn", (1, 28, 28), (32, 128)),
    ("small-cnn", (3, 32, 32), (64, 256)),
    ("small-resnet", (3, 32, 32), (32, 128)),
    ("resnet20", (3, 32, 32), (32, 128)),
    ("airbench(width=32)", (3, 32, 32), (64, 512)),
    ("resnet18(stem=small,width=32)", (3, 32, 32), (32, 128)),
    ("resnet18(stem=small)", (3, 32, 32), (32, 128)),
    ("resnet18", (3, 160, 160), (8, 32)),
    ("seresnet50", (3, 96, 96), (8, 32)),
)
"""Name, input, batches."""


def begun(network: str, batch: int, data: str, execution: dict[str, Any]) -> tuple[Any, Any, float]:
    """The request, the prepared training after its first steps, and the seconds of both without those of the plan."""
    from striate.machine.allocator import keep_by_default
    from striate.machine.waiting import share_the_cores
    from striate.training.execution import execution_settings
    from striate.training.loop import training_events
    from striate.training.prepare import prepare
    from striate.training.request import merge_request, read_config

    keep_by_default()
    share_the_cores()
    fields = {"model.name": network, "batch": batch, "budget.minutes": MINUTES}
    fields |= {f"execution.{name}": value for name, value in execution.items()}
    request = merge_request(read_config(None), data=data, fields=fields)
    started = perf_counter()
    now = prepare(request)
    with execution_settings(now.config):
        events = training_events(now.state, now.objective, now.splits, now.config, now.normalize)
        for _ in zip(range(FIRST_STEPS), events, strict=False):
            pass
    seconds = perf_counter() - started
    return request, now, seconds - (now.plan.seconds if now.plan else 0.0)


def one_repeat(network: str, batch: int, data: str) -> dict[str, Any]:
    """In a process of its own: what the plan took, and the seconds a step of every way in each turn."""
    from striate.training.execution import execution_settings, without_plan
    from striate.training.plan.offers import offers_for
    from striate.training.plan.plan_table import candidate_of
    from striate.training.plan.trial import Trials, Workload

    request, prepared, rest = begun(network, batch, data, {})
    config = prepared.config
    train, threads = prepared.splits["train"], os.cpu_count() or 1
    opened = replace(
        config.execution, precision=None, memory_format=None, compile=None, allocator=None, threads=threads
    )
    plain = replace(config, execution=without_plan(opened))
    work = Workload(prepared.state, prepared.task, train, plain, prepared.normalize, 100, 60, threads)
    offers, chosen = offers_for(work, request.execution), candidate_of(config.execution)
    ways = dict.fromkeys([offers.plain, chosen])
    for way in offers.arithmetic():
        ways |= dict.fromkeys(offers.with_threads(way))
    trials, rates = Trials(work, min(batch, len(train))), {way: list[float]() for way in ways}
    with execution_settings(plain):
        about = {way: [trials.seconds(way, 1) for _ in range(2)][1] for way in ways}
        slow = 3 if FEWEST * sum(about.values()) < SECONDS else 2  # so that a few ways get enough turns
        hopeless = [w for w in ways if about[w] > slow * min(about.values()) and w not in (offers.plain, chosen)]
        for way in hopeless:
            rates.pop(way)
        turns = max(FEWEST, min(TURNS, int(SECONDS / sum(max(SLICE, about[way]) for way in rates))))
        for turn in range(turns):
            order = list(rates) if turn % 2 else list(reversed(rates))
            for way in order:
                rates[way].append(trials.seconds(way, count := max(1, int(SLICE / about[way]))) / count)
    record = prepared.plan
    return {
        "chosen": chosen.name,
        "plain": offers.plain.name,
        "execution": {name: getattr(config.execution, name) for name in DECIDED},
        "plan_seconds": 0.0 if record is None else record.seconds,
        "rest_seconds": rest,
        "source": "none" if record is None else record.source,
        "seconds": {way.name: found for way, found in rates.items()},
    }


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """Regret of a repeat, and the best way; of the seconds the median turn."""
    seconds, chosen, plain = found["seconds"], found["chosen"], found["plain"]
    best = min(seconds, key=lambda way: _times(seconds[way][::2], seconds[chosen][::2]))
    return found | {
        "seconds": {way: statistics.median(turns) for way, turns in seconds.items()},
        "best": best,
        "regret": min(1.0, _times(seconds[best][1::2], seconds[chosen][1::2])),
        "times_plain": _times(seconds[plain][1::2], seconds[chosen][1::2]),
    }


def _times(some: Sequence[float], others: Sequence[float]) -> float:
    """How many times as long some take, turn by turn."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def measured(network: str, shape: tuple[int, int, int], batch: int, repeats: int) -> dict[str, Any]:
    """A case: the repeats of a network and batch."""
    found = []
    with quick_data(shape, samples=max(1280, 4 * batch)) as data:
        for _ in range(repeats):
            once = _in_a_process(network, str(batch), str(data), "{}")
            chosen = json.dumps(once["execution"] | {"plan": "plain"})
            saved = _in_a_process(network, str(batch), str(data), chosen)["rest_seconds"] - once["rest_seconds"]
            found.append(judged(once | {"cost": (once["plan_seconds"] - max(0.0, saved)) / (60 * MINUTES)}))
            last = found[-1]
            chosen = f"{last['chosen']} ({last['source']}, {100 * last['cost']:.1f} % of the minute)"
            ahead = f"{last['regret']:.3f} of {last['best']}, {last['times_plain']:.2f}× plain"
            print(f"{network}, batch {batch}: {chosen}, {ahead}", flush=True)
    return {
        "name": f"{network}, batch {batch}",
        "options": {"shape": shape, "batch": batch},
        "rows": [],
        "missing": [],
        "note": told(found),
        "runs": found,
    }


def _in_a_process(*words: str) -> dict[str, Any]:
    """What `main` prints for one repeat, with nothing kept from earlier runs."""
    with tempfile.TemporaryDirectory() as cache:
        command, env = [sys.executable, __file__, "--one", *words], os.environ | {"STRIATE_CACHE": cache}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def told(runs: list[dict[str, Any]]) -> str:
    """A line a repeat."""
    columns = ["the plan's choice", "of the fastest way", "times plain", "of the minute"]
    rows = [
        [run["chosen"], f"{run['regret']:.3f}", f"{run['times_plain']:.2f}", f"{100 * run['cost']:.1f} %"]
        for run in runs
    ]
    return table(columns, rows)


def judge(cases: list[dict[str, Any]], *, whole: bool) -> dict[str, Any]:
    """Against what was asked."""
    runs = [run for found in cases for run in found["runs"]]
    middle = statistics.median(run["regret"] for run in runs)
    worst = min(runs, key=lambda run: run["regret"])
    plain = min(statistics.median(run["times_plain"] for run in found["runs"]) for found in cases)
    cost = max(run["cost"] for run in runs)
    met = middle >= MEDIAN and worst["regret"] >= WORST and plain >= PLAIN
    text = f"{middle:.3f} in the median, {worst['regret']:.3f} in the worst of {len(runs)}; {plain:.2f}× plain at least"
    return {
        "plan-regret": claim(text, met if whole else None),
        "plan-cost": claim(f"{100 * cost:.1f} % at most", cost < COST if whole else None),
    }


def main() -> None:
    """Measure, print, write."""
    if sys.argv[1:2] == ["--one"]:
        network, batch, data, execution = sys.argv[2], int(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5])
        given = {"rest_seconds": begun(network, batch, data, execution)[2]} if execution else None
        print(json.dumps(given or one_repeat(network, batch, data)))
        return
    parser = arguments(__doc__, repeats=3)
    names = [name for name, _, _ in NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    asked = parsed(parser)
    began = perf_counter()
    wanted = [row for row in NETWORKS if row[0] in asked.networks][: 1 if asked.quick else None]
    cases: list[dict[str, Any]] = []
    for name, shape, batch in [(name, shape, batch) for name, shape, batches in wanted for batch in batches]:
        cases.append(measured(name, shape, batch, asked.repeats))
        claims = judge(cases, whole=len(cases) == sum(len(batches) for _, _, batches in NETWORKS))
        write_result(__file__, asked, cases, about=(__doc__ or "").split("\n\n")[2], claims=claims)
    print(claims, f"{perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
