"""How much goes through the network at once, and what is said when memory does not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from rich.console import Console
from short_runs import asked_for
from torch import nn

import striate
from striate.api import train_config
from striate.errors import TrainingError
from striate.training.config import Config, ExecutionConfig
from striate.training.config_file import with_fields
from striate.training.execution import evaluation_batch, memory_explained, place, training_part


class Counting(nn.Module):
    """Knows how many samples it has been given at once, also in its copies."""

    sizes: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.out(x.flatten(1))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("batch", "part", "most"),
    [(100, 33, 34), (80, None, 512), (80, 24, 24)],  # 34: a lone last sample joins the part before it
)
def test_parts_hold_wherever_the_network_runs(batch: int, part: int | None, most: int, tmp_path: Path) -> None:
    Counting.sizes.clear()
    fields = {"batch": batch, "execution__micro_batch": part, "budget__minutes": 0.01}
    config = asked_for(epochs=None, **fields)
    train_config(config, module=Counting(), out=tmp_path / "run", console=Console(stderr=True), quiet=True)
    assert max(Counting.sizes) == most


@pytest.mark.parametrize(
    ("batch", "part", "evaluated", "trained"), [(32, None, 64, 32), (32, 8, 8, 8), (128, None, 256, 64)]
)
def test_validation_takes_two_batches_or_a_part(batch: int, part: int | None, evaluated: int, trained: int) -> None:
    config = with_fields(Config(), {"batch": batch, "execution.micro_batch": part})
    assert (evaluation_batch(config), training_part(config, 64)) == (evaluated, trained)


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"batch": 32}, "--execution.micro_batch 16 (the same batch in parts), --batch 16"),
        ({"batch": 32, "execution.micro_batch": 8}, "--execution.micro_batch 4"),
        ({"batch": 32, "execution.micro_batch": 1}, "a smaller --size"),
        ({}, "--batch 32"),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_for_want_of_memory_smaller_parts_are_named(fields: dict, remedy: str, error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, memory_explained(with_fields(Config(), fields)):
        raise error
    assert remedy in caught.value.remedy


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(Config()):
        raise RuntimeError("shapes do not fit")


@pytest.mark.slow
@pytest.mark.parametrize(("network", "copies"), [("conv(4,3) relu fc(4)", 10), ("resnet18(stem=small,width=4)", 1)])
def test_a_network_is_compiled_whole_and_for_training_alone(
    network: str, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.nn.Module.compile` hands a backend no graph of a Sequential, or one of each part; and torch compiles one
    piece of code eight times at most."""
    graphs, really = [], torch.compile

    def counted(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function, **options: really(function, **options, backend=counted))
    config, images = Config(execution=ExecutionConfig(compile="default")), torch.ones(2, 3, 8, 8)
    for number in range(copies):
        module = place(striate.build(network, (3, 8, 8), 4), config, torch.device("cpu"))
        module.eval()(images)
        with torch.no_grad():
            module.train()(images)
        assert len(graphs) == number
        for _ in range(2):
            module(images).sum().backward()
        assert len(graphs) == number + 1


def test_a_network_takes_the_memory_format_of_its_configuration_whatever_it_had_before() -> None:
    module, before = striate.build("conv(4,3) bn relu gap fc(2)", (3, 8, 8), 2), []
    for layout, strides in (("channels_last", (27, 1, 9, 3)), ("contiguous", (27, 9, 3, 1))):
        config = Config(execution=ExecutionConfig(memory_format=layout))  # type: ignore[arg-type]
        weight = next(place(module, config, torch.device("cpu")).parameters())
        assert weight.stride() == strides
        before.append(weight)
    assert before[0] is before[1]  # an optimizer keeps what it was given
