"""Muon against NumPy's singular value decomposition, and AdamW's part against torch's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.training.muon import Muon, orthogonalize


def polynomial(singular: np.ndarray, iterations: int = 5) -> np.ndarray:
    """What Newton–Schulz does to singular values, in float64."""
    s = singular / np.linalg.norm(singular)
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 24), columns=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_singular_vectors_stay_and_singular_values_go_where_the_polynomial_takes_them(rows, columns, seed) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(2, rows, columns)).astype(np.float32)
    got = orthogonalize(torch.tensor(matrix)).float().numpy()
    for given_matrix, result in zip(matrix, got, strict=True):
        u, s, vt = np.linalg.svd(given_matrix.astype(np.float64), full_matrices=False)
        expected = u * polynomial(s) @ vt
        # bfloat16 has 8 bits: each of five iterations rounds to 0.4 %, which the steep polynomial enlarges.
        assert np.linalg.norm(result - expected) <= 0.15 * np.linalg.norm(expected)


@pytest.mark.parametrize("shape", [(8, 50), (50, 8), (32, 288), (30, 30)])
def test_steps_of_real_gradients_are_nearly_orthogonal(shape) -> None:
    torch.manual_seed(0)
    # Singular values that fall off as those of gradients do, by a factor of a hundred.
    u, _, vt = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    s = torch.logspace(0, -2, min(shape))
    singular = torch.linalg.svdvals(orthogonalize((u * s @ vt)[None])[0].float())
    assert float(singular.min()) > 0.5
    assert float(singular.max()) < 1.35


@pytest.mark.parametrize("supported", [True, False])
def test_a_processor_without_bf16_takes_float32(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.training.muon.bf16_on_cpu", lambda: supported)
    assert orthogonalize(torch.randn(1, 8, 12)).dtype == (torch.bfloat16 if supported else torch.float32)


def test_a_matrix_of_zeros_stays() -> None:
    assert not orthogonalize(torch.zeros(2, 3, 4)).any()


def layers() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 4))


def groups_of(module: nn.Sequential) -> list[dict]:
    kernels = [m.weight for m in module if isinstance(m, nn.Conv2d)]
    rest = [p for p in module.parameters() if all(p is not k for k in kernels)]
    return [{"params": kernels, "use_muon": True}, {"params": rest, "weight_decay": 0.1}]


def give_gradients(module: nn.Module, seed: int = 0) -> None:
    torch.manual_seed(seed)
    for p in module.parameters():
        p.grad = torch.randn_like(p)


@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_are_those_of_the_definition(nesterov) -> None:
    """m ← μm + (1 − μ)g; step 0.2 √max(rows, columns) · lr along the orthogonalized m, or with Nesterov
    μm + (1 − μ)g; each kernel as one by itself."""
    module, lr, momentum = layers(), 0.05, 0.8
    kernels = [m.weight for m in module if isinstance(m, nn.Conv2d)]
    expected = [k.detach().clone() for k in kernels]
    means = [torch.zeros_like(k) for k in kernels]
    optimizer = Muon(groups_of(module), lr, momentum, nesterov=nesterov)
    for seed in range(2):
        give_gradients(module, seed)
        for number, kernel in enumerate(kernels):
            means[number] = momentum * means[number] + (1 - momentum) * kernel.grad
            ahead = momentum * means[number] + (1 - momentum) * kernel.grad if nesterov else means[number]
            direction = orthogonalize(ahead.flatten(1)[None])[0].float().view_as(kernel)
            size = 0.2 * max(kernel.flatten(1).shape) ** 0.5
            expected[number] -= lr * size * direction
        optimizer.step()
    for kernel, wanted in zip(kernels, expected, strict=True):
        # Kernels of one shape are computed together: rounded to bfloat16 a little otherwise.
        assert torch.allclose(kernel, wanted, atol=2e-3)


def test_a_fixed_norm_turns_a_kernel_by_the_angle_of_the_rate() -> None:
    module, lr = layers(), 0.1
    before = [m.weight.detach().clone() for m in module if isinstance(m, nn.Conv2d)]
    groups = groups_of(module)
    groups[0]["fixed_norm"] = True
    optimizer = Muon(groups, lr)
    give_gradients(module)
    optimizer.step()
    for kernel, old in zip([m.weight.detach() for m in module if isinstance(m, nn.Conv2d)], before, strict=True):
        assert float(kernel.norm()) == pytest.approx(float(old.norm()), rel=1e-5)
        cosine = float((kernel * old).sum() / (kernel.norm() * old.norm()))
        assert np.arccos(cosine) == pytest.approx(np.arctan(lr), rel=0.25)  # exact where the step is at right angles


def test_a_kernel_of_zeros_at_a_fixed_norm_begins_to_move() -> None:
    module = nn.Conv2d(2, 3, 3)
    nn.init.zeros_(module.weight)
    give_gradients(module)
    Muon([{"params": [module.weight], "use_muon": True, "fixed_norm": True}], 0.1).step()
    assert float(module.weight.detach().norm()) == pytest.approx(1.0)


def test_what_is_no_kernel_takes_the_steps_of_adamw() -> None:
    module, peer = layers(), layers()
    rest = groups_of(peer)[1]["params"]
    muon, adamw = Muon(groups_of(module), 0.01), torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1)
    for seed in range(3):
        give_gradients(module, seed), give_gradients(peer, seed)
        muon.step(), adamw.step()
    for mine, theirs in zip(groups_of(module)[1]["params"], rest, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_parameters_without_a_gradient_stay_and_state_goes_into_a_checkpoint() -> None:
    module = layers()
    optimizer = Muon(groups_of(module), 0.01)
    give_gradients(module)
    module[1].weight.grad = None
    before = module[1].weight.detach().clone()
    optimizer.step()
    assert torch.equal(module[1].weight, before)
    other = copy.deepcopy(module)
    restored = Muon(groups_of(other), 0.01)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for m, o in ((module, optimizer), (other, restored)):
        give_gradients(m, 5)
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_the_layout_of_a_kernel_changes_nothing_but_rounding() -> None:
    plain, turned = layers(), layers()
    turned.to(memory_format=torch.channels_last)
    for module in (plain, turned):
        give_gradients(plain)
        for p, q in zip(module.parameters(), plain.parameters(), strict=True):
            p.grad = torch.empty_like(p).copy_(q.grad)
        Muon(groups_of(module), 0.05).step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain.parameters(), turned.parameters(), strict=True))


@pytest.mark.parametrize("fixed_norm", [True, False])
def test_kernels_that_lie_channels_last_take_the_same_steps(fixed_norm) -> None:
    module = layers()
    laid_out = copy.deepcopy(module).to(memory_format=torch.channels_last)
    optimizers = [Muon(groups_of(network), 0.05, fixed_norm=fixed_norm) for network in (module, laid_out)]
    for seed in range(2):
        give_gradients(module, seed)
        for p, q in zip(module.parameters(), laid_out.parameters(), strict=True):
            q.grad = p.grad.clone()  # as gradients of a contiguous kernel lie
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(module.parameters(), laid_out.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-3)
    assert not laid_out[1].weight.is_contiguous()
