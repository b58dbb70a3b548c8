"""From shell prompt to shell prompt: `striate train DATA --epochs N` beside a script of plain torch.

Command: STRIATE_DATA=… python benchmarks/whole_command.py [--repeats 5] [--cases mnist5k:1 mnist5k:10]

Wall clock of a whole process, imports included. Both train the same network on the same samples for as many epochs,
validate each epoch, keep the best network and test it: the lectures' network at batch 128, or ResNet-18 at 160 pixels
and batch 32 on 600 photographs of STRIATE_DATA/flowers, most of which occur more than once. striate also does all else
that it does: checks, plan, intervals, report. The script reads arrays that lie ready, or opens photographs with Pillow
in two workers. Contenders take turns. `striate, first` has nothing kept from earlier runs, `striate` has what it kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common.commands import timed
from common.results import arguments, claim, parsed, write_result
from photos import repeated

SCRIPT = str(Path(__file__).parent / "common" / "plain_script.py")
FILES = 600
TARGETS = {1: 1.0, 10: 2.0}
CASES = tuple((data, epochs) for data in ("mnist5k", "fashion-mnist", "photographs") for epochs in TARGETS)


def lay_out(data: str, folder: Path) -> None:
    """What the script reads."""
    if data == "photographs":
        repeated(Path(os.environ.get("STRIATE_DATA", "data")) / "flowers", folder, FILES)
        return
    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    for name, split in load_dataset(DataConfig(source=data)).splits.items():
        np.savez(folder / f"{name}.npz", x=np.asarray(split.inputs[:]), y=np.asarray(split.targets))


def striate(data: str, folder: Path, epochs: int, cache: Path) -> dict[str, float]:
    """Seconds of the command, and what it reached."""
    words = [data, "--model", "mnist-cnn", "--batch", "128"]
    if data == "photographs":
        words = [str(folder), "--model", "resnet18", "--batch", "32", "--size", str(160)]
    with tempfile.TemporaryDirectory() as out:
        run = Path(out) / "run"
        command = ["-m", "striate", "train", *words, "--epochs", str(epochs), "--out", str(run)]
        seconds, _ = timed(command, {"STRIATE_CACHE": str(cache)})
        return {"seconds": seconds, "accuracy": json.loads((run / "metrics.json").read_text())["test"]["accuracy"]}


def plain_torch(data: str, folder: Path, epochs: int) -> dict[str, float]:
    """Seconds of the script, and what it reached."""
    seconds, said = timed([SCRIPT, data, str(folder), str(epochs)])
    return {"seconds": seconds, **json.loads(said)}


def measured(data: str, epochs: int, repeats: int) -> dict[str, Any]:
    """A case: all contenders, in turns."""
    with tempfile.TemporaryDirectory() as place:
        folder, kept = Path(place) / "data", Path(place) / "kept"
        folder.mkdir()
        lay_out(data, folder)
        striate(data, folder, epochs, kept)
        contenders: dict[str, Callable[[int], dict[str, float]]] = {
            "striate, first": lambda turn: striate(data, folder, epochs, Path(place) / f"first-{turn}"),
            "striate": lambda _: striate(data, folder, epochs, kept),
            "script of plain torch": lambda _: plain_torch(data, folder, epochs),
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for turn in range(repeats):
            for name, run in contenders.items() if turn % 2 else reversed(contenders.items()):
                runs[name].append(run(turn))
                print(f"{data}, {epochs} epochs, {name}: {runs[name][-1]}", flush=True)
    peer = statistics.median(one["seconds"] for one in runs["script of plain torch"])
    rows = [
        {
            "contender": name,
            "ours": name.startswith("striate"),
            "runs": found,
            "ratio": peer / statistics.median(one["seconds"] for one in found),
            **{key: summary([one[key] for one in found]) for key in ("seconds", "accuracy")},
        }
        for name, found in runs.items()
    ]
    return {"name": f"{data}, epochs: {epochs}", "options": {"epochs": epochs}, "rows": rows, "missing": []}


def summary(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def judge(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Against what was asked, where striate is slowest of what was measured."""
    claims = {}
    for epochs, target in TARGETS.items():
        ratios = [
            row["ratio"]
            for case in cases
            if case["options"]["epochs"] == epochs
            for row in case["rows"]
            if row["contender"] == "striate, first"
        ]
        if ratios:
            text = f"{min(ratios):.2f}× the script, the worst of {len(ratios)} sets"
            whole, met = len(ratios) == len([one for one in CASES if one[1] == epochs]), min(ratios) >= target
            claims[f"whole-command-{epochs}"] = claim(text, met if whole or not met else None)
    return claims


def chosen_case(words: str) -> tuple[str, int]:
    """A case as it is typed: `mnist5k:10`."""
    found = {f"{data}:{epochs}": (data, epochs) for data, epochs in CASES}
    if words not in found:
        raise argparse.ArgumentTypeError(f"{words}; one of {' '.join(found)}")
    return found[words]


def main() -> None:
    """All cases; what is measured is written after each."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--cases", nargs="+", type=chosen_case, default=CASES, metavar="SET:EPOCHS")
    asked = parsed(parser)
    cases: list[dict[str, Any]] = []
    for data, epochs in CASES[:1] if asked.quick else asked.cases:
        cases.append(measured(data, epochs, asked.repeats))
        claims = {} if asked.quick else judge(cases)
        print(write_result(__file__, asked, cases, about=(__doc__ or "").split("\n\n")[2], claims=claims), claims)


if __name__ == "__main__":
    main()
