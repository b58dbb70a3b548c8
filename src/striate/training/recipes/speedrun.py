"""The recipe for the best network in little time: ideas of those who hold the records on CIFAR-10.

Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", 2024 (arXiv 2404.00498), and its followers with Muon; sizes
that grow: Howard 2018. Each idea is a field of the configuration and can be set by itself.
"""

from __future__ import annotations

from dataclasses import replace

from striate.data.dataset import Dataset
from striate.models.choose import choose_fast_model, choose_model
from striate.training.config import Config
from striate.training.recipes.choice import Choice
from striate.training.recipes.facts import Facts
from striate.training.recipes.standard import standard

VALIDATION = 0.02
"""Share of the training data that is only watched: nothing is chosen by it, since the last epoch is kept."""
SMOOTHING = 0.2
USED = 0.85
"""Share of the minutes that is left for training steps."""
MEASURED = 2_000
"""Training samples that are measured at the end: all of them, from six views, take as long as two epochs."""
SEEN = 400_000
"""Samples looked at where no budget is given: eight epochs of CIFAR-10."""
LARGEST_BATCH = 512
STEPS_AN_EPOCH = 50  # at least, as far as batches of 16 allow
MACS_A_CORE = 1.25e11
"""Multiply–accumulates a second in training steps of airbench, in bfloat16 on one core of the machine that this was
written on; only the width of the network follows from it, and is the same in every run. On a GPU time is no limit."""
TURN, OTHER = 0.2, 0.04  # rates of kernels at a fixed norm, and of all else


def before_data(config: Config) -> Config:
    """With `data.val_fraction` decided, if the recipe is this one."""
    if config.recipe != "speedrun" or config.data.val_fraction is not None:
        return config
    return replace(config, data=replace(config.data, val_fraction=VALIDATION))


def before_network(config: Config, data: Dataset) -> Config:
    """With `task.label_smoothing` decided, if the recipe is this one and classes are told by cross-entropy."""
    task = config.task
    smooth = data.annotation == "class" and task.loss in ("auto", "cross-entropy") and config.optim.name != "own-rule"
    if config.recipe != "speedrun" or task.label_smoothing is not None or not smooth:
        return config
    return replace(config, task=replace(task, label_smoothing=SMOOTHING))


def network_for(config: Config, data: Dataset) -> tuple[str, str]:
    """The network where none is named, and why: with this recipe as wide as `budget.minutes` allow."""
    about = data.kind, data.input_shape, data.annotation, len(data.splits["train"])
    if config.recipe != "speedrun":
        return choose_model(*about)
    minutes, execution = config.budget.minutes, config.execution
    if minutes is None or execution.device != "cpu":
        return choose_fast_model(*about)
    return choose_fast_model(*about, macs=60 * minutes * USED * MACS_A_CORE * (execution.threads or 1))


def speedrun(facts: Facts, asked: Config) -> Choice:
    """Muon at a rate that falls in a straight line, smoothed labels, images that grow, and answers from several views.

    Kernels keep their norms where normalizations make these meaningless. With another optimizer that was asked for,
    its rate, decay and schedule are those of the standard recipe.
    """
    batch = asked.batch or batch_size(facts.samples)
    epochs = max(4, min(60, round(SEEN / facts.samples)))
    budget = replace(asked.budget, epochs=asked.budget.epochs or epochs)
    optim = replace(asked.optim, name=asked.optim.name or "muon")
    usual = standard(facts, replace(asked, optim=optim, batch=batch, budget=budget))
    choice = replace(usual, batch=batch, epochs=epochs, keep="last", train_samples=MEASURED, why={})
    if facts.kind == "image":
        choice = replace(
            choice, first_size=0.75, full_size_from=0.5, views="mirror-shift" if asked.augment.flip else None
        )
    if optim.name != "muon":
        return choice
    why = {"optim.name": "Muon: kernels move by orthogonal steps"}
    choice = replace(choice, schedule="triangle", warmup=0.1, why=why)
    if not facts.normalizes:
        return choice
    return replace(choice, lr=TURN, other_lr=OTHER, fixed_norm=True, momentum=0.6, weight_decay=0.0)


def batch_size(samples: int) -> int:
    """A power of two that leaves fifty steps an epoch, between 16 and 512."""
    batch = 16
    while batch < LARGEST_BATCH and samples / (2 * batch) >= STEPS_AN_EPOCH:
        batch *= 2
    return batch
