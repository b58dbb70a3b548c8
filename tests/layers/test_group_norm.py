"""Group normalization of one channel agrees with torch, whatever the strides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.layers.normalization import OneChannelGroupNorm


@pytest.mark.parametrize("strides", [(64, 64, 8, 1), (64, 1, 8, 1)])
def test_it_is_group_norm_forward_and_backward_for_any_strides(strides) -> None:
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ours, plain = OneChannelGroupNorm(), nn.GroupNorm(1, 1)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    a = x.clone().as_strided(x.shape, strides).requires_grad_()
    b = x.clone().requires_grad_()
    out = ours(a)
    (out * x).sum().backward()
    expected = plain(b)
    (expected * x).sum().backward()
    assert torch.allclose(out, expected)
    assert torch.allclose(a.grad, b.grad, atol=1e-6)
    assert torch.allclose(ours.weight.grad, plain.weight.grad, atol=1e-5)
