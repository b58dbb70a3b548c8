"""Where one process ends: the cores as threads of one process, or a process each, as `torchrun` starts them.

Command: STRIATE_DATA=… python benchmarks/processes.py [--processes 2] [--epochs 4] [--repeats 3]

Whole commands, one after the other, `striate train` once alone and once with a process for each core: the lectures'
network on Fashion-MNIST, which has dropout and no batch normalization, and ResNet-20 on 5,000 digits, whose batch
normalization adds up over the processes twice a layer and step. A turn is the epochs of a command behind its first, by
the clock of its metrics.csv; the batch of a step, 128 and 512, is the same in both. Planning is left to each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from common.commands import trained
from common.contender import Contender
from common.measure import Measured
from common.quick import quick_data
from common.results import arguments, case, parsed, show, write_result

WORKLOADS = (("fashion-mnist", "mnist-cnn", (1, 28, 28)), ("mnist5k", "resnet20", (1, 28, 28)))
BATCHES = (128, 512)


def turn(launcher: list[str], data: str, model: str, batch: int, epochs: int) -> dict[str, Any]:
    """One command: the samples and seconds of its epochs behind the first."""
    words = [data, "--model", model, "--batch", str(batch), "--epochs", str(epochs), "--optim.name", "adamw"]
    _, _, rows = trained([*words, "--evaluation.train_samples", "1000"], launcher=launcher, cache=False)
    later = rows[1:]
    seconds = [float(row["seconds"]) for row in later]
    samples = [float(row["images_per_second"]) * float(row["seconds"]) for row in later]
    return {"samples": round(sum(samples)), "seconds": sum(seconds)}


def cases_of(asked: Any) -> Iterator[dict[str, Any]]:
    """A case for each network and batch."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={asked.processes}"]
    epochs = 2 if asked.quick else asked.epochs
    for data, model, shape in WORKLOADS:
        for batch in (32,) if asked.quick else BATCHES:
            one = Measured(Contender("one process", "", ours=True))
            several = Measured(Contender(f"{asked.processes} processes by torchrun", "", ours=True))
            with quick_data(shape, asked.quick) as few:
                for number in range(asked.repeats):
                    pair = [(one, []), (several, launcher)]
                    for found, how in pair if number % 2 == 0 else reversed(pair):
                        found.turns.append(turn(how, str(few or data), model, batch, epochs))
            options = {"epochs": epochs, "processes": asked.processes}
            yield case(f"{model} on {data}, batch {batch}", [one, several], in_order=True, options=options)


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parsed(parser)
    cases = []
    for found in cases_of(asked):
        cases.append(found)
        print(show(found), flush=True)
    write_result(__file__, asked, cases, about=(__doc__ or "").split("\n\n")[2])


if __name__ == "__main__":
    main()
