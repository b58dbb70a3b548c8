"""`data.shift` of test data beside validation, whose inputs have another scale."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron, quick_adam, read
from striate.doctor.checks.data.shift.shift import SHIFT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "times", "val_times", "wrong"),
    [("test_loader", 16.0, 1.0, True), ("test_loader", 1.0, 1.0, False), ("other_loader", 16.0, 1.0, False)],
)
def test_test_inputs_of_another_scale(name: str, times: float, val_times: float, wrong: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    parts = {"train": (x[:400], 1.0), "val": (x[400:520], val_times), "test": (x[520:], times)}
    labels = {"train": y[:400], "val": y[400:520], "test": y[520:]}
    loaders = {k: DataLoader(TensorDataset(part * by, labels[k]), 32) for k, (part, by) in parts.items()}
    names = {name: loaders["test"], "val_loader": loaders["val"]}
    said = read(
        "for x, y in loader:\n    pass\n",
        SHIFT,
        perceptron(),
        loaders["train"],
        val=loaders["val"],
        names=names,
        optimizer=quick_adam,
    )
    assert [one.where for one in said] == ["test inputs"] * wrong
