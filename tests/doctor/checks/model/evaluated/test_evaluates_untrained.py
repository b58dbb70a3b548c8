"""`model.evaluates-untrained`: does evaluation use the trained network, or an average that follows it?"""

from __future__ import annotations

import ast
import copy
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, digits, loop, more_rows, perceptron, read, said, stepped
from for_checks.networks import two_layers
from for_checks.scripts import found, found_in_library, values
from striate.doctor.checks.model.evaluated.copies import are_best_so_far, are_saved_again
from striate.doctor.checks.model.evaluated.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.model.evaluated.evaluates_untrained import READ
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.script_source import ScriptSource

LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("behind", "faulty"),
    [
        ("trainer.test(model, loader)", False),
        ("fresh = Sequential()\ntrainer.test(fresh, loader)", True),
        ("trainer.validate(Sequential(), loader)", True),
        ("fresh = Sequential()\nfresh.load_state_dict(state)\ntrainer.test(fresh, loader)", False),
        ("fresh = Sequential.load_from_checkpoint('best.ckpt')\ntrainer.test(fresh, loader)", False),
        ("trainer.test(Sequential(), loader, ckpt_path='best')", False),
    ],
)
def test_a_new_network_in_place_of_the_trained_one_is_named(behind: str, faulty: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5)
    text = "model = Sequential()\ntrainer.fit(model)\n" + behind
    said = found_in_library(perceptron(), EVALUATES_UNTRAINED, text, {}, library)
    assert [finding.code for finding in said] == ["model.evaluates-untrained"] * faulty


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("name", "faulty"), [("average", True), ("untrained", False), ("random_net", False)])
def test_a_copy_that_is_called_untrained_is_there_to_be_compared_with(name: str, faulty: bool) -> None:
    model, left = perceptron(), perceptron()
    text = f"{name} = Sequential()\ntrainer.fit(model)\nprint({name}(x), model(x))"
    said = found_in_library(model, EVALUATES_UNTRAINED, text, {name: left}, LibraryTraining("Lightning's Trainer", 5))
    assert [finding.code for finding in said] == ["model.evaluates-untrained"] * faulty


AVERAGED = """
def update(average, model):
    for a, p in zip(average.parameters(), model.parameters()):
        LINE
for x, y in loader:
    step(model, x, y)
    update(average, model)
"""


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("a = 0.9 * a + 0.1 * p", True),
        ("a.mul_(0.9).add_(p, alpha=0.1)", False),
        ("a = a.mul_(0.9).add_(p, alpha=0.1)", False),
        ("a = 0.9 * a + 0.1 * p; kept.append(a)", False),
        ("a.data = 0.9 * a + 0.1 * p", False),
    ],
)
def test_an_average_is_written_into_the_tensor(line: str, wrong: bool) -> None:
    model = perceptron()
    names = {"model": model, "average": copy.deepcopy(model)}
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    findings = read(
        AVERAGED.replace("LINE", line.replace("; ", "\n        ")), READ, model, digits(), names=names, **options
    )
    assert ["variable of the loop" in one.measured for one in findings] == [True] * wrong


@pytest.mark.parametrize("method", ["after_epoch", "__init__"])
def test_a_state_that_a_callback_stores_is_no_unchanged_copy(method: str) -> None:
    text = f"class Keep:\n    def {method}(self):\n        self.best = copy.deepcopy(self.model.state_dict())\n"
    text += "for x, y in loader:\n    train(x, y)\n"
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 4, 5), 5)
    assert are_saved_again(source) is (method != "__init__")


@pytest.mark.parametrize("again", [True, False])
def test_a_state_that_is_saved_again_is_no_unchanged_copy(again: bool) -> None:
    text = "best, state = 0.0, copy.deepcopy(model.state_dict())\nfor x, y in loader:\n    train(x, y)\n"
    text += "    best, state = score, copy.deepcopy(model.state_dict())\n" if again else ""
    state = copy.deepcopy(nn.Linear(2, 2).state_dict())
    source = ScriptSource({"train.py": ast.parse(text)}, {"state": state}, ("train.py", 2, 3), 5)
    assert are_saved_again(source) is again


@pytest.mark.parametrize(("update", "wrong"), [("pass", True), ("ema.load_state_dict(model.state_dict())", False)])
def test_an_average_may_get_its_own_best_state_again(update: str, wrong: bool) -> None:
    text = f"""
    def fit(model, loader, ema):
        best = None
        for epoch in range(5):
            for x, y in loader:
                train(x, y)
            {update}
            score, best = evaluate(ema, val_loader), copy.deepcopy(ema.state_dict())
        ema.load_state_dict(best)
        return ema
    def evaluate(network, batches):
        return sum(network(x).sum() for x, y in batches)
    ema = perceptron()
    fit(model, loader, ema)
    """
    model, ema = perceptron(), perceptron()
    names = {"model": model, "ema": ema, "val_loader": digits()}
    options = {"names": names, "loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    findings = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert [one.code for one in findings] == ["model.evaluates-untrained"] * wrong


class Tables(nn.Module):
    """Users and items by factors; evaluation asks averages of them, which are buffers. `scale` is none."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items, self.norm = nn.Embedding(30, 6), nn.Embedding(40, 6), nn.LayerNorm(6)
        self.register_buffer("users_ema", self.users.weight.detach().clone())
        self.register_buffer("items_ema", self.items.weight.detach().clone())
        self.register_buffer("scale", torch.ones(6))

    def forward(self, pairs: Tensor) -> Tensor:
        tables = (self.users.weight, self.items.weight) if self.training else (self.users_ema, self.items_ema)
        user, item = (functional.embedding(row, table) for row, table in zip(pairs.T, tables, strict=True))
        return (self.scale * self.norm(user) * item).sum(1)


@pytest.mark.parametrize("written", [True, False])
def test_averages_in_buffers_follow_the_weights(written: bool) -> None:
    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        model.train()
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for name in ("users", "items"):
                average, weight = getattr(model, f"{name}_ema"), getattr(model, name).weight
                if written:
                    average.lerp_(weight, 0.1)
                else:
                    average = 0.9 * average + 0.1 * weight
        return value

    generator = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.randint(most, (1200,), generator=generator) for most in (30, 40)], 1)
    wanted = (torch.randn(30, 3, generator=generator)[pairs[:, 0]] * torch.randn(40, 3)[pairs[:, 1]]).sum(1)
    torch.manual_seed(0)
    model = Tables()
    train = DataLoader(TensorDataset(pairs, wanted), 30, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    found = asked(EVALUATES_UNTRAINED, model, train, optimizer=optimizer, step=step, task="regress")
    assert [finding.severity for finding in found] == ([] if written else ["error"])


@pytest.mark.parametrize("saved", [True, False])
def test_the_state_of_an_average_in_a_checkpoint_is_no_copy_that_stays(saved: bool) -> None:
    model = perceptron()
    average = copy.deepcopy(model)
    checkpoint = {"model": average.state_dict() if saved else copy.deepcopy(model.state_dict())}

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        with torch.no_grad():
            for one, other in zip(average.parameters(), model.parameters(), strict=True):
                one.lerp_(other, 0.05)
        return value if checkpoint else value * 2

    findings = asked(EVALUATES_UNTRAINED, model, digits(), step=step, loss=nn.CrossEntropyLoss())
    assert [one.code for one in findings] == ["model.evaluates-untrained"] * (not saved)


@pytest.mark.parametrize(("test", "chosen"), [("score > best", True), ("state is None", False), ("", False)])
def test_copied_tensors_by_name_are_the_best_state(test: str, chosen: bool) -> None:
    model = nn.Linear(2, 2)
    kept = "state = {k: v.clone() for k, v in model.state_dict().items()}"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    names = {"state": {name: tensor.clone() for name, tensor in model.state_dict().items()}}
    source = ScriptSource({"train.py": ast.parse(text + "    train(x, y)\n")}, names, ("train.py", 1, 4), 5)
    setup: Any = SimpleNamespace(source=source, model=model)
    assert are_best_so_far(setup) is chosen


@pytest.mark.parametrize(
    ("test", "anew"), [("score > best", True), ("state is None", False), ("not state", False), ("", False)]
)
def test_a_state_that_is_chosen_in_the_loop_is_saved_again(test: str, anew: bool) -> None:
    kept = "state = copy.deepcopy(model.state_dict())"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    text += "    train(x, y)\n"
    state = copy.deepcopy(nn.Linear(2, 2).state_dict())
    source = ScriptSource({"train.py": ast.parse(text)}, {"state": state}, ("train.py", 1, 4), 5)
    assert are_saved_again(source) is anew


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_an_average_of_torch_forgets_its_beginning_in_time(decay: float) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 2), torch.randn(320, 8)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def step(net: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(functional.cross_entropy(net(batch[0]), batch[1]), optimizer)
        average.update_parameters(net)
        return loss

    text = "for epoch in range(20):\n    for batch in loader:\n        average.update_parameters(model)\n"
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32)
    found = read(text, EVALUATES_UNTRAINED, model, loader, **options)
    assert ["of the way" in one.measured for one in found] == [True] * (decay > 0.99)


class Copied:
    """An average that copies the weights until it has been updated `begins` times; an even one without a decay."""

    def __init__(self, model: nn.Module, decay: float, begins: int) -> None:
        self.network, self.decay, self.begins, self.count = copy.deepcopy(model).eval(), decay, begins, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.count += 1
        if self.count <= self.begins:
            self.network.load_state_dict(model.state_dict())
            return
        for average, weight in zip(self.network.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - self.decay if self.decay else 1 / (self.count - self.begins))


@pytest.mark.parametrize(
    ("decay", "begins", "wrong"),
    [(0.9999, 200, True), (0.998, 200, False), (0.9999, 1000, False), (0.9999, 10**9, False), (0.0, 0, False)],
)
def test_an_average_that_copies_at_first_follows_later(decay: float, begins: int, wrong: bool) -> None:
    model = perceptron()
    average = Copied(model, decay, begins)

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(functional.cross_entropy(net(batch[0]), batch[1]), optimizer)
        average.update(net)
        return loss

    text = "for epoch in range(60):\n    for x, y in loader:\n        average.update(model)\n"
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step, "epochs": 60}
    found = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert ["follows them at first" in one.measured for one in found] == [True] * wrong


def normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))


class ByName:
    """An average of tensors by name, of all or of weights alone."""

    def __init__(self, model: nn.Module, *, all_of_them: bool) -> None:
        self.all_of_them = all_of_them
        self.shadow = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, tensor in model.state_dict().items() if self.all_of_them else model.named_parameters():
            self.shadow[name].copy_(0.9 * self.shadow[name] + 0.1 * tensor)


@pytest.mark.parametrize(
    ("all_of_them", "used", "wrong"),
    [
        (False, "other.load_state_dict(average.shadow)", True),
        (True, "other.load_state_dict(average.shadow)", False),
        (False, "use(average.shadow)", False),  # of its weights alone, perhaps
    ],
)
def test_averages_by_name_have_the_statistics_of_batch_norm_too(all_of_them: bool, used: str, wrong: bool) -> None:
    model = normed()
    average = ByName(model, all_of_them=all_of_them)

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(functional.cross_entropy(net(batch[0]), batch[1]), optimizer)
        average.update(net)
        return loss

    text = f"for epoch in range(60):\n    for x, y in loader:\n        average.update(model)\n{used}\n"
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step, "epochs": 60}
    found = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert ["running means" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("made", "tensors", "then", "norms", "wrong"),
    [
        ("copy.deepcopy(net).eval()", "parameters()", "pass", True, True),
        ("copy.deepcopy(net).eval()", "parameters()", "pass", False, False),
        ("copy.deepcopy(net).eval()", "state_dict().values()", "pass", True, False),
        ("copy.deepcopy(net)", "parameters()", "pass", True, False),  # measures its own, perhaps
        ("copy.deepcopy(net).eval()", "parameters()", "update_bn(loader, average.net)", True, False),
        ("copy.deepcopy(net).eval()", "parameters()", "average.net.train()", True, False),
    ],
)
def test_an_average_that_is_made_later_has_buffers_too(
    made: str, tensors: str, then: str, norms: bool, wrong: bool
) -> None:
    text = f"""
    class Average:
        def __init__(self, net):
            self.net = {made}
        def update(self, current):
            for a, b in zip(self.net.{tensors}, current.{tensors}):
                a.lerp_(b, 0.1)
    average = None
    for epoch in range(9):
        for x, y in loader:
            step(x, y)
            if epoch == 6:
                average = Average(model)
            elif epoch > 6:
                average.update(model)
    {then}
    evaluate(average.net)
    """
    model = normed() if norms else perceptron()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": loop, "loss": LOSS}
    for check in (READ, EVALUATES_UNTRAINED):
        found = read(text, check, model, digits(), names={"model": model, "average": None}, **options)
        assert ["running means" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize(("called", "said"), [(True, "running means"), (False, "no code changes it")])
def test_an_average_with_batch_norm_that_is_never_updated_is_not_said_to_follow(called: bool, said: str) -> None:
    text = f"""
    ema = copy.deepcopy(model).eval()
    def update():
        for a, b in zip(ema.parameters(), model.parameters()):
            a.mul_(0.9).add_(b, alpha=0.1)
    for epoch in range(9):
        for x, y in loader:
            step(x, y)
            {"update()" if called else "pass"}
        predictions = ema(x)
    """
    model = normed()
    names = {"model": model, "ema": copy.deepcopy(model).eval()}
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": loop, "loss": LOSS}
    (one,) = read(text, EVALUATES_UNTRAINED, model, digits(), names=names, **options)
    assert said in one.measured


@pytest.mark.parametrize(("copied", "wrong"), [(True, True), (False, False)])
def test_offsets_in_a_list_are_no_copy_of_the_network(copied: bool, wrong: bool) -> None:
    """The step of a sharpness-aware optimizer keeps what it added to each weight."""
    model = perceptron()
    held = [p.detach().clone() if copied else 0.01 * torch.randn_like(p) for p in model.parameters()]

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        return value if held else value * 2

    findings = asked(EVALUATES_UNTRAINED, model, digits(16), step=step, loss=nn.CrossEntropyLoss())
    assert [one.code for one in findings] == ["model.evaluates-untrained"] * wrong


class Average(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = perceptron()


@pytest.mark.parametrize(("update", "wrong"), [("pass", True), ("ema.update(model)", False)])
def test_an_average_that_a_function_returns(update: str, wrong: bool) -> None:
    text = f"""
    def fit(model, loader):
        ema = Average(model)
        for epoch in range(5):
            for x, y in loader:
                train(x, y)
                {update}
            evaluate(ema.module, val_loader)
        return ema
    def evaluate(network, batches):
        return sum(network(x).sum() for x, y in batches)
    ema = fit(teacher, loader)
    ema = fit(model, loader)
    evaluate(ema.module, val_loader)
    """
    model, ema = perceptron(), Average()
    names = {"model": model, "ema": ema, "val_loader": digits(), "Average": Average}
    options = {"names": names, "loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    findings = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert [one.code for one in findings] == ["model.evaluates-untrained"] * wrong


class MeanTeacher(nn.Module):
    """Is trained with a student, and evaluated with its average."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = two_layers(8, 2), two_layers(8, 2).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.student(x) if self.training else self.teacher(x)

    @torch.no_grad()
    def update(self, *, rebound: bool) -> None:
        for mean, now in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            if rebound:
                mean = 0.9 * mean + 0.1 * now  # the mistake
            else:
                mean.mul_(0.9).add_(now, alpha=0.1)


@pytest.mark.parametrize("rebound", [False, True])
def test_an_average_that_is_read_and_never_changed(rebound: bool) -> None:
    x = more_rows(640)
    y = (x[:, 0] > 0).long()
    model = MeanTeacher()

    def step(model: Any, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        model.train()
        value = loop(model, batch, optimizer, loss)
        model.update(rebound=rebound)
        return value

    optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
    found = asked(EVALUATES_UNTRAINED, model, DataLoader(TensorDataset(x, y), 32), optimizer=optimizer, step=step)
    assert bool(found) == rebound


@pytest.mark.parametrize("updated", [True, False])
def test_an_average_is_read_of_when_few_steps_are_made(updated: bool) -> None:
    text = f"""
    average = copy.deepcopy(model)
    for epoch in range(5):
        for x, y in loader:
            loss = step(model, x, y)
            {"update(average, model)" if updated else "pass"}
    test(average(images))
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    names = {"model": model, "average": copy.deepcopy(model), "images": torch.randn(8, 64)}
    loader = DataLoader(TensorDataset(torch.randn(8, 1, 8, 8), torch.arange(8)), 8)
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    findings = read(text, READ, model, loader, names=names, **options)
    assert ["`average`" in one.measured for one in findings] == [True] * (not updated)


@pytest.mark.parametrize("as_state", [True, False])
@pytest.mark.parametrize("test", ["score > best", ""])
def test_weights_in_a_checkpoint_are_the_best_so_far(test: str, as_state: bool) -> None:
    model = nn.Linear(2, 2)
    kept = "checkpoint = {'model': copied(model), 'epoch': 0}"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    copied = copy.deepcopy(model.state_dict())
    checkpoint = {"model": copied if as_state else dict(copied), "epoch": 0}
    source = ScriptSource(
        {"train.py": ast.parse(text + "    train(x, y)\n")}, {"checkpoint": checkpoint}, ("train.py", 1, 4), 5
    )
    setup: Any = SimpleNamespace(source=source, model=model)
    assert (are_saved_again(source) if as_state else are_best_so_far(setup)) is bool(test)


@pytest.mark.parametrize("dropped", [True, False])
def test_an_average_that_a_pure_function_replaces_follows(dropped: bool) -> None:
    model = perceptron()
    state = {"ema": {name: value.detach().clone() for name, value in model.named_parameters()}}

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        ema = {name: 0.9 * state["ema"][name] + 0.1 * p.detach() for name, p in model.named_parameters()}
        if not dropped:
            state["ema"] = ema
        return value

    findings = asked(EVALUATES_UNTRAINED, model, digits(16), step=step, loss=nn.CrossEntropyLoss())
    assert [one.code for one in findings] == ["model.evaluates-untrained"] * dropped


class Owner:
    """Keeps the network and its average, which a method of it moves; others know it by a name."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.average = model, perceptron()

    def follow(self) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


def test_an_average_that_an_object_updates_is_found_next_to_the_users_own() -> None:
    model = perceptron()
    owner = Owner(model)

    def step(_: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(owner.model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        owner.follow()
        return value.detach()

    Owner.known = owner  # type: ignore[attr-defined]
    try:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        options: dict[str, Any] = {"step": step, "loss": nn.CrossEntropyLoss(), "optimizer": optimizer}
        assert not said(EVALUATES_UNTRAINED, model, digits(), **options)
    finally:
        del Owner.known  # type: ignore[attr-defined]


@pytest.mark.parametrize(("start", "right"), [(5, False), (4, True)])
def test_an_average_begins_within_the_training(start: int, right: bool) -> None:
    text = """
    for epoch in range(5):
        for x, y in loader:
            train(x, y)
        if epoch >= start:
            average.update_parameters(model)
    """
    options = {"names": {"start": start}, "loss": LOSS, "optimizer": None}
    model = perceptron()
    options["optimizer"] = torch.optim.SGD(model.parameters(), 0.1)
    findings = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert ["it never runs" in one.measured for one in findings] == [True] * (not right)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("update", "evaluated", "right"),
    [
        ("pass", "evaluate(average)", False),
        ("average.update_parameters(model)", "evaluate(average)", True),
        ("pass", "evaluate(model)", True),
        ("follow(average, model)", "evaluate(average)", True),
        ("follow_state(average, model)", "evaluate(average)", True),
        ("torch.save({'average': average.state_dict()}, 'a.pt')", "evaluate(average)", False),
        ("targets = average(x)", "evaluate(average)", True),
    ],
)
def test_an_evaluated_copy_gets_weights(update: str, evaluated: str, right: bool) -> None:
    text = textwrap.dedent(f"""
        def evaluate(net):
            net.eval()
            return [net(x) for x, y in val_loader]

        def follow(one, other):
            for a, b in zip(one.parameters(), other.parameters()):
                a.data.lerp_(b.data, 0.1)

        def follow_state(one, other):
            for a, b in zip(one.state_dict().values(), other.state_dict().values()):
                a.copy_(0.9 * a + 0.1 * b)

        average = torch.optim.swa_utils.AveragedModel(model)
        for epoch in range(5):
            for x, y in loader:
                criterion(model(x), y).backward()
                {update}
            {evaluated}
        """)
    names = values()
    names["model"] = perceptron()
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    names["average"] = torch.optim.swa_utils.AveragedModel(names["model"])
    assert (found(text, names, [EVALUATES_UNTRAINED]) == {}) is right


@pytest.mark.parametrize(
    ("then", "right"),
    [("other.eval()", False), ("other.load_state_dict(model.state_dict())", True)],
)
def test_a_network_that_each_epoch_creates_is_not_the_trained_one(then: str, right: bool) -> None:
    text = textwrap.dedent(f"""
        for epoch in range(5):
            for x, y in loader:
                criterion(model(x), y).backward()
            other = Sequential()
            {then}
            print(other(x))
        """)
    names = values()
    names["model"] = perceptron()
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert (found(text, names, [EVALUATES_UNTRAINED]) == {}) is right


@pytest.mark.parametrize("matters", [True, False])
def test_a_layer_whose_output_no_prediction_uses_is_not_evaluated(matters: bool) -> None:
    """As the pooler of a transformer, which its owner leaves out."""

    class WithPooler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.trunk, self.pooler, self.out = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.trunk(x.flatten(1)).relu()
            pooled = self.pooler(hidden)
            told: Tensor = self.out(hidden + pooled if matters and not self.training else hidden)
            return told

    found = asked(EVALUATES_UNTRAINED, WithPooler(), digits(), loss=LOSS, optimizer=adam)
    assert [one.code for one in found] == ["model.evaluates-untrained"] * matters
