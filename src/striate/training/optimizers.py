"""From a configuration and a network to a torch optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from striate.training.config import OptimizerConfig


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; `config.name`, `lr` and `weight_decay` must be decided.

    Weight decay applies to kernels and matrices, not to biases (by name) and normalization parameters (one axis or
    none): decaying those shifts activations without reducing capacity (Goyal et al. 2017, section 5.3).
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim > 1 and not name.endswith("bias")]
    others = [p for name, p in named if p.ndim <= 1 or name.endswith("bias")]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    assert config.lr is not None and config.name is not None, "recipes decide both"
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr
