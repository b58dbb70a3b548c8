"""Blends, kept states and losses that are maximized: healthy scripts that were called wrong, and faults that look
alike."""

from __future__ import annotations

import ast
import copy
import textwrap
from typing import Any

import pytest
import torch
from test_met_in_second_heads import TwoHeads, asked_or_silent, stepped
from test_met_in_terse_scripts import found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.model.evaluates_untrained import _are_kept_anew
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(
    ("made", "given", "cut"),
    [
        ("", "self.hparams.alpha, self.hparams.alpha", False),
        ("share = 0.4", "share, share", False),
        ("share = torch.tensor(0.4)", "share, share", False),
        ("share = self.net(x).exp()", "share, share", True),
    ],
)
def test_a_coefficient_of_what_is_no_tensor_has_no_way_back(made: str, given: str, cut: bool) -> None:
    text = textwrap.dedent(f"""
        class Module:
            def forward(self, x):
                return self.net(x)

            def training_step(self, x):
                {made}
                part = torch.distributions.Beta({given}).sample()
                return self(part * x)

        for x, y in loader:
            model(x)
    """)
    assert list(found(text.lstrip(), values(), [GRAPH_DETACHED])) == ["model.graph-detached"] * cut


@pytest.mark.parametrize(
    ("test", "anew"), [("score > best", True), ("state is None", False), ("not state", False), ("", False)]
)
def test_a_state_that_is_chosen_in_the_loop_is_kept_anew(test: str, anew: bool) -> None:
    kept = "state = copy.deepcopy(model.state_dict())"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    text += "    train(x, y)\n"
    state = copy.deepcopy(nn.Linear(2, 2).state_dict())
    source = ScriptSource({"train.py": ast.parse(text)}, {"state": state}, ("train.py", 1, 4), 5)
    assert _are_kept_anew(source) is anew


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
def test_one_of_several_outputs_may_be_asked_for_by_what_is_maximized(maximized: str, wrong: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 1, 8, 8)
    place, area = x[:, 0, 0, :2].tanh(), x[:, 0, 4, 4].tanh()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, place, area = batch
        found, size = model(image)
        far = functional.mse_loss(size, area)
        loss = 4 * functional.mse_loss(found, place) + (-far if wrong else far)
        return stepped(model, -loss if maximized else loss, optimizer)

    model = TwoHeads()
    adam = torch.optim.Adam(model.parameters(), 2e-3, maximize=maximized == "said")
    optimizer = Ascent(model.parameters(), 0.1) if maximized == "done" else adam
    train = DataLoader(TensorDataset(x, place, area), 32)
    said = asked_or_silent(SIGN, model, train, optimizer=optimizer, step=step)
    assert [one.code for one in said] == ["loss.sign"] * wrong


def _clips(videos: Tensor) -> Tensor:
    """Of videos (N, 3, 12, 8, 8) all clips of 8 frames."""
    return videos.unfold(2, 8, 1).movedim((2, -1), (1, 3)).flatten(0, 1).contiguous()


@pytest.mark.parametrize(("noise", "shared", "wrong"), [(0.1, True, True), (0.1, False, False), (0.0, True, False)])
def test_clips_of_one_video_are_on_one_side(noise: float, shared: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    videos = torch.rand(40, 3, 1, 8, 8).repeat(1, 1, 12, 1, 1)
    for frame in range(12):  # a bar moves alike in all of them
        videos[:, :, frame, :, frame % 8] = 1.0
    videos += noise * torch.randn_like(videos)
    clips = _clips(videos)
    order = torch.randperm(len(clips)) if shared else torch.arange(len(clips))
    train, val = clips[order[50:]], clips[order[:50]]
    train = train * torch.empty(len(train), 1, 1, 1, 1).uniform_(0.8, 1.2) + 0.3 * noise * torch.randn_like(train)
    loaders = [DataLoader(TensorDataset(x, torch.arange(len(x)) % 3), 32, shuffle=x is train) for x in (train, val)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 64, 3))
    said = asked_or_silent(WINDOWS_SHARED, model, loaders[0], val=loaders[1])
    assert [one.code for one in said] == ["data.leak"] * wrong


@pytest.mark.parametrize("predicted", [False, True])
def test_a_code_beside_its_probe_predicts_no_classes(predicted: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 6)
    model, decoder, probe = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(4, 2)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, classes = batch
        code = model(x)
        scores = code if predicted else probe(code.detach())
        loss = functional.mse_loss(decoder(code), x) + functional.cross_entropy(scores, classes)
        return stepped(model, loss, optimizer)

    told = []
    check = Check(("data.leak",), "", lambda evidence: told.append(predicts_targets(evidence)) or ())
    asked_or_silent(check, model, DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32), step=step)
    assert told == [predicted]
