"""Multiply–accumulates against what fvcore and torchinfo say of the same networks, and what the difference is."""

from __future__ import annotations

from math import prod

import pytest
import torch

import striate

# What fvcore 0.1.5.post20221221 counts for torchvision 0.29's networks on 3×224×224, by operator.
FVCORE = {
    "alexnet": {"conv": 655_566_528, "linear": 58_621_952, "batch_norm": 0},
    "vgg16": {"conv": 15_346_630_656, "linear": 123_633_664, "batch_norm": 0},
    "resnet18": {"conv": 1_813_561_344, "linear": 512_000, "batch_norm": 4_967_424},
    "resnet50": {"conv": 4_087_136_256, "linear": 2_048_000, "batch_norm": 22_227_968},
}


def macs_of(ledger, kind: str) -> int:
    return sum(row.macs for row in ledger.rows if row.kind == kind)


def test_the_example_that_fvcore_publishes() -> None:
    # docs/flop_count.md of fvcore: 274,656 in all; conv1 48,600, conv2 146,016, fc1 69,120, fc2 10,080, fc3 840.
    string = "conv(6,3) relu pool(2) conv(16,3) relu pool(2) fc(120) relu fc(84) relu fc(10)"
    ledger = striate.summarize(string, (1, 32, 32))
    assert [row.macs for row in ledger.rows if row.macs] == [48_600, 146_016, 69_120, 10_080, 840]
    assert ledger.macs == 274_656


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", FVCORE)
def test_convolutions_and_products_agree_and_normalization_is_the_difference(name: str) -> None:
    ledger, page = striate.summarize(name, (3, 224, 224)), FVCORE[name]
    assert macs_of(ledger, "conv") == page["conv"]
    assert macs_of(ledger, "fc") == page["linear"]
    assert ledger.macs == page["conv"] + page["linear"]
    # fvcore gives batch normalization two operations a number; here it is no multiply–accumulate of a product.
    assert page["batch_norm"] == 2 * sum(prod(row.out_shape) for row in ledger.rows if row.kind == "bn")


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "seresnet50"])
def test_fvcore_itself_on_the_same_network(name: str) -> None:
    counter = pytest.importorskip("fvcore.nn", reason="fvcore is not installed (extra: bench)")
    network = striate.build(name).eval()
    found = counter.FlopCountAnalysis(network, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(False)
    by_operator = found.tracer_warnings("none").by_operator()
    ledger = striate.summarize(network, (3, 64, 64))
    assert by_operator["conv"] + by_operator["linear"] == ledger.macs


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_torchinfo_itself_on_the_same_network(name: str) -> None:
    torchinfo = pytest.importorskip("torchinfo", reason="torchinfo is not installed (extra: bench)")
    network = striate.build(name).eval()
    found = torchinfo.summary(network, input_data=torch.zeros(1, 3, 64, 64), mode="eval", verbose=0)
    ledger = striate.summarize(network, (3, 64, 64))
    assert found.total_params == ledger.params
    # torchinfo multiplies all of a layer's parameters: biases count, and normalization as often as it has parameters.
    biases = sum(
        row.out_shape[0] * prod(row.out_shape[1:])
        for row in ledger.rows
        if row.kind in ("conv", "fc") and row.settings["bias"]
    )
    normalization = sum(row.params for row in ledger.rows if row.kind == "bn")
    assert found.total_mult_adds == ledger.macs + biases + normalization
