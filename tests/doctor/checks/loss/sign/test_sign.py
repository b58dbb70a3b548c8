"""`loss.sign`: a loss with the wrong sign."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, loop, perceptron, said, sgd, stepped
from for_checks.claims import hazard_step, hazards, patients, said_of_times, sorted_cox
from for_checks.embeddings import embedding
from for_checks.networks import TwoHeads
from for_checks.pictures import Noisy
from for_checks.steps import Boxes, boxed_squares, boxes_step, codes_said
from striate.doctor.checks.loss.sign.sign import SIGN


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("way", ["maximize", "negated", "own"])
def test_uphill_is_named_with_what_downhill_gives(way: str) -> None:
    model = perceptron()
    optimizer = sgd(model, maximize=way == "maximize")

    def negated(outputs: Tensor, y: Tensor) -> Tensor:
        return -functional.cross_entropy(outputs, y) if way == "negated" else functional.cross_entropy(outputs, y)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        model.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter += 0.05 * parameter.grad
        return value

    given: dict[str, Any] = {"step": step} if way == "own" else {}
    (found,) = asked(SIGN, model, digits(), loss=negated, optimizer=optimizer, **given)
    assert (found.code, found.severity) == ("loss.sign", "error")
    assert ("below zero" if way == "negated" else "with all gradients reversed it falls") in found.measured
    remedy = {"maximize": "without `maximize=True`", "negated": "-loss", "own": "its own step go down the gradient"}
    assert remedy[way] in found.remedy


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("first", ["any", "between 0 and 1"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_part_of_the_loss_with_the_wrong_sign(sign: float, first: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 12, 12, generator=generator)
    loader = DataLoader(TensorDataset(x, (x > 1).float()), 16)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), last := nn.Conv2d(8, 1, 1))
    if first == "between 0 and 1":  # logits all the same, since the loss reads them as such
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.fill_(0.5)  # type: ignore[union-attr]

    def both(outputs: Tensor, y: Tensor) -> Tensor:
        p = outputs.sigmoid()
        dice = (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        return functional.binary_cross_entropy_with_logits(outputs, y) + sign * dice

    found = asked(SIGN, model, loader, loss=both, optimizer=torch.optim.Adam(model.parameters(), 1e-3))
    assert [f.code for f in found] == ["loss.sign"] * (sign > 0)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("kind", ["squares", "squares of probabilities", "hinge", "smoothed"])
def test_other_losses_are_lowest_for_right_predictions_too(kind: str) -> None:
    model = perceptron()

    def asks(outputs: Tensor, y: Tensor) -> Tensor:
        if kind == "smoothed":
            return functional.cross_entropy(outputs, y, label_smoothing=0.2)
        if kind == "hinge":
            return functional.multi_margin_loss(outputs, y)
        given = outputs.softmax(1) if kind == "squares of probabilities" else outputs
        return (given - functional.one_hot(y, 10)).square().sum(1).mean()

    assert not asked(SIGN, model, digits(), loss=asks, optimizer=sgd(model))


def test_twice_negative_is_downhill() -> None:
    model = perceptron()

    def negated(outputs: Tensor, y: Tensor) -> Tensor:
        return -functional.cross_entropy(outputs, y)

    assert not asked(SIGN, model, digits(), loss=negated, optimizer=sgd(model, maximize=True))


LOSS = nn.CrossEntropyLoss()


def test_a_rate_too_high_is_no_wrong_sign() -> None:
    model = perceptron()
    assert not asked(SIGN, model, digits(), loss=LOSS, optimizer=sgd(model, 30.0))


def test_a_loss_in_the_step_alone_is_seen() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch, optimizer, lambda o, y: -functional.cross_entropy(o, y))

    model = perceptron()
    assert [found.code for found in asked(SIGN, model, digits(), step=step, optimizer=sgd(model))] == ["loss.sign"]


@pytest.mark.parametrize("turned", [True, False])
def test_a_loss_of_the_step_s_own_makes_restored_images_better(turned: bool) -> None:
    class Score(nn.Module):
        def forward(self, restored: Tensor, clean: Tensor) -> Tensor:
            score = -10 * (restored - clean).square().mean((1, 2, 3)).log10().mean()
            return score if turned else -score

    def step(net: nn.Module, batch: Any, own: Any, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch["noisy"]), batch["clean"])
        value.backward()
        own.step()
        return value.detach()

    model = nn.Conv2d(1, 1, 3, padding=1)
    found = said(SIGN, model, DataLoader(Noisy(False, True), 16), loss=Score(), optimizer=adam, step=step)
    assert ["squared error" in one.measured for one in found] == [True] * turned


def bright_squares() -> tuple[Tensor, Tensor]:
    """Images with one bright square each of two kinds, and their maps of classes 0 to 2."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.zeros(240, 12, 12, dtype=torch.long)
    for number, (row, column) in enumerate(torch.randint(0, 7, (240, 2), generator=generator).tolist()):
        maps[number, row : row + 5, column : column + 5] = 1 + number % 2
    return maps[:, None].float() + 0.2 * torch.randn(240, 1, 12, 12, generator=generator), maps


@pytest.mark.parametrize("added", [True, False])
def test_a_coefficient_of_overlap_is_taken_from_one(added: bool) -> None:
    def focal_and_dice(logits: Tensor, target: Tensor) -> Tensor:
        ce = functional.cross_entropy(logits, target, reduction="none")
        probabilities, wanted = logits.softmax(1), functional.one_hot(target, 3).movedim(-1, 1).float()
        overlap = (2 * (probabilities * wanted).sum((0, 2, 3)) / (probabilities + wanted).sum((0, 2, 3))).mean()
        return ((1 - torch.exp(-ce)) ** 2 * ce).mean() + (overlap if added else 1 - overlap)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    train = DataLoader(TensorDataset(*bright_squares()), 24, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = asked(SIGN, model, train, loss=focal_and_dice, optimizer=optimizer, task="segment")
    assert [finding.severity for finding in found] == (["error"] if added else [])


def overlap_of(logits: Tensor, target: Tensor) -> Tensor:
    probabilities, wanted = logits.softmax(1), functional.one_hot(target, 3).movedim(-1, 1).float()
    return (2 * (probabilities * wanted).sum((0, 2, 3)) / (probabilities + wanted).sum((0, 2, 3))).mean()


def entropy_of(logits: Tensor, _: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def focal(logits: Tensor, target: Tensor) -> Tensor:
    ce = functional.cross_entropy(logits, target, reduction="none")
    return ((1 - torch.exp(-ce)) ** 2 * ce).mean() - functional.cross_entropy(logits, target)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("beside", "wrong"),
    [
        (overlap_of, True),
        (lambda logits, target: 0.3 * overlap_of(logits, target), True),
        (lambda logits, target: 1 - overlap_of(logits, target), False),
        (lambda logits, target: -overlap_of(logits, target).log(), False),
        (entropy_of, False),
        (lambda logits, target: 1 - 0.1 * entropy_of(logits, target), False),
        (lambda logits, _: 1e-3 * logits.square().mean(), False),
        (focal, False),
    ],
)
def test_a_score_is_outweighed_by_the_loss_that_it_is_added_to(beside: Any, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    train = DataLoader(TensorDataset(*bright_squares()), 24, shuffle=True)

    def both(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target) + beside(logits, target)

    found = asked(SIGN, model, train, loss=both, optimizer=adam(model.parameters()), task="segment")
    assert ["`cross_entropy` is higher for right outputs" in finding.measured for finding in found] == [True] * wrong


class Ascent(torch.optim.Optimizer):
    """Climbs, and does not say so."""

    def __init__(self, parameters: Any, rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(parameter.grad, alpha=group["lr"])


@pytest.mark.parametrize(
    ("maximized", "wrong"), [("said", False), ("", False), ("said", True), ("done", False), ("done", True)]
)
def test_one_of_several_outputs_may_have_a_reversed_loss_if_it_is_maximized(maximized: str, wrong: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 1, 8, 8)
    place, area = x[:, 0, 0, :2].tanh(), x[:, 0, 4, 4].tanh()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, place, area = batch
        found, size = model(image)
        far = functional.mse_loss(size, area)
        loss = 4 * functional.mse_loss(found, place) + (-far if wrong else far)
        return stepped(-loss if maximized else loss, optimizer)

    model = TwoHeads()
    adam = torch.optim.Adam(model.parameters(), 2e-3, maximize=maximized == "said")
    optimizer = Ascent(model.parameters(), 0.1) if maximized == "done" else adam
    train = DataLoader(TensorDataset(x, place, area), 32)
    findings = asked_in_script(SIGN, model, train, optimizer=optimizer, step=step)
    assert [one.code for one in findings] == ["loss.sign"] * wrong


@pytest.mark.parametrize(("sign", "wrong"), [(1.0, True), (-1.0, False)])
def test_distances_of_torch_are_no_scores(sign: float, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        numbers = sign * torch.cdist(model(batch[0]), model(batch[1])) / 0.1
        numbers = numbers.masked_fill(torch.eye(len(numbers)).roll(1, 0).bool(), -1e4)
        loss = functional.cross_entropy(numbers, torch.arange(len(numbers)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    loader = DataLoader(TensorDataset(x, x + 0.1), 16)
    findings = asked(SIGN, model, loader, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert ["distances of `cdist`" in one.measured for one in findings] == [True] * wrong


@pytest.mark.parametrize(("weight", "sign", "wrong"), [(0.03, 1.0, False), (1.0, -1.0, True)])
def test_rare_classes_that_hardly_count_are_no_wrong_sign(weight: float, sign: float, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=generator)
    y = (x[:, 0] > 1.8).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        pos_weight = torch.tensor(weight)
        return sign * functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=pos_weight)

    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    findings = asked(SIGN, model, DataLoader(TensorDataset(x, y), 64), loss=loss, optimizer=optimizer)
    assert bool(findings) is wrong


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classes, self.boxes = nn.Linear(12, 3), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x), self.boxes(x).sigmoid()


@pytest.mark.parametrize("uphill", [True, False])
def test_boxes_of_a_dictionary_that_also_has_classes_are_put_in_the_place_of_outputs(uphill: bool) -> None:
    x = torch.rand(96, 12, generator=torch.Generator().manual_seed(0))
    records = [{"img": row, "gt_bbox": row[:4], "gt_label": int(3 * row[5])} for row in x]

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores, boxes = net(batch["img"])
        likeness = torch.exp(-(boxes - batch["gt_bbox"]).square().sum(1)).mean()
        return stepped(
            functional.cross_entropy(scores, batch["gt_label"]) + likeness * (1 if uphill else -1), optimizer
        )

    model = Detector()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "step": step}
    findings = asked_in_script(SIGN, model, DataLoader(records, 16), **options)  # type: ignore[arg-type]
    assert ["output `1`" in one.measured for one in findings] == [True] * uphill


@pytest.mark.parametrize(("factor", "wrong"), [(1, False), (-1, True)])
def test_a_partial_likelihood_is_made_large(factor: int, wrong: bool) -> None:
    measured = said_of_times(SIGN, lambda *given: factor * sorted_cox(*given), patients())
    assert ["sign reversed" in text for text in measured] == [True] * wrong


def prototypes(sign: float) -> Any:
    """A step of prototypical networks: half of a batch says where each class is."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        outputs, labels = model(batch[0]), batch[1]
        half = len(labels) // 2
        kinds, numbers = labels[:half].unique(return_inverse=True)
        centers = torch.stack([outputs[:half][numbers == n].mean(0) for n in range(len(kinds))])
        known = (labels[half:, None] == kinds).any(1)
        wanted = (labels[half:, None] == kinds).long().argmax(1)[known]
        value = functional.cross_entropy(sign * torch.cdist(outputs[half:][known], centers).square(), wanted)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("sign", "wrong"), [(1.0, True), (-1.0, False)])
def test_distances_need_a_minus_before_cross_entropy(sign: float, wrong: bool) -> None:
    found = said(SIGN, embedding(), digits(128), step=prototypes(sign), optimizer=adam)
    assert [f.code for f in found] == ["loss.sign"] * wrong
    assert all("-distances" in f.remedy for f in found)


def returns(outputs: Tensor, actions: Tensor, gains: Tensor) -> Tensor:
    return -(outputs.log_softmax(1).gather(1, actions[:, None])[:, 0] * gains).mean()


@pytest.mark.parametrize(
    ("loss", "beside", "wrong"),
    [
        (hazards, (0.0, 1.0), True),
        (lambda *given: -hazards(*given), (0.0, 1.0), False),
        (returns, (-2.0, -1.0), False),
        (returns, (-1.0, 1.0), False),
    ],
)
def test_a_likelihood_is_made_large(loss: Any, beside: tuple[float, float], wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, bins = torch.randn(256, 5, generator=generator), torch.randint(6, (256,), generator=generator)
    numbers = torch.tensor(beside)[torch.randint(2, (256,), generator=generator)]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 6))
    options = {
        "loss": functional.mse_loss,
        "optimizer": torch.optim.SGD(model.parameters(), 0.05),
        "step": hazard_step(loss),
    }
    found = asked(SIGN, model, DataLoader(TensorDataset(x, bins, numbers), 64), **options)
    assert ["in each of 8 directions" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("sign", "side", "code"), [(-1.0, 1.0, ""), (1.0, 1.0, "loss.sign"), (-1.0, 64.0, "")])
def test_right_boxes_cost_less_than_those_of_other_images(sign: float, side: float, code: str) -> None:
    told = codes_said(
        SIGN, Boxes(), boxed_squares(side), step=boxes_step(sign), optimizer=lambda parameters: adam(parameters, 0.001)
    )
    assert told == [code] * bool(code)


def test_a_student_is_not_sure_of_what_its_teacher_doubts() -> None:
    torch.manual_seed(3)
    teacher = perceptron(hidden=16).eval()

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        outputs, soft = model(batch[0]) / 4, functional.softmax(teacher(batch[0]).detach() / 4, 1)
        loss = 16 * functional.kl_div(functional.log_softmax(outputs, 1), soft, reduction="batchmean")
        return stepped(loss + 0.1 * functional.cross_entropy(4 * outputs, batch[1]), optimizer)

    assert not said(SIGN, perceptron(), digits(), step=step)
