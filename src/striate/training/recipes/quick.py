"""The quick recipe: a first answer in a quarter of the time."""

from __future__ import annotations

from dataclasses import replace

from striate.training.recipes.choice import Choice
from striate.training.recipes.facts import Facts
from striate.training.recipes.standard import standard


def quick(facts: Facts) -> Choice:
    """The standard recipe with a quarter of its epochs, at least 3."""
    choice = standard(facts)
    return replace(choice, epochs=max(3, choice.epochs // 4))
