"""A search over ways to compute whose times are made up, on a real network whose answers are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plan_workloads import BUSY, OPEN, QUIET, OffInHalfPrecision, plain_of, workload
from torch import nn

from striate.machine.load import Load
from striate.training.config import ExecutionConfig
from striate.training.plan import offers, search
from striate.training.plan.decide import Planned, plan_execution
from striate.training.plan.plan_table import Candidate, PlanRecord, PlanRow
from striate.training.plan.trial import Trials, Workload, fitting

SPEED = {"fp32": 1.0, "bf16": 0.5, "channels_last": 0.8, "contiguous": 1.0}


@pytest.fixture(autouse=True)
def made_up_times(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """A millisecond a step of plain fp32 with one thread; bf16 halves it, channels last takes a fifth off, four
    threads make three of one. The list is filled with what was timed."""
    timed: list[Candidate] = []

    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        timed.append(candidate)
        threads = {4: 3.0, 2: 1.8, 1: 1.0}[candidate.threads]
        return count * 1e-3 * SPEED[candidate.precision] * SPEED[candidate.memory_format] / threads

    monkeypatch.setattr(Trials, "seconds", seconds)
    monkeypatch.setattr(offers, "_precisions", lambda _: ("fp32", "bf16"))
    monkeypatch.setattr(offers, "bf16_pays_on_cpu", lambda: True)
    monkeypatch.setattr(offers, "has_compiler", lambda: False)
    return timed


def planned(work: Workload, asked: ExecutionConfig = OPEN, **more: object) -> Planned:
    return plan_execution(work, asked, load=lambda: QUIET, **more)


def test_the_fastest_that_agrees_is_chosen_and_the_table_has_all() -> None:
    found = planned(workload())
    execution, record = found.execution, found.record
    assert (execution.precision, execution.memory_format, execution.threads) == ("bf16", "channels_last", 4)
    assert record is not None
    assert record.rows[0].candidate == Candidate("fp32", "contiguous", 4)
    assert record.speedup == pytest.approx(2.5)
    assert {row.candidate.threads for row in record.rows} == {1, 2, 4}
    assert all(row.passed and row.seconds for row in record.rows)
    assert str(record) == "plan: bf16, channels_last, 4 threads: 2.5× plain fp32"


@pytest.mark.slow
def test_what_a_part_of_a_batch_cannot_tell_apart_is_timed_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: set[tuple[str, str, int]] = set()

    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        timed.add((candidate.precision, candidate.memory_format, self.samples))
        layout = 0.7 if candidate.memory_format == "channels_last" and self.samples == 32 else 1.0
        return count * 0.05 * self.samples * SPEED[candidate.precision] * layout

    monkeypatch.setattr(Trials, "seconds", seconds)
    found = planned(workload(), seconds=12.0)
    assert (found.execution.precision, found.execution.memory_format) == ("bf16", "channels_last")
    assert found.record is not None
    assert found.record.samples == 8
    assert "with all 32 samples of a batch: bf16 contiguous 800 ms, bf16 channels_last 560 ms" in found.record.notes
    assert {one for one in timed if one[2] == 32} == {("bf16", "contiguous", 32), ("bf16", "channels_last", 32)}
    # Where there is no time for it, the plainer one of the two.
    assert planned(workload(), seconds=2.0).execution.memory_format == "contiguous"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("module", "tried"), [(None, {"contiguous"}), (OffInHalfPrecision(), {"contiguous", "channels_last"})]
)
def test_where_steps_are_long_other_ways_of_fp32_are_left_for_when_nothing_else_is_faster_by_far(
    module: nn.Module | None, tried: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts: set[str] = set()

    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        if candidate.precision == "fp32":
            layouts.add(candidate.memory_format)
        return count * 0.05 * self.samples * SPEED[candidate.precision] * SPEED[candidate.memory_format]

    monkeypatch.setattr(Trials, "seconds", seconds)
    found = planned(workload(steps=700) if module is None else workload(module, steps=700))
    assert layouts == tried
    expected = ("bf16" if module is None else "fp32", "channels_last")
    assert (found.execution.precision, found.execution.memory_format) == expected


@pytest.mark.parametrize("module", [None, OffInHalfPrecision()])
def test_where_the_time_is_not_enough_for_a_few_long_steps_the_likely_way_is_taken_if_it_agrees(
    module: nn.Module | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[Candidate, int]] = []

    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        taken.append((candidate, self.samples))
        return count * 0.05 * self.samples

    monkeypatch.setattr(Trials, "seconds", seconds)
    found = planned(workload(steps=100) if module is None else workload(module, steps=100))
    assert {candidate.numerics for candidate, _ in taken} == {("fp32", "contiguous", "off")}
    assert max(samples for _, samples in taken) < 32
    assert found.record is not None
    assert found.execution.memory_format == "channels_last"
    assert found.execution.precision == ("bf16" if module is None else "fp32")
    assert "chosen without timing, since a plain fp32 step takes about 1.6 s" in str(found.record)


def test_untimed_fp32_is_taken_where_products_of_bf16_are_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "bf16_pays_on_cpu", lambda: False)
    monkeypatch.setattr(Trials, "seconds", lambda self, _, count: count * 0.05 * self.samples)
    found = planned(workload(steps=100))
    assert "without timing" in str(found.record)
    assert (found.execution.precision, found.execution.memory_format) == ("fp32", "channels_last")


@pytest.mark.parametrize(("load", "threads"), [(QUIET, 4), (BUSY, 1)])
def test_untimed_a_run_that_began_on_busy_cores_has_all_threads_once_they_are_quiet(
    load: Load, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trials, "seconds", lambda self, _, count: count * 0.05 * self.samples)
    found = plan_execution(replace(workload(execution__threads=1, steps=100), threads=4), OPEN, load=lambda: load)
    assert "without timing" in str(found.record)
    assert (found.execution.precision, found.execution.threads) == ("bf16", threads)


def test_a_wrong_candidate_is_never_chosen_and_its_row_says_why(made_up_times: list[Candidate]) -> None:
    found = planned(workload(OffInHalfPrecision()))
    assert found.execution.precision == "fp32"
    assert found.record is not None
    refused = [row for row in found.record.rows if not row.passed]
    assert {row.candidate.precision for row in refused} == {"bf16"}
    assert all("allowed" in row.agreement and row.seconds is None for row in refused)
    assert all(candidate.precision == "fp32" for candidate in made_up_times)


def test_what_raises_is_a_row_and_no_error() -> None:
    class NoBfloat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.out(x.flatten(1))
            if y.dtype == torch.bfloat16:
                raise RuntimeError("no kernel\n  for bfloat16")
            return y

    found = planned(workload(NoBfloat()))
    assert found.execution.precision == "fp32"
    assert found.record is not None
    assert {row.agreement for row in found.record.rows if not row.passed} == {"failed: no kernel for bfloat16"}


def test_what_was_asked_for_is_not_varied(made_up_times: list[Candidate]) -> None:
    asked = replace(OPEN, precision="fp32", threads=4)
    found = planned(workload(), asked)
    assert (found.execution.precision, found.execution.memory_format) == ("fp32", "channels_last")
    assert {(one.precision, one.threads) for one in made_up_times} == {("fp32", 4)}


def test_with_nothing_to_vary_nothing_is_measured(made_up_times: list[Candidate]) -> None:
    asked = ExecutionConfig(precision="fp32", memory_format="contiguous", threads=4, compile="off", allocator="system")
    work = workload()
    assert planned(work, asked, seconds=5.0) == Planned(work.config.execution)
    assert not made_up_times


def test_a_run_of_a_third_of_a_second_stays_plain() -> None:
    work = workload(steps=1000)
    for _ in range(2):
        assert planned(work) == Planned(work.config.execution)
        assert planned(work, seconds=1.0).record is not None


@pytest.mark.slow
def test_a_run_of_five_seconds_compares_two_ways_or_takes_an_earlier_plan(made_up_times: list[Candidate]) -> None:
    work = workload(steps=15_000)
    found = planned(work)
    assert found.record is not None
    assert [row.candidate for row in found.record.rows] == list(dict.fromkeys(made_up_times))
    assert (found.execution.precision, found.execution.memory_format) == ("bf16", "channels_last")
    assert found.record.remarks[-1] == "no other candidate was tried, since the run is short"
    assert planned(work, seconds=1.0).record is not None
    again = planned(work).record
    assert again is not None
    assert again.source == "cached"


@pytest.mark.slow
def test_a_short_run_stays_plain_where_the_other_way_is_refused() -> None:
    work = workload(OffInHalfPrecision(), steps=15_000)
    assert planned(work).execution.precision == "fp32"


def test_busy_cores_are_told() -> None:
    record = plan_execution(workload(), OPEN, load=lambda: BUSY).record
    assert record is not None
    assert record.load == "2 of 2 cores taken"
    assert "other processes use 2.0 of 2 cores, so training uses 4 threads" in str(record)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("asked", [replace(OPEN, threads=4), OPEN])
def test_where_threads_are_given_other_processes_decide_none(asked: ExecutionConfig) -> None:
    work = workload()
    if asked.threads is None:  # a table, which takes one thread
        table = replace(work.train, inputs=work.train.inputs.flatten(1))
        work = replace(work, state=replace(work.state, module=nn.Linear(64, 10)), train=table)
    record = plan_execution(work, asked, load=lambda: BUSY, seconds=1.0).record
    assert record is not None
    assert "other processes" not in str(record)


@pytest.mark.slow
def test_compiling_that_does_not_fit_into_the_seconds_is_not_tried(
    made_up_times: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "has_compiler", lambda: True)
    monkeypatch.setattr(offers, "_COMPILE_SECONDS", (3000.0, 0.0))
    record = planned(workload(), seconds=2000.0).record
    assert record is not None
    assert {one.compile for one in made_up_times} == {"off"}
    (aside,) = record.notes
    assert aside.startswith("compiling was not tried: it takes about 3000 s, and ")
    assert aside.endswith(" s were left: --seconds 5000 tries it")
    # A training that has the time does not take such a plan for one that tried everything.
    monkeypatch.setattr(search.PlanSearch, "_try_compiling", lambda *given: given[1])
    assert planned(workload()).record.source == "measured"  # type: ignore[union-attr]


@pytest.mark.slow
def test_compiling_that_fits_into_the_seconds_is_tried_in_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def compiled(_: object, best: Candidate, seconds: float, __: float) -> Candidate:
        tried.append(seconds)
        return best

    monkeypatch.setattr(offers, "has_compiler", lambda: True)
    monkeypatch.setattr(offers, "_COMPILE_SECONDS", (30_000.0, 0.0))
    monkeypatch.setattr(search.PlanSearch, "_try_compiling", compiled)
    planned(workload(steps=10**12), seconds=50_000.0)
    assert tried == [pytest.approx(20_000, rel=0.01)]
    plan_execution(workload(steps=10**12), OPEN, load=lambda: BUSY, seconds=50_000.0)  # twice as long there
    assert len(tried) == 1


@pytest.mark.slow
def test_trial_steps_are_short_where_the_seconds_are_few() -> None:
    work = workload(batch=512)  # a made-up millisecond a step, whatever its samples
    assert planned(work, seconds=20.0).record.samples == 512  # type: ignore[union-attr]
    record = planned(work, seconds=0.02).record
    assert record is not None
    assert record.samples == 8
    assert "timed on 8 of the 512 samples of a batch" in record.notes


def test_a_batch_of_more_than_there_are_is_told() -> None:
    record = planned(workload(batch=100_000), seconds=1.0).record
    assert record is not None
    assert record.notes[0] == "the batch of 100,000 has all 1,259 samples, since there are no more"


def test_one_round_has_no_spread() -> None:
    record = planned(workload()).record
    assert record is not None
    spreads = {row.candidate.name: row.spread for row in record.rows}
    assert spreads["bf16, channels_last, 1 thread"] is None  # three times as slow: left out after the first
    assert spreads["bf16, channels_last, 4 threads"] is not None


@pytest.mark.parametrize("load", [BUSY, QUIET])  # when the run began the cores were busy
def test_what_is_no_plain_run_is_not_called_one(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LONG_STEP", 0.0)
    found = plan_execution(workload(execution__threads=1), OPEN, load=lambda: load)
    assert found.record is not None
    assert {row.candidate.threads for row in found.record.rows} == {1, 2, 4}
    assert found.execution.threads == 4
    assert "4 threads: 7.5× plain fp32 with 1 thread" in str(found.record)


@pytest.mark.parametrize(
    ("chosen", "seconds", "line"),
    [
        (Candidate("fp32", "contiguous", 2), 0.99, "fp32, contiguous, 2 threads (no candidate was faster)"),
        (Candidate("fp32", "contiguous", 1), 1.01, "fp32, contiguous, 1 thread (no candidate was faster)"),
        (Candidate("bf16", "contiguous", 2), 0.9, "bf16, contiguous, 2 threads: 1.1× plain fp32"),
    ],
)
def test_a_gain_of_nothing_is_called_that(chosen: Candidate, seconds: float, line: str) -> None:
    plain = Candidate("fp32", "contiguous", 2, allocator="keep")
    rows = PlanRow(plain, 1.0, 0.0, "the reference", True), PlanRow(chosen, seconds, 0.0, "bit for bit", True, True)
    assert str(PlanRecord(rows, 32, "quiet", 1.0)) == f"plan: {line}"


def test_a_gain_of_kept_memory_alone_is_called_that() -> None:
    asked = Candidate("bf16", "contiguous", 1)
    kept = replace(asked, allocator="keep")
    rows = PlanRow(asked, 1.2, 0.0, "the reference", True), PlanRow(kept, 1.0, 0.0, "bit for bit", True, True)
    line = "bf16, contiguous, 1 thread, reuses freed memory: 1.2× the same without memory reuse"
    assert str(PlanRecord(rows, 32, "quiet", 1.0)) == f"plan: {line}"


def test_each_gpu_is_asked_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: {0: (9, 0), 1: (7, 5)}[device.index])
    assert offers._precisions(torch.device("cuda:0")) == ("fp32", "tf32", "bf16", "fp16")
    assert offers._precisions(torch.device("cuda:1")) == ("fp32", "fp16")


def test_a_network_that_cannot_be_copied_is_computed_plainly_and_that_is_said() -> None:
    work = workload()
    work.state.module.stream = open(__file__)  # noqa: PTH123, SIM115
    try:
        found = planned(work)
    finally:
        work.state.module.stream.close()
    assert found.execution == work.config.execution
    assert "cannot be copied" in found.note


@pytest.mark.slow
def test_a_kept_plan_is_taken_at_once_on_the_same_load_alone(made_up_times: list[Candidate]) -> None:
    first = planned(workload())
    made_up_times.clear()
    again = planned(workload())
    assert again.execution == first.execution
    assert again.record is not None
    assert again.record.source == "cached"
    assert str(again.record).startswith("plan (cached from an earlier run): bf16")
    assert {one.precision for one in made_up_times} == {"fp32"}  # the probe alone
    assert plan_execution(workload(), OPEN, load=lambda: BUSY).record.source == "measured"  # type: ignore[union-attr]
    others = workload(batch=16), workload(augment__shift=1), workload(execution__micro_batch=8)
    for other in others:
        assert planned(other).record.source == "measured"  # type: ignore[union-attr]


def test_a_kept_plan_is_checked_on_these_weights() -> None:
    assert planned(workload(OffInHalfPrecision(0.0))).execution.precision == "bf16"
    again = planned(workload(OffInHalfPrecision(0.0)))
    assert again.record is not None
    assert again.record.source == "cached"
    spoiled = workload(OffInHalfPrecision(0.0))
    spoiled.state.module.swallowed = 3000.0  # type: ignore[assignment]  # as other weights might be: the same structure
    found = planned(spoiled)
    assert found.execution.precision == "fp32"
    assert found.record is not None
    assert found.record.source == "measured"


def test_not_a_bit_is_changed_by_planning() -> None:
    work = workload(model__name="conv(6,3) bn relu dropout(0.5) fc(10)")
    work.state.module.train()
    before = {name: tensor.clone() for name, tensor in work.state.module.state_dict().items()}
    state = torch.get_rng_state()
    planned(work)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in work.state.module.state_dict().items())
    assert all(parameter.grad is None for parameter in work.state.module.parameters())
    assert work.state.module.training
    assert not work.state.optimizer.state


def test_a_learning_rule_of_its_own_varies_threads_only(made_up_times: list[Candidate]) -> None:
    found = planned(workload(model__name="perceptron", optim__name="local-rule", batch=8))
    assert found.execution.precision == "fp32"
    assert {one.numerics for one in made_up_times} == {("fp32", "contiguous", "off")}
    assert {one.threads for one in made_up_times} == {1, 2, 4}


@pytest.mark.parametrize(
    ("room", "part", "model"),
    [
        *((100, None, "fc(10)"), (16, 16, "fc(10)"), (9, 8, "fc(10)"), (1, 1, "fc(10)"), (0, None, "fc(10)")),
        *((2, 2, "conv(4,3) bn relu fc(10)"), (1, None, "conv(4,3) bn relu fc(10)")),  # one sample has no variance
    ],
)
def test_a_batch_that_does_not_fit_is_computed_in_parts(
    room: int, part: int | None, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(self: Trials, *_: object) -> float:
        if (self.work.config.execution.micro_batch or self.samples) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e-3

    monkeypatch.setattr(Trials, "seconds", seconds)
    work = workload(batch=32, model__name=model)
    assert fitting(work, plain_of(work)) is work  # a CPU
    execution = replace(work.config.execution, device="cuda")
    found = fitting(replace(work, config=replace(work.config, execution=execution)), plain_of(work))
    assert found.config.execution.micro_batch == part


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("load", "threads"), [(QUIET, 4), (BUSY, 1)])
def test_on_quiet_cores_fewer_threads_are_not_taken_for_a_small_gain(
    load: Load, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        return count * 1e-2 * SPEED[candidate.precision] * (0.95 if candidate.threads == 1 else 1.0)

    monkeypatch.setattr(Trials, "seconds", seconds)
    found = plan_execution(workload(), OPEN, load=lambda: load)
    assert (found.execution.precision, found.execution.threads) == ("bf16", threads)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("times_one_thread", "threads"), [(1.03, 1), (0.8, 1), (1.12, 2)])
def test_a_short_step_takes_more_threads_only_for_a_gain(
    times_one_thread: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        return count * 1e-3 * SPEED[candidate.precision] * (times_one_thread if candidate.threads == 1 else 1.0)

    monkeypatch.setattr(Trials, "seconds", seconds)
    found = planned(workload())
    assert (found.execution.precision, found.execution.threads) == ("bf16", threads)


def test_of_short_steps_the_precision_is_compared_with_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {("fp32", 4): 1.7, ("fp32", 2): 1.7, ("fp32", 1): 1.1, ("bf16", 4): 1.5, ("bf16", 2): 1.5, ("bf16", 1): 1.4}

    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        return count * 1e-3 * times[candidate.precision, candidate.threads]

    monkeypatch.setattr(Trials, "seconds", seconds)
    found = planned(workload())
    assert (found.execution.precision, found.execution.threads) == ("fp32", 1)


@pytest.mark.parametrize(("load", "precision"), [(QUIET, "bf16"), (BUSY, "fp32")])
def test_on_quiet_cores_rounds_that_were_disturbed_do_not_count(
    load: Load, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def seconds(self: Trials, candidate: Candidate, count: int) -> float:
        calls.extend([count] if candidate.precision == "bf16" else [])
        disturbed = candidate.precision == "bf16" and len(calls) % 5 < 3
        return count * 1e-3 * (1.35 if disturbed else 0.8 if candidate.precision == "bf16" else 1.0)

    monkeypatch.setattr(Trials, "seconds", seconds)
    monkeypatch.setattr(offers, "has_maps", lambda _: False)
    found = plan_execution(workload(), ExecutionConfig(threads=4), load=lambda: load)
    assert found.execution.precision == precision
    assert found.record is not None
    assert load.busy != any("the faster half of rounds" in aside for aside in found.record.notes)


def test_on_a_gpu_precisions_layouts_and_compiling_vary_and_nothing_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No GPU is needed to say what is offered for one."""
    monkeypatch.setattr(offers, "_precisions", lambda _: ("fp32", "tf32", "bf16", "fp16"))
    work = workload()
    there = replace(work.config, execution=replace(work.config.execution, device="cuda"))
    offered = offers.offers_for(replace(work, config=there), OPEN)
    assert offered.threads == (offered.plain.threads,)
    assert offered.allocator == offered.plain.allocator
    assert offered.compiles == ("default", "cuda-graphs")
    assert {one.precision for one in offered.arithmetic()} == {"fp32", "tf32", "bf16", "fp16"}
