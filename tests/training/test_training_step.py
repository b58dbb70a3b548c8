"""One update: clipping, accumulation in parts, and what a part is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.data.loader import Batch
from striate.models.build import build_model
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import IGNORED, Segment
from striate.tasks.task import Task
from striate.training.auxiliary import make_heads
from striate.training.average import make_average
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.objective import Objective
from striate.training.optimizers import make_optimizer
from striate.training.setup import Setup
from striate.training.state import TrainingState
from striate.training.step import training_step

CLASSES = ("a", "b", "c")
TASK = Classify(CLASSES)
USUAL = {"optim.name": "sgd", "optim.lr": 0.1, "optim.weight_decay": 0, "batch": 10}


def batch(n: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(3)
    return Batch(torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 3, torch.arange(n))


def step(network: str = "conv(4,3) relu pool(2) fc(3)", task: Task = TASK, **fields: object):
    """The state after one update, its gradients, and what the step gave."""
    config = with_fields(Config(), USUAL | {name.replace("__", "."): value for name, value in fields.items()})
    torch.manual_seed(0)
    module, given = build_model(network, (1, 8, 8), task.outputs), batch()
    heads = make_heads(module, config.auxiliary, task.needs, task.outputs, given.inputs)
    state = TrainingState(module, make_optimizer(module, config), make_average(module, config.optim.ema), heads)
    if task.name == "regress":
        given = Batch(given.inputs, given.targets[:, None].float(), given.ids)
    result = training_step(Setup(state, Objective(task, config, heads), {}, config, lambda x: x), given)
    return state, {name: p.grad.clone() for name, p in module.named_parameters()}, result


WEIGHTS = (0.2, 1.0, 5.0)
PARTS = [
    {},
    {"regularize__l1": 0.01, "regularize__l2": 0.1},
    {"regularize__sparsity": 0.5},
    {"task": Classify(CLASSES, loss_name="hinge", class_weights=WEIGHTS)},
    {"task": Classify(CLASSES, label_smoothing=0.1, class_weights=WEIGHTS)},
    {"augment__mixup": 1.0},
    {"augment__cutmix": 1.0, "task": Classify(CLASSES, class_weights=WEIGHTS)},
    {"auxiliary__rotation": 0.5, "auxiliary__layers": ["conv1"], "augment__mixup": 1.0},
    {"network": "gn(1) conv(4,3) relu fc(3)"},
    {"network": "conv(4,3) relu pool(2) fc(1)", "task": Regress(("a",), (1.0,), (2.0,), "huber")},
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("fields", PARTS, ids=str)
def test_the_parts_of_a_batch_have_the_gradients_of_the_whole(size: int, fields: dict) -> None:
    _, whole, (loss, measured) = step(**fields)
    _, parts, (loss_parts, measured_parts) = step(execution__micro_batch=size, **fields)
    for name in whole:  # the sums of float32 are taken in another order
        assert torch.allclose(whole[name], parts[name], rtol=1e-5, atol=1e-6), name
    assert torch.allclose(loss, loss_parts, rtol=1e-6, atol=1e-6)
    silent = 2 * ("regularize__sparsity" in fields)  # "silent" is relative to the outputs of the same pass
    tally, tally_parts = measured.vector(), measured_parts.vector()
    counted = len(tally) - silent
    assert torch.allclose(tally[:counted], tally_parts[:counted], rtol=1e-6)
    assert torch.allclose(tally[-1], tally_parts[-1], rtol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS[:2]])
@pytest.mark.parametrize("size", [2, 3])
def test_pixels_count_alike_in_whichever_part_they_are(size: int, weights: tuple[float, ...] | None) -> None:
    def gradients(size: int | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        config = with_fields(Config(), USUAL | {"execution.micro_batch": size, "augment.cutmix": 1.0})
        module = build_model("conv(4,3,pad=1) relu conv(2,1)", (1, 8, 8), 2, dense=True)
        images = batch()
        masks = (images.inputs[:, 0] > 0).to(torch.uint8)
        masks[:4, :5] = IGNORED  # the parts have different numbers of labeled pixels
        masks[5] = IGNORED
        state = TrainingState(module, make_optimizer(module, config))
        objective = Objective(Segment(("a", "b"), weights), config)
        setup = Setup(state, objective, {}, config, lambda x: x)
        training_step(setup, Batch(images.inputs, masks, images.ids))
        return [p.grad for p in module.parameters()]

    for a, b in zip(gradients(None), gradients(size), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_normalization_over_the_batch_sees_only_a_part() -> None:
    _, whole, _ = step("conv(4,3) bn relu fc(3)")
    _, parts, _ = step("conv(4,3) bn relu fc(3)", execution__micro_batch=5)
    assert not torch.allclose(whole["conv1.weight"], parts["conv1.weight"], atol=1e-4)


@pytest.mark.parametrize("limit", [0.05, 0.5])
def test_a_long_gradient_is_scaled_down_to_the_limit(limit: float) -> None:
    def norm(gradients: dict[str, torch.Tensor]) -> float:
        return float(torch.cat([g.flatten() for g in gradients.values()]).norm())

    _, plain, _ = step()
    _, clipped, _ = step(optim__clip=limit)
    assert norm(plain) > limit
    assert norm(clipped) == pytest.approx(limit, rel=1e-4)
    for name in plain:
        assert torch.allclose(clipped[name], plain[name] * limit / norm(plain), rtol=1e-4, atol=1e-7)


def test_a_short_gradient_is_left_alone() -> None:
    assert all(torch.equal(a, b) for a, b in zip(step()[1].values(), step(optim__clip=1e5)[1].values(), strict=True))


def test_accumulated_gradients_are_clipped_as_a_whole() -> None:
    _, whole, _ = step(optim__clip=0.1)
    _, parts, _ = step(optim__clip=0.1, execution__micro_batch=4)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)


def test_the_average_follows_the_weights_after_the_step() -> None:
    state, _, _ = step(optim__ema=0.9)
    assert state.average.count == 1
    for a, b in zip(state.average.module.parameters(), state.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_weights_are_not_counted_into_the_norm() -> None:
    torch.manual_seed(0)
    module = build_model("conv(4,3) relu fc(3)", (1, 8, 8), 3)
    module.conv1.weight.requires_grad_(False)
    config = with_fields(Config(), {"optim.name": "sgd", "optim.lr": 0.1, "optim.weight_decay": 0, "optim.clip": 0.01})
    state = TrainingState(module, make_optimizer(module, config))
    before = module.conv1.weight.clone()
    training_step(Setup(state, Objective(TASK, config), {}, config, lambda x: x), batch())
    assert torch.equal(before, module.conv1.weight)
    trained = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    assert float(torch.cat(trained).norm()) == pytest.approx(0.01, rel=1e-4)
    assert isinstance(module.conv1, nn.Conv2d)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("fields", [{"augment.cutmix": 1.0}, {"augment.mixup": 1.0}, {"execution.micro_batch": 3}])
def test_networks_for_masks_learn_from_blends_and_parts(fields: dict) -> None:
    usual = {"optim.name": "sgd", "optim.lr": 0.05, "optim.weight_decay": 0, "batch": 10}
    config = with_fields(Config(), usual | fields)
    torch.manual_seed(0)
    module = build_model("conv(4,3,pad=1) relu conv(2,1)", (1, 8, 8), 2, dense=True)
    state = TrainingState(module, make_optimizer(module, config))
    images, losses = batch(), []
    masks = (images.inputs[:, 0] > 0).to(torch.uint8)
    for number in range(60):
        state.step = number
        whole = Batch(images.inputs, masks, images.ids)
        setup = Setup(state, Objective(Segment(("a", "b")), config), {}, config, lambda x: x)
        losses.append(float(training_step(setup, whole)[0]))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
