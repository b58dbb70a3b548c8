"""How often maps of a trained network are trusted, and of networks with random weights.

Command: python benchmarks/explanations.py RUN [--images 50] [--random 6]

Test images of the run, evenly spaced, each explained by every method; then the same with the run's network built anew,
with three seeds and three sizes of weights: its own, He's, and 1.5 times He's, which answer as firmly as
trained networks. Prints counts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

import striate
from striate.models.preserved_state import on_trial
from striate.runs.directory import open_run
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data
from striate.visualize.attribution.attribute import attribute
from striate.visualize.attribution.question import make_question
from striate.visualize.inside.passes import evenly_spaced


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--random", type=int, default=6)
    asked = parser.parse_args()
    config = config_from_yaml(open_run(asked.run).config)
    trained, data = striate.load(asked.run), read_data(config)[1]
    test = data.splits["test"]
    x = trained.normalization.on("cpu", 4)(test.inputs[evenly_spaced(len(test), asked.images)])
    count("trained", trained.module, x)
    for scale in (0.0, 1.0, 1.5):
        for seed in range(3):
            torch.manual_seed(seed)
            module = striate.build(config.model.name, tuple(x.shape[1:]), len(data.classes))
            if scale:
                large(module, scale)
            count(f"random weights, {scale:g} times He's, seed {seed}" if scale else f"random weights, seed {seed}",
                  module, x[: asked.random])  # fmt: skip


def large(module: nn.Module, scale: float) -> None:
    """Weights of He et al. (2015), times `scale`."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
            part.weight.data *= scale


def count(name: str, module: nn.Module, x: torch.Tensor) -> None:
    """Print of how many images the first map, and the map of each method, is trusted."""
    began, first, each = perf_counter(), 0, Counter[str]()
    module.eval()
    for image in x:
        with on_trial(module):
            found = attribute(make_question(module, image[None], kind="logits"))
        first += found.chosen.check.trusted
        each.update(one.method for one in found.maps if one.check.trusted)
    seconds = (perf_counter() - began) / len(x)
    counts = ", ".join(f"{method} {number}" for method, number in each.most_common())
    print(f"{name}: {first} of {len(x)} trusted ({counts or 'none'}), {seconds:.2f} s an image", flush=True)


if __name__ == "__main__":
    main()
