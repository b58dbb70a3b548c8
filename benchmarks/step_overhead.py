"""What striate's loop adds to a step: beside the shortest loop with the same operations, step by step in one process.

Command: python benchmarks/step_overhead.py [--repeats 40]

mnist-cnn at batch 32, 128 and 512, and resnet18(stem=small,width=16) on 32 × 32 at batch 128; noise of ten classes in
memory, no augmentation, bf16 by autocast, channels last, freed memory kept, fused AdamW. The shortest loop picks rows,
standardizes, computes the loss, goes back and steps, and nothing else: no tally of metrics, no weight decay by kind, no
learning-rate schedule, no seed of dropout, no look whether the loss is finite. A turn is a quarter of a second of steps
of each, one right after the other; the ratio is that of seconds a step, by the median of turns. `processor` is the same
with the seconds that the process's threads computed, which other programs on the machine hardly change.
"""

from __future__ import annotations

import copy
import resource
import statistics
import sys
from collections.abc import Callable, Iterator
from time import perf_counter, process_time
from typing import Any

from common.contender import Contender
from common.measure import Measured
from common.quick import quick_data
from common.results import arguments, case, parsed, show, write_result

WORKLOADS = (
    ("mnist-cnn", (1, 28, 28), 32),
    ("mnist-cnn", (1, 28, 28), 128),
    ("mnist-cnn", (1, 28, 28), 512),
    ("resnet18(stem=small,width=16)", (3, 32, 32), 128),
)
TURN = 0.25  # seconds


def prepared_for(data: str, model: str, batch: int) -> Any:
    """A training that never ends, fully decided."""
    from striate.training.prepare import prepare
    from striate.training.request import merge_request, read_config

    fields = {
        **{"model.name": model, "batch": batch, "augment.flip": False, "augment.shift": 0, "optim.name": "adamw"},
        **{"execution.precision": "bf16", "execution.memory_format": "channels_last", "execution.compile": "off"},
        "execution.allocator": "keep",
    }
    return prepare(merge_request(read_config(None), data=data, epochs=100_000, fields=fields))


def steps_of_striate(prepared: Any) -> Iterator[None]:
    """The loop of `striate train`, paused at each step."""
    from striate.training.events import StepDone
    from striate.training.loop import training_events

    p = prepared
    for event in training_events(p.state, p.objective, p.splits, p.config, p.normalize):
        if isinstance(event, StepDone):
            yield


def shortest_steps(prepared: Any, module: Any, batch: int) -> Iterator[None]:
    """The same operations on the same data, written out."""
    import torch
    from torch.nn import functional

    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    images, targets = prepared.splits["train"].inputs, prepared.splits["train"].targets
    normalize = prepared.normalize
    while True:
        order = torch.randperm(len(images))
        for start in range(0, len(images) - len(images) % batch, batch):
            rows = order[start : start + batch]
            x, y = normalize(images.index_select(0, rows)), targets.index_select(0, rows)
            if x.shape[1] > 1:
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = module(x)
            loss = functional.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield


def turn(step: Callable[[], Any], count: int, batch: int) -> dict[str, float]:
    """So many steps, by two clocks."""
    wall, processor = perf_counter(), process_time()
    for _ in range(count):
        step()
    seconds, busy = perf_counter() - wall, process_time() - processor
    return {"samples": count * batch, "seconds": seconds, "processor_seconds": busy}


def compare(model: str, shape: tuple[int, int, int], batch: int, repeats: int) -> dict[str, Any]:
    """One case: turns of both, and how much longer striate's steps are."""
    from striate.training.execution import execution_settings

    with quick_data(shape, samples=16 * batch) as data:
        prepared = prepared_for(str(data), model, batch)
        shortest = shortest_steps(prepared, copy.deepcopy(prepared.state.module), batch)
        ours = steps_of_striate(prepared)
        measured = [Measured(Contender("the shortest loop", "")), Measured(Contender("striate", "", ours=True))]
        with execution_settings(prepared.config):
            steps = [lambda: next(shortest), lambda: next(ours)]
            for step in steps:
                turn(step, 5, batch)
            count = max(1, round(TURN / (turn(steps[0], 3, batch)["seconds"] / 3)))
            for number in range(repeats):
                for which in (0, 1) if number % 2 else (1, 0):
                    measured[which].turns.append(turn(steps[which], count, batch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    for one in measured:
        one.facts["precision"], one.peak_bytes = "bf16", peak  # that of both together
    added = {}
    for name, clock in (("wall", "seconds"), ("processor", "processor_seconds")):
        per_step = [statistics.median(t[clock] for t in one.turns) / count for one in measured]
        added[name] = {"ratio": per_step[1] / per_step[0], "milliseconds": 1000 * (per_step[1] - per_step[0])}
    options = {"model": model, "batch": batch, "steps_per_turn": count, "added": added}
    return case(f"{model}, batch {batch}", measured, options=options)


def main() -> None:
    asked = parsed(arguments(__doc__, repeats=40))
    cases = []
    for model, shape, batch in WORKLOADS[:1] if asked.quick else WORKLOADS:
        found = compare(model, shape, batch, asked.repeats)
        cases.append(found)
        print(show(found))
        for clock, added in found["options"]["added"].items():
            ratio = f"{100 * (added['ratio'] - 1):+.1f} %"
            print(f"  added, by the {clock} clock: {ratio}, {added['milliseconds']:+.3f} ms a step")
    about = "What striate's loop adds to a step, beside the shortest loop with the same operations, in one process."
    print(write_result(__file__, asked, cases, about=about))


if __name__ == "__main__":
    main()
