"""Augmenting and standardizing batches: striate on whole batches beside Pillow, one image at a time.

Command: python benchmarks/augmentation.py [--repeats 5]

A turn is some tens of batches of bytes in memory. What striate does is what its loop calls, `augment_batch` and then
the standardization; Pillow does the same to each image in a Dataset's `__getitem__`, as people write it, in the process
itself and in a DataLoader with 2 workers. After each turn of striate, steps of the network that goes with the case are
timed in the same process without augmentation (forward, backward, AdamW, bf16, channels last): the share of
augmentation is its time over that of both together.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import measure
from common.results import arguments, case, claim, parsed, show, write_result


@dataclass(frozen=True)
class Case:
    """Images of `shape`, a batch size, fields of `augment.*`, and the network whose steps the time is held against."""

    shape: tuple[int, int, int]
    batch: int
    fields: dict[str, Any]
    network: str
    batches: int = 20
    peers: bool = True


MOVED = {"shift": 2, "flip": True}
MOVED_FURTHER = {"shift": 4, "flip": True}
BENT = {"shift": 2, "rotate": 15.0, "scale": 0.1, "shear": 10.0}
CROPPED = {"crop": 0.2, "flip": True}
CASES = {
    "28 × 28: shift": Case((1, 28, 28), 128, {"shift": 2}, "mnist-cnn", 100),
    "28 × 28: shift, flip": Case((1, 28, 28), 128, MOVED, "mnist-cnn", 100),
    "28 × 28: shift, flip, batch 512": Case((1, 28, 28), 512, MOVED, "mnist-cnn", 30),
    "28 × 28: affine": Case((1, 28, 28), 128, BENT, "mnist-cnn", 50, peers=False),
    "28 × 28: trivial": Case((1, 28, 28), 128, {"shift": 2, "policy": "trivial"}, "mnist-cnn", 50, peers=False),
    "32 × 32: shift, flip": Case((3, 32, 32), 128, MOVED_FURTHER, "resnet18(stem=small)"),
    "32 × 32: and color": Case((3, 32, 32), 128, MOVED_FURTHER | {"color": 0.4}, "resnet18(stem=small)", peers=False),
    "160 × 160: crop, flip": Case((3, 160, 160), 64, CROPPED, "resnet18", 5),
    "160 × 160: and color": Case((3, 160, 160), 64, CROPPED | {"color": 0.4}, "resnet18", 5, peers=False),
    "224 × 224: crop, flip": Case((3, 224, 224), 32, CROPPED, "resnet18", 5),
}


def images(one: Case) -> Any:
    """Noise; what is done does not depend on it. (N, C, H, W) bytes, four batches of them."""
    import torch

    return torch.randint(0, 256, (4 * one.batch, *one.shape), dtype=torch.uint8)


def with_striate(gate: Gate, name: str) -> None:
    """Whole batches, and steps of the network after each turn."""
    import torch

    from striate.data.augment.augment import augment_batch
    from striate.data.config import AugmentConfig
    from striate.data.memory_layout import channels_last
    from striate.data.normalize import Normalization
    from striate.machine.allocator import keep_freed_memory
    from striate.machine.waiting import share_the_cores

    keep_freed_memory()
    share_the_cores()
    one = CASES[name]
    x, config = images(one), AugmentConfig(**one.fields)
    normalize = Normalization((127.0,) * one.shape[0], (70.0,) * one.shape[0]).on("cpu", 4)
    step, epoch = training_step(one), 0
    gate.say(precision="bf16")
    while True:
        gate.begin()
        started = perf_counter()
        for _ in range(one.batches):
            ids = torch.arange(one.batch) + epoch % 4 * one.batch
            inputs, _ = augment_batch(x[ids[0] : ids[-1] + 1], config, 0, epoch, ids)
            inputs = channels_last(normalize(inputs))
            epoch += 1
        seconds = perf_counter() - started
        each, beside = seconds / one.batches, min(timed(step, inputs) for _ in range(3))
        gate.end(
            one.batches * one.batch,
            seconds,
            milliseconds=1e3 * each,
            step_milliseconds=1e3 * beside,
            share=each / (each + beside),
        )


def training_step(one: Case) -> Callable[[Any], object]:
    """One step of the case's network on a batch: forward, backward, update."""
    import torch
    from torch.nn import functional

    import striate

    network = striate.build(one.network, one.shape, 10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    targets = torch.arange(one.batch) % 10

    def step(inputs: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()

    return step


def timed(work: Callable[[Any], object], argument: Any) -> float:
    """Seconds of one call."""
    started = perf_counter()
    work(argument)
    return perf_counter() - started


def pillow_samples(one: Case) -> Any:
    """A Dataset that moves each image by Pillow and makes a standardized tensor of it."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import Dataset

    x = images(one).permute(0, 2, 3, 1).squeeze(3).contiguous().numpy()
    channels, height, width = one.shape
    reach, smallest = one.fields.get("shift", 0), one.fields.get("crop", 1.0)

    class Samples(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, i: int) -> torch.Tensor:
            image = Image.fromarray(x[i])
            if reach:
                down, right = (int(torch.randint(-reach, reach + 1, ())) for _ in range(2))
                image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))
            if smallest < 1:
                area, aspect = float(torch.empty(()).uniform_(smallest, 1)), float(torch.empty(()).uniform_(0.75, 1.33))
                tall, wide = min(1.0, (area / aspect) ** 0.5), min(1.0, (area * aspect) ** 0.5)
                top, left = float(torch.rand(())) * (1 - tall), float(torch.rand(())) * (1 - wide)
                box = (left * width, top * height, (left + wide) * width, (top + tall) * height)
                image = image.resize(image.size, Image.Resampling.BILINEAR, box=box)
            if one.fields.get("flip") and torch.rand(()) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            values = torch.from_numpy(np.array(image)).view(height, width, channels).permute(2, 0, 1)
            return (values.float() - 127) / 70

    return Samples()


def with_pillow(gate: Gate, name: str, workers: int) -> None:
    """A DataLoader; its workers live as long as the process."""
    from torch.utils.data import DataLoader

    one = CASES[name]
    loader = DataLoader(
        pillow_samples(one), one.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    turns = -(-one.batches // len(loader))
    while True:
        gate.begin()
        gate.end(sum(len(batch) for _ in range(turns) for batch in loader))


def contenders(name: str) -> list[Contender]:
    """All of a case."""
    ours = Contender("striate", "with_striate", {"name": name}, ours=True)
    peers = [
        Contender("Pillow, one image at a time", "with_pillow", {"name": name, "workers": 0}),
        Contender("Pillow, DataLoader with 2 workers", "with_pillow", {"name": name, "workers": 2}),
    ]
    return [ours, *peers] if CASES[name].peers else [ours]


def main() -> None:
    """Measure, print, write."""
    asked = parsed(arguments(__doc__, repeats=5))
    cases, shares = [], {}
    for name, one in list(CASES.items())[:: 4 if asked.quick else 1]:
        found = measure(__file__, contenders(name), repeats=asked.repeats, gently=asked.quick)
        cases.append(case(name, found, options={"batch": one.batch, "network": one.network, **one.fields}))
        print(show(cases[-1]))
        turns = [turn for row in cases[-1]["rows"] if row["ours"] for turn in row["turns"]]
        if turns:
            each, step, shares[name] = (
                statistics.median(turn[key] for turn in turns) for key in ("milliseconds", "step_milliseconds", "share")
            )
            print(
                f"  {each:.2f} ms a batch; a step of {one.network} {step:.1f} ms: {100 * shares[name]:.1f} % of both\n"
            )
    share = shares.get("28 × 28: shift")
    claims = {"augmentation-share": claim(f"{100 * share:.1f} % of a step", share < 0.15)} if share is not None else {}
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=claims)


if __name__ == "__main__":
    main()
