"""The checks tell a network that has learned from one that has not, and a map that shows something from one that does
not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from marked import marked_digits, trained_on_markers
from torch import nn

from quick import few_quick
from striate.errors import ModelError, UsageError
from striate.models.build import build_model
from striate.models.preserved_state import on_trial
from striate.visualize.attribution.attribute import attribute
from striate.visualize.attribution.change import smallest_covering, smallest_nudge
from striate.visualize.attribution.checks import (
    MapCheck,
    Maps,
    PredictionCheck,
    alike,
    check_prediction,
    deletion_of,
    shuffled,
)
from striate.visualize.attribution.question import make_question
from striate.visualize.attribution.removal import without

NETWORKS = ("conv(8,3) relu pool(2) conv(12,3) relu gap fc(6)", "conv(6,5) tanh pool(2) fc(6)", "mlp(24)", "lenet5")


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return trained_on_markers(0)


def look(module: nn.Module, x: torch.Tensor, method: str = "auto") -> Maps:
    with on_trial(module):
        return attribute(make_question(module, x), method)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("gain", few_quick([1.0, 4.0], [4.0]))
def test_random_weights_are_not_to_be_trusted(name: str, gain: float) -> None:
    """Also where weights are so large that the answer is firm."""
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = build_model(name, (1, 28, 28), 6)
            for parameter in module.parameters():
                parameter.data *= gain
            x = torch.randn(1, 1, 28, 28)
        found = look(module, x, "integrated-gradients")
        assert not found.prediction_check.learned
        assert found.chosen.check.verdict.startswith("not to be trusted: ")
        assert "networks with shuffled weights predict as confidently" in found.chosen.check.reasons


@pytest.mark.slow
def test_a_trained_network_is_trusted(trained: nn.Module) -> None:
    found = look(trained, marked_digits(1, 5)[0])
    assert found.prediction_check.learned
    assert found.chosen.check.trusted
    assert "shown first" in found.why
    ranks = [(not one.check.trusted, -one.check.gain) for one in found.maps]
    assert ranks == sorted(ranks)
    assert {one.method for one in found.maps} == {
        "saliency", "integrated-gradients", "smoothgrad", "grad-cam", "occlusion"
    }  # fmt: skip


def test_a_regression_is_told_from_a_random_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
        x = torch.randn(400, 6)
        before = check_prediction(make_question(module, x[:1]))
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(150):
            optimizer.zero_grad()
            (module(x)[:, 0] - 2 * x[:, 0] + 3 * x[:, 1]).square().mean().backward()
            optimizer.step()
    assert before.number
    assert not before.learned
    assert check_prediction(make_question(module, x[:1])).learned
    assert look(module, torch.tensor([[3.0, -1.0, 1.0, 0.0, 0.0, 0.0]])).chosen.peak in ((0,), (1,))


@pytest.mark.slow
def test_shuffling_keeps_the_numbers_and_puts_the_tensors_back(trained: nn.Module) -> None:
    before = {name: (value.data_ptr(), value.clone()) for name, value in trained.named_parameters()}
    with shuffled(trained, 1):
        weight = trained.get_parameter("4.weight")
        assert not torch.equal(weight, before["4.weight"][1])
        assert torch.equal(weight.flatten().sort().values, before["4.weight"][1].flatten().sort().values)
    with pytest.raises(RuntimeError, match="4 channels"), shuffled(trained, 1):
        trained(torch.zeros(1, 4, 8, 8))
    for name, value in trained.named_parameters():
        assert value.data_ptr() == before[name][0]
        assert torch.equal(value, before[name][1])


@pytest.mark.slow
def test_a_map_that_ignores_the_weights_is_found_out(trained: nn.Module) -> None:
    x = marked_digits(1, 5)[0]
    with on_trial(trained):
        question = make_question(trained, x)
        assert alike(x[0, 0], lambda: x[0, 0], question) == pytest.approx(1)
        assert alike(torch.zeros(32, 32), lambda: x[0, 0], question) is None


def test_deletion_takes_the_highest_first() -> None:
    """Of a sum of ten equal features of which five count, half are gone when those five are."""
    module = nn.Linear(10, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0] * 5 + [0.0] * 5]))
    deletion = deletion_of(make_question(module, torch.ones(1, 10)))
    falling = deletion.follow(module.weight[0].detach())
    assert falling[1::2].tolist() == [4, 3, 2, 1, 0]
    assert deletion.random.shape == (8, 10)
    assert float(deletion.random.mean()) > float(falling.mean())
    assert deletion.follow(-module.weight[0].detach())[-1] == 5


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1), (1, 3, 0, 2)])
def test_a_random_order_that_is_the_order_of_the_map_does_not_count_against_it(order: tuple[int, ...]) -> None:
    """Of four features half are removed: twelve orders in all, of which eight are drawn."""
    module = nn.Linear(4, 2)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
        module.weight[0, list(order)] = torch.tensor([1.6, 0.8, 0.4, 0.2])
    check = look(module, torch.ones(1, 4), "integrated-gradients").chosen.check
    assert check.gain > 0.05
    assert check.first


def test_verdicts_follow_from_the_figures() -> None:
    answer = PredictionCheck(3.0, (1.0, 1.9))
    check = MapCheck(0.1, 6, (0.5,), (0.2,), (0.6,), 0.4, True, answer)
    assert (check.verdict, check.to_json()["trusted"]) == ("trusted", True)
    for change in (
        {"alike": 0.6},
        {"alike": None},
        {"gain": 0.04},
        {"first": False},
        {"prediction_check": PredictionCheck(3, (2.1,))},
    ):
        worse = replace(check, **change)
        assert not worse.trusted
        assert len(worse.reasons) == 1
        assert worse.verdict.startswith("not to be trusted: ")


@pytest.mark.slow
def test_what_would_change_the_answer_does(trained: nn.Module) -> None:
    x, _, places = marked_digits(3, 6)
    for k, (row, column) in enumerate(places):
        with on_trial(trained):
            question = make_question(trained, x[k : k + 1])
            covering, nudge = smallest_covering(question), smallest_nudge(question, 1 - question.target)
        assert nudge is not None
        with torch.no_grad():
            assert int(trained(nudge.changed).argmax()) == nudge.predicted == 1 - question.target
        if covering is not None:
            first, size = covering.first, covering.size
            for begin, own, marker in zip(first, size, (row, column), strict=True):
                assert marker - own < begin < marker + 5, "the square that matters lies over the marker"
    bounded = smallest_nudge(question, 1 - question.target, x[2:] - 0.001, x[2:] + 0.001)
    assert bounded is None or float((bounded.changed - x[2:]).abs().max()) <= 0.0011


def test_blurred_rectangles_are_not_all_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[int]()

    def counted(x: torch.Tensor, taken: torch.Tensor, blank: torch.Tensor) -> torch.Tensor:
        made.append(len(taken))
        return without(x, taken, blank)

    monkeypatch.setattr("striate.visualize.attribution.change.without", counted)
    module = nn.Sequential(nn.Flatten(), nn.Linear(40 * 40, 2))
    smallest_covering(make_question(module, torch.randn(1, 1, 40, 40)))
    assert max(made) <= 64 < sum(made)


class _AtTheEdge(nn.Module):
    """Class 1 exceeds class 0 only from 0.7 on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lead = torch.where(x < 0.7, 1 - x, x - 1)
        return torch.cat([lead, torch.zeros_like(x)], 1)


def test_a_change_that_barely_suffices_changes_the_prediction() -> None:
    edge, most = _AtTheEdge(), torch.tensor([[0.7]])
    for start in torch.linspace(-0.3, 0.6, 50):
        nudge = smallest_nudge(make_question(edge, start.view(1, 1)), 1, -most, most)
        assert nudge is not None
        assert int(edge(nudge.changed).argmax()) == nudge.predicted == 1
    alike = nn.Linear(1, 2, bias=False)
    alike.weight.data = torch.tensor([[1.0], [0.0]])
    close = smallest_nudge(make_question(alike, torch.full((1, 1), 1e-4)), 1)
    assert close is not None
    assert (close.predicted, close.probability) == (1, 0.5)


def test_methods_that_cannot_look_are_said() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    x = torch.randn(1, 1, 8, 8)
    found = look(module, x)
    assert [reason.split(":")[0] for reason in found.left_out] == ["grad-cam"]
    with pytest.raises(ModelError, match="no layer"):
        look(module, x, "grad-cam")
    with pytest.raises(UsageError, match="method"):
        look(module, x, "guess")

    class Steps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.detach().flatten(1)[:, :3] > 0).float()

    assert {one.method for one in look(Steps(), x).maps} == {"occlusion"}
