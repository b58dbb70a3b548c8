"""`eval.wrong-axis`: are predictions read along the class axis of the outputs?"""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import perceptron, said, stepped
from for_checks.pictures import Faces, blob, map_of_points, step_of_points
from for_checks.scripts import SCRIPT, codes_of_script, found, values
from remedies_tried import try_remedy
from striate.doctor.checks.eval.wrong_axis import WRONG_AXIS
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("axis", "right"), [(0, False), (1, True)])
def test_a_layer_of_softmax_goes_along_the_classes(axis: int, right: bool) -> None:
    text = SCRIPT.replace("outputs.argmax(dim=1)", f"nn.Softmax(dim={axis})(outputs).argmax(dim=1)")
    assert list(found(text, values() | {"nn": nn}, [WRONG_AXIS])) == ["eval.wrong-axis"] * (not right)


PEAKS = """
def decode(maps):
    index = maps.flatten(2).argmax(-1)
    y, x = {}
    return torch.stack([x, y], -1)
"""


@pytest.mark.parametrize("exchanged", [False, True])
def test_peaks_are_compared_with_points_whose_maps_the_step_draws(exchanged: bool) -> None:
    """Of as many points as images have colors."""
    points = 2 + 12 * torch.rand(64, 3, 2, generator=torch.Generator().manual_seed(0))
    maps = torch.stack(
        [torch.stack([blob(torch.arange(16).float(), x, y, 1.0) for x, y in p.tolist()]) for p in points]
    )
    loader = DataLoader(TensorDataset((255 * maps).byte(), points), 32)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, known = batch
        (dx, dy) = (known[..., axis, None] - torch.arange(16) for axis in (0, 1))
        drawn = torch.exp(-(dy[..., :, None] ** 2 + dx[..., None, :] ** 2) / 2)
        return stepped(functional.mse_loss(model(image / 255), drawn), optimizer)

    ways = ["index // 16, index % 16", "index % 16, index // 16"]
    source = ScriptSource({"train.py": ast.parse(PEAKS.format(ways[exchanged]))}, {}, ("train.py", 9, 9), 5)
    model = nn.Conv2d(3, 3, 3, padding=1)
    setup = make_setup(model, loader, loader, loss=nn.MSELoss(), task="regress", step=step, source=source)
    with state_preserved(setup):
        found = list(WRONG_AXIS.run(Evidence(setup, Clock(10.0))))
    assert [finding.code for finding in found] == ["eval.wrong-axis"] * exchanged


@pytest.mark.parametrize(
    ("scores", "axis", "column", "wrong"),
    [
        ("query @ gallery.t()", 0, "wanted[:, None]", True),
        ("query @ gallery.t()", 1, "wanted[:, None]", False),
        ("gallery @ query.t()", 0, "wanted[None]", False),
        ("gallery @ query[0]", 0, "kinds[:, None]", False),
    ],
)
def test_the_nearest_of_each_row_lie_along_axis_1(scores: str, axis: int, column: str, wrong: bool) -> None:
    """Of one sample's scores, labels are counted by kind."""
    text = SCRIPT + textwrap.dedent(f"""
        def recall(query, wanted, gallery, labels):
            similarity = {scores}
            nearest = similarity.topk(1, dim={axis}).indices
            return (labels[nearest] == {column}).any(1).float().mean()
        """)
    assert codes_of_script(text, values(), WRONG_AXIS) == ["eval.wrong-axis"] * wrong


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("logits.argmax(dim=1)", True),
        ("torch.max(logits, 1)[1]", True),
        ("logits.max(1).indices", True),
        ("logits.max(1).values > 0", False),
        ("(logits > 0).long()", False),
    ],
)
def test_the_only_output_is_no_class_to_choose_from(call: str, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    text = f"def evaluate(loader):\n    for x, y in loader:\n        logits = model(x)\n        right = {call} == y"
    x, y = torch.randn(64, 4), torch.arange(64).float()[:, None] % 2
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    names = {"model": model, "torch": torch}
    source = ScriptSource({"train.py": ast.parse(text)}, names, ("train.py", 1, 1), 3)
    found = said(WRONG_AXIS, model, loader, loss=nn.BCEWithLogitsLoss(), source=source)
    assert ["an axis of one number" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("torch.stack([index // 16, index % 16], -1)", False),
        ("torch.stack([torch.div(index, 16, rounding_mode='floor'), index % 16], -1)", False),
        ("torch.stack([index % 16, index // 16], -1)", True),
        ("torch.stack([index // 16, index % 16], -1).flip(-1)", True),
        ("torch.stack([index, index % 16], -1)", True),
        ("torch.stack([maps[index // 16, index % 16 + 1], maps[index // 16 + 1, index % 16]], -1)", True),
    ],
)
def test_the_column_of_a_peak_comes_before_its_row(line: str, right: bool) -> None:
    text = f"def decode(maps):\n    index = maps.flatten(2).argmax(-1)\n    return {line}\n"
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 9, 9), 5)
    loader = DataLoader(Faces(flips=False), 32)
    setup = make_setup(
        map_of_points(), loader, loader, loss=nn.MSELoss(), task="regress", step=step_of_points, source=source
    )
    with state_preserved(setup):
        found = list(WRONG_AXIS.run(Evidence(setup, Clock(10.0))))
    assert [finding.code for finding in found] == ["eval.wrong-axis"] * (not right)
    for finding in found:
        try_remedy(finding.remedy)


def test_predictions_in_attributes_are_known() -> None:
    class Learner:
        model = perceptron()

    text = "for x, y in loader:\n    self.pred = self.model(x)\n    self.hits = self.pred.argmax(AXIS) == y\n"
    names = values() | {"self": Learner()}
    assert list(found(text.replace("AXIS", "0"), names, [WRONG_AXIS])) == ["eval.wrong-axis"]
    assert found(text.replace("AXIS", "1"), names, [WRONG_AXIS]) == {}


@pytest.mark.parametrize(("axis", "right"), [("1", False), ("-1", True)])
def test_some_numbers_of_the_last_axis_are_compared_along_it(axis: str, right: bool) -> None:
    class Learner:
        model = nn.Sequential(perceptron(), nn.Unflatten(1, (2, 5)))

        def __init__(self) -> None:
            self.metric = compile_metric("def named(given, y):\n    return given[..., 3:].argmax(AXIS) == y\n")

    def compile_metric(text: str) -> Any:
        scope: dict[str, Any] = {}
        exec(compile(text.replace("AXIS", axis), "train.py", "exec"), scope)
        return scope["named"]

    text = """
        def named(given, y):
            return given[..., 3:].argmax(AXIS) == y

        class Learner:
            def predicted(self, x):
                return torch.cat([self.model(part) for part in x.split(20)])

            def judged(self, x, y):
                return self.metric(self.predicted(x), y)

        for x, y in loader:
            self.judged(x, y)
    """
    names = values() | {"self": Learner(), "model": Learner.model, "criterion": lambda given, _: given.square().mean()}
    assert list(found(textwrap.dedent(text).replace("AXIS", axis).lstrip(), names, [WRONG_AXIS])) == (
        [] if right else ["eval.wrong-axis"]
    )
