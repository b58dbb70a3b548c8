"""`data.same-order`: does a sampler draw all samples, in a different order each epoch?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.distributed import DistributedSampler

from for_checks.asked import digits, perceptron, read
from for_checks.scripts import SCRIPT, codes_of_script, found, values
from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.script.drawn_batches import DrawnBatches
from striate.doctor.script.iterated_loop import FirstBatches

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


NUMBERS = """
class Chosen:
    def __init__(self, seed):
        self.seed = seed
        self.rng = np.random.RandomState(seed)
    def __iter__(self):
        BEGUN
        for _ in range(10):
            yield self.rng.choice(640, 32, replace=False)
for epoch in range(5):
    for index in loader:
        pass
"""


class Chosen:
    """Numbers of samples, that a loop goes over itself."""

    def __init__(self, *, anew: bool) -> None:
        self.anew, self.rng = anew, np.random.RandomState(0)

    def __iter__(self) -> Iterator[Any]:
        if self.anew:
            self.rng = np.random.RandomState(0)
        yield from (self.rng.choice(640, 32, replace=False) for _ in range(10))


@pytest.mark.parametrize("begun", ["self.rng = np.random.RandomState(self.seed)", "pass", "self.seed += 1"])
def test_a_loop_over_numbers_of_samples_begins_anew(begun: str) -> None:
    anew = "RandomState" in begun
    x, y = next(iter(digits()))
    drawn = DrawnBatches(lambda: (x, y))
    drawn.sampler = Chosen(anew=anew)
    said = read(NUMBERS.replace("BEGUN", begun), SAME_ORDER, perceptron(), drawn)
    assert [one.where for one in said] == ["the sampler of the training loop"] * anew


LOOP = "for x, y in loader:\n    pass\n"


class Balanced(Sampler[list[int]]):
    """Batches of classes, drawn by the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(640, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order[:320].view(-1, 32).tolist())


class OfEpochs(DataLoader[Any]):
    """As Accelerate's, which tells its sampler the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "begun"), [(DataLoader, "pass"), (DataLoader, "sampler.set_epoch(epoch)"), (OfEpochs, "pass")]
)
def test_a_sampler_of_batches_is_told_its_epoch(kind: Any, begun: str) -> None:
    loader = kind(digits().dataset, batch_sampler=Balanced())
    text = f"for epoch in range(5):\n    {begun}\n{textwrap.indent(LOOP, '    ')}"
    said = read(text, SAME_ORDER, perceptron(), loader)
    assert ["320 of 640 samples" in one.measured for one in said] == [True] * (kind is DataLoader and begun == "pass")


class ByEpoch(Sampler[int]):
    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order[: self.count // 3].tolist())

    def __len__(self) -> int:
        return self.count // 3


@pytest.mark.parametrize("told", [False, True])
def test_a_sampler_is_told_its_epoch(told: bool) -> None:
    data = digits().dataset
    loader = DataLoader(data, 16, sampler=ByEpoch(len(data)))  # type: ignore[arg-type]
    begun = "sampler.set_epoch(epoch)" if told else "pass"
    text = f"for epoch in range(5):\n    {begun}\n    for x, y in loader:\n        pass\n"
    said = read(text, SAME_ORDER, perceptron(), loader)
    assert ["213 of 640 samples" in one.measured for one in said] == [True] * (not told)


def test_a_distributed_sampler_is_told_the_epoch() -> None:
    names = values()
    data = names["loader"].dataset
    names["loader"] = DataLoader(data, 32, sampler=DistributedSampler(data, num_replicas=1, rank=0))
    assert list(found(SCRIPT, names, [SAME_ORDER])) == ["data.same-order"]
    text = SCRIPT.replace("    model.train()", "    loader.sampler.set_epoch(epoch)\n    model.train()")
    assert found(text, names, [SAME_ORDER]) == {}


def test_a_distributed_sampler_of_processes_that_there_are_not() -> None:
    names = values()
    data = names["loader"].dataset
    names["loader"] = DataLoader(data, 32, sampler=DistributedSampler(data, num_replicas=4, rank=0))
    text = SCRIPT.replace("    model.train()", "    loader.sampler.set_epoch(epoch)\n    model.train()")
    assert "in one process" in found(text, names, [SAME_ORDER])["data.same-order"]
    assert found(f"torch.distributed.init_process_group('gloo')\n{text}", names, [SAME_ORDER]) == {}


@pytest.mark.parametrize("seeded", [True, False])
def test_seeds_before_each_batch(seeded: bool) -> None:
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    names = values() | {"loader": [(x, y)] * 4}
    text = f"for epoch in range(3):\n    for x, y in loader:\n        {'torch.manual_seed(0)' if seeded else 'pass'}\n"
    assert codes_of_script(text, names, SAME_ORDER) == ["data.same-order"] * seeded


@pytest.mark.parametrize("restarted", [True, False])
def test_the_first_batch_again_and_again(restarted: bool) -> None:
    loader = digits()
    text = "for epoch in range(3):\n    for x, y in loader:\n        pass\n"
    told = read(text, SAME_ORDER, perceptron(), FirstBatches(loader) if restarted else loader)
    assert ["the first of 20 batches" in one.measured for one in told] == [True] * restarted


@pytest.mark.parametrize(
    ("before", "inside", "order", "wrong"),
    [
        ("pass", "torch.manual_seed(0)", None, True),
        ("pass", "torch.manual_seed(seed)", None, True),
        ("torch.manual_seed(0)", "pass", None, False),
        ("pass", "torch.manual_seed(seed + epoch)", None, False),
        ("pass", "generator.manual_seed(0)", None, False),
        ("pass", "torch.manual_seed(0); model = build()", None, False),  # trainings, one after another
        ("pass", "torch.manual_seed(0)", torch.Generator(), False),  # the loader has its own
    ],
)
def test_seeds_before_each_epoch(before: str, inside: str, order: torch.Generator | None, wrong: bool) -> None:
    data, model = digits().dataset, perceptron()
    loader = DataLoader(data, 32, shuffle=True, generator=order)
    text = f"{before}\nfor epoch in range(3):\n    {inside}\n    for x, y in loader:\n        pass\n"
    told = read(text, SAME_ORDER, model, loader, names={"torch": torch, "seed": 1, "model": model})
    assert [one.code for one in told] == ["data.same-order"] * wrong
