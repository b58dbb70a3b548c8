"""Optimizers: torch's own, the formulas of the papers for the others, and which parameter gets what."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.optimizers import make_optimizer, set_learning_rate

LR, DECAY = 0.02, 0.3


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 5)
    return nn.Sequential(*layers)


def config(name: str, **fields: object) -> Config:
    return with_fields(Config(), {"optim.name": name, "optim.lr": LR, "optim.weight_decay": DECAY, **fields})


def give_gradients(module: nn.Module, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return {name: p.grad.clone() for name, p in module.named_parameters()}


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> dict[str, torch.Tensor]:
    for k in range(count):
        give_gradients(module, k)
        optimizer.step()
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize(
    ("fields", "make"),
    [
        ({"optim.name": "sgd"}, lambda g: torch.optim.SGD(g, lr=LR, momentum=0.9, nesterov=True)),
        (
            {"optim.name": "sgd", "optim.momentum": 0.5, "optim.nesterov": False},
            lambda g: torch.optim.SGD(g, lr=LR, momentum=0.5),
        ),
        ({"optim.name": "sgd", "optim.momentum": 0}, lambda g: torch.optim.SGD(g, lr=LR)),
        ({"optim.name": "adamw"}, lambda g: torch.optim.AdamW(g, lr=LR)),
        ({"optim.name": "adamw", "optim.betas": [0.5, 0.9]}, lambda g: torch.optim.AdamW(g, lr=LR, betas=(0.5, 0.9))),
    ],
)
def test_sgd_and_adamw_step_as_torchs_with_decay_on_kernels_alone(fields, make) -> None:
    ours, plain = network(), network()
    kernels = [p for p in plain.parameters() if p.ndim > 1]
    others = [p for p in plain.parameters() if p.ndim == 1]
    twin = make([{"params": kernels, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}])
    optimizer = make_optimizer(ours, config(**{"name": fields["optim.name"]}, **fields))
    a, b = steps(ours, optimizer), steps(plain, twin)
    for name in a:  # one fused kernel rounds differently
        torch.testing.assert_close(a[name], b[name], rtol=2e-6, atol=1e-8, msg=name)


def test_biases_are_never_decayed_whatever_their_shape() -> None:
    class PositionBias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 2))
            self.bias = nn.Parameter(torch.ones(3, 2))

    module = PositionBias()
    optimizer = make_optimizer(module, config("sgd"))
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(module.bias, torch.ones(3, 2))
    assert torch.allclose(module.weight, torch.full((3, 2), 1 - LR * DECAY * 1.9))  # Nesterov: 1 + momentum


def test_muon_turns_hidden_kernels_by_orthogonal_steps_and_leaves_the_rest_to_adamw() -> None:
    module, plain = network(), network()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    muon = make_optimizer(module, config("muon", **{"optim.weight_decay": 0}))
    adamw = torch.optim.AdamW(plain.parameters(), lr=LR, weight_decay=0)
    # Nearly of rank 1, as real gradients are: singular values far apart.
    give_gradients(module), give_gradients(plain)
    for m in (module, plain):
        for p in m.parameters():
            if p.ndim > 1:
                p.grad.flatten(1)[:] *= 0.3
                p.grad.flatten(1)[:] += torch.linspace(1, 2, p[0].numel())
    gradients = {name: p.grad.flatten(1).numpy().copy() for name, p in module.named_parameters() if p.ndim > 1}
    muon.step(), adamw.step()
    after, expected = (dict(m.named_parameters()) for m in (module, plain))
    hidden = {"0.weight", "3.weight"}
    for name, value in after.items():
        if name not in hidden:  # biases, normalization, and the output layer
            assert torch.allclose(value, expected[name], atol=1e-6), name
            continue
        step = (before[name] - value.detach()).flatten(1)
        singular = np.linalg.svd(step.numpy(), compute_uv=False)
        gradient = np.linalg.svd(gradients[name], compute_uv=False)
        assert singular.max() / singular.min() < 1.7 < gradient.max() / gradient.min(), name
        # As large as AdamW's steps: 0.2 · √(longer side), times singular values near 1.
        assert singular.mean() / (LR * 0.2 * max(step.shape) ** 0.5) == pytest.approx(1, abs=0.25)


def test_muon_decays_hidden_kernels_and_the_head() -> None:
    module = network()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = make_optimizer(module, config("muon"))
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in module.named_parameters():
        factor = 1 - LR * DECAY if p.ndim > 1 else 1
        assert torch.allclose(p, factor * before[name], atol=1e-6), name


def test_lamb_takes_the_step_of_its_paper() -> None:
    """You et al. 2019, algorithm 2: r = m / (√v + ε), u = r + λx, x ← x − η · ‖x‖ / ‖u‖ · u for each layer; the form
    without bias correction, norms of weights up to 10."""
    module = network()
    before = {name: p.detach().double().numpy() for name, p in module.named_parameters()}
    before = {name: value.copy() for name, value in before.items()}
    gradients = give_gradients(module)
    make_optimizer(module, config("lamb")).step()
    for name, p in module.named_parameters():
        x, g = before[name], gradients[name].double().numpy()
        u = 0.1 * g / (np.sqrt(0.001 * g**2) + 1e-6) + (DECAY if x.ndim > 1 else 0) * x
        ratio = min(np.linalg.norm(x), 10) / np.linalg.norm(u) if np.linalg.norm(x) else 1.0
        assert np.allclose(p.detach().numpy(), x - LR * ratio * u, atol=1e-5), name


def test_lars_takes_the_step_of_its_paper() -> None:
    """You et al. 2017, equation 6: λ_l = η ‖w‖ / (‖∇‖ + β ‖w‖), Δw = γ λ_l (∇ + β w) for kernels, SGD for the rest."""
    module = network()
    before = {name: p.detach().clone().double().numpy() for name, p in module.named_parameters()}
    gradients = give_gradients(module)
    make_optimizer(module, config("lars", **{"optim.nesterov": False})).step()
    for name, p in module.named_parameters():
        x, g = before[name], gradients[name].double().numpy()
        rate = 0.001 * np.linalg.norm(x) / (np.linalg.norm(g) + DECAY * np.linalg.norm(x)) if x.ndim > 1 else 1.0
        step = LR * rate * (g + (DECAY * x if x.ndim > 1 else 0))
        assert np.allclose(p.detach().numpy(), x - step, atol=1e-6), name


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "lamb", "lars"])
def test_every_group_follows_the_schedule_at_its_own_scale(name: str) -> None:
    module = network()
    optimizer = make_optimizer(module, config(name, **{"fine_tune.layer_decay": 0.5}))
    set_learning_rate(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {n: rates[id(p)] for n, p in module.named_parameters()} == {
        "0.weight": 0.2, "0.bias": 0.2, "1.weight": 0.2, "1.bias": 0.2, "3.weight": 0.4, "3.bias": 0.4,
        "5.weight": 0.8, "5.bias": 0.8,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "lamb", "lars"])
def test_an_optimizer_goes_on_from_its_state_bit_for_bit(name: str) -> None:
    module = network()
    optimizer = make_optimizer(module, config(name))
    steps(module, optimizer, 2)
    other = copy.deepcopy(module)
    restored = make_optimizer(other, config(name))
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    a, b = steps(module, optimizer), steps(other, restored)
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_extra_parameters_are_trained_at_the_full_rate_and_not_orthogonalized() -> None:
    module, heads = network(), nn.Linear(4, 3)
    optimizer = make_optimizer(module, config("muon", **{"fine_tune.layer_decay": 0.5}), heads.parameters())
    groups = [g for g in optimizer.param_groups for p in g["params"] if any(p is q for q in heads.parameters())]
    assert [(g["rate_scale"], g["use_muon"]) for g in groups] == [(1.0, False)] * 2
    assert sorted(g["weight_decay"] for g in groups) == [0.0, DECAY]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_parameters_may_get_their_first_gradient_later_than_others(name: str) -> None:
    ours, plain = network(), network()
    optimizer = make_optimizer(ours, config(name))
    groups = [{"params": [p for p in plain.parameters() if (p.ndim > 1) == many]} for many in (True, False)]
    for group, decay in zip(groups, (DECAY, 0.0), strict=True):
        group["weight_decay"] = decay
    usual = torch.optim.SGD(groups, LR, 0.9, nesterov=True) if name == "sgd" else torch.optim.AdamW(groups, LR)
    for module, steps in ((ours, optimizer), (plain, usual)):
        first = next(module.parameters())
        for k in range(4):
            give_gradients(module, k)
            if k < 2:
                first.grad = None
            steps.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-8)
