"""A program in place of `striate train`, which begins at once: it writes what a training writes, a step each hundredth
of a second (STEP_SECONDS in the environment), saves and ends with 130 when it is told to, and goes on where it was."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__)
NETWORK = "conv(4,3) relu pool(2) fc(10)"
STEPS = 400


def a_config() -> str:
    """What lies as config.yaml in the folder where the stand-in is started."""
    from striate.training.config import Config
    from striate.training.config_file import config_to_yaml
    from striate.training.request import merge_request

    fields: dict[str, Any] = {"model.name": NETWORK, "budget.steps": STEPS}
    return config_to_yaml(merge_request(Config(), data="digits", fields=fields))


def a_look(step: int) -> dict[str, Any]:
    """What a training leaves while it is watched."""
    outputs = {"low": -1.0, "high": 1.0, "counts": [step] * 40, "zeros": 0.25}
    layer = {"name": "conv1", "kind": "weights", "outputs": outputs, "gradients": outputs | {"low": -10, "high": 2}}
    content = b64encode(bytes(step % 256 for _ in range(36))).decode()
    filters = {"layer": "conv1", "of": 4, "shape": [4, 1, 3, 3], "most": 0.5, "bytes": content}
    loss = 1 / step
    seen = {"step": step, "steps": STEPS, "epoch": 1, "loss": loss, "lr": 0.1, "left": 4.0, "losses": [[step, loss]]}
    return seen | {"filters": filters, "layers": [layer], "layers_step": step}


def train(words: dict[str, str]) -> int:
    """Begin, or go on; the exit code."""
    if words.get("--model") == "fc(3)":
        print(json.dumps({"error": {"where": "head", "got": "3", "expected": "10", "remedy": "fc(10)"}}))
        return 2
    asked: list[int] = []
    threading.Thread(target=lambda: asked.append(len(sys.stdin.read())), daemon=True).start()  # until it ends
    run = Path(words.get("--out") or words["--resume"])
    run.mkdir(parents=True, exist_ok=True)
    place = run / "step"
    step = int(place.read_text()) if place.exists() else 0
    if not (run / "config.yaml").exists():
        (run / "metrics.csv").write_text("epoch,step,lr,train_loss,val_loss,train_accuracy,val_accuracy\n")
        (run / "events.jsonl").write_text(json.dumps({"event": "note", "text": "decided"}) + "\n")
        (run / "config.yaml").write_text(Path("config.yaml").read_text())
    while step < STEPS and not asked:
        step += 1
        if step % 10 == 0:
            with (run / "metrics.csv").open("a") as table:
                table.write(f"{step // 10},{step},0.1,{10 / step},{11 / step},0.5,0.5\n")
            new = run / ".new.tmp"
            new.write_text(json.dumps(a_look(step)))
            new.replace(run / ".look.tmp")
        print("step", step, file=sys.stderr, flush=True)
        time.sleep(float(os.environ.get("STEP_SECONDS", "0.01")))
    place.write_text(str(step))
    if asked:
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints" / "last.pt").write_bytes(b"saved")
        with (run / "events.jsonl").open("a") as events:
            events.write(json.dumps({"event": "interrupted", "step": step}) + "\n")
        return 130
    (run / "metrics.json").write_text(json.dumps({"test": {"n": 5, "accuracy": 0.8, "accuracy_interval": [0.4, 0.9]}}))
    return 0


if __name__ == "__main__":
    sys.exit(train(dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)))
