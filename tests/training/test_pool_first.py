"""ReLU behind max pooling: bit for bit what it is in front, and only where nobody looks."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from short_runs import asked_for, parameters, trained
from torch import nn

from striate.models.build import build_model
from striate.training import step
from striate.training.config import ExecutionConfig
from striate.training.pool_first import pooling_first


def sequence(pool: nn.Module, inplace: bool = False) -> nn.Sequential:
    convolution = {nn.MaxPool1d: nn.Conv1d, nn.MaxPool2d: nn.Conv2d, nn.MaxPool3d: nn.Conv3d}[type(pool)]
    return nn.Sequential(convolution(1, 4, 3), nn.ReLU(inplace), pool, nn.Flatten())


def run(module: nn.Module, x: torch.Tensor, dtype: torch.dtype, exchanged: bool) -> list[torch.Tensor]:
    """Outputs, and gradients of the input and the parameters for a gradient that differs from place to place."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        if exchanged:
            with pooling_first(module):
                out = module(x)
        else:
            out = module(x)
    weights = torch.arange(out.numel(), dtype=torch.float32).view(out.shape)
    (out.float() * weights).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(3, 1, 1),
    nn.MaxPool2d(2, 2, dilation=2),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool1d(2),
    nn.MaxPool3d(2),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("inplace", [False, True])
def test_outputs_and_gradients_are_the_same_bits(pool: nn.Module, dtype: torch.dtype, inplace: bool) -> None:
    torch.manual_seed(0)
    module = sequence(pool, inplace)
    axes = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}[type(pool)]
    x = torch.randn(3, 1, *(9,) * axes)
    x[1] = x[1].round()  # ties
    x[2] = -5.0  # windows without anything above 0, or without a difference
    for a, b in zip(run(module, x, dtype, False), run(module, x, dtype, True), strict=True):
        assert torch.equal(a, b)


def test_what_is_not_a_number_stays_so_in_the_same_places() -> None:
    module = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    x = torch.randn(1, 2, 6, 6)
    x[0, 0, 1, 1], x[0, 1, 3, 2], x[0, 1, 3, 3] = float("nan"), float("inf"), float("-inf")
    for a, b in zip(run(module, x, torch.float32, False), run(module, x, torch.float32, True), strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_relu_then_sees_a_quarter_of_the_numbers() -> None:
    module = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    sizes: list[int] = []
    original = torch.nn.functional.relu
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "relu", lambda x, inplace=False: sizes.append(x.numel()) or original(x, inplace))
        module(torch.randn(1, 1, 8, 8))
        with pooling_first(module):
            module(torch.randn(1, 1, 8, 8))
    assert sizes == [64, 16]


def test_layers_that_someone_looks_at_keep_their_place_and_all_is_put_back() -> None:
    module = build_model("conv(4,3) relu pool(2) conv(4,3) relu pool(2) fc(3)", (1, 14, 14), 3)
    seen: dict[str, torch.Size] = {}
    names = list(module.state_dict())

    def note(name: str) -> None:
        module.get_submodule(name).register_forward_hook(lambda _m, _i, out: seen.update({name: out.shape}))

    with pooling_first(module):
        for name in ("relu1", "pool2"):  # after it began
            note(name)
        module(torch.randn(2, 1, 14, 14))
    assert seen == {"relu1": (2, 4, 12, 12), "pool2": (2, 4, 2, 2)}
    assert list(module.state_dict()) == names
    assert not any("forward" in vars(part) for part in module.modules())
    with pytest.raises(RuntimeError), pooling_first(module):
        module(torch.randn(2, 3, 14, 14))
    assert not any("forward" in vars(part) for part in module.modules())


class Taps(nn.Module):
    """Runs the layers of a sequence by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found


def test_a_network_that_runs_the_layers_itself_gets_them_in_their_order() -> None:
    module, x = Taps(), torch.randn(1, 1, 4, 4)
    with pooling_first(module):
        assert [tuple(out.shape) for out in module(x)] == [(1, 1, 4, 4), (1, 1, 2, 2)]


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Tanh(), nn.MaxPool2d(2)),
        (nn.ReLU(), nn.AvgPool2d(2)),
        (nn.ReLU(), nn.MaxPool2d(2, return_indices=True)),
        (nn.MaxPool2d(2), nn.ReLU()),
    ],
    ids=str,
)
def test_all_else_is_left_alone(layers: tuple[nn.Module, ...]) -> None:
    module = nn.Sequential(*layers)
    with pooling_first(module):
        assert "forward" not in vars(module)


def test_a_sequence_with_a_forward_of_its_own_is_left_alone() -> None:
    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    module, x = Own(nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 1, 4, 4)
    before = module(x)
    with pooling_first(module):
        assert "forward" not in vars(module)
        assert torch.equal(module(x), before)


def test_what_is_compiled_is_left_alone() -> None:
    module = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    with pooling_first(module, ExecutionConfig(compile="default")):
        assert "forward" not in vars(module)
    with pooling_first(module, ExecutionConfig(compile="off")):
        assert "forward" in vars(module)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("fields", [{}, {"regularize__sparsity": 0.1}, {"auxiliary__layers": ["relu1"]}], ids=str)
def test_a_training_ends_with_the_same_bits(fields: dict, monkeypatch) -> None:
    config = asked_for(execution__plan="plain", **fields)
    exchanged = parameters(trained(config))
    monkeypatch.setattr(step, "pooling_first", lambda *_: nullcontext())
    plain = parameters(trained(config))
    assert all(torch.equal(exchanged[name], plain[name]) for name in plain)
