"""Pasted PyTorch: it computes what PyTorch computes, or is refused at the character; nothing of it is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import striate
from striate.errors import LayerStringError
from striate.models.layer_strings.layer_string import parse_layers
from striate.models.layer_strings.torch_modules import TORCH

MAP, VECTOR, SIGNAL, VOLUME = (3, 12, 12), (6,), (3, 12), (3, 6, 6, 6)
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv2d", (3, 4, 3), {}, MAP),
    ("Conv2d", (3, 6, (5, 3), 2, 1, 1, 3, False), {}, MAP),
    ("Conv2d", (3, 4), {"kernel_size": 3, "padding": "same", "padding_mode": "reflect", "dilation": 2}, MAP),
    ("LazyConv2d", (4, 3), {"stride": (2, 1)}, MAP),
    ("Conv1d", (3, 4, 3), {}, SIGNAL),
    ("Conv3d", (3, 4, 3), {"padding": (1, 0, 1)}, VOLUME),
    ("MaxPool2d", (2,), {}, MAP),
    ("MaxPool2d", (3, 2, 1), {}, MAP),
    ("MaxPool1d", (2,), {"stride": None}, SIGNAL),
    ("AvgPool2d", (3,), {"padding": 1}, MAP),
    ("BatchNorm2d", (3,), {}, MAP),
    ("BatchNorm1d", (6,), {}, VECTOR),
    ("Linear", (6, 4), {"bias": False}, VECTOR),
    ("LazyLinear", (4,), {}, VECTOR),
    ("GroupNorm", (3, 3), {}, MAP),
    ("LocalResponseNorm", (3,), {"k": 2.0}, MAP),
    ("ReLU", (True,), {}, MAP),
    ("LeakyReLU", (), {}, MAP),
    ("LeakyReLU", (0.2,), {"inplace": True}, MAP),
    ("PReLU", (), {}, MAP),
    ("ELU", (0.5,), {}, MAP),
    ("Sigmoid", (), {}, MAP),
    ("Tanh", (), {}, MAP),
    ("SiLU", (), {}, MAP),
    ("Softmax", (), {"dim": 1}, VECTOR),
    ("Dropout", (0.3,), {}, MAP),
    ("Flatten", (), {}, MAP),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{case[1]}")
def test_a_module_computes_what_it_does_in_torch(
    case: tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]],
) -> None:
    name, args, named, shape = case
    written = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in named.items())])
    theirs = nn.Sequential(getattr(nn, name)(*args, **named)).eval()
    x = torch.randn(2, *shape)
    theirs(x)  # a lazy one gets its weights
    for prefix in ("nn.", "torch.nn.", ""):
        ours = striate.build(f"{prefix}{name}({written})", shape).eval()
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
        torch.testing.assert_close(ours(x), theirs(x))


SEQUENCE = """nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(inplace=True),
    nn.Sequential(nn.MaxPool2d(2, 2), nn.BatchNorm2d(6)), nn.Identity(), nn.Dropout(0.5),
    nn.Flatten(), nn.Linear(1176, 10),
)"""


LINES = """self.conv1 = nn.Conv2d(1, 16, kernel_size=5, stride=1,
padding=0)
self.conv2 = nn.Conv2d(16, 8, kernel_size=(5, 5), stride=(1, 1))
self.flat = nn.Flatten()
self.fc1 = nn.Linear(in_features=3200, out_features=10, bias=True)
"""


@pytest.mark.parametrize(
    ("pasted", "ours"),
    [
        ("nn.Conv2d(1, 16, kernel_size=5)", "conv(16,5)"),
        ("Conv2d(1,16,5)", "conv(16,5)"),
        (
            "nn.Conv2d(1,16,5) nn.MaxPool2d(2) nn.Flatten() nn.Linear(16 * 12*12, 2*5)",
            "conv(16,5) pool(2) flatten fc(10)",
        ),
        (SEQUENCE, "conv(6,5,pad=2) relu pool(2) bn dropout flatten fc(10)"),
        ("nn.Conv2d(1, 8, 3),\nnn.ReLU(),\nfc(10)", "conv(8,3) relu fc(10)"),
        ("conv(8,3) 2*[nn.Conv2d(8, 8, (3, 3), padding=1) nn.ReLU()]", "conv(8,3) 2*[conv(8,3,pad=1) relu]"),
        ("nn.Conv2d(1,4,3) nn.AdaptiveAvgPool2d((1, 1)) nn.Flatten()", "conv(4,3) gap flatten"),
        (LINES, "conv(16,5) conv(8,5) flatten fc(10)"),
        ("conv1 = nn.Conv2d(1, 16, 5) self.act=torch.nn.ReLU() pool(2)", "conv(16,5) relu pool(2)"),
        ("self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())", "conv(4,3) relu"),
    ],
)
def test_it_is_a_layer_string(pasted: str, ours: str) -> None:
    assert str(parse_layers(pasted)) == ours
    ledger = striate.summarize(pasted, (1, 28, 28))
    assert ledger.model == ours
    assert ledger.params == striate.summarize(ours, (1, 28, 28)).params


@pytest.mark.parametrize(
    ("pasted", "place", "told", "remedy"),
    [
        ("nn.Conv2d(3, 16, 5)", 10, "`in_channels` of `nn.Conv2d` is 3", "nn.Conv2d(1, 16, 5)"),
        ("nn.Flatten() nn.Linear(400, 10)", 23, "its input is 784", "nn.Flatten() nn.Linear(784, 10)"),
        ("conv(4,3) nn.BatchNorm2d(num_features=8)", 38, "is 8, and its input is 4×26×26", "num_features=4)"),
        ("nn.Conv1d(1, 16, 5)", 0, "`nn.Conv1d` on an input of 1×28×28", "conv(16,5)"),
        ("Conv2d(16, 5)", 0, "without `kernel_size`", "conv(16, 5)"),
        ("Linear(10)", 0, "without `out_features`", "fc(10)"),
        ("conv2d(1, 16, 5)", 0, "unknown layer `conv2d`", "Conv2d(1, 16, 5)"),
        ("nn.Conv2D(1, 16, 5)", 0, "did you mean `nn.Conv2d`", "nn.Conv2d(1, 16, 5)"),
        ("nn.MaxPool2d(2, ceil_mode=True)", 16, "`ceil_mode=True`", "nn.MaxPool2d(2, ceil_mode=false)"),
        ("nn.AdaptiveAvgPool2d(6)", 21, "`output_size=6`", "nn.AdaptiveAvgPool2d(1)"),
        ("self.conv1 = nn.Conv2d(3, 16, 5)", 23, "is 3, and its input is 1×28×28", "self.conv1 = nn.Conv2d(1, 16, 5)"),
        ("self.conv1 = conv(16,5)", 0, "unknown layer `self.conv1`", "conv(16,5)"),
        ("nn.LSTM(3, 4)", 0, "which is not a layer", ""),
        ("nn.Sequential(nn.ReLU()", 13, "`(` that is not closed", "nn.Sequential(nn.ReLU())"),
        ("nn.Sequential fc(10)", 0, "without its layers", "fc(10)"),
        ("nn.Conv2d(1, 16, __import__('os').system('true'))", 33, "the character '.'", ""),
    ],
)
def test_what_is_refused_and_where(pasted: str, place: int, told: str, remedy: str) -> None:
    with pytest.raises(LayerStringError) as caught:
        striate.build(pasted, (1, 28, 28))
    assert caught.value.position == place
    assert told in caught.value.got
    assert remedy in caught.value.remedy


def test_lines_of_a_constructor_lack_what_forward_calls() -> None:
    with pytest.raises(LayerStringError) as caught:
        striate.build("self.conv = nn.Conv2d(1, 4, 5)\nself.fc = nn.Linear(576, 10)", (1, 28, 28))
    assert caught.value.expected.startswith("2304, or pooling before it: ")


def test_every_module_is_tried_here() -> None:
    tried = {case[0] for case in CASES} | {"AdaptiveAvgPool2d", "Identity"}
    along = {name[:-2] for name in tried if name.endswith("d") and name[-2].isdigit()}
    assert {name for name in TORCH if name not in tried and name[:-2] not in along} <= {
        f"LazyBatchNorm{axes}d" for axes in (1, 2, 3)
    }


def test_it_is_trained() -> None:
    run = striate.train("digits", "nn.Flatten() nn.Linear(64, 10)", epochs=1, out="r", set={"execution.plan": "plain"})
    assert run.metrics["params"] == 650
    assert "nn." not in Path("r/config.yaml").read_text()
    assert run.load().predict([torch.zeros(1, 8, 8, dtype=torch.uint8).numpy()])
