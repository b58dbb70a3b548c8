"""Decoders that mirror an encoder, tied weights, and weights of an autoencoder for other networks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import striate
from striate.errors import LayerStringError, ModelError
from striate.layers.code import Code, Transposed, code_layer
from striate.models.weights.autoencoders import encoder_name, encoder_weights, unrolled
from striate.models.weights.saved import SavedNetwork


def _saved(network: nn.Module, name: str, outputs: int = 36) -> SavedNetwork:
    tensors = {key: value.clone() for key, value in network.state_dict().items()}
    facts = {"input_shape": (1, 6, 6), "outputs": outputs, "dense": False, "classes": ()}
    return SavedNetwork("runs/a", Path("runs/a/best.pt"), tensors, name=name, **facts)


def _layers(text: str, shape: tuple[int, ...]) -> list[str]:
    return [row.name for row in striate.summarize(text, shape).rows]


def test_the_published_autoencoder_has_its_layers() -> None:
    ledger = striate.summarize("autoencoder(1000,500,250,30)", (1, 28, 28))
    widths = [row.out_shape[0] for row in ledger.rows if row.kind in ("fc", "code")]
    assert widths == [1000, 500, 250, 30, 250, 500, 1000, 784]
    sizes = [784, *widths]
    assert ledger.params == sum((a + 1) * b for a, b in pairwise(sizes))
    assert ledger.rows[-1].out_shape == (1, 28, 28)
    assert isinstance(code_layer(striate.build("autoencoder(4,3)", (1, 6, 6))), Code)


def test_what_stood_behind_a_layer_stands_where_its_values_come_back() -> None:
    names = _layers("conv(4,3,pad=1) bn relu pool(2) conv(6,3,stride=2,pad=1) tanh code(5)", (3, 12, 12))
    assert names == [
        *("conv1", "bn1", "relu1", "pool1", "conv2", "tanh1", "flatten1", "code1"),
        *("fc1", "unflatten1", "tanh2", "up1", "conv3", "bn2", "relu2", "up2", "conv4"),
    ]
    assert striate.build("conv(4,5) relu conv(6,3) relu code(5)", (3, 12, 12))(torch.zeros(2, 3, 12, 12)).shape[1:] == (
        (3, 12, 12)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conv(4,3,pad=1) pool(2) pool(2) code(5)", "3×3 of 7×7"),
        ("conv(4,3,pad=1) res[conv(4,3,pad=1)] code(5)", "residual block"),
        ("conv(4,3) lrn code(5)", "lrn"),
        ("code(5) code(3)", "second code"),
        ("fc(6) unflatten(5x2)", "6 numbers"),
        ("unflatten(49x2x2)", "on a map of 1×14×14"),
    ],
)
def test_what_cannot_be_mirrored_is_refused(text: str, said: str) -> None:
    with pytest.raises(LayerStringError) as caught:
        striate.build(text, (1, 14, 14))
    assert said in caught.value.got


def test_tied_layers_are_the_transposes_of_their_encoder() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    linear, conv = nn.Linear(5, 4), nn.Conv2d(2, 3, 5, padding=1)
    assert torch.allclose(Transposed(linear)(torch.eye(4)), linear.weight)
    mirrored = Transposed(conv, padding=4 - 1)
    assert torch.allclose(mirrored(x), functional.conv_transpose2d(x, conv.weight, padding=1), atol=1e-5)
    network = striate.build("conv(3,3) relu code(4,tied=true)", (1, 6, 6))
    free = striate.build("conv(3,3) relu code(4)", (1, 6, 6))
    weights = [key for key in network.state_dict() if key.endswith("weight")]
    assert weights == ["conv1.weight", "code1.weight"]
    assert striate.summarize("conv(3,3) relu code(4,tied=true)", (1, 6, 6)).params == sum(
        p.numel() for p in network.parameters()
    )
    assert network(torch.zeros(2, 1, 6, 6)).shape == free(torch.zeros(2, 1, 6, 6)).shape == (2, 1, 6, 6)
    network(torch.randn(2, 1, 6, 6)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_encoder_of_a_name_ends_in_new_outputs() -> None:
    assert encoder_name("autoencoder(20,5)", 3) == "fc(20) sigmoid code(5) fc(3)"
    assert encoder_name("conv(4,3) relu code(5,activation=relu,tied=true)", 3) == (
        "conv(4,3) relu code(5,activation=relu) fc(3)"
    )
    assert encoder_name("fc(8) relu code(2) fc(36)", 4) == "fc(8) relu code(2) fc(4)"
    assert encoder_name("mnist-cnn", 3) is None


def test_an_encoder_gives_its_weights_and_not_its_decoder() -> None:
    saved = _saved(striate.build("autoencoder(8,5)", (1, 6, 6)), "autoencoder(8,5)")
    whole = striate.build("fc(8) sigmoid code(5) fc(3)", (1, 6, 6))
    part = striate.build("fc(8) sigmoid fc(3)", (1, 6, 6))
    for network, keys in ((whole, 4), (part, 2)):
        found = encoder_weights(saved, network)
        assert found is not None
        assert len(found[0].tensors) == keys
        assert "not the decoder" in found[1]
    assert "nor code1" in encoder_weights(saved, part)[1]  # type: ignore[index]
    assert encoder_weights(saved, striate.build("autoencoder(8,5)", (1, 6, 6))) is None
    with pytest.raises(ModelError, match="layers with the names"):
        encoder_weights(saved, striate.build("conv(3,3) gap", (1, 6, 6)))


def test_an_unrolled_stack_computes_what_its_machines_do() -> None:
    torch.manual_seed(0)
    stack = striate.build("dbn(8,5)", (1, 6, 6), 3)
    for parameter in stack.parameters():
        nn.init.normal_(parameter)
    saved = _saved(stack, "dbn(8,5)", 3)
    network = striate.build("autoencoder(8,5,code=sigmoid)", (1, 6, 6))
    found = unrolled(saved, network)
    assert found is not None
    network.load_state_dict(found[0].tensors)
    x = torch.rand(4, 1, 6, 6)
    assert torch.allclose(network(x).sigmoid().flatten(1), stack.mean_field(x.flatten(1)), atol=1e-6)
    assert unrolled(saved, striate.build("fc(8) sigmoid fc(3)", (1, 6, 6))) is None
    with pytest.raises(ModelError, match="machines with weights") as caught:
        unrolled(saved, striate.build("autoencoder(9,5)", (1, 6, 6)))
    assert "autoencoder(8,5)" in str(caught.value.remedy)
