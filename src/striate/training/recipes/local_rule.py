"""The recipe for a network with a local learning rule: the rule's own values, and nothing that needs a gradient."""

from __future__ import annotations

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.models.learning_rule import LearningRule
from striate.models.registry import MODELS
from striate.training.config import Config
from striate.training.recipes.facts import Facts, RecipeChoice
from striate.training.recipes.standard import batch_size, which_epoch


def uses_local_rule(config: Config, data: Dataset, rule: LearningRule | None, *, begun: bool = False) -> bool:
    """Whether the network's local learning rule trains it: where that is requested, where nothing else is possible, and
    where it is usual for a network that has not `begun` with pretrained weights.

    Raises ConfigError where the network has no rule, or no gradient, or the data have no classes.
    """
    requested, model = config.optim.name, config.model.name
    if rule is None:
        if requested != "local-rule":
            return False
        known = MODELS.get(model.partition("(")[0])
        if known is not None and known.local_rule:
            got, expected = (
                f"local-rule for {model} as a classifier",
                "--task reconstruct, since its rule needs no labels",
            )
            raise ConfigError(
                "optim.name", got, expected, "--task reconstruct; then train a classifier from its run: --weights RUN"
            )
        names = ", ".join(info.name for info in MODELS.values() if info.local_rule)
        raise ConfigError(
            "optim.name",
            f"local-rule for {model}, which has no local learning rule",
            f"a network with one: {names}",
            "--model perceptron",
        )
    if rule.only and requested not in (None, "local-rule"):
        raise ConfigError(
            "optim.name",
            f"{requested} for {model}, which passes no useful gradient",
            f"local-rule: {rule.title}",
            "--optim.name local-rule",
        )
    if not (rule.only or requested == "local-rule" or (rule.usual and requested is None and not begun)):
        return False
    if rule.labels and not data.has_one_class_each:
        raise ConfigError(
            "optim.name",
            f"local-rule for data whose targets are {annotation_kind(data.annotation).word}",
            "samples with one class each, as these rules need",
            "--model auto" if data.has_masks else "--model mlp",
        )
    if config.recipe == "fine-tune":
        raise ConfigError(
            "recipe", "fine-tune with local-rule", "a recipe without learning rates by depth", "--recipe standard"
        )
    if config.recipe == "speedrun":
        raise ConfigError("recipe", "speedrun with local-rule", "a recipe that needs no gradient", "--recipe standard")
    return True


def local_rule(rule: LearningRule, facts: Facts, request: Config) -> RecipeChoice:
    """Rate, schedule and epochs of the rule, a quarter of the epochs with the recipe `quick`; no weight decay.

    Where the rule takes one sample after another, the batch only decides how often the rate changes. A rule without
    labels does not lower the measured loss, so the last epoch is the result.
    """
    keep, reason = which_epoch(facts)
    if not rule.labels:
        keep, reason = "last", {}
    why = {
        "optim.name": f"no gradient of a loss: the network learns by {rule.title}",
        "optim.lr": f"rate {rule.rate:g}: {rule.why}",
    }
    return RecipeChoice(
        optimizer="local-rule",
        lr=rule.rate,
        weight_decay=0.0,
        batch=rule.batch or batch_size(facts.samples),
        epochs=max(1, rule.epochs // 4) if request.recipe == "quick" else rule.epochs,
        ema=0.0,
        patience=0,
        keep=keep,
        schedule=rule.schedule,
        warmup=rule.warmup,
        why=why | reason,
    )
