"""The recipe for the best network in little time, with ideas from the records on CIFAR-10.

Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", 2024 (arXiv 2404.00498), and its successors with Muon;
progressive resizing: Howard 2018. Each idea is a field of the configuration and can be set by itself.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from striate.data.dataset import Dataset
from striate.models.choose import FEW, LARGE_FOR_AIRBENCH, choose_fast_model, choose_model
from striate.models.weights.named import USUAL, named_weights
from striate.tasks.registry import task_for
from striate.tasks.views import VIEW_COUNTS
from striate.training.config import Config
from striate.training.recipes.facts import Facts, RecipeChoice
from striate.training.recipes.standard import standard

VALIDATION = 0.02
"""Share of validation samples; nothing is chosen by them, since the last epoch is the result."""
FEWEST_VALIDATION = 50
"""Validation samples; where the share leaves fewer, the usual share is taken."""
SMOOTHING = 0.2
FIRST_SIZE, FULL_SIZE_FROM = 0.75, 0.5
"""Images begin at this share of their size, and have full size from this share of the steps on."""
RESIZED_COST = FULL_SIZE_FROM * FIRST_SIZE**2 + 1 - FULL_SIZE_FROM
"""Mean cost of an epoch with progressive resizing, as a share of one at full size."""
SMALLEST_PHOTOGRAPH = 32
"""Side in pixels from which on color images get this recipe by default."""
SMALLEST_TO_TRANSFER = 96
"""Side in pixels from which on images get weights that were trained at 224 pixels."""
USED = 0.85
"""Share of the minutes for training steps."""
MEASURED = 2_000
"""Training samples that are measured at the end: all of them, in six views, would take as long as two epochs."""
SEEN, MOST_EPOCHS = 400_000, 150
"""Training samples of a run without a budget, eight epochs of CIFAR-10; and epochs at most."""
SMALLEST_BATCH, LARGEST_BATCH = 64, 512
"""A step of Muon costs as much as some thirty samples, whatever the batch: with 175 photographs, batches of 64 took 107
epochs in the time of 62 epochs with batches of 16."""
STEPS_AN_EPOCH = 50  # at least, unless the smallest batch is too large
MACS_A_CORE = 1.25e11
"""Multiply–accumulates per second in training steps of airbench, in bfloat16 on one core of a certain machine. Only the
width of the network depends on it, which is thus the same in every run. On a GPU the time does not limit the width."""
FIXED_SECONDS = 5.0  # start of the program, reading, pictures and report
FIXED_STEPS = 150
"""Steps that planning, measuring each size of images, and the signal take before the first step; some in fp32."""
VIEWS = VIEW_COUNTS["mirror-shift"]
"""Views of each image in the final evaluation; digits have only one."""
UNSCALED = 0.1
"""Share of SGD's usual rate for airbench, whose output layer gets unnormalized maxima: at a rate of 0.1 it diverges."""
TURN, OTHER = 0.1, 0.01  # learning rates of kernels with a fixed norm, and of all other parameters


def before_data(config: Config) -> Config:
    """With `data.val_fraction` decided, if this recipe is requested; the other fields are decided after the data are
    read."""
    if config.recipe != "speedrun" or "recipe" in config.decided or config.data.val_fraction is not None:
        return config
    return replace(config, data=replace(config.data, val_fraction=VALIDATION))


def with_enough_validation(config: Config, request: Config, data: Dataset) -> Config:
    """With the usual share of validation samples, where this recipe's share leaves too few; for tables always.
    Unchanged where the `request` sets a share."""
    few = data.medium.flat or len(data.splits["val"]) < FEWEST_VALIDATION
    if config.recipe != "speedrun" or request.data.val_fraction is not None or not few:
        return config
    return replace(config, data=replace(config.data, val_fraction=None))


def before_network(config: Config, data: Dataset) -> Config:
    """With `task.label_smoothing` decided, for this recipe and a cross-entropy loss."""
    task = config.task
    if config.recipe != "speedrun" or task.label_smoothing is not None or config.optim.name == "local-rule":
        return config
    if data.medium.flat or not _by_cross_entropy(config, data):
        return config
    return replace(config, task=replace(task, label_smoothing=SMOOTHING))


def _by_cross_entropy(config: Config, data: Dataset) -> bool:
    """Whether the loss is a cross-entropy, whose targets can be smoothed."""
    found = task_for(data, config.task)
    loss = found.losses[0] if config.task.loss == "auto" else config.task.loss
    return "label_smoothing" in found.fields.get(loss, ())


def _few_photographs(config: Config, data: Dataset, module: nn.Module | None, smallest: int) -> bool:
    """Whether the data are a few thousand images with classes, with sides of at least `smallest` pixels, and neither
    recipe nor network is requested."""
    if module is not None or config.model.name != "auto" or config.recipe is not None:
        return False
    if config.optim.name == "local-rule" or len(data.splits["train"]) > FEW:
        return False
    if not (data.medium.pictures and data.has_one_class_each and len(data.input_shape) == 3):
        return False
    return min(data.input_shape[1:]) >= smallest and task_for(data, config.task).needs == "vector"


def with_cached_weights(config: Config, data: Dataset, module: nn.Module | None) -> tuple[Config, list[str]]:
    """With ImageNet weights for a few photographs, if such weights are on this machine and `model.weights` is open;
    with a note about it."""
    if config.model.weights is not None or not _few_photographs(config, data, module, SMALLEST_TO_TRANSFER):
        return config, []
    found = next((name for name in USUAL if (named := named_weights(name)) is not None and named.cached), None)
    if found is None:
        return config, []
    note = f"weights {found}: pretrained on photographs, found on this machine; --weights none starts from random ones"
    return replace(config, model=replace(config.model, weights=found)), [note]


def for_photographs(config: Config, data: Dataset, module: nn.Module | None) -> tuple[Config, list[str]]:
    """With this recipe, if none is requested, where it is more accurate than `standard`: for at most a few thousand
    photographs with classes, in color from 32 pixels on, and where the network is also chosen (docs/results.md); with a
    note about it.
    Embeddings keep `standard`: pairs of unseen persons had an AUC of 92.1 % with this recipe and 97.9 % without."""
    smallest = LARGE_FOR_AIRBENCH + 1 if data.input_shape[0] == 1 else SMALLEST_PHOTOGRAPH
    few = _few_photographs(config, data, module, smallest) and _by_cross_entropy(config, data)
    if config.model.pretrained is not None or not few:
        return config, []
    note = "recipe speedrun: more accurate than standard for few photographs; --recipe standard or --model turns it off"
    return replace(config, recipe="speedrun"), [note]


def network_for(config: Config, data: Dataset) -> tuple[str, str]:
    """The network where none is named, and why: with this recipe as wide as `budget.minutes` allow."""
    task = task_for(data, config.task)
    if (usual := task.usual_network(data.input_shape)) is not None:
        return usual
    about = data.kind, data.input_shape, task.needs, len(data.splits["train"])
    if config.recipe != "speedrun":
        return choose_model(*about)
    minutes, execution = config.budget.minutes, config.execution
    if minutes is None or execution.device != "cpu":
        return choose_fast_model(*about)
    rate = MACS_A_CORE * (execution.threads or 1)
    return choose_fast_model(
        *about, macs=max(0.0, 60 * minutes * USED - FIXED_SECONDS) * rate, beside=_samples_beside_training(config, data)
    )


def _samples_beside_training(config: Config, data: Dataset) -> float:
    """The work besides the epochs, in samples of a training step; a training sample costs as much as three
    predictions."""
    train = len(data.splits["train"])
    # Planning makes fewer steps where batches are larger.
    batch = min(train, config.batch or min(batch_size(train), max(16, train // STEPS_AN_EPOCH)))
    measured = min(train, config.evaluation.train_samples or MEASURED)
    measured += sum(len(split) for name, split in data.splits.items() if name != "train")
    views = VIEWS if config.evaluation.views is None else VIEW_COUNTS[config.evaluation.views]
    return FIXED_STEPS * batch + measured * views / 3


def speedrun(facts: Facts, request: Config) -> RecipeChoice:
    """Muon with a rate that falls linearly, label smoothing, progressive resizing, and test-time augmentation.

    Kernels keep their norms where normalizations make these irrelevant. With another requested optimizer, its rate,
    decay and schedule are those of the standard recipe; for a table everything is.
    """
    if facts.medium.flat:
        usual = standard(facts, request)
        return replace(
            usual, why={**usual.why, "optim.name": "a table: speedrun is for images, so the standard values are used"}
        )
    batch = request.batch or batch_size(facts.samples)
    epochs = max(4, min(MOST_EPOCHS, round(SEEN / facts.samples)))
    budget = replace(request.budget, epochs=request.budget.epochs or epochs)
    optim = replace(request.optim, name=request.optim.name or "muon")
    usual = standard(facts, replace(request, optim=optim, batch=batch, budget=budget))
    choice = replace(usual, batch=batch, epochs=epochs, keep="last", train_samples=MEASURED, why={})
    if facts.medium.pictures:
        choice = replace(
            choice,
            first_size=FIRST_SIZE,
            full_size_from=FULL_SIZE_FROM,
            views="mirror-shift" if request.augment.flip else None,
        )
    if optim.name != "muon":
        gentle = optim.name == "sgd" and str(request.model.name).startswith("airbench")
        return replace(choice, lr=choice.lr * UNSCALED) if gentle else choice
    why = {"optim.name": "Muon: steps of kernels are orthogonal"}
    choice = replace(choice, schedule="triangle", warmup=0.1, why=why)
    if not facts.normalizes:
        return choice
    return replace(choice, lr=TURN, other_lr=OTHER, fixed_norm=True, momentum=0.6, weight_decay=0.0)


def batch_size(samples: int) -> int:
    """A power of two with at least fifty steps per epoch, between 64 and 512."""
    batch = SMALLEST_BATCH
    while batch < LARGEST_BATCH and samples / (2 * batch) >= STEPS_AN_EPOCH:
        batch *= 2
    return batch
