"""The recipe for a network that comes with weights: the head first, then all, and a little less of it deep down."""

from __future__ import annotations

from dataclasses import replace

from striate.training.config import Config
from striate.training.recipes.choice import Choice
from striate.training.recipes.facts import Facts
from striate.training.recipes.standard import standard


def fine_tune(facts: Facts, asked: Config) -> Choice:
    """The standard recipe, its rate and epochs too; a tenth of the steps for the head alone, then rates by depth.

    Head first: Kumar et al., "Fine-tuning can distort pretrained features", 2022. Rates by depth: Howard and Ruder,
    "Universal language model fine-tuning", 2018; early layers see edges, which are the same everywhere. A third of
    the rate, as is usual for large networks, was worse for those that train on a CPU; head share and decay made no
    difference beyond noise (docs/training.md, "Fine-tuning").
    """
    choice = standard(facts, asked)
    return replace(
        choice,
        head_share=0.1,
        layer_decay=0.9,
        why={
            **choice.why,
            "fine_tune.head_share": "fine-tuning: a tenth of the steps are for the head alone",
            "fine_tune.layer_decay": "each layer learns at 0.9 of the next one's rate",
        },
    )
