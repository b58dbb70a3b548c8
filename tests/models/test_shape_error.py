"""What is said of a network of one's own that does not fit, and that the way out works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import striate
from striate.errors import InputMisfit, ModelError, ShapeError
from striate.layers.convolution import LocallyConnected
from striate.layers.pooling import GlobalAveragePool
from striate.models.check import check_forward
from striate.models.shape_error import smallest_size


class Added(nn.Module):
    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, join: bool = False) -> None:
        super().__init__()
        self.body, self.shortcut, self.join = body, shortcut or nn.Identity(), join

    def forward(self, x):
        body, other = self.body(x), self.shortcut(x)
        return torch.cat([body, other], 1) if self.join else body + other


# network, input, where, words of what came, remedy, the network mended by it
CASES = {
    "window": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 5)),
        (1, 5, 5),
        "`1` (Conv2d)",
        "kernel 5 is larger than the map of 3 + 2·0 = 3",
        "make its padding 1 or its kernel_size 3; or use inputs of at least 7×7",
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 5, padding=1)),
    ),
    "dilated": (
        nn.Conv1d(1, 2, 3, dilation=4),
        (1, 7),
        "Conv1d",
        "kernel 3 with dilation 4 spans 9, which is larger than the map of 7 + 2·0 = 7",
        "make its padding 1 or its kernel_size 2; or use inputs of at least 9",
        nn.Conv1d(1, 2, 2, dilation=4),
    ),
    "pool": (
        nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2)),
        (1, 4, 4),
        "`2` (MaxPool2d)",
        "kernel 2 is larger than the map of 1 + 2·0 = 1",
        "make its padding 1 or its kernel_size 1; or use inputs of at least 8×8",
        nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2, padding=1)),
    ),
    "features": (
        nn.Sequential(nn.Flatten(), nn.Linear(10, 3)),
        (1, 8, 8),
        "`1` (Linear)",
        "64 features for 10",
        "make it nn.Linear(64, 3)",
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
    ),
    "flatten": (
        nn.Sequential(nn.Linear(64, 3)),
        (1, 8, 8),
        "`0` (Linear)",
        "8 features for 64",
        "flatten before it (1·8·8 = 64)",
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
    ),
    "channels": (
        nn.Conv2d(3, 4, 3),
        (1, 8, 8),
        "Conv2d",
        "1 channel for 3",
        "make its in_channels 1",
        nn.Conv2d(1, 4, 3),
    ),
    "normalization": (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(8)),
        (1, 8, 8),
        "`1` (BatchNorm2d)",
        "4 channels for 8",
        "make it nn.BatchNorm2d(4)",
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
    ),
    "normalization of maps": (
        nn.Sequential(nn.Linear(8, 4), nn.BatchNorm2d(4)),
        (8,),
        "`1` (BatchNorm2d)",
        "0 spatial axes for 2",
        "make it nn.BatchNorm1d(4)",
        nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)),
    ),
    "normalization of rows": (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm1d(8)),
        (1, 8, 8),
        "`1` (BatchNorm1d)",
        "2 spatial axes for 1",
        "make it nn.BatchNorm2d(4)",
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
    ),
    "residual": (
        nn.Sequential(Added(nn.Conv2d(2, 4, 3, stride=2, padding=1))),
        (2, 8, 8),
        "`0` (Added)",
        "`0.body` (N, 4, 4, 4) and `0.shortcut` (N, 2, 8, 8) are added",
        "put nn.Conv2d(2, 4, 1, stride=2) after `0.shortcut`",
        nn.Sequential(Added(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(2, 4, 1, stride=2))),
    ),
    "residual without padding": (
        Added(nn.Sequential(nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3))),
        (2, 12),
        "Added",
        "`body` (N, 2, 8) and `shortcut` (N, 2, 12) are added",
        "give the layers up to `body` padding: 4 positions are lost there",
        Added(nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 3, padding=1))),
    ),
    "joined": (
        Added(nn.MaxPool2d(2), join=True),
        (2, 8, 8),
        "Added",
        "`body` (N, 2, 4, 4) and `shortcut` (N, 2, 8, 8) are joined",
        "put nn.Conv2d(2, 2, 1, stride=2) after `shortcut`",
        Added(nn.MaxPool2d(2), nn.Conv2d(2, 2, 1, stride=2), join=True),
    ),
    "features added": (
        Added(nn.Linear(4, 3)),
        (4,),
        "Added",
        "`body` (N, 3) and `shortcut` (N, 4) are added",
        "put nn.Linear(3, 4) after `body`",
        Added(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_told_with_a_way_out_that_works(name: str) -> None:
    network, shape, where, got, remedy, mended = CASES[name]
    with pytest.raises(ModelError) as caught:
        check_forward(network, shape)
    assert caught.value.where == where
    assert got in caught.value.got
    assert caught.value.remedy == remedy
    check_forward(mended, shape)


def test_a_size_that_is_said_to_work_works_and_one_less_does_not() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 5))
    check_forward(network, (1, 7, 7))
    with pytest.raises(ModelError):
        check_forward(network, (1, 6, 6))


@pytest.mark.parametrize("needed", [9, 63, 64, 65, 255])
def test_the_smallest_size_is_found(needed: int) -> None:
    assert smallest_size((3, 8, 8), lambda shape: min(shape[1:]) >= needed) == needed


def test_there_may_be_no_size() -> None:
    assert smallest_size((3, 8, 8), lambda _: False) is None
    assert smallest_size((3,), lambda _: True) is None


class Own(nn.Module):
    """A forward pass of one's own."""

    def __init__(self, step: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.step = step

    def forward(self, x):
        return self.step(x)


def raising(_x: torch.Tensor) -> None:
    raise ValueError("the size is kaputt")


def multiplied(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1) @ x.new_zeros(5, 5)


OTHERS = {
    "raised": (Own(raising), "ValueError: the size is kaputt", 'fix {place}: raise ValueError("the size is kaputt")'),
    "missing": (Own(lambda _: {}["depth"]), "KeyError: 'depth'", "fix {place}: "),
    "product": (Own(multiplied), "mat1 and mat2", "make the sizes fit in {place}: return x.flatten(1) @"),
    "layer's sizes": (
        nn.Unflatten(1, (3, 3)),
        "Provided sizes [3, 3]",
        "make `0` ({kind}) or the layers before it fit",
    ),
    "layer": (
        nn.Embedding(3, 4),
        "scalar types",
        "striate.summarize takes an example of its whole numbers: (torch.ones(1, 4).long(),)",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_exceptions_are_told_with_their_place_in_the_network_s_own_code(name: str) -> None:
    network, got, remedy = OTHERS[name]
    with pytest.raises(ModelError) as caught:
        check_forward(nn.Sequential(network), (4,))
    assert caught.value.where == f"`0` ({type(network).__name__})"
    assert got in caught.value.got
    code = network.step.__code__ if isinstance(network, Own) else raising.__code__
    line = code.co_firstlineno + (code.co_name != "<lambda>")
    place = f"{Path(__file__).name}, line {line}"
    assert caught.value.remedy.startswith(remedy.format(place=place, kind=type(network).__name__))


class TwoInputs(nn.Module):
    def forward(self, x, y, *, scale):
        return scale * (x + y)


def test_a_forward_of_several_inputs_is_told_to_take_one() -> None:
    with pytest.raises(ModelError) as caught:
        check_forward(TwoInputs(), (4,))
    assert caught.value.got == "input (N, 4): the forward of TwoInputs also needs `y`"
    assert caught.value.remedy.startswith("give `y` a default, or wrap the network")

    class Wrapped(TwoInputs):
        def forward(self, x, y=1.0, *, scale=1.0):
            return super().forward(x, y, scale=scale)

    check_forward(Wrapped(), (4,))


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (1, 3, 8, 8)),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2)), (1, 1, 8, 8)),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3)), (1, 2, 8, 8)),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(24, 2)), (1, 3, 8)),
    ],
)
def test_a_shape_with_the_batch_in_it_is_told(network: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputMisfit) as caught:
        check_forward(network, shape)
    assert caught.value.fitting == shape[1:]
    assert f"--input {'x'.join(map(str, shape[1:]))} " in caught.value.remedy
    check_forward(network, shape[1:])


def test_a_picture_without_its_channel_is_told() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(InputMisfit, match="channels before") as caught:
        check_forward(network, (8, 8))
    assert caught.value.fitting == (1, 8, 8)
    with pytest.raises(ModelError) as caught:
        check_forward(nn.Sequential(nn.Conv1d(3, 4, 3)), (8, 8))
    assert caught.value.remedy == "make its in_channels 8"


@pytest.mark.parametrize(
    ("network", "shape", "said"),
    [
        # A batch of two of these is taken for one map of two channels: no proof that the 1 is too much.
        (nn.Conv2d(2, 4, 3), (1, 8, 8), "1 channel for 2"),
        (nn.Conv2d(3, 4, 3), (1, 8, 8), "1 channel for 3"),
        (nn.Conv2d(5, 4, 3), (1, 3, 8, 8), "3 spatial axes for 2"),
    ],
)
def test_a_shape_that_is_wrong_otherwise_is_no_batch(network: nn.Module, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        check_forward(network, shape)
    assert "without the batch" not in str(caught.value)


class TakesNoHook(nn.Identity):
    """Of its two hooks, the second one cannot be registered."""

    def __deepcopy__(self, memo: object) -> None:
        raise TypeError("not copied")

    def register_forward_hook(self, *_args, **_settings):
        raise RuntimeError("no hooks")


def test_hooks_go_also_where_one_cannot_be_registered() -> None:
    network = nn.Sequential(nn.Linear(4, 3), TakesNoHook())
    with pytest.raises(RuntimeError, match="no hooks"):
        check_forward(network, (4,))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_a_layer_that_refuses_its_input_is_told_with_its_name() -> None:
    with pytest.raises(ShapeError) as caught:
        check_forward(nn.Sequential(nn.Linear(4, 3), GlobalAveragePool()), (4,))
    assert caught.value.where == "input of GlobalAveragePool (`1`)"


def test_a_size_that_a_layer_refuses_is_none_to_name() -> None:
    network = nn.Sequential(LocallyConnected(1, 2, (5, 5), 3), nn.Conv2d(2, 2, 9))
    with pytest.raises(ModelError) as caught:
        check_forward(network, (1, 5, 5))
    assert caught.value.where == "`1` (Conv2d)"
    assert caught.value.remedy == "make its padding 3 or its kernel_size 3"


def test_a_network_of_whole_numbers_is_summarized_by_the_example_of_the_remedy() -> None:
    network = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    with pytest.raises(ModelError) as caught:
        striate.summarize(network, (5,))
    assert caught.value.remedy.endswith("(torch.ones(1, 5).long(),)")
    assert striate.summarize(network, (torch.ones(1, 5).long(),)).params == 50
