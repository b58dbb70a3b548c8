"""Retrieval as a LightningModule, and a denoiser that draws its own batches: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from asked import digits, perceptron
from test_met_in_vision_scripts import read
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.script.drawn_batches import Drawn


@pytest.mark.parametrize(
    ("logged", "mode", "wrong"),
    [("recall", "min", True), ("recall", "max", False), ("1 - recall", "min", False), ("distance", "min", False)],
)
def test_what_is_logged_tells_which_way_a_monitored_value_is_better(logged: str, mode: str, wrong: bool) -> None:
    text = f"""
    class Module:
        def on_validation_epoch_end(self):
            self.log("val_r1", {logged})
    keeper = ModelCheckpoint(monitor="val_r1", mode={mode!r})
    for x, y in loader:
        pass
    """
    said = read(text, WORST_KEPT, perceptron(), digits())
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong


SAMPLER = """
class Halves(Sampler):
    def __init__(self, seed):
        self.seed, self.rng = seed, np.random.default_rng(seed)
    def __iter__(self):
        rng = np.random.default_rng(self.seed)
        return iter(rng.permutation(640)[:320].tolist())
"""


class Halves(Sampler[int]):
    def __init__(self, seed: int, *, anew: bool) -> None:
        self.seed, self.anew, self.rng = seed, anew, np.random.default_rng(seed)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(self.seed) if self.anew else self.rng
        return iter(rng.permutation(640)[:320].tolist())


@pytest.mark.parametrize(
    ("anew", "begun", "wrong"),
    [(True, "pass", True), (True, "sampler.seed = epoch", False), (False, "pass", False)],
)
def test_a_sampler_begins_anew_from_its_seed(anew: bool, begun: str, wrong: bool) -> None:
    text = f"{SAMPLER}\nfor epoch in range(5):\n    {begun}\n    for x, y in loader:\n        pass\n"
    loader = DataLoader(digits().dataset, 32, sampler=Halves(0, anew=anew))
    said = read(text, SAME_ORDER, perceptron(), loader)
    assert ["320 of 640 samples" in one.measured for one in said] == [True] * wrong


CLEAN = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
COPIED = "    noisy = clean + 0.5 * torch.randn_like(clean)\n"
IN_PLACE = "    noisy = clean.add_(0.5 * torch.randn_like(clean)).clamp_(-9, 9)\n"
RENAMED = "    noise = torch.randn_like(clean)\n    noisy = clean\n    noisy += noise\n"
SCALED = "    noisy = clean.div_(2)\n"


@pytest.mark.parametrize(("made", "wrong"), [(IN_PLACE, True), (RENAMED, True), (COPIED, False), (SCALED, False)])
def test_noise_that_is_added_in_place_is_in_the_target_too(made: str, wrong: bool) -> None:
    drawing = f"def draw():\n    clean = data.clone()\n{made}    return noisy, clean\n"
    names: dict[str, Any] = {"torch": torch, "data": CLEAN}
    exec(drawing, names)
    loader = DataLoader(TensorDataset(*names["draw"]()), 32)
    text = f"{drawing}for x, y in loader:\n    pass\n"
    said = read(text, TARGET_IN_INPUT, nn.Conv2d(1, 1, 3, padding=1), loader, loss=nn.MSELoss())
    assert ["the same numbers in all batches" in one.measured for one in said] == [True] * wrong


DRAWING = """
def get_batch(split):
    data = train_data if CHOSEN else val_data
    clean = data[torch.randint(len(data), (8,))]
    return clean + torch.randn_like(clean), clean
def estimate():
    return {split: net(get_batch(split)[0]) for split in ["train", "val"]}
for x, y in loader:
    net(get_batch("train")[0])
"""


@pytest.mark.parametrize(("chosen", "wrong"), [("split", True), ("split == 'train'", False)])
def test_a_function_draws_training_samples_for_validation(chosen: str, wrong: bool) -> None:
    text = DRAWING.replace("CHOSEN", chosen)
    names: dict[str, Any] = {"torch": torch, "train_data": CLEAN[:64], "val_data": CLEAN[64:]}
    exec(text.split("def estimate")[0], names)
    train = Drawn(lambda: names["get_batch"]("train"))
    said = read(text, SPLIT_OVERLAP, nn.Conv2d(1, 1, 3, padding=1), train, names=names, loss=nn.MSELoss())
    assert ["the same batch for 'train' and for 'val'" in one.measured for one in said] == [True] * wrong
