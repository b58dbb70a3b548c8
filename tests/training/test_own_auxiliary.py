"""Networks with auxiliary classifiers of their own: what training minimizes, counts, and refuses."""

from __future__ import annotations

import pytest
import torch
from short_runs import asked_for, events_of
from torch import nn
from torch.nn import functional

from striate.account.signal.trace import trace_signal
from striate.account.summarize import count_macs
from striate.errors import ModelError
from striate.models.build import build_model
from striate.tasks.classify.task import Classify
from striate.training.auxiliary import make_heads
from striate.training.config import AuxiliaryConfig, Config
from striate.training.config_file import with_fields
from striate.training.head_warm_up import training_mode
from striate.training.objective import Objective
from striate.training.prepare import prepare
from striate.training.prepared_batch import Mix

TASK = Classify(("a", "b", "c"))


class Small(nn.Module):
    """A trunk, a head, and two auxiliary classifiers that speak in training."""

    auxiliary_weights = (0.3, 0.2)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh())
        self.aux1, self.aux2 = nn.Linear(8, 3), nn.Linear(8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        features = self.trunk(x)
        logits = self.head(features)
        return (logits, self.aux1(features), self.aux2(features)) if self.training else logits


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 1, 6, 6), torch.tensor([0, 1, 2, 0, 1, 2])


def by_hand(module, x, targets) -> torch.Tensor:
    logits, first, second = module(x)
    cross = functional.cross_entropy
    return cross(logits, targets) + 0.3 * cross(first, targets) + 0.2 * cross(second, targets)


def test_the_loss_is_that_of_the_logits_and_the_weighted_auxiliary_ones(module, batch):
    loss, measured = Objective(TASK, Config()).training_loss(module, *batch)
    torch.testing.assert_close(loss, by_hand(module, *batch))
    assert torch.equal(measured.vector(), TASK.tally(module(batch[0])[0].detach(), batch[1])), (
        "metrics see the logits only"
    )


def test_blended_samples_are_blended_for_every_classifier(module, batch):
    x, targets = batch
    mix = Mix(targets[torch.tensor([1, 2, 3, 4, 5, 0])], 0.7)
    loss, _ = Objective(TASK, Config()).training_loss(module, x, targets, mix)
    expected = 0.7 * by_hand(module, x, targets) + 0.3 * by_hand(module, x, mix.targets)
    torch.testing.assert_close(loss, expected)


def test_heads_of_the_training_come_on_top(module, batch):
    config = with_fields(Config(), {"auxiliary.layers": ("trunk",), "auxiliary.rotation": 0.5})
    heads = make_heads(module, AuxiliaryConfig(rotation=0.5, layers=("trunk",)), "vector", 3, batch[0])
    objective = Objective(TASK, config, heads)
    assert heads is not None
    seen: list[torch.Tensor] = []
    module.trunk.register_forward_hook(lambda _m, _i, out: seen.append(out))
    loss, measured = objective.training_loss(module, *batch)
    inner = functional.cross_entropy(heads.classifiers[0](seen[0][:6]), batch[1])
    without = with_fields(Config(), {"auxiliary.rotation": 0.5})
    rotation_only = Objective(TASK, without, make_heads(module, AuxiliaryConfig(rotation=0.5), "vector", 3, batch[0]))
    rotation_only.heads.rotation.load_state_dict(heads.rotation.state_dict())
    rotated, _ = rotation_only.training_loss(module, *batch)
    torch.testing.assert_close(loss, rotated + config.auxiliary.weight * inner)
    seen_once = rotation_only._forward(module, batch[0], batch[1], (0, 0))
    assert (len(seen_once.auxiliary), len(seen_once.inner)) == (2, 0), "two of the network's own"
    assert seen_once.turns is not None
    metrics = measured.compute()
    assert {"trunk_accuracy", "rotation_accuracy"} <= set(metrics)


def test_without_the_loss_of_the_task_no_classifier_learns_a_label(module, batch):
    config = with_fields(Config(), {"auxiliary.rotation": 1.0, "auxiliary.task": 0.0})
    heads = make_heads(module, AuxiliaryConfig(rotation=1.0, task=0.0), "vector", 3, batch[0])
    Objective(TASK, config, heads).training_loss(module, *batch)[0].backward()
    assert module.trunk[1].weight.grad.abs().sum() > 0
    assert not any(layer.weight.grad.any() for layer in (module.head, module.aux1, module.aux2))


def test_in_eval_mode_there_is_nothing_more(module, batch):
    module.eval()
    loss, _ = Objective(TASK, Config()).training_loss(module, *batch)
    torch.testing.assert_close(loss, functional.cross_entropy(module(batch[0]), batch[1]))


def test_a_network_that_states_no_weights_is_refused_before_anything_is_written(module, batch):
    class Silent(Small):
        auxiliary_weights = None

    with pytest.raises(ModelError) as caught:
        prepare(asked_for(), _like_digits(Silent()))
    assert "no attribute `auxiliary_weights`" in caught.value.got
    assert caught.value.remedy == "network.auxiliary_weights = (0.3, 0.3)"


def _like_digits(module: nn.Module) -> nn.Module:
    """For 8×8 images of ten classes."""
    module.trunk[1] = nn.Linear(64, 8)
    for name in ("aux1", "aux2", "head"):
        setattr(module, name, nn.Linear(8, 10))
    return module


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("fields", [{}, {"optim__ema": 0.9, "augment__mixup": 0.4}, {"execution__micro_batch": 16}])
def test_such_a_network_trains_validates_and_learns(fields):
    torch.manual_seed(0)
    prepared = prepare(asked_for(epochs=4, **fields), _like_digits(Small()))
    rows = [event.row for event in events_of(prepared) if hasattr(event, "row")]
    assert rows[-1].val["accuracy"] > 0.6
    assert rows[-1].train["accuracy"] > 0.6
    assert set(rows[0].train) == set(rows[0].val)


def test_signal_and_gradient_reach_the_auxiliary_classifiers(module, batch):
    from striate.account.signal.trace import measure_signal
    from striate.data.dataset import Split
    from striate.data.normalize import Normalization

    x, targets = batch
    split = Split(x, targets, torch.arange(6))
    rows = {row.name: row for row in measure_signal(module, TASK, split, Normalization((0.0,), (1.0,)).on("cpu", 4))}
    assert {"aux1", "aux2", "head"} <= set(rows)
    assert rows["aux1"].gradient == pytest.approx(0.3 * rows["head"].gradient, rel=0.3)
    assert trace_signal(module, x, lambda given: given[0].sum())


@pytest.mark.slow
def test_costs_are_those_of_an_answer():
    with torch.device("meta"):
        full, plain = build_model("googlenet(aux=true)"), build_model("googlenet")
    assert count_macs(full, (3, 64, 64)) == count_macs(plain, (3, 64, 64))


@pytest.mark.slow
def test_images_too_small_for_the_auxiliary_classifier_are_refused_in_time():
    with pytest.raises(ModelError) as caught:
        prepare(asked_for(**{"model.name": "inception_v3", "data.size": (75, 75), "batch": 2}))
    assert "no window of 5 fits" in caught.value.got
    assert "inception_v3(aux=false)" in caught.value.remedy


def test_new_heads_of_auxiliary_classifiers_learn_first_too_and_nothing_else_moves():
    torch.manual_seed(0)
    network = build_model("googlenet(aux=true)", (1, 16, 16), 3)
    config = with_fields(Config(), {"fine_tune.head_share": 0.5, "budget.steps": 4})
    x, targets = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 0])
    statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with training_mode(network, config) as set_mode:
        set_mode(0)
        Objective(TASK, config).training_loss(network, x, targets)[0].backward()
        learning = {name for name, p in network.named_parameters() if p.grad is not None}
        assert learning == {
            f"{layer}.{kind}" for layer in ("fc", "aux1.fc2", "aux2.fc2") for kind in ("weight", "bias")
        }
        assert all(torch.equal(buffer, statistics[name]) for name, buffer in network.named_buffers())
        set_mode(2)
        assert all(m.training for m in network.modules())
        Objective(TASK, config).training_loss(network, x, targets)[0].backward()
        assert all(p.grad is not None for p in network.parameters())
