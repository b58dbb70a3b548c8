"""Training beside other programs: how much throughput is left when two processes keep the cores busy.

Command: STRIATE_DATA=… python benchmarks/busy.py [--processes 2] [--repeats 5]

The lectures' network on Fashion-MNIST, batch 128, parts of an epoch, first with the machine to itself, then beside
processes that compute without end, each on a core's worth. What those take of the cores is measured in striate's turns:
its throughput should fall by no more. Where it computes in two threads that is half, and two thirds where in one, which
loses less by waiting: the system gives each thread the same time. striate plans anew in either state. The same with the
number of threads and GOMP_SPINCOUNT set by hand shows what each of them is worth; plain torch as everyone runs it is
the peer.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import measure
from common.quick import quick_data
from common.results import arguments, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training  # noqa: F401
from fashion_epoch import BORDER, MODEL, RATE, SHAPE, network, samples

BATCH, PER_TURN = 128, 12_800
SPIN = "while True: pass"


def plain_torch(gate: Gate, name: str, per_turn: int) -> None:
    """The loop of the tutorials from a TensorDataset, in the environment as it is by default."""
    import torch
    from common.plain_torch import train_by_turns
    from torch.utils.data import DataLoader

    module = network()
    loader = DataLoader(samples(name, False, ready=True), BATCH, shuffle=True)
    train_by_turns(gate, module, loader, torch.optim.AdamW(module.parameters(), lr=RATE), per_turn)


def by_hand(threads: int, spin: str | None, options: dict[str, Any]) -> Contender:
    """striate without a plan for threads, in bf16, with so many and so long a wait."""
    fixed = {"execution.precision": "bf16", "execution.memory_format": "channels_last", "execution.compile": "off"}
    options = options | {"fields": options["fields"] | fixed | {"execution.threads": threads}}
    environment = {} if spin is None else {"GOMP_SPINCOUNT": spin}
    shown = "the default" if spin is None else spin
    title = f"bf16, {threads} thread{'s' * (threads > 1)}, spin count {shown}"
    return Contender(title, "striate_training", options, environment, ours=False)


def contenders(name: str, per_turn: int) -> list[Contender]:
    """striate as it is, with its choices made by hand, and plain torch."""
    fields = {"model.name": MODEL, "batch": BATCH, "optim.name": "adamw", "augment.shift": BORDER}
    options: dict[str, Any] = {"data": name, "fields": fields, "epochs": 100, "per_turn": per_turn}
    cores = os.cpu_count() or 1
    return [
        striate_contender("striate", **options),
        *(by_hand(threads, spin, options) for threads in (1, cores) for spin in (None, "1000", "5000")),
        Contender("torch, no workers", "plain_torch", {"name": name, "per_turn": per_turn}),
    ]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--processes", type=int, default=2, help="how many keep the cores busy")
    asked = parsed(parser)
    cases = []
    with quick_data(SHAPE, asked.quick) as few:
        taking_part = contenders(few or "fashion-mnist", BATCH if asked.quick else PER_TURN)
        for count in (0, asked.processes):
            with busy(count):
                found = measure(__file__, taking_part, repeats=asked.repeats, gently=asked.quick)
            cases.append(case(f"beside {count} busy processes", found, options={"busy": count}))
            print(show(cases[-1]), flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=judge(cases))


def judge(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """What is left of striate's throughput, beside what the others took of the cores meanwhile."""
    quiet, beside = (next((row for row in found["rows"] if row["ours"]), None) for found in cases)
    if quiet is None or beside is None:
        return {}
    left = beside["images_per_second"]["median"] / quiet["images_per_second"]["median"]
    took = statistics.median(turn["others"] for turn in beside["turns"])
    said = f"falls by {100 * (1 - left):.0f} % while they take {100 * took:.0f} % of the cores"
    return {"busy": claim(said, 1 - left <= took)}


if __name__ == "__main__":
    main()
