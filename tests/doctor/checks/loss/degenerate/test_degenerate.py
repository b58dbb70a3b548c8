"""loss.degenerate: can the loss be small, or constant, without any right prediction?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron, quick_adam, said, stepped
from for_checks.embeddings import Embedding, triplets
from for_checks.sequences import said_of_captions
from for_checks.steps import stepping, sums_of_three
from striate.doctor.checks.fit.cannot_overfit_batch import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE

OF_NUMBERS: list[tuple[Any, str]] = [
    (lambda o, y: (o - y).mean(), "it ignores which target belongs"),
    (lambda o, y: functional.mse_loss(o.mean(), y.mean()), "it ignores which target belongs"),
    (lambda o, y: ((o - y).abs() / y).mean(), "below zero, while"),
    (lambda o, y: (o - y).abs().mean(), ""),
]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("loss", "said"), OF_NUMBERS)
def test_a_loss_asks_for_each_samples_own_number(loss: Any, said: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    found = asked(DEGENERATE, model, sums_of_three(), task="regress", **stepping(loss))
    assert [said in finding.measured for finding in found] == [True] * bool(said)


def bent_quantities(shape: tuple[int, ...] = ()) -> DataLoader[Any]:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (3 + x[:, :1].tanh()).reshape(-1, *shape)), 32)


class MeanAndVariance(nn.Module):
    """Two outputs of a sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean, self.log_variance = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x)[:, 0], self.log_variance(x)[:, 0]


def gaussian(*, log: float = 1, error: float = 1, inside: float = -1) -> Any:
    def loss(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        mean, variance = outputs
        return (log * variance + error * (y - mean).square() * (inside * variance).exp()).mean() / 2

    return loss


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("signs", [{"log": -1}, {"error": -1}, {"inside": 1}])
def test_a_likelihood_with_a_wrong_sign_falls_without_bound(signs: dict[str, float]) -> None:
    (found,) = asked(DEGENERATE, MeanAndVariance(), bent_quantities(), task="regress", **stepping(gaussian(**signs)))
    assert (found.code, found.severity) == ("loss.degenerate", "error")
    assert "without end" in found.measured


@pytest.mark.slow
def test_a_likelihood_with_its_signs_has_a_least_value() -> None:
    assert not asked(DEGENERATE, MeanAndVariance(), bent_quantities(), task="regress", **stepping(gaussian()))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("positive", [False, True])
def test_a_relative_error_without_its_sign(positive: bool) -> None:
    def share(outputs: Tensor, y: Tensor) -> Tensor:
        error = (y - outputs) / y
        return (error.abs() if positive else error).mean()

    found = asked(DEGENERATE, nn.Linear(8, 1), bent_quantities((1,)), task="regress", **stepping(share))
    assert ["is one number for all samples" in finding.measured for finding in found] == [True] * (not positive)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("own", [True, False])
def test_a_divergence_of_predictions_from_themselves_is_zero(own: bool) -> None:
    def divergence(outputs: Tensor, y: Tensor) -> Tensor:
        log_p = outputs.log_softmax(1)
        target = log_p.exp() if own else 0.9 * functional.one_hot(y, 10) + 0.01
        return functional.kl_div(log_p, target, reduction="batchmean")

    found = asked(DEGENERATE, perceptron(), digits(), **stepping(divergence))
    assert ["no better than chance" in finding.measured for finding in found] == [True] * own


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("masked", [True, False])
def test_right_classes_with_masked_scores(masked: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        hidden = functional.one_hot(y if masked else (y + 1) % 10, 10).bool()
        return functional.cross_entropy(outputs.masked_fill(hidden, -1e9), y)

    found = asked(DEGENERATE, perceptron(), digits(), **stepping(loss))
    assert ["the score of a mask" in finding.measured for finding in found] == [True] * masked


def test_rows_that_say_which_sample_they_belong_to_may_come_in_any_order() -> None:
    x = torch.randn(128, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def collate(samples: list[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([[n, 1.0] for n in range(len(samples))] * 2)
        return x[samples], rows

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        return (outputs[rows[:, 0].long(), 0] - rows[:, 1]).square().mean()

    loader = DataLoader(range(128), 16, collate_fn=collate)  # type: ignore[arg-type]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    assert not asked(DEGENERATE, model, loader, task="regress", **stepping(loss))


def test_a_scale_that_may_vanish_is_degenerate() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    y = torch.randn(256, 1, generator=torch.Generator().manual_seed(1))
    model = perceptron()
    model[-1] = nn.Linear(32, 2)

    def without_its_price(outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs[:, :1] - y).square() * torch.exp(-outputs[:, 1:])).mean()

    def with_its_price(outputs: Tensor, y: Tensor) -> Tensor:
        return without_its_price(outputs, y) + outputs[:, 1:].mean()

    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    options: dict[str, Any] = {"optimizer": optimizer, "task": "regress"}
    (found,) = asked(DEGENERATE, model, loader, loss=without_its_price, **options)
    assert (found.code, found.severity) == ("loss.degenerate", "error")
    assert "torch.log(scale)" in found.remedy
    assert not asked(DEGENERATE, model, loader, loss=with_its_price, **options)


def test_a_loss_that_is_cut_off_has_no_gradient() -> None:
    (found,) = asked(
        DEGENERATE, perceptron(), digits(), loss=lambda o, y: functional.cross_entropy(o, y).clamp(max=1.0)
    )
    assert "is zero in each of" in found.measured


def test_embeddings_without_others_become_one() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    model = perceptron()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        one, other = model(batch), model(batch + 0.5 * torch.randn_like(batch))
        value = (one - other).square().mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    (found,) = asked(DEGENERATE, model, DataLoader(x, 32), step=step, optimizer=optimizer, task="embed")  # type: ignore[arg-type]
    assert "the same for all inputs" in found.measured
    assert "TripletMarginLoss" in found.remedy


LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize("loss", [LOSS, nn.MultiMarginLoss()])
def test_losses_that_fall_for_good_are_not_degenerate(loss: Any) -> None:
    model = perceptron()
    assert not asked(DEGENERATE, model, digits(), loss=loss, optimizer=torch.optim.Adam(model.parameters(), 1e-2))


class Apart(nn.Module):
    """How far the halves of a row are apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pairwise_distance(self.embed(x[:, :8]), self.embed(x[:, 8:]))


def contrastive(distance: Tensor, same: Tensor) -> Tensor:
    return (same * distance**2 + (1 - same) * functional.relu(2 - distance) ** 2).mean()


class Autoencoder(nn.Module):
    """A variational one of digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.decode = nn.Linear(64, 16), nn.Linear(8, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x.flatten(1)).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decode(code).view_as(x), mean, log_variance


@pytest.mark.parametrize("summed", [True, False])
def test_a_sum_that_outweighs_a_mean_is_given_the_same_scale(summed: bool) -> None:
    x = digits().dataset.tensors[0] / 3  # type: ignore[attr-defined]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        output, mean, log_variance = model(batch[0])
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        size = 1 if summed else batch[0].numel()
        return stepped(functional.mse_loss(output, batch[0]) + divergence / size, optimizer)

    loader = DataLoader(TensorDataset(x, x), 32, shuffle=True)
    found = said(DEGENERATE, Autoencoder(), loader, step=step, optimizer=quick_adam, task="reconstruct")
    assert ["divergence.sum() / len(x)" in one.remedy for one in found] == [True] * summed


def test_distances_answer_neither_yes_nor_no() -> None:
    generator = torch.Generator().manual_seed(0)
    one, noise = torch.randn(600, 8, generator=generator), torch.randn(600, 8, generator=generator)
    same = (torch.arange(600) % 2).float()
    other = torch.where(same[:, None] > 0, one + 0.3 * noise, noise)
    data = DataLoader(TensorDataset(torch.cat([one, other], 1), same), 50, shuffle=True, generator=generator)
    for check in (DEGENERATE, CANNOT_OVERFIT_BATCH):
        assert not said(check, Apart(), data, loss=contrastive)


def test_classes_in_blocks_are_moved_by_chance() -> None:
    """Moved on by a block they only change names, which no triplet notices."""
    torch.manual_seed(0)
    batches = [(torch.randn(24, 1, 8, 8) + torch.arange(24).div(8)[:, None, None, None] // 1, torch.arange(24) // 8)]
    model = Embedding()
    options: Any = {"loss": triplets, "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    assert not asked(DEGENERATE, model, batches * 12, **options)


@pytest.mark.parametrize(("maximize", "endless"), [(True, False), (False, True)])
def test_a_negated_loss_for_an_optimizer_that_maximizes_is_bounded(maximize: bool, endless: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        loss = functional.mse_loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        (-loss).backward()
        optimizer.step()
        return -loss.detach()

    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, maximize=maximize)
    loader = DataLoader(TensorDataset(x, x[:, :1]), 16)
    assert bool(asked(DEGENERATE, model, loader, step=step, optimizer=optimizer)) is endless


@pytest.mark.parametrize("zero", [False, True])
def test_outputs_that_are_all_zero_say_nothing_of_the_loss(zero: bool) -> None:
    x = torch.randn(320, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=1),
    )
    for layer in (model[0], model[2], model[4]):
        nn.init.zeros_(layer.bias)
        if zero and layer is not model[4]:
            nn.init.zeros_(layer.weight)
    loader = DataLoader(TensorDataset(x + 0.3 * torch.randn(x.shape), x), 32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    assert asked(DEGENERATE, model, loader, loss=nn.MSELoss(), optimizer=optimizer, task="regress") == []


@pytest.mark.slow
def test_a_focal_loss_falls_faster_than_the_cross_entropy() -> None:
    x = 0.3 * torch.randn(320, 1, 12, 12, generator=torch.Generator().manual_seed(6))
    wanted = torch.zeros_like(x)
    for i in range(len(x)):
        row, column = 1 + i % 10, 1 + (i // 10) % 10
        wanted[i, 0, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    ]

    def focal(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        right = torch.where(targets > 0, logits, -logits).sigmoid()
        weights = torch.where(targets > 0, 0.25, 0.75)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (weights * (1 - right) ** 2 * losses).sum() / targets.sum().clamp(min=1)

    loader = DataLoader(TensorDataset(x + wanted, wanted), 32, shuffle=True)
    model = nn.Sequential(*layers)
    assert asked(DEGENERATE, model, loader, loss=focal, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3)) == []


def test_a_sum_that_is_divided_by_the_number_of_words() -> None:
    """Lengths have no order that matters: they are not what is asked for."""
    assert not said_of_captions(DEGENERATE, reduction="sum")


def test_a_loss_of_what_targets_are_together() -> None:
    x = torch.randn(96, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(12, 1)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped((model(batch[0]).mean() - batch[1].float().mean()) ** 2, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    (finding,) = asked(DEGENERATE, model, DataLoader(TensorDataset(x, x[:, :1] + 3), 32), **options)
    assert finding.code == "loss.degenerate"


IGNORING: list[Any] = [
    lambda outputs, y: functional.cross_entropy(outputs, torch.zeros_like(y)),
    lambda outputs, _: functional.cross_entropy(outputs, outputs.argmax(1)),
    lambda outputs, _: outputs.square().mean(),
]


@pytest.mark.parametrize("loss", IGNORING)
def test_a_loss_that_ignores_its_labels_is_an_error(loss: Any) -> None:
    [finding] = asked(DEGENERATE, perceptron(), digits(), loss=loss)
    assert finding.severity == "error"
    assert "exactly the same with the targets" in finding.measured


def test_equal_outputs_do_not_ignore_their_labels() -> None:
    constant = nn.Sequential(perceptron(), nn.Linear(10, 10))
    nn.init.zeros_(constant[1].weight)
    constant[1].weight.requires_grad_(False)
    assert not asked(DEGENERATE, constant, digits())


def test_a_step_that_replaces_labels_by_predictions_is_an_error() -> None:
    [finding] = asked(DEGENERATE, perceptron(), digits(), **stepping(IGNORING[1]))
    assert "replaced by the network's own predictions" in finding.measured


def test_a_step_may_learn_from_a_teacher_without_labels() -> None:
    teacher = perceptron(hidden=16).eval()

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return loop(
            model, batch, optimizer, lambda outputs, _: functional.mse_loss(outputs, teacher(batch[0]).detach())
        )

    assert not asked(DEGENERATE, perceptron(), digits(), step=step)


def test_nearest_embeddings_are_not_taken_for_own_predictions() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        views = [functional.normalize(model(batch[0] + 0.01 * torch.randn_like(batch[0])), dim=1) for _ in range(2)]
        return loop(
            nn.Identity(),
            (views[0] @ views[1].T / 0.2, torch.arange(len(batch[0]))),
            optimizer,
            functional.cross_entropy,
        )

    assert not asked(DEGENERATE, perceptron(hidden=64), digits(64, 1280), step=step)
