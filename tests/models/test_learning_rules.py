"""The rules of perceptron, Adaline and Madaline against their definitions and their theorems."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.layers.activations import hard_threshold
from striate.models.build import build_model
from striate.models.learning_rule import LocalLearningRule, learning_rule
from striate.models.zoo.madaline import majority_rule, minimal_disturbance
from striate.models.zoo.perceptron import CHUNK, least_mean_squares, perceptron_rule, signs_of_classes

NAMES = ("perceptron", "adaline", "madaline(units=12)", "madaline(units=30,logic=majority)", "neocognitron(planes=3)")


def units(features: int, outputs: int, zero: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(features, outputs).double()
    if zero:
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    return layer


def samples(count: int, features: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (count,), generator=generator)


def same(one: nn.Module, two: nn.Module) -> None:
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("count", [1, 40, CHUNK + 30])
def test_the_perceptron_rule_is_that_of_one_sample_after_the_other(count: int) -> None:
    (x, y), layer = samples(count, 6, 4), units(6, 4)
    plain, mistakes = copy.deepcopy(layer), 0
    with torch.no_grad():
        for one, right in zip(x, y.tolist(), strict=True):
            answer = int(plain(one).argmax())
            change = nn.functional.one_hot(torch.tensor([right, answer]), 4).double()
            mistakes += answer != right
            plain.weight += 0.1 * torch.outer(change[0] - change[1], one)
            plain.bias += 0.1 * (change[0] - change[1])
    assert perceptron_rule(layer, x, y, 0.1) == mistakes
    same(layer, plain)


def separable(seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Two classes with a plane between them: samples, classes, and (R / γ)² of that plane, with the bias's 1."""
    x, _ = samples(60, 3, 2, seed)
    plane = torch.randn(4, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    ones = torch.cat([x, torch.ones(60, 1, dtype=torch.float64)], 1)
    margins = ones @ (plane / plane.norm())
    kept = margins.abs() > 0.15
    bound = ones[kept].square().sum(1).max() / margins[kept].abs().min().square()
    return x[kept], (margins[kept] > 0).long(), float(bound)


def mistakes_until_none(layer: nn.Linear, x: torch.Tensor, y: torch.Tensor, rate: float, limit: float) -> int:
    total = 0
    while True:
        found = perceptron_rule(layer, x, y, rate)
        total += found
        if not found or total > limit:
            return total


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_perceptron_makes_no_more_mistakes_than_novikoff_allows_and_then_none(seed: int) -> None:
    x, y, bound = separable(seed)
    if y.unique().numel() == 2:
        assert mistakes_until_none(units(3, 2, zero=True), x, y, 0.7, bound) <= bound


def test_with_the_sign_of_the_update_turned_around_the_theorem_fails() -> None:
    x, y, bound = separable(3)
    assert mistakes_until_none(units(3, 2, zero=True), x, y, -0.7, bound) > bound


def test_from_zero_weights_the_rate_is_only_a_scale() -> None:
    x, y = samples(80, 5, 3)
    slow, fast = units(5, 3, zero=True), units(5, 3, zero=True)
    assert perceptron_rule(slow, x, y, 0.125) == perceptron_rule(fast, x, y, 16.0)
    torch.testing.assert_close(fast.weight, 128 * slow.weight)


@pytest.mark.parametrize("count", [1, 40, CHUNK + 30])
def test_least_mean_squares_is_that_of_one_sample_after_the_other(count: int) -> None:
    (x, y), layer = samples(count, 6, 4), units(6, 4)
    wanted, plain = signs_of_classes(y, 4).double(), copy.deepcopy(layer)
    with torch.no_grad():
        for one, right in zip(x, wanted, strict=True):
            error = right - plain(one)
            plain.weight += 0.05 * torch.outer(error, one)
            plain.bias += 0.05 * error
    least_mean_squares(layer, x, wanted, 0.05)
    same(layer, plain)


def test_least_mean_squares_ends_at_the_least_squares_solution() -> None:
    x, y = samples(200, 4, 3)
    wanted, layer = signs_of_classes(y, 3).double(), units(4, 3)
    for step in range(400):
        least_mean_squares(layer, x, wanted, 0.02 / (1 + step / 10))
    ones = torch.cat([x, torch.ones(200, 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(ones, wanted).solution
    torch.testing.assert_close(layer.weight.detach(), solution[:4].T, atol=5e-3, rtol=0)
    torch.testing.assert_close(layer.bias.detach(), solution[4], atol=5e-3, rtol=0)


def test_least_mean_squares_diverges_where_the_bound_says_and_with_a_turned_sign() -> None:
    x, y = samples(200, 4, 3)
    wanted = signs_of_classes(y, 3).double()
    power = float(x.square().sum(1).mean()) + 1
    ends = {}
    for name, rate in {"below": 1 / power, "above": 8 / power, "turned": -0.2 / power}.items():
        layer = units(4, 3)
        for _ in range(2):
            least_mean_squares(layer, x, wanted, rate)
        ends[name] = float(layer.weight.detach().norm())
    assert ends["below"] < 5
    assert ends["above"] > 1e6
    assert ends["turned"] > 1e6


def hamming(outputs: torch.Tensor, wanted: torch.Tensor) -> int:
    return int((hard_threshold(outputs) != wanted).sum())


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_madaline_rule_2_leaves_no_wrong_output_and_turns_only_uncertain_units(seed: int) -> None:
    torch.manual_seed(seed)
    hidden, output = nn.Linear(6, 30).double(), nn.Linear(30, 4).double()
    x, y = samples(1, 6, 4, seed)
    wanted = signs_of_classes(y, 4)[0]
    with torch.no_grad():
        sums = hidden(x)[0]
        before = hamming(output(hard_threshold(sums)), wanted)
        assert minimal_disturbance(hidden, output, x, y, 0.3) == before
        after = hidden(x)[0]
        assert hamming(output(hard_threshold(after)), wanted) == 0
    turned = (hard_threshold(after) != hard_threshold(sums)).nonzero().flatten().tolist()
    torch.testing.assert_close(after[turned].abs(), torch.full_like(after[turned], 0.3))
    kept = [k for k in range(30) if k not in turned]
    torch.testing.assert_close(after[kept], sums[kept])
    tried = sums.abs().argsort()[:20].tolist()
    assert set(turned) <= set(tried)
    assert not turned or before


def test_madaline_rule_2_turns_a_unit_only_where_that_helps() -> None:
    """Two outputs, of which one is wrong: the least certain unit would fix it and spoil the other, the next only
    mends it."""
    hidden, output = nn.Linear(3, 3).double(), nn.Linear(3, 2).double()
    with torch.no_grad():
        hidden.weight.copy_(torch.diag(torch.tensor([0.1, 0.2, 5.0])))
        hidden.bias.zero_()
        output.weight.copy_(torch.tensor([[-1.0, -1.0, 1.2], [-1.0, 0.0, 0.5]]))
        output.bias.zero_()
        minimal_disturbance(hidden, output, torch.ones(1, 3, dtype=torch.float64), torch.tensor([0]), 0.3)
        assert hard_threshold(hidden(torch.ones(1, 3, dtype=torch.float64))).tolist() == [[1, -1, 1]]


def caught(seeds: int) -> int:
    """How many Madalines of 10 units have not found exclusive or after 20 epochs, as the paper says of rule II."""
    x, y = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2))), torch.tensor([0, 1, 1, 0])
    count = 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = build_model("madaline(units=10)", (2,), 2)
        for _ in range(20):
            network.learn(x, y, 0.1, 0.0)
        count += network(x).argmax(1).tolist() != y.tolist()
    return count


def test_most_madalines_learn_what_one_layer_cannot() -> None:
    assert caught(10) <= 3


@pytest.mark.slow
def test_as_many_madalines_are_caught_as_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "learning_rules.md").read_text(encoding="utf-8")
    documented = int(re.search(r"of 100 networks of 10 units, (\d+) had not", " ".join(text.split()))[1])
    # Rounding is another on other machines: as far as 100 others may be from these.
    assert caught(100) == pytest.approx(documented, abs=9)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_majorities_are_right_after_their_turn_by_the_fewest_and_least_certain_members(seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(6, 4 * 5).double()
    x, y = samples(1, 6, 4, seed)
    wanted = signs_of_classes(y, 4)[0]
    with torch.no_grad():
        sums = layer(x).view(4, 5)
        wrong = majority_rule(layer, 4, x, y, 0.3)
        after = layer(x).view(4, 5)
    votes = hard_threshold(sums).sum(1) * wanted
    assert wrong == int((votes < 0).sum())
    for k in range(4):
        turned = (hard_threshold(after[k]) != hard_threshold(sums[k])).nonzero().flatten()
        assert len(turned) == (0 if votes[k] > 0 else -votes[k] // 2 + 1)
        against = (hard_threshold(sums[k]) != wanted[k]).nonzero().flatten()
        uncertain = against[sums[k, against].abs().argsort()[: len(turned)]]
        assert sorted(turned.tolist()) == sorted(uncertain.tolist())
        assert hard_threshold(after[k]).sum() * wanted[k] > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_what_it_is_and_changes_the_network_it_belongs_to(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, (1, 12, 12), 3)
    assert isinstance(network, LocalLearningRule)
    rule = learning_rule(network)
    assert rule is not None
    assert rule.rate > 0
    before = copy.deepcopy(network.state_dict())
    x, y = torch.randn(20, 1, 12, 12), torch.arange(20) % 3
    network.learn(x, y, rule.rate, 0.9)
    after = network.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_an_accident_of_the_loader(name: str) -> None:
    torch.manual_seed(0)
    whole = build_model(name, (1, 12, 12), 3)
    parts = copy.deepcopy(whole)
    x, y = torch.randn(20, 1, 12, 12), torch.arange(20) % 3
    whole.learn(x, y, 0.01, 0.9)
    for a, b in ((0, 1), (1, 8), (8, 20)):
        parts.learn(x[a:b], y[a:b], 0.01, 0.9)
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_other_networks_have_none() -> None:
    assert learning_rule(build_model("mlp(4)", (1, 12, 12), 3)) is None
