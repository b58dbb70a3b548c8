"""The figures of an epoch that is over."""

from __future__ import annotations

from striate.training.events import EpochRow
from striate.training.measured import Measured
from striate.training.setup import Setup


def epoch_row(setup: Setup, val: dict[str, float]) -> EpochRow:
    """What the state has summed since the epoch began, beside the metrics `val` of its validation."""
    state, seconds = setup.state, setup.state.epoch_seconds
    assert isinstance(state.tally, Measured), "an epoch has at least one step"
    return EpochRow(
        epoch=setup.epoch + 1,
        step=state.step,
        lr=state.optimizer.param_groups[-1]["lr"],
        train=state.tally.compute(),
        val=val,
        seconds=seconds,
        samples=state.epoch_samples,
        data_wait=state.epoch_wait / seconds,
        augment_share=state.epoch_augment / seconds if setup.config.execution.device == "cpu" else None,
        skipped_steps=None if state.skipped is None else int(state.skipped),
    )
