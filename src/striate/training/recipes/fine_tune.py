"""The recipe for a network that comes with weights: change little, and little of it deep down."""

from __future__ import annotations

from dataclasses import replace

from striate.training.recipes.choice import Choice
from striate.training.recipes.facts import Facts
from striate.training.recipes.standard import standard


def fine_tune(facts: Facts) -> Choice:
    """The standard recipe with a third of the epochs and of the rate; head first, then all, deeper layers slower.

    Head first: Kumar et al., "Fine-tuning can distort pretrained features", 2022. Rates by depth: Howard and Ruder,
    "Universal language model fine-tuning", 2018; early layers see edges, which are the same everywhere.
    """
    choice = standard(facts)
    return replace(
        choice,
        lr=choice.lr / 3,
        epochs=max(4, choice.epochs // 3),
        head_share=0.2,
        layer_decay=0.8,
        why=(
            *choice.why,
            "fine-tuning: a fifth of the steps for the head alone, then all, each layer slower than the next",
        ),
    )
