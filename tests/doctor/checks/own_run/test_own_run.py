"""What a script shows when it goes on after its first step; looked at where nothing was found before."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import CorrectCounts, NetworkCall, OwnRun, Watcher, number_of_weights


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_a_training_step_says_something_before_an_evaluation(scale: float) -> None:
    """At the steps of one of them only: what an evaluation says is the last."""
    rights = {30: CorrectCounts([40], [100]), 60: CorrectCounts([80], [100]), 90: CorrectCounts([96], [100])}
    said = [(30, "loss 0.231 accuracy 0.9375"), *((at, f"test {scale * one.share:.4f}") for at, one in rights.items())]
    run = OwnRun(compared={0: rights}, printed=said)
    assert [finding.code for finding in findings_of(run)] == ["eval.wrong-count"] * (scale != 1)


def goes_on(fault: str) -> list[str]:
    """What is found of 120 steps of a critic, which learns from its target, and as many of an actor."""
    torch.manual_seed(0)
    critic, actor = nn.Linear(3, 32), nn.Linear(3, 3)
    target = copy.deepcopy(critic)
    watcher = Watcher(float("inf"), {id(critic): "critic", id(actor): "actor", id(target): "target"})
    optimizers = {net: torch.optim.SGD(net.parameters(), 0.01) for net in (critic, actor)}
    for network in (critic, actor, target):
        watcher.of(network).before = number_of_weights(network)

    def ask(network: nn.Module, x: Tensor) -> Any:
        watcher.enter(network, (x,))
        output = network(x)
        watcher.leave(network, (x,), output)
        return output

    def learn(network: nn.Module, loss: Tensor) -> None:
        optimizer = optimizers[network]
        optimizer.zero_grad()
        if fault != "later" or network is critic:
            watcher.backward_begins()
            loss.backward()
            watcher.backward(loss)
        if fault == "cleared" and network is actor:
            optimizer.zero_grad()
        watcher.stepping(optimizer)
        optimizer.step()

    for _ in range(120):
        x = torch.randn(8, 3)
        with torch.no_grad():
            values = ask(target, x)
        learn(critic, ((ask(critic, x) - values - 1) ** 2).mean())
        actions = ask(actor, x)
        learn(actor, -ask(critic, actions.detach() if fault == "detached" else actions).mean())
        for mine, learned in zip(target.parameters(), critic.parameters(), strict=True):
            mine.data.copy_(0.005 * (mine if fault == "itself" else learned).data + 0.995 * mine.data)
    return [finding.code for finding in findings_of(watcher.run, of_rewards=True)]


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("", []),
        ("later", []),
        ("detached", ["model.graph-detached"]),
        ("cleared", ["optim.no-step"]),
        ("itself", ["reward.target-stale"]),
    ],
)
def test_networks_of_rewards_that_never_learn(fault: str, codes: list[str]) -> None:
    assert goes_on(fault) == codes


@pytest.mark.parametrize(
    ("fault", "codes"),
    [("", []), ("copied line", ["model.graph-detached"]), ("never copied", ["reward.target-stale"]), ("later", [])],
)
def test_the_second_of_two_critics(fault: str, codes: list[str]) -> None:
    """Its target, too, stays as it is where no gradient reaches it; the actor's loss asks the first one alone."""
    torch.manual_seed(0)
    first, second = (nn.Linear(3, 1) for _ in range(2))
    targets = copy.deepcopy(first), copy.deepcopy(second)
    watcher = Watcher(float("inf"), {id(first): "first", id(second): "second", id(targets[1]): "target"})
    for network in (first, second, *targets):
        watcher.of(network).before = number_of_weights(network)
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], 0.01)

    def ask(network: nn.Module, x: Tensor) -> Any:
        watcher.enter(network, (x,))
        output = network(x)
        watcher.leave(network, (x,), output)
        return output

    for _ in range(120):
        x = torch.randn(8, 3)
        with torch.no_grad():
            wanted = 1 + 0.9 * torch.minimum(*(ask(target, x) for target in targets))
        other = first if fault in ("copied line", "later") else second
        loss = (ask(first, x) - wanted).square().mean() + (ask(other, x) - wanted).square().mean()
        optimizer.zero_grad()
        watcher.backward_begins()
        loss.backward()
        watcher.backward(loss)
        watcher.stepping(optimizer)
        optimizer.step()
        for target, network in zip(targets, (first, second), strict=True):
            for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
                slow.data.lerp_(fast.data, 0.0 if fault == "never copied" else 0.01)
    for network in (first, second, *targets):
        watcher.of(network).after = number_of_weights(network)
    watcher.run.ended = fault != "later"
    assert [one.code for one in findings_of(watcher.run, of_rewards=True)] == codes
    assert not watcher.run.failed


@pytest.mark.parametrize(("said", "wrong"), [("so far", True), ("each", False), ("both", False)])
def test_an_accuracy_of_all_evaluations_so_far(said: str, wrong: bool) -> None:
    right = {30: 40, 60: 80, 90: 96}
    so_far = {30: 0.4, 60: 0.6, 90: 0.72}
    shown = {"so far": "accuracy {0:.3f}", "each": "accuracy {1:.3f}", "both": "running {0:.3f}, accuracy {1:.3f}"}[
        said
    ]
    run = OwnRun(
        compared={0: {at: CorrectCounts([count], [100]) for at, count in right.items()}},
        printed=[(at, shown.format(so_far[at], count / 100)) for at, count in right.items()],
    )
    assert [one.code for one in findings_of(run)] == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize("first", [1.0, 0.0])
@pytest.mark.parametrize("template", [True, False])
def test_what_is_evaluated_has_not_the_weights_that_steps_are_given(template: bool, first: float) -> None:
    model = nn.Linear(3, 4)
    for weights in model.parameters():
        nn.init.constant_(weights, first)
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(params.values(), 0.1)
    watcher = Watcher(float("inf"), {id(model): "model"})
    watcher.of(model).before = number_of_weights(model)
    model.register_forward_pre_hook(watcher.enter)
    model.register_forward_hook(watcher.leave)
    apply = partial(functional_call, model, params)
    for _ in range(3):
        for _ in range(10):
            (apply(torch.randn(5, 3)) - 3).square().mean().backward()
            watcher.stepping(optimizer)
            optimizer.step()
        with torch.no_grad():
            (model if template else apply)(torch.randn(5, 3))
    watcher.of(model).after = number_of_weights(model)
    assert [one.code for one in findings_of(watcher.run)] == ["model.evaluates-untrained"] * template
    assert not watcher.run.failed


@pytest.mark.parametrize("clears", [True, False])
def test_optimizers_that_follow_one_another_are_not_taken_for_one(clears: bool) -> None:
    """A later one may lie in memory where the one before was."""
    watcher = Watcher(float("inf"), {})
    for _ in range(3):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), 1e-4)
        for _ in range(200):
            if clears:
                optimizer.zero_grad()
            watcher.backward_begins()
            model(torch.ones(1, 3)).sum().backward()
            watcher.stepping(optimizer)
            optimizer.step()
        del model, optimizer
    assert [one.code for one in findings_of(watcher.run)] == ["optim.missing-zero-grad"] * (not clears)
    assert len(watcher.run.cleared) == 3


@pytest.mark.parametrize("scale", [0.8, 1.0])
def test_two_accuracies_are_counted_each_by_itself(scale: float) -> None:
    shares = {30: (0.4, 0.7), 60: (0.8, 0.75), 90: (0.96, 0.9)}
    compared = {line: {at: CorrectCounts([int(100 * s[line])], [100]) for at, s in shares.items()} for line in (0, 1)}
    said = [(at, f"direction {scale * one:.4f} kind {scale * other:.4f}") for at, (one, other) in shares.items()]
    found = findings_of(OwnRun(compared=compared, printed=said))
    assert [one.code for one in found] == ["eval.wrong-count"] * (scale != 1)


@pytest.mark.parametrize("same", [True, False])
def test_evaluations_on_the_data_of_an_earlier_training_are_not_compared(same: bool) -> None:
    rights = {at: CorrectCounts([3 * right], [300]) for at, right in ((10, 90), (20, 95), (30, 99))}
    rights[40] = rights[50] = CorrectCounts([60], [300]) if same else CorrectCounts([20], [100])
    watcher = Watcher(float("inf"), {})
    network = watcher.of(nn.Linear(3, 4))
    network.calls = [NetworkCall(at, False, False, (3,), 0.0, 1.0, 0.8, float(min(at, 40))) for at in rights]
    network.after = 40.0
    run = OwnRun(steps=50, networks=watcher.run.networks, compared={0: rights}, ended=True)
    assert [one.code for one in findings_of(run)] == ["eval.worst-kept"] * same


@pytest.mark.parametrize("teacher", [True, False])
def test_a_teacher_keeps_its_weights_while_another_network_is_compared(teacher: bool) -> None:
    rights = {at: CorrectCounts([right], [100]) for at, right in ((10, 20), (20, 60), (30, 90))}
    watcher = Watcher(float("inf"), {})
    network = watcher.of(nn.Linear(3, 4))
    numbers = dict.fromkeys(rights, 1.0) if teacher else {10: 1.0, 20: 2.0, 30: 3.0}
    network.calls = [NetworkCall(at, False, False, (3,), 0.0, 1.0, 0.8, number) for at, number in numbers.items()]
    network.after = 1.0
    run = OwnRun(steps=30, networks=watcher.run.networks, compared={0: rights}, ended=True)
    assert [one.code for one in findings_of(run)] == ["eval.worst-kept"] * (not teacher)


@pytest.mark.parametrize(
    ("rates", "ended", "told"),
    [
        ([1.0] * 16 + [0.0] * 496, True, True),
        ([1.0] * 16 + [0.0] * 496, False, True),
        ([1.0] * 16 + [0.01] * 496, False, False),
        ([1.0] * 16 + [0.0] * 40, False, False),
        ([1.0 - step / 512 for step in range(512)], True, False),
        ([0.0] * 512, True, False),
    ],
)
def test_a_rate_that_is_gone_after_the_first_update(rates: list[float], ended: bool, told: bool) -> None:
    found = findings_of(OwnRun(steps=len(rates), rates={0: rates}, ended=ended), of_rewards=True)
    assert [finding.code for finding in found] == ["optim.lr-schedule"] * told


@pytest.mark.parametrize(("decay", "each", "wrong"), [(0.9999, 20, True), (0.9, 20, False), (0.9999, 1, False)])
def test_an_average_that_hardly_moves_until_the_end(decay: float, each: int, wrong: bool) -> None:
    torch.manual_seed(0)
    model, average = nn.Linear(3, 1), nn.Linear(3, 1).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    watcher = Watcher(float("inf"), {id(model): "model", id(average): "average"})
    watcher.of(model).first = [parameter.detach().clone() for parameter in model.parameters()]
    watcher.of(model).before = number_of_weights(model)
    optimizer, x = torch.optim.SGD(model.parameters(), 0.05), torch.randn(32, 3)

    def ask(network: nn.Module) -> Tensor:
        watcher.enter(network, (x,))
        output: Tensor = network(x)
        watcher.leave(network, (x,), output)
        return output

    for step in range(120):
        (ask(model) - x.sum(1, keepdim=True)).square().mean().backward()
        watcher.stepping(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a.lerp_(p.detach(), 1 - decay)
        if step % each == each - 1:  # at each step, as a teacher
            ask(average)
    watcher.run.ended = True
    assert [one.code for one in findings_of(watcher.run)] == ["model.evaluates-untrained"] * wrong


@pytest.mark.parametrize(
    ("decay", "each", "first", "wrong"),
    [(0.95, 20, 0, True), (0.5, 20, 0, False), (0.95, 1, 0, False), (None, 20, 0, False), (0.95, 20, 100, False)],
)
def test_an_average_that_is_updated_once_in_an_epoch(decay: float | None, each: int, first: int, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    average = AveragedModel(model, multi_avg_fn=None if decay is None else get_ema_multi_avg_fn(decay))
    watcher = Watcher(float("inf"), {id(model): "model"})
    watcher.run.planned = 240
    optimizer, x = torch.optim.SGD(model.parameters(), 0.05), torch.randn(32, 3)
    for step in range(160):
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        watcher.stepping(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 19:
            with torch.no_grad():
                watcher.enter(average, (x,))
                watcher.leave(average, (x,), average(x))
        if step % each == each - 1 and step >= first:
            average.update_parameters(model)
    found = [one for one in findings_of(watcher.run) if "its first update" in one.measured]
    assert [one.code for one in found] == ["model.evaluates-untrained"] * wrong


@pytest.mark.parametrize("template", [True, False])
def test_weights_that_hardly_move_at_first(template: bool) -> None:
    """As the rate rises."""
    model = nn.Linear(3, 4)
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(params.values(), 1e-9)
    watcher = Watcher(float("inf"), {id(model): "model"})
    watcher.of(model).before = number_of_weights(model)
    model.register_forward_pre_hook(watcher.enter)
    model.register_forward_hook(watcher.leave)
    apply = partial(functional_call, model, params)
    for _ in range(3):
        for _ in range(10):
            (apply(torch.randn(5, 3)) - 3).square().mean().backward()
            watcher.stepping(optimizer)
            optimizer.step()
            optimizer.param_groups[0]["lr"] *= 8 if watcher.run.steps < 10 else 1
        with torch.no_grad():
            (model if template else apply)(torch.randn(5, 3))
    watcher.of(model).after = number_of_weights(model)
    assert [one.code for one in findings_of(watcher.run)] == ["model.evaluates-untrained"] * template


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_rate_that_a_callback_multiplies_by_a_factor_of_the_first(epoch: int) -> None:
    rates = [0.05 * 0.85 ** (n * (n + 1) / 2 if epoch else n) for n in range(9) for _ in range(9)]
    found = findings_of(OwnRun(steps=len(rates), rates={0: rates}))
    assert [(one.code, "0.85, 0.722, 0.614" in one.measured) for one in found] == [("optim.lr-schedule", True)] * epoch


@pytest.mark.parametrize(
    ("evaluated", "wrong"),
    [((0.04, 5.7, 0.9), False), ((0.04, 5.7, 4.2), True), ((0.0, 1.0, 0.8), False), ((40.0, 5.7, 4.2), True)],
)
def test_a_few_huge_values_are_no_other_preparation(evaluated: tuple[float, float, float], wrong: bool) -> None:
    """Features that are constant in training are divided by nearly 0."""
    watcher = Watcher(float("inf"), {})
    network = watcher.of(nn.Linear(3, 1))
    network.calls = [NetworkCall(step, True, True, (3,), 0.0, 0.97, 0.78, float(step)) for step in range(100)]
    network.calls += [NetworkCall(100, False, False, (3,), *evaluated, 100.0)]
    found = findings_of(OwnRun(steps=100, networks=watcher.run.networks, ended=True))
    assert [one.code for one in found] == ["data.shift"] * wrong


def test_a_remedy_of_the_scripts_own_run_is_a_sentence() -> None:
    (found,) = findings_of(OwnRun(steps=512, rates={0: [1.0] * 16 + [0.0] * 496}, ended=True), of_rewards=True)
    assert found.remedy[0].isupper()
    assert found.remedy.endswith(".")


@pytest.mark.parametrize("trained_before", ["by another optimizer", "elsewhere", "never"])
def test_a_trunk_that_was_trained_before_needs_no_gradient(trained_before: str) -> None:
    torch.manual_seed(0)
    trunk, heads = nn.Linear(16, 32), (nn.Linear(32, 4), nn.Linear(32, 4))
    if trained_before == "elsewhere":
        nn.init.normal_(trunk.weight, 0.5)
    networks = [nn.Sequential(trunk, nn.ReLU(), head) for head in heads]
    watcher = Watcher(float("inf"), {id(net): name for net, name in zip(networks, ("first", "second"), strict=True)})
    watcher.run.in_training |= {id(part) for net in networks for part in net.modules()}
    for net, head in list(zip(networks, heads, strict=True))[trained_before != "by another optimizer" :]:
        optimizer = torch.optim.SGD(net.parameters(), 0.01)
        for _ in range(60):
            x = torch.randn(8, 16)
            watcher.enter(net, (x,))
            with torch.set_grad_enabled(head is heads[0]):
                hidden = trunk(x).relu()
            output = head(hidden)
            watcher.leave(net, (x,), output)
            optimizer.zero_grad()
            watcher.backward_begins()
            output.square().mean().backward()
            watcher.backward(output)
            watcher.stepping(optimizer)
            optimizer.step()
    assert [one.code for one in findings_of(watcher.run)] == ["model.graph-detached"] * (trained_before == "never")


@pytest.mark.parametrize("how", ["unused", "switched off", "unused, no trial step"])
def test_a_layer_whose_output_no_loss_uses_is_not_cut_off(how: str) -> None:
    torch.manual_seed(0)
    body, pooler, head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4)
    network = nn.Sequential(body, pooler, head)
    watcher = Watcher(float("inf"), {id(network): "network"})
    watcher.run.examined = frozenset(map(id, network.parameters() if how != "unused, no trial step" else ()))
    for part in (body, pooler, head):
        part.register_forward_pre_hook(watcher.enter)
        part.register_forward_hook(watcher.leave)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for _ in range(60):
        x = torch.randn(8, 16)
        watcher.enter(network, (x,))
        hidden = body(x).relu()
        with torch.set_grad_enabled(how != "switched off"):
            pooler(hidden)
        output = head(hidden)
        watcher.leave(network, (x,), output)
        optimizer.zero_grad()
        watcher.backward_begins()
        output.square().mean().backward()
        watcher.backward(output)
        watcher.stepping(optimizer)
        optimizer.step()
    assert [one.code for one in findings_of(watcher.run)] == ["model.graph-detached"] * (how != "unused")


@pytest.mark.parametrize("attacks", [True, False])
def test_an_attack_in_evaluation_mode_is_no_training(attacks: bool) -> None:
    """Which calls the network with gradients, and makes no step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    watcher = Watcher(float("inf"), {id(model): "model"})
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def ask() -> Tensor:
        x = torch.randn(8, 4)
        watcher.enter(model, (x,))
        output: Tensor = model(x)
        watcher.leave(model, (x,), output)
        return output

    for number in range(60):
        if number == 30:
            model.eval()
            with torch.no_grad():
                ask()
        output = ask()
        if number >= 30 and attacks:
            continue
        optimizer.zero_grad()
        watcher.backward_begins()
        output.square().mean().backward()
        watcher.backward(output)
        watcher.stepping(optimizer)
        optimizer.step()
    assert [one.code for one in findings_of(watcher.run)] == ["model.mode"] * (not attacks)
