"""What the recipes reach without being told, beside what peers' defaults reach on the same data.

Command: STRIATE_DATA=… python benchmarks/recipes.py [CASE …] [--seeds 3]
Each case is a command of `striate train`, run once a seed as a user would; the peers are scikit-learn's networks and a
plain torch loop as tutorials have it, with their defaults, on the same network and the same training and test samples.
The table is printed, and each case replaces its entry in benchmarks/results/recipes.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

OUT = Path(__file__).parent / "results" / "recipes.json"
Measured = list[tuple[float, float]]  # a figure and its seconds, for each seed


@dataclass(frozen=True)
class Case:
    """A command whose figure is `metric` of `part` of metrics.json, and its peers."""

    arguments: tuple[str, ...]
    metric: str = "accuracy"
    peers: tuple[str, ...] = ()
    cv: bool = False


CASES = {
    "mnist mlp": Case(("mnist", "--model", "mlp(128,64)"), peers=("scikit-learn", "torch tutorial")),
    "fashion mlp": Case(("fashion-mnist", "--model", "mlp(128,64)"), peers=("scikit-learn", "torch tutorial")),
    "mnist cnn": Case(("mnist", "--model", "mnist-cnn"), peers=("torch tutorial",)),
    "fashion small-cnn": Case(("fashion-mnist", "--model", "small-cnn"), peers=("torch tutorial",)),
    "mnist5k": Case(("mnist5k",), peers=("torch tutorial",)),
    "flowers": Case(("flowers", "--size", "96", "--baseline")),
    "iris": Case(("iris", "--model", "mlp(25,15)", "--cv", "5x5"), peers=("scikit-learn",), cv=True),
    "boston": Case(("boston", "--model", "mlp(8,6)", "--cv", "5x5"), "rmse", peers=("scikit-learn",), cv=True),
}


def train(case: Case, seed: int) -> tuple[float, float]:
    """The test figure (the mean over folds of a cross-validation) and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "striate", "train", *case.arguments, "--seed", str(seed), "--json"]
        started = perf_counter()
        done = subprocess.run([*command, "--out", f"{folder}/run"], capture_output=True, text=True, check=False)
        seconds = perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    metrics = json.loads(done.stdout)
    figures = metrics["cv"]["mean"] if case.cv else metrics["test"]
    return float(figures[case.metric]), seconds


def scikit_learn(case: Case, seed: int) -> tuple[float, float]:
    """MLPClassifier or MLPRegressor with the hidden layers of the case and defaults: on the training and validation
    samples together (it has no use for the latter), or in the same number of folds."""
    from sklearn.datasets import load_iris
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, cross_val_score
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    layers = tuple(int(n) for n in case.arguments[2].removeprefix("mlp(").removesuffix(")").split(","))
    warnings.simplefilter("ignore")  # its default of 200 iterations often ends before convergence: a default, too
    started = perf_counter()
    if case.arguments[0] == "iris":
        x, y = load_iris(return_X_y=True)
        folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=seed)
        scores = cross_val_score(MLPClassifier(hidden_layer_sizes=layers, random_state=seed), x, y, cv=folds)
        return float(scores.mean()), perf_counter() - started
    if case.arguments[0] == "boston":
        from mlxtend.data import boston_housing_data

        x, y = boston_housing_data()
        folds = RepeatedKFold(n_splits=5, n_repeats=5, random_state=seed)
        network = MLPRegressor(hidden_layer_sizes=layers, random_state=seed)
        scores = cross_val_score(network, x, y, cv=folds, scoring="neg_root_mean_squared_error")
        return -float(scores.mean()), perf_counter() - started
    x, y, x_test, y_test = arrays(case.arguments[0])
    network = MLPClassifier(hidden_layer_sizes=layers, random_state=seed).fit(x.reshape(len(x), -1) / 255, y)
    return float(network.score(x_test.reshape(len(x_test), -1) / 255, y_test)), perf_counter() - started


def torch_tutorial(case: Case, seed: int) -> tuple[float, float]:
    """The same network in the loop of the tutorials: Adam at 0.001, batch 64, 10 epochs, pixels from 0 to 1."""
    import torch
    from torch import nn

    import striate

    x, y, x_test, y_test = (torch.from_numpy(a) for a in arrays(case.arguments[0]))
    started = perf_counter()
    torch.manual_seed(seed)
    name = case.arguments[2] if "--model" in case.arguments else "mnist-cnn"
    network = striate.build(name, tuple(x.shape[1:]), 10)
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
            layer.reset_parameters()  # torch's own first weights
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(network(x[rows].float() / 255), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        hits = sum(int((network(a.float() / 255).argmax(1) == b).sum()) for a, b in batches(x_test, y_test))
    return hits / len(x_test), perf_counter() - started


def batches(*arrays_: object) -> zip:
    return zip(*(a.split(1000) for a in arrays_), strict=True)  # type: ignore[attr-defined]


def arrays(name: str) -> tuple[np.ndarray, ...]:
    """Training and validation samples together, and test samples: (N, C, H, W) uint8 with (N,) int64 classes."""
    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    splits = load_dataset(DataConfig(source=name)).splits
    inputs = np.concatenate([splits[k].inputs.numpy() for k in ("train", "val")])
    targets = np.concatenate([splits[k].targets.numpy() for k in ("train", "val")])
    return inputs, targets, splits["test"].inputs.numpy(), splits["test"].targets.numpy()


PEERS: dict[str, Callable[[Case, int], tuple[float, float]]] = {
    "scikit-learn": scikit_learn,
    "torch tutorial": torch_tutorial,
}


def summary(measured: Measured) -> dict[str, object]:
    figures, seconds = [m[0] for m in measured], [m[1] for m in measured]
    return {
        "figures": [round(f, 5) for f in figures],
        "mean": round(statistics.mean(figures), 5),
        "std": round(statistics.stdev(figures), 5) if len(figures) > 1 else None,
        "seconds": round(statistics.median(seconds), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    chosen = parser.parse_args()
    for name in chosen.cases or CASES:
        case = CASES[name]
        entry = {"command": "striate train " + " ".join(f'"{a}"' if "(" in a else a for a in case.arguments)}
        results = {"striate": summary([train(case, seed) for seed in range(chosen.seeds)])}
        for peer in () if chosen.no_peers else case.peers:
            results[peer] = summary([PEERS[peer](case, seed) for seed in range(chosen.seeds)])
        entry |= {"metric": case.metric, "seeds": chosen.seeds, "results": results}
        stored = json.loads(OUT.read_text()) if OUT.exists() else {}
        OUT.write_text(json.dumps(stored | {name: entry}, indent=1) + "\n")
        for who, found in results.items():
            print(f"{name:18} {who:15} {found['mean']:.4f} ± {found['std']}  {found['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
