"""Memory runs out in a step or a validation: the same batch goes on in smaller parts, from the state before."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from rich.console import Console
from short_runs import asked_for, events_of, parameters
from torch import nn

from striate.api import train_config
from striate.errors import TrainingError
from striate.machine.memory import in_halves
from striate.training.config import Config
from striate.training.config_file import config_from_dict, config_from_yaml, config_to_dict
from striate.training.events import EpochDone, Event, MemoryRanOut, StepDone
from striate.training.execution import evaluation_batch, measured_at_once, training_part
from striate.training.plan import decide
from striate.training.prepare import Prepared, prepare
from striate.training.setup import at_step


class Greedy(nn.Module):
    """Has room for `most` samples at once in training, and for `measured` in validation, from the `calm`th call on;
    `places` of normalization and dropout let a step leave traces before it fails."""

    most: ClassVar[int] = 10**9
    measured: ClassVar[int] = 10**9
    calm: ClassVar[int] = 0
    seen: ClassVar[list[int]] = []
    error: ClassVar[Callable[[], Exception]] = lambda: torch.OutOfMemoryError("CUDA out of memory")

    def __init__(self, *, normalized: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64) if normalized else nn.Identity()
        self.out = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x.flatten(1))  # its statistics have changed when memory runs out
        type(self).seen.append(len(x))
        if len(type(self).seen) > type(self).calm and len(x) > (self.most if self.training else self.measured):
            raise type(self).error()
        return self.out(x)


@pytest.fixture(scope="module", autouse=True)
def old_objects_set_aside() -> Iterator[None]:
    """Memory is freed before each new attempt: garbage is then looked for among what these tests made."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def has(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setattr(Greedy, name, value)

    has(seen=[], most=10**9, measured=10**9, calm=0)
    return has


def prepared_for(*, normalized: bool = True, **fields: object) -> Prepared:
    torch.manual_seed(0)
    usual = {"batch": 64, "execution__plan": "plain", "execution__device": "cpu"}
    return prepare(asked_for(**usual | fields), Greedy(normalized=normalized))  # type: ignore[arg-type]


def events(prepared: Prepared) -> list[Event]:
    return list(events_of(prepared))


def short_of(events: list[Event]) -> list[MemoryRanOut]:
    return [event for event in events if isinstance(event, MemoryRanOut)]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried"),
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes"),
        lambda: RuntimeError("could not create a primitive"),
        MemoryError,
    ],
)
def test_the_micro_batch_is_halved_and_the_batch_stays(error, room) -> None:
    prepared = prepared_for()
    room(most=20, error=error)
    happened = events(prepared)
    assert [(event.step, event.before, event.samples) for event in short_of(happened)] == [(1, 64, 32), (1, 32, 16)]
    steps = [event for event in happened if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, len(steps) + 1))
    assert steps[0].samples == 64
    assert short_of(happened)[-1].config.execution.micro_batch_from == ((0, 16),)


def test_weights_end_as_if_it_had_been_asked_for(room) -> None:
    asked = prepared_for(execution__micro_batch=16)
    events(asked)
    short = prepared_for()
    room(most=20)
    assert short_of(events(short))
    for name, weight in parameters(asked).items():
        assert torch.equal(weight, parameters(short)[name]), name
    for (name, one), other in zip(asked.state.module.named_buffers(), short.state.module.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_the_state_is_that_before_the_step_to_the_bit(room) -> None:
    prepared = prepared_for()
    running = events_of(prepared)
    for event in running:
        if isinstance(event, StepDone) and event.step == 3:
            break
    state = prepared.state
    before = {name: tensor.clone() for name, tensor in state.module.state_dict().items()}
    moments = [{k: v.clone() for k, v in values.items()} for values in state.optimizer.state.values()]
    room(most=20)
    assert isinstance(next(running), MemoryRanOut)
    assert state.step == 3
    for name, tensor in state.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for values, kept in zip(state.optimizer.state.values(), moments, strict=True):
        assert all(torch.equal(values[k], kept[k]) for k in kept)


def test_a_repeat_takes_the_same_path(room) -> None:
    """Also one that goes on from a step before, on a machine that has the room."""
    first = prepared_for(epochs=2)
    room(most=40, calm=9)
    config = short_of(events(first))[-1].config
    ((step, part),) = config.execution.micro_batch_from
    assert (step > 0, part) == (True, 32)
    assert config_from_dict(config_to_dict(config), "again") == config
    room(most=10**9)
    again = prepared_for(epochs=2)
    again = replace(again, config=replace(again.config, execution=config.execution))
    assert not short_of(events(again))
    for name, weight in parameters(first).items():
        assert torch.equal(weight, parameters(again)[name]), name


def test_what_is_no_longer_identical_is_said(room) -> None:
    prepared = prepared_for()
    room(most=40)
    said = str(short_of(events(prepared))[0])
    assert "step 1 with 64 samples at once" in said
    assert "batch normalization sees 32 samples" in said
    assert "dropout draws other masks" in said
    assert "\n" not in said


def test_one_sample_that_does_not_fit_ends_with_remedies(room) -> None:
    prepared = prepared_for(normalized=False)
    room(most=0)
    with pytest.raises(TrainingError, match="with 1 at once") as caught:
        events(prepared)
    assert "--size 4x4" in caught.value.remedy
    assert "--model" in caught.value.remedy
    assert "--batch 32" in caught.value.remedy


def test_batch_normalization_keeps_two_samples(room) -> None:
    prepared = prepared_for()
    room(most=1)
    with pytest.raises(TrainingError, match="with 2 at once"):
        events(prepared)


def test_validation_goes_on_with_half_as_many(room) -> None:
    whole = prepared_for()
    events(whole)
    prepared = prepared_for()
    room(measured=70)
    happened = events(prepared)
    (short,) = short_of(happened)
    assert (short.what, short.before, short.samples) == ("validation", 128, 64)
    assert evaluation_batch(short.config) == measured_at_once(short.config) == 64
    (done,) = [event for event in happened if isinstance(event, EpochDone)]
    assert len(prepared.state.history) == 1
    assert done.row.val["accuracy"] == whole.state.history[0].val["accuracy"]
    assert done.row.val["loss"] == pytest.approx(whole.state.history[0].val["loss"], rel=1e-6)
    for name, weight in parameters(whole).items():
        assert torch.equal(weight, parameters(prepared)[name]), name


def test_an_optimizer_without_room_says_so(room, monkeypatch) -> None:
    prepared = prepared_for()

    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")

    prepared.state.optimizer.register_step_pre_hook(full)
    with pytest.raises(TrainingError, match="optimizer state"):
        events(prepared)


@pytest.mark.parametrize("said", ["shapes do not fit", "could not create a primitive descriptor for a convolution"])
def test_other_errors_pass(said: str, room) -> None:
    prepared = prepared_for()
    room(most=1, error=lambda: RuntimeError(said))
    with pytest.raises(RuntimeError, match=said):
        events(prepared)


def test_later_parts_hold_from_their_step_on() -> None:
    config = Config()
    execution = replace(config.execution, micro_batch_from=((4, 32), (9, 8)), micro_batch=64)
    config = replace(config, execution=execution)
    assert [at_step(config, step).execution.micro_batch for step in (0, 3, 4, 8, 9, 20)] == [64, 64, 32, 32, 8, 8]
    assert at_step(Config(), 3) == Config()
    assert training_part(config, 100) == measured_at_once(config) == 8


@pytest.mark.slow
def test_the_end_of_a_run_has_room(room, tmp_path) -> None:
    """Signal, figures and pictures, in a network that runs out in its first step and in every larger batch after."""
    room(most=20, measured=40)
    config = asked_for(batch=64, execution__device="cpu", execution__plan="plain")
    out = tmp_path / "run"
    run = train_config(config, module=Greedy(), out=out, console=Console(stderr=True), quiet=True)
    assert run.metrics["test"]["n"] == 359
    assert config_from_yaml(out / "config.yaml").execution.micro_batch_from == ((0, 16),)
    assert config_from_yaml(out / "config.yaml").execution.evaluation_batch == 32
    notes = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert sum("memory ran out" in note.get("text", "") for note in notes) == 4


def test_a_plan_without_room_is_plain(monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")

    monkeypatch.setattr(decide, "plan_execution", full)
    prepared = prepare(asked_for(execution__device="cpu"))
    assert prepared.config.execution.precision == "fp32"
    assert any("too little memory for the copies" in note for note in prepared.notes)


@pytest.mark.parametrize(("samples", "room", "tried"), [(64, 20, [64, 32, 16]), (5, 9, [5]), (3, 1, [3, 1])])
def test_halves_are_tried(samples: int, room: int, tried: list[int]) -> None:
    seen = []

    def act(count: int) -> int:
        seen.append(count)
        if count > room:
            raise MemoryError
        return count

    assert in_halves(samples, act) == tried[-1]
    assert seen == tried


def test_halves_end_with_what_was_raised() -> None:
    with pytest.raises(MemoryError):
        in_halves(4, lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(4, lambda _: (_ for _ in ()).throw(RuntimeError("shapes")))


def in_a_process(*arguments: str) -> list[list[str]]:
    program = Path(__file__).with_name("limited_memory.py")
    ran = subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [line.split() for line in ran.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts address space on Linux")
def test_a_process_whose_memory_is_limited_goes_on() -> None:
    """No stand-in: torch's own allocator is refused memory by the system."""
    *short, (_, loss, steps), (_, whole, _) = in_a_process(str(160 << 20))
    training = [(int(before), int(samples)) for what, before, samples in short if what == "training"]
    assert training[0] == (512, 256)
    assert all(samples == before // 2 for before, samples in training)
    assert steps == "1"
    assert float(loss) == pytest.approx(float(whole), rel=1e-5)
