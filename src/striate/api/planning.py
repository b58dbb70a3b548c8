"""Measure the execution plan of a training without training, and the speed of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from striate.api.announcing import Announce
from striate.api.keywords import known_keywords
from striate.data.media.every_medium import PICTURE
from striate.data.sources.objects import Data, given_data
from striate.errors import ConfigError, TrainingError
from striate.machine.rates import Rate, decoding_rates, matrix_product_rates, memory_rates
from striate.models.build import Model, named_model
from striate.training.execution import memory_explained
from striate.training.plan.decide import SHARED, UNMEASURED
from striate.training.plan.plan_table import PlanRecord
from striate.training.prepare import prepare_data, read_data
from striate.training.request import ConfigSource, merge_request, read_config, requested_fields, with_open_plan
from striate.wording import show_shape


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training, and the training that it is for."""

    record: PlanRecord
    """The table of the plan."""
    model: str
    """The model by name."""
    data: str
    """The data by name."""
    input_shape: tuple[int, ...]
    """Shape of one input, without the batch."""
    batch: int
    """Samples a step."""
    device: str
    """The device by torch's name, such as `cpu`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: the record's, after model, data, input, batch and device."""
        facts = {"model": self.model, "data": self.data, "input": list(self.input_shape), "batch": self.batch}
        return facts | {"device": self.device} | self.record.to_json()

    def __str__(self) -> str:
        return f"{self.model} on {self.data}, {show_shape(self.input_shape)}, batch {self.batch:,}: {self.record}"


@known_keywords
def plan_training(
    data: Data = None,
    model: Model = "auto",
    *,
    batch: int | None = None,
    size: int | tuple[int, int] | str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    seconds: float = 20.0,
    announce: Announce | None = None,
) -> TrainingPlan:
    """Measure in about `seconds` how a training computes fastest, and check each candidate against plain fp32.

    The other arguments are as in `train`. Requested fields of `execution.*` are not varied; fields that the plan of the
    run in `config` decided are. Cached plans are ignored, and the new one is cached for later trainings. An `nn.Module`
    and all random states stay as they are. Raises StriateError; TrainingError where a plain training step fails.
    """
    from striate.models.preserved_state import copied, original_preserved, usual_torch

    if not 0 < seconds <= 3600:
        raise ConfigError("seconds", f"{seconds:g}", "more than 0, and at most 3600", "--seconds 20")
    name, original = named_model(model)
    given = {"batch": batch, "model.name": name}
    fields = requested_fields(given, set or {})
    if str(fields.get("execution.plan", "auto")) == "plain":
        expected = "auto: this command measures a plan"
        raise ConfigError("execution.plan", "plain", expected, "leave out --execution.plan")
    with given_data(data, announce) as source:
        merged = merge_request(read_config(config), data=source, size=size, fields=fields)
        merged = with_open_plan(merged)
        # A copy may refer to the original, by a closure.
        alone = nullcontext() if original is None else original_preserved(original)
        with memory_explained(merged), alone, usual_torch():
            module = None if original is None else copied(original)
            with_data, dataset = read_data(merged, announce)
            prepared = prepare_data(with_data, dataset, module, request=merged, plan_seconds=seconds)
    if prepared.plan is None:
        raise _nothing_to_plan(prepared.notes)
    decided = prepared.config
    return TrainingPlan(
        prepared.plan,
        decided.model.name,
        dataset.name,
        tuple(dataset.input_shape),
        decided.batch or 1,
        decided.execution.device or "cpu",
    )


def _nothing_to_plan(notes: tuple[str, ...]) -> TrainingError:
    reason = next((note for note in reversed(notes) if note.startswith((SHARED, UNMEASURED))), "")
    if reason.startswith(SHARED):
        remedy = "write forward and hooks as methods of the class that use self"
        return TrainingError("plan", reason, "a network whose copy does not depend on the original", remedy)
    if reason:
        return TrainingError(
            "plan", reason, "a network that can take a training step", "train it to see the full error"
        )
    return TrainingError(
        "plan",
        "nothing to measure: all fields of execution.* are given, or there is only one backend",
        "an open field of execution.*",
        "leave out --execution.precision, --execution.memory_format or --execution.threads",
    )


SMALL = 160
"""Side in pixels to which photographs are resized in the second measurement of decoding."""


def measure_machine() -> tuple[Rate, ...]:
    """Measure the machine: matrix products by precision and library (of GPUs too), memory bandwidth, and striate's
    decoding of photographs on one thread, at full size and resized to 160 × 160. Takes a few seconds."""
    import torch

    from striate.data.dataset import Preparation
    from striate.data.media.image.pictures import decode_image

    def decode(data: bytes, shape: tuple[int, int, int]) -> object:
        return decode_image(data, "a photograph", Preparation(PICTURE, shape))

    devices = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    whole, small = (partial(decode, shape=(3, *size)) for size in ((427, 640), (SMALL, SMALL)))
    return (
        *(rate for device in devices for rate in matrix_product_rates(device)),
        *memory_rates(),
        *decoding_rates(whole, how="whole"),
        *decoding_rates(small, how=f"to {SMALL} × {SMALL}"),
    )
