"""The recipes `standard`, `quick` and `fine-tune`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from striate.data.config import AugmentConfig
from striate.training.config import Config
from striate.training.recipes.facts import Facts, RecipeChoice
from striate.wording import several

CHEAP = 500_000  # multiply–accumulates per input: below, many epochs take seconds
DEEP = 8  # layers without normalization: with more, a step of all of them changes the output too much
TELLING = 200  # validation samples: with fewer, the best of many epochs is a matter of luck
WINDOWS = 8  # windows in a batch; each has a target for every pixel
PATCHES, HEAVY = 2, 1e9  # volumes in a batch, if one takes this many multiply–accumulates
WATCHED = 32  # validation images after each epoch of windows: all of them would take a third of its time
WATCHING = 0.25  # validation pixels over those of the windows of an epoch at most: a tenth of its time
ENOUGH = 10_000  # training samples measured at the end, at most: the 95 % interval of a share is within ±1 point
FEWEST = 300  # the same at least: within ±6 points
MEASURED_SHARE = 10  # one of so many samples seen in training is measured at the end

# For batches of about a hundred, measured on mnist5k with mnist-cnn and mlp(64,32); SGD's is from He et al. 2015. The
# trust coefficient of LARS, 0.001, is part of its step.
RATES = {"adamw": 0.003, "muon": 0.01, "lamb": 0.02, "sgd": 0.1, "lars": 4.0}


def standard(facts: Facts, request: Config) -> RecipeChoice:
    """Optimizer, rate, decay, batch, epochs, and which epoch is the result, fitting the `request`.

    No patience: the rate decays to the last step, and the last epochs improve most. Keeping the best epoch does what
    early stopping is for. No average of weights: at a rate that ends at a thousandth of its peak, the last weights are
    nearly their own average; it pays with the schedules `constant` and `step`.
    """
    why: dict[str, str] = {}
    name = request.optim.name or "adamw"
    # AdamW's rate hardly depends on the network; tables of a hundred rows need a larger one.
    lr = 0.01 if name == "adamw" and facts.medium.flat else RATES.get(name) or request.optim.lr or 0.0
    if facts.plain_depth > DEEP:
        lr = lr / 3
        why["optim.lr"] = f"a third of the usual rate: {several(facts.plain_depth, 'layer')} without normalization"
    windows = PATCHES if facts.macs > HEAVY and not facts.medium.pictures else WINDOWS
    batch, usual_epochs = windows if facts.windows else batch_size(facts.samples), epochs(facts)
    keep, reason = which_epoch(facts)
    if not request.auxiliary.task:
        keep, reason = (
            "last",
            {"keep": "result: the last epoch, since this run does not train the task that validation measures"},
        )
    steps = request.budget.steps or (request.budget.epochs or usual_epochs) * -(
        -facts.samples // (request.batch or batch)
    )
    most = WATCHED if facts.windows else ENOUGH
    if not facts.windows and request.budget.minutes is None:
        most = min(most, max(FEWEST, steps * (request.batch or batch) // MEASURED_SHARE))
    return RecipeChoice(
        optimizer=name,
        lr=lr,
        weight_decay=weight_decay(name, request.optim.lr or lr, steps, table=facts.medium.flat),
        batch=batch,
        epochs=usual_epochs,
        ema=0.0,
        patience=0,
        keep=keep,
        train_samples=most if facts.samples > most else None,
        views=_views(request.augment) if facts.windows else None,
        val_samples=_watched(facts, request.augment.window) if facts.windows and keep == "last" else None,
        why=why | reason,
    )


def _views(augment: AugmentConfig) -> Literal["mirror", "mirrors"] | None:
    """The views of test-time augmentation that training images have too."""
    if not augment.flip:
        return None
    return "mirrors" if augment.vertical_flip else "mirror"


def _watched(facts: Facts, window: int | None) -> int | None:
    """How many whole images are measured after each epoch of windows; None for all."""
    seen = facts.samples * (window or 0) ** 2
    most = max(2, min(WATCHED, round(WATCHING * seen / max(1, facts.positions))))
    return most if most < facts.val_samples else None


def which_epoch(facts: Facts) -> tuple[Literal["best", "last"], dict[str, str]]:
    """Which epoch is the result, and why where it is not the best one."""
    if facts.val_samples >= TELLING:
        return "best", {}
    few = several(facts.val_samples, "validation sample is", "validation samples are")
    few = f"{few} too few to tell which epoch is best"
    return "last", {"keep": f"result: the last epoch, since {few}"}


def batch_size(samples: int) -> int:
    """A power of two with about fifty steps per epoch, between 16 and 128."""
    batch = 16
    while batch < 128 and samples / (2 * batch) >= 50:
        batch *= 2
    return batch


def epochs(facts: Facts) -> int:
    """Epochs of 200,000 samples in all, between 12 (40 for very cheap networks) and 150; more where the task needs
    them."""
    usual = max(40 if 0 < facts.macs < CHEAP else 12, passes_for(facts.samples))
    return min(150, round(facts.passes * usual))


def passes_for(samples: int) -> int:
    """Epochs of 200,000 samples in all, between 12 and 150."""
    return min(150, max(12, round(200_000 / samples)))


def weight_decay(optimizer: str, lr: float, steps: int, *, table: bool) -> float:
    """The weight decay for a rate and a number of steps. AdamW shrinks weights by rate × decay at each step, and the
    sum over the run matters (Wang and Aitchison, "How to set AdamW's weight decay as you scale model and dataset size",
    2024).

    The sum is 1.5 for images, with a decay of 0.01 to 0.5, and 10 for tables, whose networks have little other
    regularization, with a decay of up to 2 (docs/results.md). SGD and LARS, which decay through the gradient, get 5e-4.
    """
    if optimizer in ("sgd", "lars"):
        return 5e-4
    total, most = (10, 2.0) if table else (1.5, 0.5)
    return float(f"{min(most, max(0.01, total / (lr * steps))):.2g}")


def quick(facts: Facts, request: Config) -> RecipeChoice:
    """The standard recipe with a quarter of its epochs, at least 3, and what follows from that."""
    passes = max(3, epochs(facts) // 4)
    budget = replace(request.budget, epochs=request.budget.epochs or passes)
    return replace(standard(facts, replace(request, budget=budget)), epochs=passes)


def fine_tune(facts: Facts, request: Config) -> RecipeChoice:
    """The standard recipe with its rate and epochs; a tenth of the steps for the head warm-up, then rates by depth.

    Head first: Kumar et al., "Fine-tuning can distort pretrained features", 2022. Rates by depth: Howard and Ruder,
    "Universal language model fine-tuning", 2018: early layers detect edges, which are the same everywhere. A third of
    the rate, as usual for large networks, was worse for those that train on a CPU; head share and decay made no
    difference beyond noise (docs/training.md, "Fine-tuning").
    """
    choice = standard(facts, request)
    return replace(
        choice,
        head_share=0.1,
        layer_decay=0.9,
        why={
            **choice.why,
            "fine_tune.head_share": "fine-tuning: in the first tenth of the steps only the head learns",
            "fine_tune.layer_decay": "each layer's learning rate is 0.9 times that of the next layer",
        },
    )
