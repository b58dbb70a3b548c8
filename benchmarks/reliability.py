"""What losing nothing costs, and what a kill loses.

Command: STRIATE_DATA=… python benchmarks/reliability.py [--repeats 20] [--kills 10]

First mnist-cnn on Fashion-MNIST, epoch after epoch, as `striate train` runs it (checkpoints in the background, the one
before kept, each read back; a trace of the steps; events; the lock), beside the same that saves at the end alone and
keeps no trace; both in turns. The overhead is the median over pairs of epochs that follow each other. Then, for three
networks with AdamW, how large a checkpoint is, how long the training waits for it (the copy), and how long the
background takes to write, flush and read it back. Last, `striate train` is killed (SIGKILL) at random instants, gone on
with by `--resume`, and its weights are compared with those of a run that was not: what a kill loses is the time since
the last checkpoint.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, sleep, time
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import measure, spread
from common.quick import quick_data
from common.results import arguments, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training

MODEL, SHAPE, BATCH = "mnist-cnn", (1, 28, 28), 128
NETWORKS = (("mnist-cnn", (1, 28, 28)), ("resnet18", (3, 64, 64)), ("resnet50", (3, 64, 64)))
AIM = 0.02
KILL_AFTER = (2.0, 12.0)  # seconds after training has begun


def saved_at_the_end(gate: Gate, **options: Any) -> None:
    """The same training without checkpoints before the end, and without a trace."""
    from striate.training.saving import Saver, Trace

    Saver.due = lambda *_, **__: False  # type: ignore[method-assign]
    Trace.add = lambda *_: None  # type: ignore[method-assign]
    striate_training(gate, **options)


def overhead(data: str, asked: Any) -> dict[str, Any]:
    """The case of both, with how much longer an epoch takes."""
    fields = {"model.name": MODEL, "batch": BATCH, "execution.plan": "plain", "execution.threads": 1}
    options: dict[str, Any] = {"data": data, "fields": fields, "epochs": asked.repeats + 10}
    both = [striate_contender("striate", **options), Contender("saved at the end alone", "saved_at_the_end", options)]
    measured = measure(__file__, both, repeats=asked.repeats, gently=asked.quick)
    found = case(f"{MODEL} on Fashion-MNIST, an epoch a turn", measured, in_order=True)
    ours, bare = measured
    if ours.turns and bare.turns:
        ratios = [a["seconds"] / b["seconds"] - 1 for a, b in zip(ours.turns, bare.turns, strict=True)]
        found["options"]["overhead"] = {**spread(ratios), "n": len(ratios)}
    return found


def checkpoints(networks: Sequence[tuple[str, tuple[int, int, int]]], repeats: int) -> list[dict[str, Any]]:
    """Size and times of a checkpoint of each network."""
    from striate.runs.checkpoint import replace_checkpoint
    from striate.training.prepare import prepare
    from striate.training.request import merge_request, read_config
    from striate.training.saving import copied

    rows = []
    for name, shape in networks:
        with quick_data(shape, samples=20) as data, tempfile.TemporaryDirectory() as folder:
            fields = {"model.name": name, "batch": 10, "optim.name": "adamw", "execution.plan": "plain"}
            prepared = prepare(merge_request(read_config(None), data=data, epochs=1, fields=fields))
            for event in _steps(prepared):
                del event
            last, before = Path(folder) / "last.pt", Path(folder) / "previous.pt"
            copies, writes = [], []
            for _ in range(repeats):
                began = perf_counter()
                content = copied(prepared.checkpoint())
                copies.append(perf_counter() - began)
                replace_checkpoint(last, before, content)
                writes.append(perf_counter() - began - copies[-1])
            size = last.stat().st_size / 2**20
        rows.append({"network": name, "mib": round(size, 1), "copy": spread(copies), "write": spread(writes)})
    return rows


def _steps(prepared: Any) -> Any:
    """A step or two, so that the optimizer has all that it remembers."""
    from striate.training.loop import training_events

    p = prepared
    return training_events(p.state, p.objective, p.splits, p.config, p.normalize)


def kills(data: str, count: int, epochs: int, seed: int = 0) -> dict[str, Any]:
    """Seconds that each kill lost, and whether the weights are those of a run that was not killed."""
    draw, lost = random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        words = ["train", data, "--model", MODEL, "--batch", str(BATCH), "--epochs", str(epochs), "--plan", "plain"]
        words += ["--execution.threads", "1"]
        subprocess.run([*_striate(), *words, "--out", str(whole)], check=True, capture_output=True)
        next_words = [*words, "--out", str(cut)]
        for _ in range(count):
            process = subprocess.Popen([*_striate(), *next_words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            known = _resumed(cut)
            while process.poll() is None and _resumed(cut) == known:
                sleep(0.02)
            sleep(draw.uniform(*KILL_AFTER))
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            last = cut / "checkpoints" / "last.pt"
            lost.append(time() - (last if last.exists() else cut / "env.json").stat().st_mtime)
            next_words = ["train", "--resume", str(cut)]
        subprocess.run([*_striate(), "train", "--resume", str(cut)], check=True, capture_output=True)
        same = _weights(whole) == _weights(cut)
    return {"kills": len(lost), "seconds_lost": spread(lost) if lost else None, "same_weights": same}


def _striate() -> list[str]:
    return [sys.executable, "-m", "striate"]


def _resumed(run: Path) -> int:
    """How often training has begun."""
    events = run / "events.jsonl"
    text = events.read_text() if events.exists() else ""
    return text.count('"event": "resumed"') + text.count('"event": "files"')


def _weights(run: Path) -> str:
    from striate.runs.checkpoint import load_checkpoint

    digest = hashlib.sha256()
    for name, tensor in load_checkpoint(run / "checkpoints" / "last.pt")["model"].items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=20)
    parser.add_argument("--kills", type=int, default=10, help="how often the training is killed")
    asked = parsed(parser)
    with quick_data(SHAPE, asked.quick) as few:
        data = few or "fashion-mnist"
        found = overhead(data, asked)
        print(show(found), flush=True)
        added = found["options"].get("overhead")
        if added:
            low, middle, high = (f"{100 * added[key]:+.2f}" for key in ("min", "median", "max"))
            print(f"  overhead {middle} % ({low} to {high} %, n = {added['n']})")
        rows = checkpoints(NETWORKS[:1] if asked.quick else NETWORKS, 1 if asked.quick else 5)
        for row in rows:
            copy, write = row["copy"]["median"], row["write"]["median"]
            print(f"  {row['network']}: {row['mib']} MiB, the training waits {copy:.4f} s, written in {write:.3f} s")
        died = kills(data, 1 if asked.quick else asked.kills, 400 if asked.quick else 30)
        print(f"  {died['kills']} kills, seconds lost {died['seconds_lost']}, the same weights: {died['same_weights']}")
    found["options"] |= {"checkpoints": rows, "kills": died}
    claims = {}
    if added:
        claims["saving, checks and the lock take below 2 % of the time of a run"] = claim(
            f"{100 * added['median']:.2f} % longer", added["median"] < AIM
        )
    write_result(__file__, asked, [found], about=__doc__.split("\n\n")[2], claims=claims)


if __name__ == "__main__":
    main()
