"""Decides every field that the user left open, with reasons; and test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from striate.data.audit.classes import IMBALANCE_THRESHOLD, imbalance_severity
from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.records import Finding, Remedy
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.recipes.augmentation import decide_augmentation
from striate.training.recipes.facts import Facts, RecipeChoice, fill_open_fields
from striate.training.recipes.local_rule import local_rule, uses_local_rule
from striate.training.recipes.speedrun import speedrun
from striate.training.recipes.standard import fine_tune, quick, standard
from striate.wording import percent, several

RECIPES: dict[str, Callable[[Facts, Config], RecipeChoice]] = {
    "quick": quick,
    "standard": standard,
    "speedrun": speedrun,
    "fine-tune": fine_tune,
}


@dataclass(frozen=True)
class Decision:
    """The decisions of a recipe."""

    config: Config
    """The decided configuration."""
    notes: tuple[str, ...]
    """What was chosen and why, a sentence each."""
    findings: tuple[Finding, ...] = ()
    """What was noticed."""


def decide(config: Config, data: Dataset, facts: Facts) -> Decision:
    """Fill in `augment`, `optim`, `schedule`, `evaluation`, `batch`, `budget`, `keep`, `fine_tune` where they are open.

    Fields that are set stay. An open recipe becomes `fine-tune` for a network with pretrained weights, unless it learns
    by its local learning rule, and `standard` elsewhere.

    Raises ConfigError for an augmentation that the data cannot take, for `fine-tune` without pretrained weights,
    `speedrun` with them, and for a local learning rule that the network does not have.
    """
    if config.recipe == "fine-tune" and not facts.has_weights:
        raise ConfigError(
            "recipe",
            "fine-tune, for a network with random weights",
            "pretrained weights",
            "--weights FILE, or --model RUN; or --recipe standard",
        )
    if config.recipe == "planner":
        raise ConfigError(
            "recipe", f"planner, for {data.name}", "an environment in which a planner can look ahead",
            "striate train gym:striate/Catch-v0 --recipe planner; for samples, leave out --recipe",
        )  # fmt: skip
    if config.recipe == "speedrun" and facts.has_weights:
        raise ConfigError(
            "recipe",
            "speedrun, for a network with pretrained weights",
            "random weights: its large steps would destroy pretrained ones",
            "--recipe fine-tune",
        )
    rule = facts.local_rule if uses_local_rule(config, data, facts.local_rule, begun=facts.has_weights) else None
    recipe = config.recipe or ("fine-tune" if facts.has_weights and rule is None else "standard")
    counted = rule is None and config.budget.minutes is None and config.budget.steps is None
    augment, reason = decide_augmentation(
        config.augment,
        data,
        dense=facts.network == "dense",
        local_rule=rule is not None,
        fast=recipe == "speedrun",
        survives_moves=facts.survives_moves,
        windows=facts.windows,
        adapt=facts.adapt,
        epochs=config.budget.epochs or (RECIPES[recipe](facts, config).epochs if counted else None),
        parameters=facts.parameters,
    )
    with_augmentation = replace(config, augment=augment)
    facts = replace(facts, windows=bool(augment.window))
    choice = RECIPES[recipe](facts, with_augmentation) if rule is None else local_rule(rule, facts, config)
    opened = fill_open_fields(config, choice)
    notes = [*([reason] if reason else []), *(why for name, why in choice.why.items() if name in opened)]
    if "budget.epochs" in opened:
        batch = opened.get("batch", config.batch)
        notes.append(
            f"{several(choice.epochs, 'epoch')} of {several(facts.samples, 'sample')} ({recipe} recipe), batch {batch}"
        )
    config = with_fields(replace(config, augment=augment), {"recipe": recipe, **opened})
    return Decision(config, tuple(notes), _imbalance(config, data, facts, weighed=rule is None))


def _imbalance(config: Config, data: Dataset, facts: Facts, *, weighed: bool) -> tuple[Finding, ...]:
    """`weighed`: whether rare classes could get more weight."""
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
            measured=f"{most} has {several(largest, 'sample')}, {fewest} {smallest:,}: {facts.imbalance:.1f} times "
            "as many",
            threshold=IMBALANCE_THRESHOLD,
            why=f"Always predicting {most} is right for {percent(largest / sum(counts), 0)}: accuracy hides rare "
            "classes.",
            remedy=Remedy(
                "Compare by macro F1"
                + ("; --task.class_weights balanced gives rare classes more weight." if weighed else "."),
                settings={"task.class_weights": "balanced"} if weighed else {},
            ),
        ),
    )


def decide_views(config: Config, request: Config, data: Dataset, task: Task) -> tuple[Config, list[str]]:
    """The configuration with `evaluation.views` decided, and notes.

    Open, it is `none`. A recipe's value for other data than images with classes is dropped with a note; ConfigError is
    raised where the user (`request`) set it.
    """
    views = config.evaluation.views or "none"
    evaluation = replace(config.evaluation, views=views)
    if views == "none":
        return replace(config, evaluation=evaluation), []
    fits = data.medium.pictures and task.mean_of_views
    if not fits and request.evaluation.views is not None and "evaluation.views" not in request.decided:
        what = f"{data.medium.a} a sample" if not data.medium.pictures else f"the task {task.name}"
        raise ConfigError(
            "evaluation.views",
            f"{views} for {data.name}, which has {what}",
            "images, and a task whose predictions are the same for all views",
            "leave out --evaluation.views",
        )
    if not fits:
        return replace(config, evaluation=replace(evaluation, views="none")), [
            "predictions use no test-time augmentation"
        ]
    notes = [
        f"predictions are the mean over {several(VIEW_COUNTS[views], 'view')} of each image (evaluation.views {views})"
    ]
    if not config.augment.flip or (views == "mirrors" and not config.augment.vertical_flip):
        missing = "--augment.flip true" + (" --augment.vertical_flip true" if views == "mirrors" else "")
        notes.append(
            f"test-time augmentation flips images, but training does not: {missing}, or --evaluation.views none"
        )
    return replace(config, evaluation=evaluation), notes
