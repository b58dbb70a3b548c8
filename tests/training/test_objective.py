"""What is minimized: each term beside its formula, value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.errors import ConfigError
from striate.models.build import build_model
from striate.tasks.classify.task import Classify
from striate.training.auxiliary import make_heads, turned
from striate.training.config import AuxiliaryConfig, Config
from striate.training.config_file import with_fields
from striate.training.objective import Objective, whole_batch
from striate.training.prepared_batch import Mix
from striate.training.refusals import refuse_unused_fields

TASK = Classify(("a", "b", "c"))
NETWORK = "conv(4,3) relu pool(2) fc(5) tanh fc(3)"


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return build_model(NETWORK, (1, 8, 8), 3)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])


def objective(heads: nn.Module | None = None, **fields: float) -> Objective:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return Objective(TASK, with_fields(Config(), named), heads)


def loss_and_gradients(module: nn.Module, loss: torch.Tensor) -> tuple[float, dict[str, np.ndarray]]:
    module.zero_grad()
    loss.backward()
    return float(loss.detach()), {name: p.grad.double().numpy().copy() for name, p in module.named_parameters()}


@pytest.mark.parametrize(
    ("field", "term", "slope"),
    [
        ("regularize__l1", lambda w: np.abs(w).sum(), np.sign),
        ("regularize__l2", lambda w: 0.5 * (w**2).sum(), lambda w: w),
    ],
)
def test_weight_penalties_are_those_of_kernels_and_matrices(module, batch, field, term, slope) -> None:
    plain, before = loss_and_gradients(module, objective().training_loss(module, *batch)[0])
    loss, measured = objective(**{field: 0.01}).training_loss(module, *batch)
    penalized, after = loss_and_gradients(module, loss)
    kernels = {name: p.detach().double().numpy() for name, p in module.named_parameters() if p.ndim > 1}
    assert penalized - plain == pytest.approx(0.01 * sum(term(w) for w in kernels.values()), rel=1e-4)
    for name in before:
        expected = 0.01 * slope(kernels[name]) if name in kernels else 0.0
        assert np.allclose(after[name] - before[name], expected, atol=1e-6), name
    assert torch.equal(measured.vector(), objective().training_loss(module, *batch)[1].vector()), (
        "the tally is that of the task's loss"
    )


def test_the_sparsity_penalty_is_the_mean_absolute_output_of_each_activation(module, batch) -> None:
    x = batch[0]
    first = module.relu1(module.conv1(x))
    second = module.get_submodule(next(n for n, m in module.named_modules() if isinstance(m, nn.Tanh)))
    outputs: list[torch.Tensor] = []
    handle = second.register_forward_hook(lambda *a: outputs.append(a[2]))
    plain = objective().training_loss(module, *batch)[0]
    handle.remove()
    expected = plain + 0.3 * (first.abs().mean() + outputs[0].abs().mean())
    loss, measured = objective(regularize__sparsity=0.3).training_loss(module, *batch)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    _, a = loss_and_gradients(module, loss)
    _, b = loss_and_gradients(module, expected)
    assert all(np.allclose(a[name], b[name], atol=1e-7) for name in a)

    silent = 0
    for output in (first.detach().numpy(), outputs[0].detach().numpy()):
        silent += (np.abs(output) <= 0.01 * np.sqrt((output.astype(np.float64) ** 2).mean())).sum()
    assert measured.vector()[-2:].tolist() == [silent, first.numel() + outputs[0].numel()]
    metrics = measured.compute()
    assert metrics["hidden_sparsity"] == pytest.approx(silent / (first.numel() + outputs[0].numel()))
    assert set(metrics) == {"loss", "accuracy", "hidden_sparsity"}


def test_no_hook_is_left_behind(module, batch) -> None:
    heads = make_heads(module, AuxiliaryConfig(rotation=0.5, layers=("conv1",)), "vector", 3, batch[0])
    penalized = objective(heads, auxiliary__rotation=0.5, regularize__sparsity=0.1)
    penalized.training_loss(module, *batch)
    penalized.measure(module, *batch)
    with pytest.raises(RuntimeError):
        penalized.training_loss(module, batch[0][:, :, :3], batch[1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_the_loss_of_blended_samples_is_the_blend_of_both_losses(module, batch) -> None:
    x, y = batch
    mix = Mix(y.flip(0), 0.3)
    loss, measured = objective().training_loss(module, x, y, mix)
    soft = 0.3 * functional.one_hot(y, 3) + 0.7 * functional.one_hot(mix.targets, 3)
    expected = -(soft * functional.log_softmax(module(x), 1)).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    named = TASK.tally(module(x).detach(), mix.targets)
    assert torch.equal(measured.vector(), named), "the larger part's class is the one that counts"


def test_auxiliary_terms_are_weighted_losses_of_their_heads(module, batch) -> None:
    x, y = batch
    config = AuxiliaryConfig(rotation=0.5, layers=("conv1",), weight=0.2)
    heads = make_heads(module, config, "vector", 3, x)
    fields = {"auxiliary__rotation": 0.5, "auxiliary__layers": ["conv1"], "auxiliary__weight": 0.2}
    loss, measured = objective(heads, **fields).training_loss(module, x, y, part=whole_batch(TASK, y, step=4))

    images, quarters = turned(x, 0, 4, 0, 6)
    hidden = nn.Sequential(*list(module.children())[:-1])
    inner = heads.classifiers[0](module.conv1(x).mean((2, 3)))
    rotation = heads.rotation(hidden(images))
    expected = functional.cross_entropy(module(x), y) + 0.2 * functional.cross_entropy(inner, y)
    expected = expected + 0.5 * functional.cross_entropy(rotation, quarters)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)

    metrics = measured.compute()
    assert set(metrics) == {"loss", "accuracy", "conv1_accuracy", "rotation_accuracy"}
    assert metrics["conv1_accuracy"] == pytest.approx(float((inner.argmax(1) == y).float().mean()))
    assert metrics["rotation_accuracy"] == pytest.approx(float((rotation.argmax(1) == quarters).float().mean()))
    loss.backward()
    assert all(p.grad is not None for p in heads.parameters())


def test_without_the_loss_of_the_task_no_label_matters(module, batch) -> None:
    heads = make_heads(module, AuxiliaryConfig(rotation=1.0, task=0.0), "vector", 3, batch[0])
    alone = objective(heads, auxiliary__rotation=1.0, auxiliary__task=0.0)
    x, targets = batch
    (loss, gradients), (other, others) = (
        loss_and_gradients(module, alone.training_loss(module, x, labels)[0]) for labels in (targets, targets.flip(0))
    )
    assert loss == other
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, others[name])
    head = list(gradients)[-1]
    assert not np.any(gradients[head])
    config = with_fields(Config(), {"auxiliary.task": 0.0})
    with pytest.raises(ConfigError, match=r"--auxiliary\.rotation 1 --auxiliary\.task 0"):
        refuse_unused_fields(config, Classify, "cross-entropy")


def test_tallies_of_batches_add_up(module, batch) -> None:
    x, y = batch
    heads = make_heads(module, AuxiliaryConfig(layers=("conv1", "relu1")), "vector", 3, x)
    asked = objective(heads)
    whole = asked.measure(module, x, y)
    parts = asked.measure(module, x[:2], y[:2])
    parts.merge(asked.measure(module, x[2:], y[2:]))
    assert torch.allclose(whole.vector(), parts.vector())
    assert list(whole.compute()) == ["loss", "accuracy", "conv1_accuracy", "relu1_accuracy"]


class InPlace(nn.Module):
    """Writes into the outputs of its layers: `out += x` after an activation, an activation after a matrix."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.act, self.fc1, self.relu, self.fc2 = nn.GELU(), nn.Linear(64, 5), nn.ReLU(inplace), nn.Linear(5, 3)
        self.inplace = inplace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        out = self.act(x)
        if self.inplace:
            out += 3 * x
        else:
            out = out + 3 * x
        return self.fc2(self.relu(self.fc1(out)))


def test_what_is_written_into_a_layers_output_afterwards_changes_neither_penalty_nor_heads(batch) -> None:
    results = []
    for inplace in (True, False):
        torch.manual_seed(0)
        module = InPlace(inplace)
        heads = make_heads(module, AuxiliaryConfig(layers=("fc1",)), "vector", 3, batch[0])
        loss, measured = objective(heads, regularize__sparsity=0.3).training_loss(module, *batch)
        results.append((*loss_and_gradients(module, loss), measured.vector().tolist()))
    (loss, gradients, tally), (plain_loss, plain_gradients, plain_tally) = results
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert tally == plain_tally
    assert all(np.allclose(gradients[name], plain_gradients[name], atol=1e-7) for name in gradients)


def test_batches_of_a_validation_are_turned_differently(module, batch) -> None:
    heads = make_heads(module, AuxiliaryConfig(rotation=0.5), "vector", 3, batch[0])
    heads.rotation.weight.data.zero_()
    heads.rotation.bias.data.copy_(torch.tensor([1.0, 0, 0, 0]))  # always answers "not turned"
    asked = objective(heads, auxiliary__rotation=0.5)
    counts = [asked.measure(module, *batch, number).vector()[-2:].tolist() for number in range(8)]
    expected = [[float((turned(batch[0], 0, 0, number, 6)[1] == 0).sum()), 6.0] for number in range(8)]
    assert counts == expected
    assert len({count for count, _ in counts}) > 1
