"""Training ResNet-18 for CIFAR at width 64 and 32, with augmentation: striate beside plain torch in fp32.

Command: STRIATE_DATA=… python benchmarks/cifar_resnet18.py [--width 64 32] [--repeats 5]

A turn is about 40 steps at width 64 and 120 at width 32 of batch 128, data and augmentation included: images of 32 × 32
shifted by up to 4 pixels and flipped by chance, SGD with momentum. The network is torchvision's ResNet-18 with a first
convolution of 3 × 3 and without the first pooling, as everyone trains it on CIFAR. Plain torch augments one sample at
a time in 2 workers, or, the other peer, whole batches between the steps; both in fp32, as it is by default.
"""

from __future__ import annotations

from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.machine_rates import MATRIX_PRODUCTS, matrix_products  # noqa: F401 - contenders of this file
from common.measure import measure
from common.quick import quick_data
from common.results import arguments, best_ratio, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training  # noqa: F401

SHAPE, BATCH, BORDER = (3, 32, 32), 128, 4
TARGETS = {64: 2.5, 32: 2.2}
STEPS = {64: 40, 32: 120}


def model(width: int) -> str:
    """The network's name."""
    return f"resnet18(stem=small,width={width})"


def samples(name: str) -> Any:
    """A Dataset of the images that striate trains on, augmented one at a time."""
    from common.plain_torch import Samples, channel_statistics

    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    train = load_dataset(DataConfig(source=name)).splits["train"]
    x, y = train.inputs[:], train.targets[:]
    return Samples(x, y, *channel_statistics(x), border=BORDER, flip=True)


def network_and_optimizer(width: int) -> tuple[Any, Any]:
    """The same network, as a module of plain torch."""
    import torch

    import striate

    module = striate.build(model(width), SHAPE, 10)
    return module, torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def with_workers(gate: Gate, name: str, width: int, per_turn: int) -> None:
    """A DataLoader with 2 workers."""
    from common.plain_torch import train_by_turns
    from torch.utils.data import DataLoader

    module, optimizer = network_and_optimizer(width)
    loader = DataLoader(samples(name), BATCH, shuffle=True, num_workers=2)
    train_by_turns(gate, module, loader, optimizer, per_turn)


def with_whole_batches(gate: Gate, name: str, width: int, per_turn: int) -> None:
    """All images in memory as bytes; a batch is shifted and flipped by two or three operations."""
    import torch
    from common.plain_torch import shifted_and_flipped, train_by_turns
    from torch.nn import functional

    module, optimizer = network_and_optimizer(width)
    data = samples(name)
    padded = functional.pad(data.x, [BORDER] * 4)

    class Batches:
        def __iter__(self) -> Any:
            for rows in torch.randperm(len(data)).split(BATCH):
                x = shifted_and_flipped(padded, rows, SHAPE[1])
                yield (x.float() / 255 - data.mean) / data.std, data.y[rows]

    train_by_turns(gate, module, Batches(), optimizer, per_turn)


def contenders(name: str, width: int, per_turn: int, epochs: int) -> list[Contender]:
    """All of a case."""
    fields = {"model.name": model(width), "batch": BATCH, "optim.name": "sgd", "optim.lr": 0.05, "optim.ema": 0.0}
    fields |= {"augment.flip": True, "augment.shift": BORDER, "optim.weight_decay": 5e-4}
    options = {"name": name, "width": width, "per_turn": per_turn}
    return [
        striate_contender("striate", data=name, fields=fields, epochs=epochs, per_turn=per_turn),
        Contender("torch fp32, DataLoader with 2 workers", "with_workers", options),
        Contender("torch fp32, whole batches", "with_whole_batches", options),
        MATRIX_PRODUCTS,
    ]


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--width", type=int, nargs="+", default=[64, 32])
    asked = parsed(parser)
    from striate.api import summarize

    cases = []
    with quick_data(SHAPE, asked.quick) as few:
        for width in (8,) if asked.quick else asked.width:
            per_turn = BATCH * (2 if asked.quick else STEPS.get(width, 60))
            found = measure(
                __file__,
                contenders(few or "cifar10", width, per_turn, epochs=20),
                repeats=asked.repeats,
                gently=asked.quick,
            )
            macs = summarize(model(width), SHAPE).macs
            cases.append(case(f"width {width}", found, macs=macs, options={"width": width, "batch": BATCH}))
            print(show(cases[-1]), flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=verdicts(cases))


def verdicts(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Against the best plain torch; and how much of the machine is used at width 64."""
    made = {}
    for found in cases:
        width, ours = found["options"]["width"], [row for row in found["rows"] if row["ours"]]
        ratio = best_ratio([found])
        if ratio is not None and width in STEPS:
            made[f"cifar-resnet18-{width}"] = claim(f"{ratio:.2f}× plain torch fp32", ratio >= TARGETS[width])
        if ours and width == 64:
            used, precision = ours[0]["utilisation"], ours[0]["precision"]
            met = None if used is None else precision == "bf16" and used >= 0.8
            text = "not measured" if used is None else f"{100 * used:.0f} % of the {precision} rate"
            made["cifar-resnet18-utilisation"] = claim(text, met)
    return made


if __name__ == "__main__":
    main()
