"""The tracer sees what runs, in the order in which it does, and leaves nothing behind, also when something raises."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.observe.gradients import gradients_of, on_gradient
from striate.observe.interventions import change_gradient, change_inputs, change_output
from striate.observe.module_calls import (
    ModuleCall,
    forward_hooks,
    forward_hooks_everywhere,
    module_calls,
    optimizer_steps,
)
from striate.observe.torch_calls import function_name, torch_functions, torch_operations


class Forgiving(nn.Module):
    """Calls a part that raises, and goes on without it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bad, self.last = nn.Linear(3, 3), nn.Linear(7, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        with suppress(RuntimeError):
            x = self.bad(x)
        return self.last(x)  # type: ignore[no-any-return]


def hooks_of(net: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in net.modules())


def test_calls_come_nested_and_in_order() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    seen: list[str] = []
    x = torch.ones(1, 3)
    with module_calls(net, lambda c: seen.append(f"+{c.name}"), lambda c: seen.append(f"-{c.name}")) as calls:
        out = net(x)
        assert calls.innermost is None
    assert seen == ["+", "+0", "-0", "+1", "+1.0", "-1.0", "+1.1", "-1.1", "-1", "-"]
    assert out.shape == (1, 2)
    assert hooks_of(net) == 0


def test_a_call_has_what_its_forward_was_given_and_gave() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, *, by: float) -> torch.Tensor:
            return x * by

    net, found = Scaled(), list[ModuleCall]()
    with module_calls(net, end=found.append):
        out = net(torch.ones(2), by=3.0)
    assert found[0].output is out
    assert found[0].kwargs == {"by": 3.0}
    assert found[0].args[0].shape == (2,)


@pytest.mark.parametrize(("prepend", "expected"), [(False, 2.0), (True, 1.0)])
def test_own_hooks_run_before_begin_or_within_the_call(prepend: bool, expected: float) -> None:
    net = nn.Identity()
    net.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    begun, ended = list[float](), list[float]()
    with module_calls(
        net, lambda c: begun.append(float(c.args[0])), lambda c: ended.append(float(c.args[0])), prepend=prepend
    ):
        net(torch.tensor(1.0))
    assert begun == [expected]
    assert ended == [2.0]


def test_a_call_that_raises_inside_is_no_call_that_ended() -> None:
    net, ended, failed, where = Forgiving(), list[str](), list[str](), list[str]()

    def begin(call: ModuleCall) -> None:
        where.append("/".join(open_call.name for open_call in calls.stack))

    with module_calls(net, begin, lambda c: ended.append(c.name), lambda c: failed.append(c.name)) as calls:
        net(torch.ones(1, 3))
    assert ended == ["first", "last", ""]
    assert failed == ["bad"]
    assert where == ["", "/first", "/bad", "/last"]


def test_the_innermost_call_that_raised_is_known_and_all_hooks_are_gone() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(9, 2)))
    with pytest.raises(RuntimeError), module_calls(net) as calls:
        net(torch.ones(1, 3))
    assert calls.failed is not None
    assert calls.failed.name == "1.0"
    assert calls.error is None
    assert calls.stack == []
    assert hooks_of(net) == 0


def test_a_network_may_be_run_while_an_exception_is_handled() -> None:
    net, ended = nn.Linear(2, 2), list[str]()
    with module_calls({"it": net}, end=lambda c: ended.append(c.name)):
        try:
            raise KeyError
        except KeyError:
            net(torch.ones(1, 2))
    assert ended == ["it"]


def test_plain_hooks_change_what_passes_and_go_with_the_block() -> None:
    net = nn.Identity()
    with forward_hooks([(net, lambda _, args: (args[0] + 1,))], [(net, lambda _, __, out: out * 10)]):
        assert float(net(torch.tensor(1.0))) == 20.0
    assert float(net(torch.tensor(1.0))) == 1.0


def test_modules_that_the_network_does_not_know_are_seen_everywhere() -> None:
    hidden, seen = [nn.Linear(2, 2)], list[type]()

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return hidden[0](x)  # type: ignore[no-any-return]

    with forward_hooks_everywhere(lambda module, _: seen.append(type(module))):
        Net()(torch.ones(1, 2))
    assert seen == [Net, nn.Linear]
    assert not nn.modules.module._global_forward_pre_hooks


def test_functions_and_operations_are_seen_together_with_the_module_that_runs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.fc(x))

    net, functions, operations = Net(), list[tuple[str, str]](), list[str]()

    def function(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if calls.innermost is not None:
            functions.append((calls.innermost.name, function_name(func)))
        return func(*args, **kwargs)

    def operation(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operations.append(func._schema.name)
        return func(*args, **kwargs)

    with torch.no_grad(), module_calls(net) as calls, torch_functions(function), torch_operations(operation):
        net(torch.ones(1, 3))
    assert ("fc", "linear") in functions
    assert ("", "relu") in functions
    assert "aten::relu" in operations
    seen = len(functions)
    net(torch.ones(1, 3))
    assert len(functions) == seen


def test_a_function_may_be_replaced() -> None:
    def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0] if func is functional.relu else func(*args, **kwargs)

    with torch_functions(around):
        assert float(functional.relu(torch.tensor(-1.0))) == -1.0
    assert float(functional.relu(torch.tensor(-1.0))) == 0.0


@pytest.mark.parametrize(
    ("func", "name"),
    [(torch.relu_, "relu"), (torch.Tensor.__iadd__, "__add__"), (torch.Tensor.add_, "add"), (torch.conv2d, "conv2d")],
)
def test_a_function_has_one_name_in_all_its_forms(func: Any, name: str) -> None:
    assert function_name(func) == name


def test_gradients_are_seen_until_the_block_ends() -> None:
    weight, seen = torch.ones(2, requires_grad=True), list[float]()
    with gradients_of([(weight, lambda g: seen.append(float(g.sum()))), (torch.ones(2), print)]):
        (weight * 3).sum().backward()
    (weight * 3).sum().backward()
    assert seen == [6.0]
    inner = weight * 2
    on_gradient(inner, lambda g: seen.append(float(g.sum())))
    inner.sum().backward()
    assert seen == [6.0, 2.0]


def test_steps_of_an_optimizer_are_seen_until_the_block_ends() -> None:
    weight, seen = nn.Parameter(torch.ones(1)), list[str]()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with optimizer_steps(optimizer, lambda: seen.append("before"), lambda: seen.append("after")):
        optimizer.step()
    optimizer.step()
    assert seen == ["before", "after"]


def test_interventions_change_inputs_outputs_and_gradients() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    change_inputs(net, lambda args: (args[0] * 2,))
    change_output(net, lambda args, output: output + args[0])
    change_gradient(net.weight, lambda gradient: -gradient)
    out = net(torch.ones(1, 1))
    out.sum().backward()
    assert float(out.detach()) == 4.0
    assert net.weight.grad is not None
    assert float(net.weight.grad) == -2.0
