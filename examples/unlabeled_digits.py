"""Learn from digits without labels, then from a few with labels: a Boltzmann machine, its likelihood, and a classifier
that begins with its weights beside one that does not.

Command: python examples/unlabeled_digits.py [FOLDER].
"""

from __future__ import annotations

import sys
from pathlib import Path

import striate

MODEL = "rbm(200)"


def main(folder: Path) -> None:
    machine = striate.train("digits", MODEL, epochs=60, out=folder / "machine", set={"task.name": "reconstruct"})
    found = machine.metrics["boltzmann"]["test"]
    print(f"log-likelihood of test images: {found['log_likelihood']:.2f} nats, {found['log_likelihood_interval']}")
    few = {"data.test_fraction": 0.7, "data.val_fraction": 0.2, "task.name": "classify"}
    for name, weights in (("random weights", None), ("weights of the machine", str(machine.path))):
        run = striate.train("digits", MODEL, epochs=30, out=folder / name, set=few | {"model.weights": weights})
        print(f"{name}: accuracy {run.metrics['test']['accuracy']:.3f}, n = {run.metrics['test']['n']:,}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "unlabeled-digits"))
