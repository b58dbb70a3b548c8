"""Epochs of the lectures' network on Fashion-MNIST: striate's loop beside plain torch, interleaved in one run.

Command: STRIATE_DATA=… python benchmarks/fashion_epoch.py [--batch 128] [--repeats 5]
Each repeat times one epoch with data (54,000 images) of each contender; medians, spread and ratios are printed and
written to benchmarks/results/fashion_epoch.json. A plain loop with a DataLoader is what everyone writes first.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from time import perf_counter

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.data.dataset import Split
from striate.runs.environment import describe_environment
from striate.training.events import EpochDone
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request, read_config


class Samples(Dataset):
    """One sample at a time, normalized in `__getitem__`, as tutorials have it."""

    def __init__(self, split: Split, mean: float, std: float) -> None:
        self.x, self.y, self.mean, self.std = split.inputs, split.targets, mean, std

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.x[i].float() - self.mean) / self.std, self.y[i]


def plain_network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(384, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


def plain_epoch(loader: DataLoader, network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Images a second of an epoch of the loop that everyone writes."""
    network.train()
    seen, started = 0, perf_counter()
    for x, y in loader:
        loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(y)
    return seen / (perf_counter() - started)


def striate_epochs(prepared: Prepared):
    """Images a second of one epoch after the other; only training, as for the others."""
    events = training_events(prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize)
    for event in events:
        if isinstance(event, EpochDone):
            yield event.row.samples / event.row.seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()

    base = {"model.name": "mnist-cnn", "batch": asked.batch, "augment.flip": False}
    plain = merge_request(
        read_config(None), data="fashion-mnist", epochs=asked.repeats + 1, fields=base | {"augment.shift": 0}
    )
    varied = merge_request(read_config(None), data="fashion-mnist", epochs=asked.repeats + 1, fields=base)
    first = prepare(plain)
    train, norm = first.data.splits["train"], first.normalization
    samples = Samples(train, norm.mean[0], norm.std[0])
    tensors = TensorDataset((train.inputs.float() - norm.mean[0]) / norm.std[0], train.targets)

    contenders = {}
    for name, loader in {
        "torch, DataLoader with 2 workers": DataLoader(samples, asked.batch, shuffle=True, num_workers=2),
        "torch, TensorDataset, no workers": DataLoader(tensors, asked.batch, shuffle=True),
    }.items():
        network = plain_network()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        contenders[name] = lambda loader=loader, n=network, o=optimizer: plain_epoch(loader, n, o)
    for name, prepared in {"striate": first, "striate, with shifts": prepare(varied)}.items():
        epochs = striate_epochs(prepared)
        contenders[name] = lambda epochs=epochs: next(epochs)

    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(asked.repeats + 1):
        for name, run in contenders.items():
            speed = run()
            if repeat:  # the first is warm-up
                speeds[name].append(speed)

    peer = statistics.median(speeds["torch, DataLoader with 2 workers"])
    rows = []
    for name, values in speeds.items():
        row = {"name": name, "median": statistics.median(values), "min": min(values), "max": max(values)}
        row["ratio"] = row["median"] / peer
        rows.append(row)
        print(f"{name:<36}{row['median']:>9,.0f} images/s  ({row['min']:,.0f}–{row['max']:,.0f})  {row['ratio']:.2f}×")
    machine = {k: v for k, v in describe_environment().items() if k not in ("executable", "STRIATE_DATA")}
    result = {"batch": asked.batch, "repeats": asked.repeats, "rows": rows, "environment": machine}
    out = Path(__file__).parent / "results" / "fashion_epoch.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
