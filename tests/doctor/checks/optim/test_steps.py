"""What a step does: `optim.no-step`, `missing-zero-grad`, `gradient-wrong` and `parameters-missing`."""

from __future__ import annotations

import ast
import copy
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from for_checks.asked import asked, digits, loop, perceptron, read, stepped
from for_checks.rewards import uncleared
from for_checks.sequences import Rates, counted
from for_checks.steps import every_so_many
from striate.doctor.checks.optim.steps import GRADIENT_WRONG, MISSING_ZERO_GRAD, NO_STEP, PARAMETERS_MISSING
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


def step_of_counts(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    *given, counts = batch
    return stepped(functional.poisson_nll_loss(model(*given), counts), optimizer)


@pytest.mark.parametrize("whole", [False, True])
def test_embeddings_in_no_optimizer_where_the_loss_may_be_below_zero(whole: bool) -> None:
    model = Rates()
    optimizer = torch.optim.Adam((model if whole else model.head).parameters(), 0.02)
    said = asked(PARAMETERS_MISSING, model, counted(), step=step_of_counts, optimizer=optimizer)
    assert [(one.code, one.severity) for one in said] == [("optim.parameters-missing", "warning")] * (not whole)


LOSS = nn.CrossEntropyLoss()


def clears_by_its_closure(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda *_: optimizer.zero_grad())


def clears_what_it_is_given(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda given, *_: given.zero_grad())


def looks_on(optimizer: Any) -> None:
    optimizer.register_step_pre_hook(lambda *_: None)


@pytest.mark.parametrize("hook", [clears_by_its_closure, clears_what_it_is_given, looks_on])
def test_gradients_that_a_hook_of_the_optimizer_clears(hook: Any) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    hook(optimizer)
    said = asked(MISSING_ZERO_GRAD, model, digits(most=320), step=uncleared, optimizer=optimizer, loss=LOSS)
    assert [one.code for one in said] == ["optim.missing-zero-grad"] * (hook is looks_on)


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
    said = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names=names)
    assert len(said) == (not right)


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


@pytest.mark.parametrize("left", [True, False])
def test_gradients_that_are_put_in_their_place_need_no_clearing(left: bool) -> None:
    text = (
        "for x, y in loader:\n    gradients = torch.autograd.grad(loss, parameters)\n" + "    loss.backward()\n" * left
    )

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loss(model(batch[0]), batch[1])
        for p, g in zip(model.parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True):
            p.grad = g if p.grad is None or not left else p.grad
        optimizer.step()
        return value.detach()

    model = perceptron()
    tree = ast.parse(text)
    line = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"a.py": tree}, {"model": model}, ("a.py", line.lineno, line.end_lineno or 0), 1)
    options: Any = {"step": step, "loss": nn.CrossEntropyLoss(), "source": source}
    said = asked(MISSING_ZERO_GRAD, model, digits(), optimizer=torch.optim.SGD(model.parameters(), 0.05), **options)
    assert [one.code for one in said] == ["optim.missing-zero-grad"] * left


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
    said = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names={"model": model})
    assert len(said) == (not later)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("detached", [False, True])
def test_each_optimizer_of_a_loop_has_gradients(detached: bool) -> None:
    made, judge = nn.Sequential(nn.Linear(4, 64), nn.Tanh()), perceptron()
    of_made, of_judge = torch.optim.Adam(made.parameters(), 1e-3), torch.optim.Adam(judge.parameters(), 1e-3)

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        fake = made(torch.randn(len(batch[0]), 4)).reshape(-1, 1, 8, 8)
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1]) + net(fake.detach()).square().mean()
        value.backward()
        own.step()
        of_made.zero_grad()
        net(fake.detach() if detached else fake).square().mean().backward()
        of_made.step()
        return value.detach()

    names = {"optimizerD": of_judge, "optimizerG": of_made, "made": made}
    text = "for x, y in loader:\n    pass\n"
    said = read(text, NO_STEP, judge, digits(), loss=LOSS, optimizer=of_judge, step=step, names=names)
    assert ["`optimizerG`" in one.measured for one in said] == [True] * detached


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
    said = asked(PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, source=source)
    assert [one.where for one in said] == ["`encoder`"] * (not trained)


class Square(Function):
    """x², whose slope is right for `factor` 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * ctx.saved_tensors[0] * gradient, None


class Rounded(Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class Reversed(Function):
    """Gradient reversal: Ganin and Lempitsky 2015."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Sum(Function):
    """The context in a function of its own, as torch has it since 2.0; two inputs, the second one forgotten."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return x + y.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient * ctx.saved_tensors[0].sin()


class Using(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(64, 16), nn.Linear(16, 10), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x.flatten(1))))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("function", "severity"),
    [
        (lambda x: Square.apply(x, 2.0), None),
        (lambda x: Square.apply(x, 1.0), "error"),
        (lambda x: Square.apply(x, -2.0), "error"),
        (lambda x: Sum.apply(x, x), "error"),
        (Rounded.apply, "note"),
        (Reversed.apply, "note"),
        (torch.relu, None),
    ],
)
def test_a_function_of_ones_own(function: Any, severity: str | None) -> None:
    found = asked(GRADIENT_WRONG, Using(function), digits())
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_the_function_and_its_slopes_are_named() -> None:
    (found,) = asked(GRADIENT_WRONG, Using(lambda x: Square.apply(x, 1.0)), digits())
    assert found.where == "Square"
    assert "backward gives" in found.measured
    assert "the numerical gradient is" in found.measured
    assert "torch.autograd.gradcheck(Square.apply" in found.remedy


def test_a_function_in_the_loss() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = nn.functional.one_hot(targets, 10).float()
        return Square.apply(outputs - wanted, -2.0).mean()

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (found,) = asked(GRADIENT_WRONG, model, digits(), loss=loss)
    assert found.severity == "error"


def test_the_function_is_left_as_it_was() -> None:
    before = vars(Square)["forward"]
    asked(GRADIENT_WRONG, Using(lambda x: Square.apply(x, 1.0)), digits())
    assert vars(Square)["forward"] is before


def sgd(model: nn.Module, lr: float = 0.05, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


@pytest.mark.parametrize(
    ("every", "clear", "measured"), [(10_000, "before", "never steps"), (1, "between", "they are cleared")]
)
def test_no_step_is_made(every: int, clear: str, measured: str) -> None:
    model = perceptron()
    options: dict[str, Any] = {"step": every_so_many(every, clear=clear), "optimizer": sgd(model), "loss": LOSS}
    (found,) = asked(NO_STEP, model, digits(), **options)
    assert (found.code, found.severity) == ("optim.no-step", "error")
    assert measured in found.measured
    assert "optimizer.step()" in found.remedy


@pytest.mark.parametrize("every", [1, 4, 20])
def test_a_step_in_every_some_batches_is_one(every: int) -> None:
    model = perceptron()
    assert not asked(NO_STEP, model, digits(), step=every_so_many(every), optimizer=sgd(model), loss=LOSS)


def test_gradients_are_never_cleared() -> None:
    model = perceptron()
    step = every_so_many(clear="never")
    (found,) = asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)
    assert (found.code, found.severity) == ("optim.missing-zero-grad", "error")
    assert "`optimizer.zero_grad()` before `loss.backward()`" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("every", "clear"), [(1, "before"), (1, "after"), (4, "before"), (4, "after")])
def test_gradients_that_are_cleared_at_some_time(every: int, clear: str) -> None:
    model = perceptron()
    step = every_so_many(every, clear=clear)
    assert not asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)


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


def source_of(text: str, **names: Any) -> ScriptSource:
    return ScriptSource({"script.py": ast.parse(textwrap.dedent(text))}, names, ("script.py", 1, 2), 5)


CLOSURE = """
for x, y in loader:
    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss
    optimizer.step(closure)
"""


@pytest.mark.parametrize(
    ("text", "most", "faulty"),
    [
        (CLOSURE, 5, False),
        (CLOSURE.replace("        optimizer.zero_grad()\n", ""), 5, True),
        (CLOSURE.replace("        optimizer.zero_grad()\n", ""), 1, False),
    ],
)
def test_a_closure_that_adds_gradients_up_is_named(text: str, most: int, faulty: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=most)
    setup = make_setup(model, digits(), optimizer=optimizer, source=source_of(text))
    with state_preserved(setup):
        said = list(MISSING_ZERO_GRAD.run(Evidence(setup, Clock(120.0))))
    assert [finding.where for finding in said] == ["line 3"] * faulty
