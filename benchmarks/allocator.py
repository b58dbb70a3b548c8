"""What it costs and gains when freed memory stays with the process.

Command: STRIATE_DATA=… python benchmarks/allocator.py [--repeats 5]

Training with `execution.allocator` keep and system, all else the same: the lectures' network on Fashion-MNIST and
ResNet-18 (width 32) on CIFAR-10, batch 128, in fp32 and bf16. Peak memory is the largest resident set of the process,
data and libraries included.
"""

from __future__ import annotations

from typing import Any

from common.contender import Contender
from common.measure import measure
from common.quick import quick_data
from common.results import arguments, case, parsed, show, write_result
from common.striate_training import striate_training  # noqa: F401

WORKLOADS = {
    "mnist-cnn": ("fashion-mnist", "mnist-cnn", (1, 28, 28), 51_200),
    "resnet18": ("cifar10", "resnet18(stem='small',width=32)", (3, 32, 32), 640),
}


def contenders(data: str, model: str, per_turn: int) -> list[Contender]:
    """Both policies in both precisions."""
    found = []
    for precision in ("fp32", "bf16"):
        for allocator in ("system", "keep"):
            fields: dict[str, Any] = {"model.name": model, "batch": 128, "execution.compile": "off"}
            fields |= {"execution.precision": precision, "execution.memory_format": "channels_last"}
            fields |= {"execution.threads": 2, "execution.allocator": allocator}
            options = {"data": data, "fields": fields, "epochs": 1000, "per_turn": per_turn}
            ours = (precision, allocator) == ("bf16", "keep")  # as the program runs
            found.append(Contender(f"{precision}, {allocator}", "striate_training", options, ours=ours))
    return found


def main() -> None:
    """Measure, print, write."""
    asked = parsed(arguments(__doc__, repeats=5))
    cases = []
    for title, (data, model, shape, per_turn) in WORKLOADS.items():
        with quick_data(shape, asked.quick) as few:
            taking_part = contenders(few or data, model, 128 if asked.quick else per_turn)
            found = measure(__file__, taking_part, repeats=asked.repeats, gently=asked.quick)
        cases.append(case(title, found))
        print(show(cases[-1]), flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2])


if __name__ == "__main__":
    main()
