"""Folding, fusing and other ways give the answers of the network, and never touch it."""

from __future__ import annotations

import copy

import pytest
import torch
from small_networks import SHAPE, Block, network, packs_bf16, samples, with_statistics
from torch import fx, nn

from striate.inference.choose import prepare_backend, why_plain_only
from striate.inference.openvino_network import openvino_installed
from striate.inference.plan import Backend
from striate.inference.torch_network import FusedConvolution, fold_normalization, prepare_torch, traced
from striate.models.build import build_model

FP32, BF16 = Backend(memory_format="channels_last", fused=True), Backend("torch", "bf16", "channels_last", True)
FAMILIES = [
    ("resnet18(width=8)", (3, 40, 40)),
    ("resnet50(width=8)", (3, 40, 40)),
    ("resnext50_32x4d(width=32)", (3, 40, 40)),
    ("densenet121(growth=4,width=8)", (3, 40, 40)),
    ("googlenet", (3, 48, 48)),
    ("inception_v3(aux=false)", (3, 80, 80)),
    ("vgg11_bn(width=8,head=small)", (3, 32, 32)),
    ("small-resnet(width=8)", (3, 32, 32)),
    ("resnet20(width=4)", (3, 32, 32)),
    ("seresnet50(width=16)", (3, 40, 40)),
    ("small-cnn(width=4)", (1, 28, 28)),
    ("airbench(width=8)", (3, 32, 32)),
]


def outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(x)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(("name", "shape"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_every_family_gives_the_same_numbers_folded_and_fused(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = with_statistics(build_model(name, shape, 10), shape)
    x = samples(4, shape)
    with torch.inference_mode():
        way = prepare_torch(FP32, module, x)
        assert difference(module(x), way(x)) < 1e-5
        assert difference(module(x[:1]), way(x[:1])) < 1e-5  # made for batches of 4


def test_normalizations_are_folded_and_nothing_else_is_left_of_them() -> None:
    graph = traced(copy.deepcopy(network()))
    assert fold_normalization(graph) == 3
    assert not any(isinstance(part, nn.BatchNorm2d) for part in graph.modules())
    assert difference(outputs(network(), samples(5)), outputs(graph, samples(5))) < 1e-6


def test_addition_and_rectification_are_computed_with_the_convolution() -> None:
    with torch.inference_mode():
        way = prepare_torch(FP32, network(), samples(2))
    (graph,) = (cell.cell_contents for cell in way.__closure__ if isinstance(cell.cell_contents, fx.GraphModule))
    fused = [part for part in graph.modules() if isinstance(part, FusedConvolution)]
    assert [part.rectified for part in fused] == [True, True, True]
    assert not any(isinstance(part, nn.ReLU) for part in graph.modules())
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    assert sum(name.startswith("fused") for name in called) == 3
    assert [len(node.args) for node in graph.graph.nodes if str(node.target).startswith("fused")] == [1, 1, 2]


class Shared(nn.Module):
    """One convolution under two normalizations: neither can be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 12)
        self.one, self.two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.two(self.conv(self.one(self.conv(x))))).flatten(1)


class TakenTwice(nn.Module):
    """The output of the convolution is also used without its normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 12), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (self.norm(y) + y).flatten(1)


class LaterShortcut(nn.Module):
    """What is added is computed after the convolution, and broadcast; a rectified sum is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 12), nn.Conv2d(3, 4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = y + self.gate(x) + x.mean((1, 2, 3), keepdim=True)
        z = y.relu()
        return (z + y).flatten(1)


@pytest.mark.parametrize("kind", [Shared, TakenTwice, LaterShortcut])
def test_what_cannot_be_folded_or_fused_is_left_right(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    module = with_statistics(kind(), SHAPE)
    x = samples(5)
    with torch.inference_mode():
        assert difference(module(x), prepare_torch(FP32, module, x)(x)) < 1e-5


@pytest.mark.parametrize("padding", ["same", "circular"])
def test_paddings_that_the_fused_operation_lacks_are_left_to_torch(padding: str) -> None:
    options = {"padding": "same"} if padding == "same" else {"padding": 1, "padding_mode": padding}
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3, **options), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)]
    module = with_statistics(nn.Sequential(*layers), SHAPE)
    x = samples(5)
    with torch.inference_mode():
        assert difference(module(x), prepare_torch(FP32, module, x)(x)) < 1e-5


@packs_bf16
def test_bf16_is_near_and_its_normalizations_keep_their_digits() -> None:
    torch.manual_seed(1)
    # A normalization before any convolution cannot be folded; its mean of 1000.3 has more digits than bf16.
    module = with_statistics(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 12), nn.Flatten()), SHAPE)
    module[0].running_mean.fill_(1000.3)
    x = samples(6)
    with torch.inference_mode():
        assert difference(module(x), prepare_torch(BF16, module, x)(x)) < 0.02


def test_a_part_that_decides_by_its_input_stays_whole() -> None:
    class Deciding(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else 2 * x)

    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(Deciding(4, 4, 10)), nn.Flatten()]
    module = with_statistics(nn.Sequential(*layers), SHAPE)
    x = samples(5)
    graph = traced(copy.deepcopy(module))
    assert sum(isinstance(part, Deciding) for part in graph.modules()) == 1
    with torch.inference_mode():
        assert difference(module(x), prepare_torch(FP32, module, x)(x)) < 1e-5


def test_an_unfused_way_takes_what_cannot_be_traced() -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x).flatten(1)
            return y if y.sum() > 0 else y + 0

    module, x = Deciding().eval(), samples(4)
    with torch.inference_mode():
        with pytest.raises(fx.proxy.TraceError):
            prepare_torch(BF16, module, x)
        unfused = prepare_torch(Backend("torch", "bf16", "channels_last"), module, x)
        assert difference(module(x), unfused(x)) < 0.02
        assert unfused(x).dtype == torch.float32


@pytest.mark.parametrize(
    "way",
    [
        FP32,
        pytest.param(BF16, marks=packs_bf16),
        Backend("torch", "bf16", "channels_last"),
        Backend("openvino", "fp32"),
    ],
)
def test_no_way_changes_the_network_the_input_or_the_random_state(way: Backend) -> None:
    if way.engine == "openvino" and not openvino_installed():
        pytest.skip("OpenVINO is not installed (extra openvino)")
    module, x = network(), samples(4)
    module.train()
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    modes = [part.training for part in module.modules()]
    pointers = [tensor.data_ptr() for tensor in module.state_dict().values()]
    given, state = x.clone(), torch.random.get_rng_state()
    with torch.inference_mode():
        prepare_backend(way, module, x)(x)
    assert modes == [part.training for part in module.modules()]
    assert pointers == [tensor.data_ptr() for tensor in module.state_dict().values()]
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(given, x)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.skipif(not openvino_installed(), reason="OpenVINO is not installed (extra openvino)")
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("bf16", 0.03)])
def test_openvino_gives_the_numbers_of_the_network_for_any_batch(precision: str, bound: float) -> None:
    module = network()
    with torch.inference_mode():
        way = prepare_backend(Backend("openvino", precision), module, samples(4))
        for count in (4, 1, 7):
            assert difference(module(samples(count)), way(samples(count))) < bound


@pytest.mark.slow
@pytest.mark.skipif(not openvino_installed(), reason="OpenVINO is not installed (extra openvino)")
def test_openvino_is_loaded_without_what_reports_its_use() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom striate.inference.openvino_network import load_openvino\n"
        "load_openvino().Core()\n"
        "assert not any(name.startswith('openvino_telemetry') for name in sys.modules), 'loaded'\n"
        "stub = sys.modules['openvino.tools.ovc.telemetry_utils'].tm\n"
        "assert stub.__name__ == 'openvino.tools.ovc.telemetry_stub', stub.__name__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_networks_that_another_way_would_not_do_justice_are_left_alone() -> None:
    plain = network()
    assert why_plain_only(plain) == ""
    hooked = network()
    hooked[0].register_forward_hook(lambda *_: None)
    assert "hooks" in why_plain_only(hooked)
    own = network()
    own[3].forward = lambda x: x
    assert "replaced forward" in why_plain_only(own)
    assert "fp32" in why_plain_only(network().double())
    assert "convolutions" in why_plain_only(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    assert why_plain_only(nn.Sequential(nn.LazyConv2d(3, 3))) == "the network has lazy layers without shapes"
    assert why_plain_only(Block(2)) == ""
