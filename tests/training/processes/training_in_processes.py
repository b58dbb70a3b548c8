"""One process of several: trains small networks and writes down what each saw and what came out.

Run as a script with a FOLDER and CASES, with the variables of a launcher; the test's own process runs the same
functions alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from striate.data.loader import Batch
from striate.training import loop, setup
from striate.training.config import Config
from striate.training.execution import execution_settings
from striate.training.prepare import prepare
from striate.training.processes.coordination import coordinated
from striate.training.processes.decide import among_processes
from striate.training.processes.launch import launched
from striate.training.request import merge_request

CASES: dict[str, dict[str, Any]] = {
    "tail": {"model.name": "mlp(16)", "batch": 96},
    "normalized": {"model.name": "conv(6,3) bn relu pool(2) conv(8,3) bn relu gap fc(10)", "batch": 128},
    "parts": {"model.name": "conv(4,3) relu gap fc(10)", "batch": 128, "execution.micro_batch": 16},
    "mixed": {"model.name": "conv(6,3) relu gap fc(10)", "augment.mixup": 0.5, "augment.cutmix": 0.5, "batch": 128},
    "spread": {"model.name": "conv(6,3) bn relu pool(2) conv(8,3) relu fc(10)", "batch": 128, "execution.fsdp": True},
    "heads": {"model.name": "conv(6,3) bn relu gap fc(10)", "auxiliary.rotation": 0.5, "batch": 200},
}
"""Fields of each training; the last batch of an epoch is smaller than the others."""
_NORMALIZED = "conv(6,3) bn relu pool(2) dropout(0.2) conv(8,3) bn relu gap fc(10)"
FIXED: dict[str, dict[str, Any]] = {
    "fixed": {"model.name": _NORMALIZED, "batch": 90, "execution.memory_format": "channels_last", "augment.rotate": 10},
    "fixed-mixed": {"model.name": _NORMALIZED, "augment.mixup": 0.5, "augment.cutmix": 0.5, "batch": 128},
    "fixed-heads": {"model.name": _NORMALIZED, "auxiliary.rotation": 0.5, "batch": 200, "execution.micro_batch": 16},
    "fixed-six": {"model.name": "mlp(16)", "batch": 96, "execution.batch_parts": 6, "task.class_weights": "balanced"},
}
"""With `--deterministic`: any number of processes ends with the same bits."""
LONG: dict[str, dict[str, Any]] = {
    "long": {"model.name": "conv(6,3) relu pool(2) conv(8,3) relu gap fc(10)", "batch": 128, "budget.steps": 500},
    "long-normalized": {"model.name": CASES["normalized"]["model.name"], "batch": 128, "budget.steps": 500},
}
"""As long as rounding takes to grow."""
_PLAIN_SGD = {"optim.name": "sgd", "optim.lr": 0.05}
"""AdamW divides by the size of gradients, also where they are nothing but rounding: biases before a normalization."""


def config_of(case: str, several: bool) -> Config:
    """The configuration of a case: two epochs, or as many steps as it says."""
    usual = {"execution.plan": "plain", "optim.clip": 5.0, "augment.shift": 1, "execution.threads": 1}
    usual |= {} if case in ("tail", *FIXED) else _PLAIN_SGD
    usual |= {"execution.deterministic": True} if case in FIXED else {}
    usual |= {} if case == "spread" else {"optim.ema": 0.9}
    fields = usual | (CASES | FIXED | LONG)[case] | ({} if several else {"execution.fsdp": False})
    return merge_request(Config(), data="digits", epochs=None if case in LONG else 2, fields=fields)


def train(case: str) -> dict[str, Any]:
    """Weights, buffers, validation and the order of samples of one case, in this process."""
    seen: list[list[int]] = []

    def noted(*positional: Any, **named: Any) -> Iterator[Batch]:
        for batch in loop_batches(*positional, **named):
            if "order" in named:
                seen.append(batch.ids.tolist())
            yield batch

    loop_batches = setup.batches
    with coordinated(launched()) as coordinator, mock.patch.object(setup, "batches", noted):
        prepared = prepare(among_processes(config_of(case, coordinator.launch.several), coordinator.launch))
        with (
            execution_settings(prepared.config),
            coordinator.process_group(prepared.state, prepared.config, Path()) as processes,
        ):
            state, events = prepared.state, []
            seen.clear()
            for event in loop.training_events(
                state, prepared.objective, prepared.splits, prepared.config, prepared.normalize, processes
            ):
                events.append(event)
    return {
        "model": state.module.state_dict(),
        "ema": state.eval_module.state_dict(),
        "losses": [event.loss.item() for event in events if hasattr(event, "loss")],
        "rows": [row.train | {f"val_{k}": v for k, v in row.val.items()} for row in state.history],
        "seen": seen,
    }


def main() -> None:
    """Train the cases; each process writes a file of each."""
    torch.set_num_threads(1)
    for case in sys.argv[2:]:
        torch.save(train(case), Path(sys.argv[1]) / f"{case}-{launched().rank}.pt")


if __name__ == "__main__":
    main()
