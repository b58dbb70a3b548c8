"""Fills in every field that the user left open, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from striate.data.audit.classes import IMBALANCE_THRESHOLD, imbalance_severity
from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.records import Finding, Remedy
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.recipes.augmentation import decide_augmentation
from striate.training.recipes.choice import Choice, fill
from striate.training.recipes.facts import Facts
from striate.training.recipes.fine_tune import fine_tune
from striate.training.recipes.own_rule import learns_by_own_rule, own_rule
from striate.training.recipes.quick import quick
from striate.training.recipes.speedrun import speedrun
from striate.training.recipes.standard import standard

RECIPES: dict[str, Callable[[Facts, Config], Choice]] = {
    "quick": quick,
    "standard": standard,
    "speedrun": speedrun,
    "fine-tune": fine_tune,
}


@dataclass(frozen=True)
class Decision:
    """The decided configuration; in a sentence each, what was chosen and why; and what was noticed."""

    config: Config
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def decide(config: Config, data: Dataset, facts: Facts) -> Decision:
    """Fill in `augment`, `optim`, `schedule`, `evaluation`, `batch`, `budget`, `keep`, `fine_tune` where they are open.

    Fields that are set stay as they are; the recipe `standard` becomes `fine-tune` for a network that has weights,
    unless it learns by its own rule.

    Raises ConfigError on an augmentation that the data cannot take, on `fine-tune` without weights, `speedrun` with
    them, and on a rule of learning that is not the network's.
    """
    if config.recipe == "fine-tune" and not facts.has_weights:
        raise ConfigError(
            "recipe",
            "fine-tune, for a network that begins with random weights",
            "weights to begin with",
            "--weights FILE, or --model RUN; or --recipe standard",
        )
    if config.recipe == "speedrun" and facts.has_weights:
        raise ConfigError(
            "recipe",
            "speedrun, for a network that begins with learned weights",
            "random ones: its large steps would undo what was learned",
            "--recipe fine-tune",
        )
    rule = facts.own_rule if learns_by_own_rule(config, data, facts.own_rule) else None
    recipe = "fine-tune" if facts.has_weights and config.recipe == "standard" and rule is None else config.recipe
    augment, reason = decide_augmentation(
        config.augment,
        data,
        dense=facts.network == "dense",
        own_rule=rule is not None,
        fast=recipe == "speedrun",
        keeps=facts.keeps,
    )
    with_augmentation = replace(config, augment=augment)
    choice = RECIPES[recipe](facts, with_augmentation) if rule is None else own_rule(rule, facts, config)
    opened = fill(config, choice)
    notes = [*([reason] if reason else []), *(why for name, why in choice.why.items() if name in opened)]
    if "budget.epochs" in opened:
        batch = opened.get("batch", config.batch)
        notes.append(f"{choice.epochs} epochs of {facts.samples:,} samples ({recipe} recipe), batch {batch}")
    config = with_fields(replace(config, augment=augment), {"recipe": recipe, **opened})
    return Decision(config, tuple(notes), _imbalance(config, data, facts, weighed=rule is None))


def _imbalance(config: Config, data: Dataset, facts: Facts, *, weighed: bool) -> tuple[Finding, ...]:
    """`weighed`: whether rare classes could be made to count for more."""
    severity = imbalance_severity(facts.imbalance)
    if severity is None or config.task.class_weights == "balanced":
        return ()
    counts = data.splits["train"].targets.bincount(minlength=len(data.classes)).tolist()
    largest, smallest = max(counts), min(counts)
    most, fewest = data.classes[counts.index(largest)], data.classes[counts.index(smallest)]
    return (
        Finding(
            code="data.imbalance",
            severity=severity,
            where=f"{data.name}: train",
            measured=f"{most} has {largest:,} samples, {fewest} {smallest:,}: {facts.imbalance:.1f} times as many",
            threshold=IMBALANCE_THRESHOLD,
            why=f"always answering {most} is right for {largest / sum(counts):.0%}: accuracy hides how rare classes do",
            remedy=Remedy(
                "Look at macro F1" + ("; --task.class_weights balanced weighs rare classes up." if weighed else "."),
                settings={"task.class_weights": "balanced"} if weighed else {},
            ),
        ),
    )
