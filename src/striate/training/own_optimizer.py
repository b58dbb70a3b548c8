"""An optimizer of the user's own: `params -> torch.optim.Optimizer`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from striate.errors import ConfigError
from striate.models.own_code import names_code, own_code
from striate.training.config import Config

_FACTORY = "a function of the parameters that gives a torch.optim.Optimizer"


def with_own_optimizer(config: Config, module: nn.Module) -> Config:
    """With what an optimizer of the user's own decides: its learning rate, where none is asked for; decay and rates by
    depth are its own affair. Unchanged with another optimizer. Raises ConfigError."""
    optim, tuning = config.optim, config.fine_tune
    if optim.name is None or not names_code(optim.name):
        return config
    if optim.weight_decay:
        remedy = "give it in your function: torch.optim.AdamW(params, weight_decay=0.1)"
        raise ConfigError("optim.weight_decay", f"{optim.weight_decay:g} beside {optim.name}", "none", remedy)
    if tuning.layer_decay not in (None, 1.0):
        remedy = "leave out --fine_tune.layer_decay, and make groups of your own"
        raise ConfigError("fine_tune.layer_decay", f"{tuning.layer_decay:g} beside {optim.name}", "none", remedy)
    lr = optim.lr or _largest_rate(_made(module, optim.name, ()), optim.name)
    return replace(
        config,
        optim=replace(optim, lr=lr, weight_decay=0.0),
        fine_tune=replace(tuning, layer_decay=1.0),
    )


def make_own_optimizer(
    module: nn.Module, name: str, lr: float, extra: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters of `module` and `extra`, with `lr` as its largest rate: its groups keep
    theirs relative to each other. Raises ConfigError."""
    optimizer = _made(module, name, extra)
    largest = _largest_rate(optimizer, name)
    for group in optimizer.param_groups:
        group["rate_scale"] = float(group["lr"]) / largest
        group["lr"] = lr * group["rate_scale"]
    return optimizer


def _made(module: nn.Module, name: str, extra: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    factory: Any = own_code(name, "an optimizer", "optimizer")
    parameters = [p for p in (*module.parameters(), *extra) if p.requires_grad]
    if not callable(factory):
        raise ConfigError("optim.name", f"{name}, a {type(factory).__name__}", _FACTORY, "--optim.name adamw")
    made = factory(parameters)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError("optim.name", f"a {type(made).__name__} from {name}", _FACTORY, "return the optimizer")
    if isinstance(made, torch.optim.LBFGS):
        raise ConfigError("optim.name", "LBFGS, which computes the loss itself", _FACTORY, "--optim.name adamw")
    known = {id(p) for p in parameters}
    if any(id(p) not in known for group in made.param_groups for p in group["params"]):
        got = f"parameters from {name} that are not the network's"
        raise ConfigError("optim.name", got, "those that your function gets", "torch.optim.SGD(params, lr=0.1)")
    return made


def _largest_rate(optimizer: torch.optim.Optimizer, name: str) -> float:
    rates = [group.get("lr") for group in optimizer.param_groups]
    if any(rate is None for rate in rates) or not max(float(rate) for rate in rates if rate is not None) > 0:
        raise ConfigError(
            "optim.name", f"no learning rate above 0 from {name}", "`lr` in its groups", "give it lr=0.01"
        )
    return max(float(rate) for rate in rates if rate is not None)
