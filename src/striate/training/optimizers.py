"""From a configuration and a network to an optimizer: parameter groups by kind and depth, algorithm, schedule.

The learning rate is a pure function of the step, so that a resumed run needs no state of a schedule.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from striate.errors import ConfigError, reason_of
from striate.models.features import output_parameters, parameter_depths
from striate.models.from_file import names_file
from striate.models.trusted_code import call_own, names_code, trusted_code
from striate.training.config import Config, OptimizerConfig, ScheduleConfig
from striate.training.muon import Muon
from striate.wording import type_of

_STEPS_TRIED = 100
_FACTORY = "a function of the parameters that returns a torch.optim.Optimizer"


def with_user_optimizer(config: Config, module: nn.Module) -> Config:
    """The configuration with what the user's own optimizer decides: its learning rate, if none is requested. Weight
    decay and rates by depth are up to it. Unchanged for other optimizers. Raises ConfigError."""
    optim, tuning = config.optim, config.fine_tune
    if config.schedule.name is not None:
        learning_rate_factor(config.schedule, 0, _STEPS_TRIED)  # refuses a function with wrong results
    if optim.name is None or not names_code(optim.name):
        return config
    if optim.weight_decay:
        remedy = "set it in your function: torch.optim.AdamW(params, weight_decay=0.1)"
        raise ConfigError("optim.weight_decay", f"{optim.weight_decay:g} with {optim.name}", "none", remedy)
    if tuning.layer_decay not in (None, 1.0):
        remedy = "leave out --fine_tune.layer_decay, and make your own parameter groups"
        raise ConfigError("fine_tune.layer_decay", f"{tuning.layer_decay:g} with {optim.name}", "none", remedy)
    lr = optim.lr or _largest_rate(_made(module, optim.name, ()), optim.name)
    return replace(
        config,
        optim=replace(optim, lr=lr, weight_decay=0.0),
        fine_tune=replace(tuning, layer_decay=1.0),
    )


def make_user_optimizer(
    module: nn.Module, name: str, lr: float, extra: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The user's optimizer of the trainable parameters of `module` and `extra`. Its largest rate is `lr`; groups keep
    their rates relative to each other. Raises ConfigError."""
    optimizer = _made(module, name, extra)
    largest = _largest_rate(optimizer, name)
    for group in optimizer.param_groups:
        group["rate_scale"] = float(group["lr"]) / largest
        group["lr"] = lr * group["rate_scale"]
    return optimizer


def _made(module: nn.Module, name: str, extra: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    factory: Any = trusted_code(name, "an optimizer", "optimizer")
    parameters = [p for p in (*module.parameters(), *extra) if p.requires_grad]
    if not callable(factory):
        whole = isinstance(factory, torch.optim.Optimizer)
        kind = type(factory).__name__
        remedy = f"optimizer=lambda parameters: torch.optim.{kind}(parameters)" if whole else "--optim.name adamw"
        raise ConfigError("optim.name", f"{name}, {type_of(factory)}", _FACTORY, remedy)
    made = call_own("optim.name", name, factory, parameters)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError("optim.name", f"a {type(made).__name__} from {name}", _FACTORY, "return the optimizer")
    if isinstance(made, torch.optim.LBFGS):
        raise ConfigError("optim.name", "LBFGS, which computes the loss itself", _FACTORY, "--optim.name adamw")
    known = {id(p) for p in parameters}
    if any(id(p) not in known for group in made.param_groups for p in group["params"]):
        got = f"parameters from {name} that do not belong to the network"
        raise ConfigError(
            "optim.name", got, "the parameters that your function gets", "torch.optim.SGD(params, lr=0.1)"
        )
    return made


def _largest_rate(optimizer: torch.optim.Optimizer, name: str) -> float:
    rates = [group.get("lr") for group in optimizer.param_groups]
    if any(rate is None for rate in rates) or not max(float(rate) for rate in rates if rate is not None) > 0:
        raise ConfigError(
            "optim.name", f"no learning rate above 0 from {name}", "`lr` in its parameter groups", "give it lr=0.01"
        )
    return max(float(rate) for rate in rates if rate is not None)


USUAL_MOMENTUM = 0.9


def make_optimizer(module: nn.Module, config: Config, extra: Iterable[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters of `module` and `extra` (auxiliary heads).

    `config.optim.name`, `lr` and `weight_decay` must be decided. Every group has a `rate_scale`: its learning rate as a
    share of the schedule's, below 1 for deep layers where `fine_tune.layer_decay` is below 1.

    Weight decay applies to kernels and matrices, not to biases (by name) and normalization parameters (one axis or
    none): decaying those shifts activations without reducing capacity (Goyal et al. 2017, section 5.3). For
    `local-rule` the optimizer only holds the rate, and never steps.
    """
    optim = config.optim
    assert optim.name is not None, "recipes decide it"
    if names_code(optim.name):
        assert optim.lr is not None, "with_user_optimizer decides it"
        return make_user_optimizer(module, optim.name, optim.lr, extra)
    groups = _groups(module, optim, config.fine_tune.layer_decay or 1.0)
    heads = [p for p in extra if p.requires_grad]
    groups += _split(
        heads, {"rate_scale": _other_rate(optim), "use_muon": False}, optim, {id(p) for p in heads if p.ndim <= 1}
    )
    return _algorithm(groups, optim)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of every parameter group to its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate_scale"]


def _groups(module: nn.Module, optim: OptimizerConfig, layer_decay: float) -> list[dict[str, Any]]:
    """Groups of one depth and kind, in the order of depth."""
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    plain = {id(p) for name, p in named.items() if p.ndim <= 1 or name.endswith("bias")}
    depths = parameter_depths(module) if layer_decay < 1 else dict.fromkeys(named, 0)
    # AdamW moves the output layer: its rows are classes, whose updates must not be made orthogonal.
    outputs = output_parameters(module) if optim.name == "muon" else set()
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        hidden = optim.name == "muon" and parameter.ndim > 1 and id(parameter) not in plain and name not in outputs
        members.setdefault((depths[name], hidden), []).append(parameter)
    deepest = max(depths.values(), default=0)
    groups: list[dict[str, Any]] = []
    for (depth, hidden), parameters in sorted(members.items()):
        shared = {
            "rate_scale": (1.0 if hidden else _other_rate(optim)) * layer_decay ** (deepest - depth),
            "use_muon": hidden,
        }
        groups += _split(parameters, shared, optim, plain)
    return groups


def _other_rate(optim: OptimizerConfig) -> float:
    """The rate of parameters that Muon leaves to AdamW, as a share of Muon's rate."""
    return 1.0 if optim.other_lr is None or optim.lr is None else optim.other_lr / optim.lr


def _split(
    parameters: list[nn.Parameter], shared: dict[str, Any], optim: OptimizerConfig, plain: set[int]
) -> list[dict[str, Any]]:
    """A group with weight decay and one without; empty ones are left out."""
    decayed = [p for p in parameters if id(p) not in plain]
    others = [p for p in parameters if id(p) in plain]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay, **shared},
        {"params": others, "weight_decay": 0.0, **shared},
    ]
    return [g for g in groups if g["params"]]


def _fusible(groups: list[dict[str, Any]]) -> bool:
    """Whether torch can step all these parameters with its fused kernel."""
    parameters = [p for group in groups for p in group["params"]]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)


def _with_momenta(sgd: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Momentum that begins with zeros. torch's fused kernel begins with uninitialized memory where `fp16` skips the
    first step, and it refuses parameters of which only some had a gradient before (head warm-up)."""

    def fill(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None and "momentum_buffer" not in optimizer.state[p]:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)

    sgd.register_step_pre_hook(fill)
    return sgd


_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@cache
def _without_compiler(optimizer: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer class with the same methods, none of which loads `torch._dynamo`, which takes a second and a half.

    torch loads it to exclude these methods, and the gradient mode of `step`, from compilation. That matters only to
    code that compiles optimizer steps, not to code that compiles a network.
    """
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(optimizer, name)) for name in _GUARDED}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods | {"__module__": optimizer.__module__})


def _algorithm(groups: list[dict[str, Any]], optim: OptimizerConfig) -> torch.optim.Optimizer:
    """`sgd` and `adamw` are torch's; `lamb` (You et al. 2019) and `lars` (You et al. 2017) are those of the library
    pytorch-optimizer."""
    lr, momentum = optim.lr, USUAL_MOMENTUM if optim.momentum is None else optim.momentum
    nesterov = optim.nesterov and momentum > 0
    assert lr is not None, "recipes decide it"
    if optim.name == "local-rule":
        return _without_compiler(torch.optim.SGD)(groups, lr=lr)  # holds the rate; the network takes the steps
    if optim.name == "adamw":
        return _without_compiler(torch.optim.AdamW)(groups, lr=lr, betas=optim.betas, fused=_fusible(groups))
    if optim.name == "sgd":
        made = _without_compiler(torch.optim.SGD)
        sgd = made(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=_fusible(groups))
        return _with_momenta(sgd) if momentum else sgd
    if optim.name == "muon":
        made, fixed = _without_compiler(Muon), bool(optim.fixed_norm)
        return made(groups, lr, momentum, nesterov=nesterov, fixed_norm=fixed, betas=optim.betas)
    import pytorch_optimizer  # takes a second to load

    if optim.name == "lamb":
        # As in the paper, the decay is part of the step that is scaled, and nothing enlarges a scaled step. By default,
        # the library decays separately, and divides the first steps by 1 − β₁ᵗ unless `adam_debias` is set.
        lamb = pytorch_optimizer.Lamb(
            groups, lr=lr, betas=optim.betas, weight_decouple=False, max_grad_norm=0.0, adam_debias=True
        )
        return cast(torch.optim.Optimizer, lamb)
    # Its rates are like SGD's: the trust coefficient of the paper, 0.001, is part of the step.
    return cast(
        torch.optim.Optimizer,
        pytorch_optimizer.LARS(groups, lr=lr, momentum=momentum, nesterov=nesterov),
    )


_START = 1 / 25  # of the peak: the first rate of a warm-up (Smith and Topin 2018)
USUAL_WARMUP = 0.2


def with_usual_values(config: Config) -> Config:
    """The configuration with the momentum and the warm-up that are used, where optimizer and schedule have them."""
    optim, schedule = config.optim, config.schedule
    if optim.momentum is None and optim.name in ("sgd", "muon", "lars"):
        optim = replace(optim, momentum=USUAL_MOMENTUM)
    if schedule.warmup is None and schedule.name in ("one-cycle", "cosine", "triangle"):
        schedule = replace(schedule, warmup=USUAL_WARMUP)
    return replace(config, optim=optim, schedule=schedule)


def learning_rate_factor(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """Share of the peak rate for the optimizer step `step` (0 to steps − 1) of `steps`.

    `one-cycle`: cosine up from 1/25 to the peak over `warmup`, cosine down to `final` (Smith and Topin 2018).
    `cosine`: linear up over `warmup`, cosine down to `final` (Loshchilov and Hutter 2016).
    `triangle`: linear up over `warmup`, linear down to `final`.
    `step`: times `factor` at each milestone. `constant`: 1. A user's function: what it returns; ConfigError where that
    is negative or no number.
    """
    assert schedule.name is not None, "recipes decide it"
    if names_code(schedule.name):
        return _own_factor(schedule.name, step, steps)
    progress = step / max(1, steps - 1)
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "step":
        passed = sum(step >= math.ceil(m * steps) for m in schedule.milestones)
        return schedule.factor**passed
    warmup = USUAL_WARMUP if schedule.warmup is None else schedule.warmup
    if progress < warmup:
        rise = progress / warmup
        if schedule.name == "one-cycle":
            rise = (1 - math.cos(math.pi * rise)) / 2
        return _START + (1 - _START) * rise
    fall = (progress - warmup) / (1 - warmup)
    left = 1 - fall if schedule.name == "triangle" else (1 + math.cos(math.pi * fall)) / 2
    return schedule.final + (1 - schedule.final) * left


def _own_factor(name: str, step: int, steps: int) -> float:
    function: Any = trusted_code(name, "a schedule", "scheduler")
    try:
        factor = function(step, steps)
    except Exception as error:
        got = f"{name} raised {type(error).__name__}: {reason_of(error)}"
        raise ConfigError("schedule.name", got, _SCHEDULE, _schedule_for(name)) from error
    if isinstance(factor, int | float) and 0 <= factor < math.inf:
        return float(factor)
    got = f"{factor!r} from {name} at step {step}"
    raise ConfigError("schedule.name", got[:200], _SCHEDULE, _schedule_for(name))


def _schedule_for(name: str) -> str:
    """An example of a schedule: the code of a file, or an argument."""
    file, _, function = name.rpartition(":")
    if not names_file(name):
        return "scheduler=lambda step, steps: 1 - step / steps"
    return f"in {file}: def {function}(step, steps): return 1 - step / steps"


_SCHEDULE = "a function of the step and the number of steps that returns a share of the rate, 0 or more"
