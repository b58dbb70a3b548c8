"""The standard recipe: what a good practitioner would run without knowing more than this about data and network."""

from __future__ import annotations

from dataclasses import replace

from striate.training.recipes.choice import Choice
from striate.training.recipes.facts import Facts

CHEAP = 500_000  # multiply–accumulates an input: below, many passes cost seconds
DEEP = 8  # layers in a row without normalization: beyond, a step in each of them moves the output too far
TELLING = 200  # validation samples: with fewer, the best of many epochs is the luckiest one


def standard(facts: Facts) -> Choice:
    """Optimizer, rate, decay, batch, epochs, averaging and what to keep."""
    table = facts.kind == "table"
    choice = Choice(
        # AdamW's rate hardly depends on the network; tables of a hundred rows bear, and need, a larger one.
        optimizer="adamw",
        lr=0.01 if table else 0.003,
        weight_decay=0.02,
        batch=batch_size(facts.samples),
        epochs=epochs(facts),
        ema=0.0,
        patience=0,
        keep="best",
    )
    if facts.plain_depth > DEEP:
        why = f"a third of the usual rate: {facts.plain_depth} layers without normalization"
        choice = replace(choice, lr=choice.lr / 3, why=(why,))
    if facts.val_samples < TELLING:
        why = f"the last epoch is kept: {facts.val_samples} validation samples cannot tell which one is best"
        choice = replace(choice, keep="last", ema=0.99, why=(*choice.why, why))
    return choice


def batch_size(samples: int) -> int:
    """A power of two that leaves about fifty steps an epoch, between 16 and 128."""
    batch = 16
    while batch < 128 and samples / (2 * batch) >= 50:
        batch *= 2
    return batch


def epochs(facts: Facts) -> int:
    """So many that 200,000 samples are seen, between 12 (40 for networks that cost next to nothing) and 150."""
    fewest = 40 if 0 < facts.macs < CHEAP else 12
    return min(150, max(fewest, round(200_000 / facts.samples)))
