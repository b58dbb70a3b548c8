"""Steps on an accelerator: nobody waits for it. Torch's `meta` device stands in for one, since it has shapes and no
values: what would have to wait for a value fails there, and what is sent to it can be watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from striate.data.config import AugmentConfig
from striate.data.dataset import Split
from striate.data.loader import batches, epoch_order, to_device
from striate.data.normalize import Normalization
from striate.models.build import build_model
from striate.tasks.classify.task import Classify
from striate.training.auxiliary import make_heads
from striate.training.average import make_average
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.objective import Objective
from striate.training.optimizers import make_optimizer
from striate.training.setup import Setup
from striate.training.state import TrainingState
from striate.training.step import training_step

META = torch.device("meta")
_DRAWN = 24
"""Numbers that are drawn of a sample, at most: shifts, boxes, angles, colors."""


class Waits(TorchFunctionMode):
    """Notes what waits for an accelerator: copies from memory to it that are not `non_blocking`, and tensors made
    there from numbers of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.sent = 0
        self.numbers = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        if not isinstance(result, torch.Tensor) or result.device != META:
            return result
        if name in ("tensor", "as_tensor"):
            self.seen.append(f"{name}{args}")
        elif name == "__getitem__":
            self.seen += [f"indexed {args}" for index in _flat(args[1]) if index.device != META]
        elif name == "to" and args[0].device != META:
            self.sent += 1
            self.numbers += result.numel()
            if not kwargs.get("non_blocking"):
                self.seen.append(f"to{args[1:]} of {tuple(args[0].shape)}")
        return result


def _flat(index: Any) -> list[torch.Tensor]:
    return [part for part in (index if isinstance(index, tuple) else (index,)) if isinstance(part, torch.Tensor)]


def _split(side: int) -> Split:
    inputs = torch.randint(0, 256, (24, 3, side, side), dtype=torch.uint8)
    return Split(inputs, torch.randint(0, 4, (24,)), torch.arange(24) * 3)


VARIED = {
    "nothing": AugmentConfig(),
    "moves": AugmentConfig(flip=True, shift=2),
    "moves, black around": AugmentConfig(flip="alternate", shift=2, fill="zero"),
    "crops": AugmentConfig(crop=0.5, flip=True, vertical_flip=True),
    "all else": AugmentConfig(rotate=20, scale=0.2, shear=5, color=0.4, cutout=0.5, blur=1.0, noise=0.2),
    "bent, black around": AugmentConfig(rotate=20, shift=1, fill="zero"),
    "trivial": AugmentConfig(policy="trivial"),
    "mixup": AugmentConfig(mixup=0.2),
    "cutmix": AugmentConfig(cutmix=1.0),
}


OTHERS: dict[str, dict[str, object]] = {
    "parts": {"execution.micro_batch": 3, "augment.mixup": 0.2},
    "rotation": {"auxiliary.rotation": 0.5, "auxiliary.layers": ["conv1"]},
    "average": {"optim.ema": 0.9, "optim.name": "sgd", "optim.clip": 1.0},
    "muon": {"optim.name": "muon"},
    "channels last": {"execution.memory_format": "channels_last", "regularize.l1": 0.01},
}


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("options", [*VARIED, *OTHERS])
def test_steps_wait_for_nothing(options: str) -> None:
    config = with_fields(
        Config(),
        {"optim.name": "adamw", "optim.lr": 0.1, "optim.weight_decay": 0.01, "batch": 8, "execution.device": "meta"},
    )
    config = with_fields(config, OTHERS.get(options, {}))
    config = replace(config, augment=VARIED.get(options, config.augment))
    task = Classify(("a", "b", "c", "d"), class_weights=(1.0, 2.0, 1.0, 1.0))
    module = build_model("conv(4,3) relu pool(2) gap fc(4)", (3, 16, 16), 4).to(META)
    heads = make_heads(module, config.auxiliary, task.needs, 4, torch.zeros(2, 3, 16, 16, device=META))
    extra = heads.parameters() if heads is not None else ()
    state = TrainingState(module, make_optimizer(module, config, extra), make_average(module, config.optim.ema), heads)
    normalize = Normalization((100.0,) * 3, (50.0,) * 3).on(META, 4)
    train, objective = to_device(_split(16), META), Objective(task, config, heads)

    setup = Setup(state, objective, {"train": train}, config, normalize)

    def steps(epoch: int) -> None:
        setup.epoch = epoch
        for batch in batches(train, 8, order=epoch_order(24, 0, epoch)):
            training_step(setup, batch)
            state.step += 1

    steps(0)  # constants of the task are made once
    with Waits() as waits:
        steps(1)
    assert waits.seen == []
    assert waits.sent >= 1, "the order of the epoch, at least"
    if options != "all else":  # the kernel of a blur is made in memory
        assert waits.numbers <= 24 * _DRAWN, "what follows for each pixel is computed there"


def test_the_ids_stay_in_memory() -> None:
    moved = to_device(_split(4), META)
    assert (moved.inputs.device, moved.targets.device, moved.ids.device.type) == (META, META, "cpu")
    order = epoch_order(24, 0, 0)
    assert torch.equal(torch.cat([batch.ids for batch in batches(moved, 5, order=order)]), order * 3)
