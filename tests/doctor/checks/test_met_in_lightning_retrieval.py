"""Retrieval as a LightningModule, and a denoiser that draws its own batches: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from asked import digits, perceptron
from test_met_in_vision_scripts import read
from torch.utils.data import DataLoader, Sampler

from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.eval.best import WORST_KEPT


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
