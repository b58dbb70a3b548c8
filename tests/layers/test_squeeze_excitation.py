"""Squeeze-and-excitation against its formula, and what every layer has to stand."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from striate.layers.blocks import SqueezeExcitation

SHAPES = {1: (2, 8, 9), 2: (2, 8, 5, 6), 3: (2, 8, 3, 4, 5)}


def sample(axes):
    return torch.randn(*SHAPES[axes], dtype=torch.float64, generator=torch.Generator().manual_seed(axes))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("reduction", [1, 3, 16])
def test_it_follows_its_formula(axes, reduction):
    layer, x = SqueezeExcitation(8, reduction).double(), sample(axes)
    found = layer(x).detach().numpy()
    w1, b1, w2, b2 = (p.detach().numpy().reshape(len(p), -1) for p in layer.parameters())
    assert len(w1) == max(1, 8 // reduction)
    means = x.numpy().reshape(2, 8, -1).mean(axis=2)
    hidden = np.maximum(means @ w1.T + b1[:, 0], 0)
    factors = 1 / (1 + np.exp(-(hidden @ w2.T + b2[:, 0])))
    expected = x.numpy() * factors.reshape(2, 8, *[1] * axes)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_saturated_gates_open_or_close():
    layer, x = SqueezeExcitation(8, 4), sample(2).float()
    torch.nn.init.zeros_(layer.fc2.weight)
    with torch.no_grad():
        layer.fc2.bias.copy_(torch.tensor([200.0, -200.0] * 4))
    out = layer(x)
    assert torch.equal(out[:, ::2], x[:, ::2])
    assert not out[:, 1::2].any()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_gradients_agree_with_finite_differences(axes):
    x = sample(axes)[:1, :, :3].requires_grad_()
    assert gradcheck(SqueezeExcitation(8, 2).double(), (x,))


def test_the_same_weights_serve_maps_of_every_number_of_axes():
    layer, x = SqueezeExcitation(8, 2).double(), sample(2)
    torch.testing.assert_close(layer(x.flatten(2)).reshape(x.shape), layer(x))
    torch.testing.assert_close(layer(x[:, :, None])[:, :, 0], layer(x))


def test_autocast_half_precision_and_channels_last_agree_with_float32():
    layer, x = SqueezeExcitation(8, 2), sample(2).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x), expected, rtol=0.02, atol=0.02)
        assert layer(x.bfloat16()).dtype == torch.bfloat16
    turned = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert turned.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(turned, expected)


def test_it_is_compiled_without_a_graph_break_and_exported_for_any_batch():
    layer, x = SqueezeExcitation(8, 2), sample(2).float()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(layer, (x,), dynamic_shapes=(batch,)).module()
    more = torch.randn(5, 8, 5, 6)
    torch.testing.assert_close(exported(more), layer(more))


def test_state_has_the_names_of_timm_and_moves_to_another_layer():
    first, second, x = SqueezeExcitation(8, 2), SqueezeExcitation(8, 2), sample(2).float()
    shapes = {key: tuple(t.shape) for key, t in first.state_dict().items()}
    assert shapes == {"fc1.weight": (4, 8, 1, 1), "fc1.bias": (4,), "fc2.weight": (8, 4, 1, 1), "fc2.bias": (8,)}
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SqueezeExcitation(0),
        lambda: SqueezeExcitation(8, 0),
        lambda: SqueezeExcitation(8)(torch.zeros(2, 8)),
    ],
)
def test_wrong_sizes_are_refused(make):
    with pytest.raises(ValueError, match=r"at least"):
        make()
