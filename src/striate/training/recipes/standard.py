"""The standard recipe: what a good practitioner would run without knowing more than this about data and network."""

from __future__ import annotations

from striate.training.config import BudgetConfig
from striate.training.recipes.choice import Choice
from striate.training.recipes.facts import Facts

CHEAP = 500_000  # multiply–accumulates an input: below, many passes cost seconds
DEEP = 8  # layers in a row without normalization: beyond, a step in each of them moves the output too far
TELLING = 200  # validation samples: with fewer, the best of many epochs is the luckiest one


def standard(facts: Facts, budget: BudgetConfig) -> Choice:
    """Optimizer, rate, decay, batch, epochs, and which epoch to keep.

    No patience: the rate decays to the last step, and what comes last is worth most. Keeping the best epoch does what
    early stopping is for. No average of weights: at a rate that ends at a thousandth, the last weights are their own
    average; it pays with the schedules `constant` and `step`.
    """
    table, batch, passes = facts.kind == "table", batch_size(facts.samples), epochs(facts, budget)
    # AdamW's rate hardly depends on the network; tables of a hundred rows bear, and need, a larger one.
    lr, why = 0.01 if table else 0.003, []
    if facts.plain_depth > DEEP:
        lr = lr / 3
        why.append(f"a third of the usual rate: {facts.plain_depth} layers without normalization")
    few = facts.val_samples < TELLING
    if few:
        why.append(f"the last epoch is kept: {facts.val_samples} validation samples cannot tell which one is best")
    return Choice(
        optimizer="adamw",
        lr=lr,
        weight_decay=weight_decay(lr, passes * -(-facts.samples // batch), table),
        batch=batch,
        epochs=passes,
        ema=0.0,
        patience=0,
        keep="last" if few else "best",
        why=tuple(why),
    )


def batch_size(samples: int) -> int:
    """A power of two that leaves about fifty steps an epoch, between 16 and 128."""
    batch = 16
    while batch < 128 and samples / (2 * batch) >= 50:
        batch *= 2
    return batch


def epochs(facts: Facts, budget: BudgetConfig) -> int:
    """As many as asked for, or so many that 200,000 samples are seen, between 12 (40 for networks that cost next to
    nothing) and 150."""
    fewest = 40 if 0 < facts.macs < CHEAP else 12
    return budget.epochs or min(150, max(fewest, round(200_000 / facts.samples)))


def weight_decay(lr: float, steps: int, table: bool) -> float:
    """AdamW shrinks weights by rate × decay at each step; over a run, the sum of that is what matters (Wang and
    Aitchison, "How to set AdamW's weight decay as you scale model and dataset size", 2024).

    1.5 in all for images, between 0.01 and 0.5; 10 for tables, whose networks have little else that holds them back,
    up to 2 (docs/results.md).
    """
    total, most = (10, 2.0) if table else (1.5, 0.5)
    return float(f"{min(most, max(0.01, total / (lr * steps))):.2g}")
