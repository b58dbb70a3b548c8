"""Baselines of a regression: the mean, ridge regression, and for tables gradient boosting."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from striate.data.dataset import Dataset
from striate.data.normalize import measure_normalization
from striate.data.store.stored import take_rows
from striate.tasks.baseline import CHOICE, MOST, Fitted, Method, choose_by_validation, sampling_note, stratified_sample
from striate.tasks.baseline_features import describe_inputs, standardized_inputs
from striate.tasks.task import Task

_ALPHAS = (1e5, 1e4, 1e3, 100.0, 10.0, 1.0, 0.1, 0.01)
_LEAVES, _TREES = (4, 8, 16, 32), (25, 50, 100, 200, 400)
_VALUES = 40_000_000
"""Largest number of values (samples × features) of ridge regression, 8 bytes each."""


def regress_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines that fit the kind of data."""
    methods = [
        Method("mean", "Always predicts the mean of the training targets.", _mean),
        Method(
            "ridge regression",
            f"A linear function of the standardized {data.medium.values} with an L2 penalty on its weights.",
            _ridge,
        ),
    ]
    if data.medium.flat:
        what = "Many small decision trees, each correcting the previous ones: a strong standard method for tables."
        methods.append(Method("gradient boosting", what, _boosting))
    return tuple(methods)


def _mean(data: Dataset, task: Task, seed: int) -> Fitted:
    del task, seed
    targets = data.splits["train"].targets.cpu()
    return Fitted(targets.double().mean(0).float().expand(len(data.splits["test"]), -1), "none", len(targets))


def _ridge(data: Dataset, task: Task, seed: int) -> Fitted:
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    normalization = measure_normalization(train)
    width = standardized_inputs(train.inputs[:1], normalization).shape[1]
    used = stratified_sample(train.targets.cpu(), max(CHOICE, min(MOST, _VALUES // width)), seed)
    x = standardized_inputs(take_rows(train.inputs, torch.from_numpy(used)), normalization).astype(np.float64)
    y = train.targets.cpu().double().numpy()[used]
    val_x, val_y = standardized_inputs(val.inputs, normalization), val.targets.cpu().double().numpy()
    few = stratified_sample(y, CHOICE, seed)

    def fit(alpha: float, positions: NDArray[np.int64]) -> Ridge:
        return Ridge(alpha).fit(x[positions], y[positions])

    def score(model: Ridge) -> float:
        return -_squared_error(model.predict(val_x), val_y)

    alpha, model = choose_by_validation(_ALPHAS, fit, score, few, np.arange(len(y)))
    features = describe_inputs(data)
    predictions = model.predict(standardized_inputs(test.inputs, normalization)).reshape(len(test), task.outputs)
    note = sampling_note(len(y), len(train), len(few))
    return Fitted(torch.from_numpy(predictions).float(), features, len(y), {"alpha": alpha}, note)


def _boosting(data: Dataset, task: Task, seed: int) -> Fitted:
    """One ensemble for each target; the number of trees and their size are chosen for each."""
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    used = stratified_sample(train.targets.cpu(), MOST, seed)
    x, y = train.inputs[:].cpu().numpy()[used], train.targets.cpu().double().numpy()[used]
    few = stratified_sample(y, CHOICE, seed)
    predictions, chosen = [], []
    for target in range(task.outputs):
        sides = (val.inputs[:].cpu().numpy(), val.targets.cpu().double().numpy()[:, target])
        leaves, trees = _choose_trees(x[few], y[few, target], *sides, seed)
        model = _trees(leaves, trees, seed).fit(x, y[:, target])
        predictions.append(model.predict(test.inputs[:].cpu().numpy()))
        chosen.append((leaves, trees))
    hyperparameters: dict[str, Any] = {
        name: values[0] if len(values) == 1 else list(values)
        for name, values in zip(("max_leaf_nodes", "trees"), zip(*chosen, strict=True), strict=True)
    }
    note = sampling_note(len(y), len(train), len(few))
    decoded = torch.from_numpy(np.stack(predictions, axis=1)).float()
    return Fitted(decoded, "columns of the table, not standardized", len(y), hyperparameters, note)


def _choose_trees(
    x: NDArray[Any], y: NDArray[Any], val_x: NDArray[Any], val_y: NDArray[Any], seed: int
) -> tuple[int, int]:
    """Leaves of a tree and number of trees with the smallest squared error on the validation split."""
    errors: dict[tuple[int, int], float] = {}
    for leaves in _LEAVES:
        stages = list(_trees(leaves, max(_TREES), seed).fit(x, y).staged_predict(val_x))
        errors |= {(leaves, trees): _squared_error(stages[trees - 1], val_y) for trees in _TREES}
    return min(product(_LEAVES, _TREES), key=lambda pair: errors[pair])


def _trees(leaves: int, trees: int, seed: int) -> HistGradientBoostingRegressor:
    # Leaves of five samples instead of the default of twenty, for small tables.
    return HistGradientBoostingRegressor(
        max_leaf_nodes=leaves, max_iter=trees, min_samples_leaf=5, early_stopping=False, random_state=seed
    )


def _squared_error(predictions: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(np.mean((predictions.reshape(truth.shape) - truth) ** 2))
