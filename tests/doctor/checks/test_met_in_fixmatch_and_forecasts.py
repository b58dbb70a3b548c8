"""What was met in semi-supervised images, checkpoints of Lightning, sheets of digits and metric learning."""

from __future__ import annotations

import ast
import copy
import textwrap
from typing import Any

import pytest
import torch
from asked import asked
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.augmentation.color_orders import _KEPT, _order
from striate.doctor.checks.data.labels.blends import _share_of_inputs
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.model.evaluates_untrained import _are_kept_anew
from striate.doctor.checks.model.weights_not_loaded import CHECK as WEIGHTS_NOT_LOADED
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.script.training_loop import _passes_left
from striate.doctor.setup.script_source import ScriptSource


def codes(text: str, names: dict[str, Any], check: Any) -> list[str]:
    return list(found(text, names, [check]))


class Forecasts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Forecast()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("saved['state_dict']", True),
        ("{name.removeprefix('net.'): tensor for name, tensor in saved['state_dict'].items()}", False),
    ],
)
def test_a_part_is_not_given_the_names_of_the_whole(given: str, wrong: bool) -> None:
    text = SCRIPT + f"\nnet = Forecast()\nnet.load_state_dict({given}, strict=False)\n"
    names = values() | {"model": Forecasts(), "Forecast": Forecast}
    assert codes(text, names, WEIGHTS_NOT_LOADED) == ["model.weights-not-loaded"] * wrong


@pytest.mark.parametrize(("made", "wrong"), [("torch.cat(outputs)", True), ("torch.cat(outputs).sigmoid()", False)])
def test_logits_of_all_batches_are_no_probabilities(made: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        def valid_fn(loader):
            outputs = []
            for x, y in loader:
                outputs.append(model(x.to("cpu")).cpu())
            probs = {made}.numpy()
            return (probs > 0.5).astype(int)
        """)
    names = values() | {"criterion": nn.BCEWithLogitsLoss()}
    assert codes(text, names, THRESHOLD) == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("given", "wrong"), [("torch.sigmoid(model(x)).cpu()", True), ("model(x).cpu()", False)])
def test_what_another_function_has_squashed_is_not_squashed_again(given: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        def infer(loader):
            outputs, targets = [], []
            for x, y in loader:
                outputs.append({given})
                targets.append(y)
            return torch.cat(outputs), torch.cat(targets)
        def score(outputs, targets):
            return ((torch.sigmoid(outputs) > 0.5) == targets).float().mean()
        print(score(*infer(val_loader)))
        """)
    assert codes(text, values(), THRESHOLD) == ["eval.threshold"] * wrong


@pytest.mark.parametrize(
    ("count", "wrong"), [("len(val_loader) * val_loader.batch_size", True), ("len(val_loader.dataset)", False)]
)
def test_a_count_is_divided_by_what_a_name_stands_for(count: str, wrong: bool) -> None:
    text = SCRIPT.replace("accuracy = correct / total", f"count = {count}\n    accuracy = correct / count")
    text = text.replace("            total += len(y)\n", "")
    assert codes(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong


def test_a_number_in_the_code_is_never_a_tensor() -> None:
    text = SCRIPT + "\ndef accuracy_of(out, y):\n    pred = out.argmax(1)\n    return (pred == y).float().mean()\n"
    names = values() | {"pred": torch.arange(7), "y": torch.arange(3), "out": torch.rand(7, 3)}
    assert codes(text, names, WRONG_COUNT) == []


class Erased(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Three images a sample, of which a square is made 0."""

    def __init__(self, side: int, *, whole: bool = False) -> None:
        self.images = torch.randn(120, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        self.side, self.whole = side, whole

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        one, two, three = (self.cut(self.images[(number + step) % 120]) for step in range(3))
        return one, two, self.images[number] if self.whole else three

    def cut(self, image: Tensor) -> Tensor:
        top, left = torch.randint(0, 17 - self.side, (2,)).tolist()
        image = image.clone()
        image[:, top : top + self.side, left : left + self.side] = 0
        return image


@pytest.mark.parametrize(("side", "whole", "wrong"), [(14, False, True), (8, False, False), (14, True, False)])
def test_images_of_which_nearly_all_is_erased(side: int, whole: bool, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        one, two, three = (model(part) for part in batch)
        optimizer.zero_grad()
        loss = nn.functional.triplet_margin_loss(one, two, three)
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    try:
        said = asked(AUGMENTATION, model, DataLoader(Erased(side, whole=whole), 24), step=step, optimizer=optimizer)
    except NoEvidence:
        said = []
    assert ["one and the same number" in finding.measured for finding in said] == [True] * wrong


def test_the_order_of_colors_of_an_image_that_is_not_square() -> None:
    image = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    assert _order((image, image)) == _KEPT
    assert _order((image, image.flip(0))) == (2, 1, 0)


@pytest.mark.parametrize("axis", [-1, -2])
def test_images_that_are_flipped_are_not_blended(axis: int) -> None:
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    share = _share_of_inputs(images.flip(axis), images)
    assert share is not None
    assert share > 0.9
    blended = _share_of_inputs(0.3 * images + 0.7 * images.roll(1, 0), images)
    assert blended is not None
    assert blended < 0.5


@pytest.mark.parametrize("method", ["after_epoch", "__init__"])
def test_a_state_that_a_callback_keeps_is_no_copy_left_behind(method: str) -> None:
    text = f"class Keep:\n    def {method}(self):\n        self.best = copy.deepcopy(self.model.state_dict())\n"
    text += "for x, y in loader:\n    train(x, y)\n"
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 4, 5), 5)
    assert _are_kept_anew(source) is (method != "__init__")


@pytest.mark.parametrize("again", [True, False])
def test_a_state_that_is_kept_anew_is_no_copy_left_behind(again: bool) -> None:
    text = "best, state = 0.0, copy.deepcopy(model.state_dict())\nfor x, y in loader:\n    train(x, y)\n"
    text += "    best, state = score, copy.deepcopy(model.state_dict())\n" if again else ""
    state = copy.deepcopy(nn.Linear(2, 2).state_dict())
    source = ScriptSource({"train.py": ast.parse(text)}, {"state": state}, ("train.py", 2, 3), 5)
    assert _are_kept_anew(source) is again


@pytest.mark.parametrize(
    ("line", "passes"),
    [("together = min(4, len(loader) - first)", 5), ("together = 4", None)],
)
def test_batches_that_are_left_are_counted_by_what_is_made_of_their_number(line: str, passes: int | None) -> None:

    (loop,) = ast.parse(f"for i, (x, y) in enumerate(loader):\n    first = i - i % 4\n    {line}\n").body
    assert isinstance(loop, ast.For)
    assert _passes_left(loop, DataLoader(TensorDataset(torch.zeros(10)), 2)) == passes
