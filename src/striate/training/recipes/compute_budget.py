"""What fits into the time: the size of photographs, and the length of a run without a budget.

Both rest on one short measurement: the multiply–accumulates per second of training steps on this machine.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial

import torch
from torch import nn

from striate.account.summarize import count_macs
from striate.data.media.every_medium import PICTURE
from striate.data.media.medium import ChooseSize, Photographs
from striate.errors import StriateError
from striate.machine.precision import bf16_on_cpu
from striate.machine.rates import convolution_training_rate
from striate.models.build import build_model
from striate.models.choose import choose_fast_model, choose_model
from striate.models.from_file import names_file
from striate.models.weights.saved import Origin
from striate.models.weights.weights_file import describe_weights
from striate.training.config import Config
from striate.training.recipes.facts import Facts
from striate.training.recipes.speedrun import RESIZED_COST
from striate.training.recipes.standard import passes_for
from striate.wording import duration, several

SIDES = (96, 112, 128, 160, 192, 224)
"""Sides of photographs in pixels; larger where more time is given."""
WAIT = 10.0
"""Minutes of a run without a budget."""
LONGER = 1.5
"""A run whose epochs take up to this many times `WAIT` keeps them; a longer one gets `WAIT` minutes."""
FEWEST = 0.25
"""Share of the usual epochs that must fit for a size to be chosen."""
ENOUGH = 3
"""With pretrained weights: epochs that must fit for a size to be chosen, up to the size of their training."""
TRAINING = 0.7
"""Share of the time for training steps; the rest is for reading, measuring, validation and report."""
NOMINAL_RATE = 4e10
"""Multiply–accumulates per second of training steps on one core, where no decision may depend on timing."""
EFFICIENCY = 0.8
"""Rate of a whole training step over that of the two measured convolutions; small-resnet and airbench have 0.9 to 1.4,
before augmentation (2 cores of an AMD EPYC, bf16)."""
_CLASSES = 10
_COUNTED = 128  # side in pixels at which multiply–accumulates are counted; they grow with the area


def choose_size_for(config: Config, module: nn.Module | None) -> ChooseSize:
    """Decides the size of photographs for a training of `config`, with a network given in Python or a named one: the
    largest of `SIDES` at which enough epochs fit into the time."""
    return partial(_choose_size, config, module)


def _choose_size(config: Config, module: nn.Module | None, found: Photographs) -> tuple[tuple[int, int], str]:
    pretrained = config.model.pretrained
    origin = Origin() if pretrained is None or module is not None else describe_weights(pretrained)
    if config.model.name == "auto" and origin.network:
        config = replace(config, model=replace(config.model, name=origin.network))
    macs = _macs(config, module)
    if macs is None:
        return found.usual, (
            f"Size: {found.usual[0]} × {found.usual[1]} pixels, the most common size: the network does not take squares"
            f" of {_COUNTED}; --size sets another."
        )
    samples = max(1, round(found.count * (1 - config.data.test_fraction - config.data.validation_share)))
    seconds = 60 * (config.budget.minutes or WAIT) * TRAINING
    if config.budget.steps is not None:
        wanted = config.budget.steps * (config.batch or 32) / samples
    else:
        wanted = FEWEST * passes_for(samples) if config.budget.epochs is None else float(config.budget.epochs)
    if origin.size is not None:
        wanted = min(wanted, ENOUGH)
    rate = training_rate(config)

    def passes(side: int) -> float:
        height, width = found.at(side)
        return seconds * rate / (3 * samples * macs * height * width / _COUNTED**2)

    most = found.shorter if origin.size is None else min(found.shorter, max(origin.size))
    sides = [side for side in SIDES if side <= most] or [SIDES[0]]
    side = max((side for side in sides if passes(side) >= wanted), default=sides[0])
    larger = next((other for other in sides if other > side), None)
    time = duration(60 * (config.budget.minutes or WAIT))
    learned = "" if origin.size is None else f" (the weights were trained at {origin.size[0]} × {origin.size[1]})"
    fit = f"{_count(passes(side))} of {several(samples, 'image')}"
    text = f"{found.sized(side)}{learned}, so that about {fit} fit into {time}"
    if larger is not None:
        more = (config.budget.minutes or WAIT) * passes(side) / passes(larger)
        text += (
            f"; at {larger} pixels only {_count(passes(larger))} fit, {_count(passes(side))} take {more:.2g} minutes"
            f" (--size {larger} --minutes {more:.2g})"
        )
    return found.at(side), f"{text}."


def _count(passes: float) -> str:
    return f"{passes:.0f} epochs" if passes >= 3 else f"{passes:.1f} epochs"


def _macs(config: Config, module: nn.Module | None) -> float | None:
    """Multiply–accumulates for one image of 128 × 128 pixels, fewer with progressive resizing; None for a network that
    does not take it."""
    shape = (config.data.channels or 3, _COUNTED, _COUNTED)
    try:
        if module is not None:
            return float(count_macs(module, shape))
        name, share = config.model.name, 1.0
        # Few photographs get the recipe speedrun either way.
        if name == "auto" and config.recipe in (None, "speedrun"):
            name, share = choose_fast_model(PICTURE, shape, "vector", 1000)[0], RESIZED_COST
        elif name == "auto" or names_file(name):
            name = choose_model(PICTURE, shape, "vector", 1000)[0]
        with torch.random.fork_rng():
            return share * count_macs(build_model(name, shape, _CLASSES), shape)
    except StriateError:
        return None


def training_rate(config: Config) -> float:
    """Multiply–accumulates per second of training steps of a whole network: measured once per process, in half a
    second; nominal where several processes or `--deterministic` must decide alike."""
    threads = config.execution.threads or torch.get_num_threads()
    if config.execution.deterministic or config.execution.processes is not None:
        return NOMINAL_RATE * threads
    fast = config.execution.plan == "auto" and config.execution.precision in (None, "bf16")
    return EFFICIENCY * _measured_rate(config.execution.device, threads, fast)


@cache
def _measured_rate(device: str | None, threads: int, bf16: bool) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        half = bf16 and (torch.device(place).type != "cpu" or bf16_on_cpu())
        return max(convolution_training_rate(place, kind) for kind in (("fp32", "bf16") if half else ("fp32",)))
    finally:
        torch.set_num_threads(before)


def bounded_wait(config: Config, request: Config, facts: Facts) -> tuple[Config, list[str]]:
    """The configuration with `WAIT` minutes instead of the recipe's epochs, where the `request` has no budget and these
    epochs would take much longer on this machine; and a note about it."""
    requested, decided = request.budget, config.budget
    if requested.epochs or requested.minutes or requested.steps or decided.epochs is None:
        return config, []
    if config.execution.deterministic or config.execution.processes is not None:
        return config, []
    work = 3.0 * facts.macs * facts.samples * decided.epochs
    if work / NOMINAL_RATE < 60 * WAIT:  # far below it even on a single slow core
        return config, []
    seconds = work / training_rate(config)
    if seconds <= 60 * WAIT * LONGER:
        return config, []
    note = (
        f"{WAIT:g} minutes, since no budget was given and the {several(decided.epochs, 'epoch')} of the recipe would "
        f"take about {duration(seconds)} here (--epochs {decided.epochs}, or --minutes {math.ceil(seconds / 60)})"
    )
    return replace(config, budget=replace(decided, epochs=None, minutes=WAIT)), [note]
