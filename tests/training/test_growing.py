"""Growing images: what the network gets at each step, who does not take them, and going on in the middle."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from short_runs import asked_for, events_of, parameters
from torch import nn

from striate.data.dataset import Split
from striate.errors import ConfigError
from striate.tasks.segment.task import IGNORED, Segment
from striate.training.events import StepDone
from striate.training.prepare import Prepared, prepare
from striate.training.progressive_resizing import at_size_of_step

GLOBAL = "conv(6,3,pad=1) relu conv(8,3,pad=1) bn relu gap fc(10)"
GROWING = {"model__name": GLOBAL, "schedule__first_size": 0.5, "schedule__full_size_from": 0.5}


def sizes_seen(prepared: Prepared) -> list[tuple[int, ...]]:
    """Height and width of what the network is given in training mode, step by step."""
    seen: list[tuple[int, ...]] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            seen.append(tuple(inputs[0].shape[2:]))

    hook = prepared.state.module.register_forward_pre_hook(look)
    for _ in events_of(prepared):
        pass
    hook.remove()
    return seen


def test_training_sees_small_images_first_and_full_ones_later_and_validation_only_full_ones() -> None:
    prepared = prepare(asked_for(epochs=2, **GROWING))
    seen, steps = sizes_seen(prepared), prepared.config.budget.steps
    assert steps is not None
    assert len(seen) == steps
    assert seen == [(4, 4)] * (steps // 2) + [(8, 8)] * (steps - steps // 2)


@pytest.mark.slow
def test_a_run_that_goes_on_in_the_middle_ends_with_the_same_bits() -> None:
    config = asked_for(epochs=2, **GROWING)
    whole = prepare(config)
    for _ in events_of(whole):
        pass
    cut, events = prepare(config), None
    steps = cut.config.budget.steps or 0
    events = events_of(cut)
    for event in events:
        if isinstance(event, StepDone) and event.step == steps // 2 + 3:
            break
    saved = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in cut.state.to_dict().items()}
    events.close()
    again = prepare(config)
    again.state.restore(saved)
    for _ in events_of(again):
        pass
    one, two = parameters(whole), parameters(again)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_network_of_one_size_is_refused_with_a_way_out_that_works() -> None:
    with pytest.raises(ConfigError, match="does not take 4×4") as caught:
        prepare(asked_for(**(GROWING | {"model__name": "conv(6,3,pad=1) relu fc(10)"})))
    assert "gap fc(10)" in caught.value.remedy
    assert caught.value.got.endswith("its fully connected layer is made for 8×8")
    with pytest.raises(ConfigError, match="pixels rounds to the full size") as caught:
        prepare(asked_for(**(GROWING | {"schedule__first_size": 0.95})))
    assert "--schedule.first_size 0.5" in caught.value.remedy
    prepare(asked_for(**GROWING))


def test_a_size_that_the_network_takes_is_named() -> None:
    deep = "conv(4,5) relu conv(4,5) relu conv(4,5) relu gap fc(10)"  # takes 13 pixels at least
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for(data="mnist5k", epochs=1, **(GROWING | {"model__name": deep, "schedule__first_size": 0.25})))
    assert caught.value.remedy == "--schedule.first_size 0.571"  # 16 of 28 pixels
    prepare(asked_for(data="mnist5k", epochs=1, **(GROWING | {"model__name": deep, "schedule__first_size": 0.571})))


def test_what_is_no_image_does_not_grow() -> None:
    with pytest.raises(ConfigError, match="a table per sample"):
        prepare(asked_for(data="iris", schedule__first_size=0.5))


def test_a_share_without_growing_is_refused_and_one_that_was_decided_is_dropped() -> None:
    with pytest.raises(ConfigError, match="without progressive resizing"):
        prepare(asked_for(schedule__full_size_from=0.5))
    grown = prepare(asked_for(**GROWING)).config
    kept = dataclasses.replace(grown, decided=(*grown.decided, "schedule.first_size", "schedule.full_size_from"))
    small = dataclasses.replace(kept, schedule=dataclasses.replace(kept.schedule, first_size=1.0))
    assert prepare(small).config.schedule.full_size_from is None


def test_what_a_recipe_wished_for_and_cannot_be_is_left_out_with_a_note() -> None:
    config = asked_for(**(GROWING | {"model__name": "conv(6,3,pad=1) relu fc(10)"}))
    wished = dataclasses.replace(config, decided=("schedule.first_size", "schedule.full_size_from"))
    prepared = prepare(wished)
    assert prepared.config.schedule.first_size == 1.0
    assert any("progressive resizing of the recipe is not used" in note and "4×4" in note for note in prepared.notes)


def test_masks_shrink_with_their_images() -> None:
    task = Segment(("a", "b"))
    images = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    masks = torch.zeros(2, 16, 16, dtype=torch.uint8)
    images[:, :, :, 8:], masks[:, :, 8:], masks[1, :8, :8] = 200, 1, IGNORED
    config = dataclasses.replace(
        asked_for(schedule__first_size=0.5), budget=dataclasses.replace(asked_for().budget, steps=10)
    )
    small, targets = at_size_of_step(images, masks, task, config, 0)
    assert small.shape == (2, 1, 8, 8)
    assert small.dtype == targets.dtype == torch.uint8
    assert targets[0].tolist() == [[0] * 4 + [1] * 4] * 8
    assert targets[1].tolist() == [[IGNORED] * 4 + [1] * 4] * 4 + [[0] * 4 + [1] * 4] * 4
    assert small[0, 0, :, :3].eq(0).all()
    assert small[0, 0, :, 5:].eq(200).all()
    full, same = at_size_of_step(images, masks, task, config, 9)
    assert full is images
    assert same is masks


def test_splits_stay_as_they_are() -> None:
    prepared = prepare(asked_for(epochs=1, **GROWING))
    before: Split = prepared.splits["train"]
    copy = before.inputs[:].clone()
    sizes_seen(prepared)
    assert torch.equal(before.inputs[:], copy)
