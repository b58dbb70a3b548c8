"""`optim.parameters-missing`: does every parameter that gets gradients belong to an optimizer?"""

from __future__ import annotations

import ast
import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, loop, perceptron, read, sgd, stepped
from for_checks.sequences import Rates, counted
from striate.doctor.checks.optim.parameters_missing import PARAMETERS_MISSING
from striate.doctor.setup.script_source import ScriptSource


def step_of_counts(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    *given, counts = batch
    return stepped(functional.poisson_nll_loss(model(*given), counts), optimizer)


@pytest.mark.parametrize("whole", [False, True])
def test_embeddings_in_no_optimizer_where_the_loss_may_be_below_zero(whole: bool) -> None:
    model = Rates()
    optimizer = torch.optim.Adam((model if whole else model.head).parameters(), 0.02)
    findings = asked(PARAMETERS_MISSING, model, counted(), step=step_of_counts, optimizer=optimizer)
    assert [(one.code, one.severity) for one in findings] == [("optim.parameters-missing", "warning")] * (not whole)


LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize(("make", "right"), [("tune(model)", True), ("tell(model)", False)])
def test_who_is_unfrozen_may_get_an_optimizer_in_another_function(make: str, right: bool) -> None:
    model = perceptron()
    for parameter in model[1].parameters():
        parameter.requires_grad = False
    optimizer = torch.optim.Adam(model[3].parameters())
    text = f"""
    def tune(net):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)

    for epoch in range(5):
        for x, y in loader:
            step(x, y)
        if epoch == 2:
            for p in body.parameters():
                p.requires_grad = True
            {make}
    """
    names = {"model": model, "body": model[1], "optimizer": optimizer, "torch": torch}
    findings = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names=names)
    assert len(findings) == (not right)


class Learner:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.opt_func = model, torch.optim.Adam


@pytest.mark.parametrize("again", [True, False])
def test_a_learner_that_is_unfrozen_may_create_its_optimizer_anew(again: bool) -> None:
    model = perceptron()
    model[1].requires_grad_(False)
    optimizer = torch.optim.Adam(model[3].parameters())
    text = f"""
    class Learner:
        def unfreeze(self):
            for p in self.model.parameters():
                p.requires_grad_(True)

        def fit(self, epochs):
            opt = self.opt_func([p for p in self.model.parameters() if p.requires_grad])
            for epoch in range(epochs):
                for x, y in loader:
                    step(x, y, opt)

    learner.fit(3)
    learner.unfreeze()
    {"learner.fit(5)" if again else "pass"}
    """
    learner = Learner(model)
    names = {"learner": learner, "self": learner, "optimizer": optimizer}
    findings = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names=names)
    assert ["unfreezes parameters" in one.measured for one in findings] == [True] * (not again)


@pytest.mark.parametrize("held", [True, False])
def test_what_is_let_learn_may_be_in_another_optimizer(held: bool) -> None:
    draws, critic = nn.Linear(64, 10), perceptron()
    critic.requires_grad_(False)
    names: dict[str, Any] = {"critic": critic, "optimizer": torch.optim.Adam(draws.parameters(), 1e-3)}
    if held:
        names["optimizer_d"] = torch.optim.Adam(critic.parameters(), 1e-3)
    text = "for epoch in range(5):\n    for x, y in loader:\n        for p in critic.parameters():\n"
    text += "            p.requires_grad = True\n"
    model = nn.Sequential(nn.Flatten(), draws)
    found = read(text, PARAMETERS_MISSING, model, digits(), optimizer=names["optimizer"], names=names, loss=LOSS)
    assert ["unfreezes parameters" in one.measured for one in found] == [True] * (not held)


@pytest.mark.parametrize("later", [False, True])
def test_what_learns_later_is_in_the_optimizer_that_is_made_then(later: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD(model[3].parameters(), 0.1)
    made = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)" if later else "pass"
    text = f"""
    for epoch in range(5):
        for x, y in loader:
            train(x, y)
        if epoch == 3:
            model[1].requires_grad_(True)
            {made}
    """
    findings = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names={"model": model})
    assert len(findings) == (not later)


@pytest.mark.parametrize("trained", [False, True])
def test_a_network_that_no_optimizer_holds_is_named(trained: bool) -> None:
    model = perceptron()
    torch.manual_seed(0)
    other = nn.Linear(64, 64)
    if trained:
        with torch.no_grad():
            other.weight.copy_(torch.eye(64) * torch.linspace(0.1, 3, 64) + 0.02)
            other.bias.add_(1.0)
    tree = ast.parse("for x, y in loader:\n    pass\n")
    source = ScriptSource({"t.py": tree}, {"encoder": other}, ("t.py", 1, 2), 5, without_optimizer=(other,))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    findings = asked(PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, source=source)
    assert [one.where for one in findings] == ["`encoder`"] * (not trained)


def test_an_optimizer_of_the_last_layer_only() -> None:
    model = perceptron(4, depth=2)
    optimizer = torch.optim.Adam(model[-1].parameters(), lr=0.01)
    (found,) = asked(PARAMETERS_MISSING, model, digits(), optimizer=optimizer)
    assert (found.code, found.severity) == ("optim.parameters-missing", "error")
    assert "4 of 6 parameters" in found.measured
    assert "with them in the optimizer the loss after" in found.measured


def scaled(trained: bool) -> nn.Sequential:
    """A network with a norm, whose scales are ones or have been trained."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(32)
    if trained:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm, nn.ReLU(), nn.Linear(32, 10))


@pytest.mark.parametrize(
    ("left", "trained", "severity"),
    [
        ("norm scales", False, "warning"),
        ("norm scales", True, "note"),  # as of a network that was trained before
        ("all vectors", False, "note"),
        ("nothing", False, ""),
    ],
)
def test_some_of_the_vectors_as_they_were_made_are_in_no_group(left: str, trained: bool, severity: str) -> None:
    model = scaled(trained)
    for part in (model[1], model[4]):
        nn.init.zeros_(part.bias)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for name, p in model.named_parameters() if p.ndim < 2 and (left == "nothing" or "bias" in name)]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors if left != "all vectors" else []}]
    optimizer = torch.optim.SGD(groups, 0.01)
    found = asked(PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer)
    assert [one.severity for one in found] == [severity] * bool(severity)


def test_missing_parameters_are_tried_in_the_groups_that_a_schedule_counts() -> None:
    model = perceptron(4, depth=2)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Any:
        for group, rate in zip(optimizer.param_groups, [0.01], strict=True):
            group["lr"] = rate
        return loop(model, batch, optimizer, loss)

    optimizer = torch.optim.Adam(model[-1].parameters(), lr=0.01)
    (found,) = asked(PARAMETERS_MISSING, model, digits(), optimizer=optimizer, step=step, loss=nn.CrossEntropyLoss())
    assert found.code == "optim.parameters-missing"


def test_an_optimizer_of_another_network() -> None:
    model = perceptron()
    (found,) = asked(PARAMETERS_MISSING, copy.deepcopy(model), digits(), optimizer=sgd(model))
    assert found.severity == "error"
    assert "holds 4 parameters, none of which" in found.measured


@pytest.mark.slow
def test_a_trained_trunk_that_is_left_as_it_is_may_be_meant() -> None:
    model = perceptron(32, depth=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        for batch in digits():
            loop(model, batch, optimizer, LOSS)
    model[-1].reset_parameters()
    head = torch.optim.Adam(model[-1].parameters(), lr=0.01)
    assert [f.severity for f in asked(PARAMETERS_MISSING, model, digits(), optimizer=head)] == ["note"]
    model[:-1].requires_grad_(False)
    assert not asked(PARAMETERS_MISSING, model, digits(), optimizer=head)


@pytest.mark.parametrize("mistaken", [True, False])
def test_a_generator_has_an_optimizer_of_its_own(mistaken: bool) -> None:
    torch.manual_seed(0)
    names = {"G": nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 64)), "D": nn.Sequential(nn.Linear(64, 1))}
    names |= {"optD": sgd(names["D"]), "optG": sgd(names["D" if mistaken else "G"])}
    text = """
    for x, y in loader:
        fake = G(torch.randn(len(x), 4))
        real, fake_scores = D(x), D(fake)
    """
    options = {"loss": nn.MSELoss(), "optimizer": names["optD"], "names": names}
    found = read(text, PARAMETERS_MISSING, names["D"], [(torch.randn(8, 64), torch.ones(8, 1))] * 20, **options)
    assert [one.where for one in found] == ["`optG`"] * mistaken
