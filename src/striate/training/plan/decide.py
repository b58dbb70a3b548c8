"""The execution plan of a training: plain, cached, or newly measured; and the network prepared for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import torch

from striate.data.dataset import Split
from striate.errors import ConfigError
from striate.inference.plan_key import machine_facts, network_digest
from striate.machine.cache import read_plan, save_plan
from striate.machine.load import Load, load_since, mark
from striate.machine.memory import ran_out
from striate.models.preserved_state import original_preserved, uses_others
from striate.training.budget.speed import steps_for_epochs
from striate.training.config import Config, ExecutionConfig
from striate.training.execution import make_scaler, place, warnings_on_request
from striate.training.plan.offers import Offers, offers_for
from striate.training.plan.plan_table import Candidate, PlanRecord, PlanRow, record_from_json
from striate.training.plan.probe import LONGEST, Probe, probe
from striate.training.plan.search import LONG_STEP, PlanSearch
from striate.training.plan.trial import Trials, Workload, fitting
from striate.training.refusals import fewest_at_once
from striate.wording import several

_SHARE, _MOST = 0.015, 10.0  # time for planning: share of the expected run, and seconds at most
_LONG_SHARE, _LONG_MOST = 0.005, 60.0  # the same for runs of half an hour or more
_TO_BEGIN = 0.85  # of that time, in which rounds may begin: a begun round is finished
_LEAST = 0.2  # seconds: less is too short to measure anything
_TRIAL_STEPS = 80  # trial steps that fit into the requested seconds
SHARED = "no plan was measured, since a copy of the network shares parts with the original"
UNMEASURED = "the plan could not be measured"
_FORM = 2  # version of the cached plans: raised where older ones would be misread
_LONGEST_REASON = 160  # characters
_SHORTEST = 2.0  # seconds: for shorter runs no cached plan is looked for
_QUICK, _QUICK_STEPS = 0.08, 8  # quick comparison of short runs: share of the run, and steps for each candidate
_FEWEST_STEPS = 8  # steps that have to fit into the time: a warm-up step and a timed one for each candidate


@dataclass(frozen=True)
class Planned:
    """How a run computes."""

    execution: ExecutionConfig
    """All fields decided."""
    record: PlanRecord | None = None
    """The table of the plan. None: nothing was measured."""
    note: str = ""
    """Why nothing was measured; empty where that needs no explanation."""


def plan_execution(
    work: Workload,
    request: ExecutionConfig,
    *,
    load: Callable[[], Load] | None = None,
    seconds: float | None = None,
) -> Planned:
    """Decide what `request` leaves open; `work.config` is the configuration without a plan.

    With `seconds`, a plan is measured in about that time, however short the run, and no cached plan is used. Otherwise
    planning takes 1.5 % of the expected run: at most 10 seconds (a minute for long runs), or eight steps where steps
    are long. A run below 14 seconds is too short for that. It uses a cached plan, or takes up to 8 % of its time to
    compare plain fp32 with the candidate that is nearly always fastest, or is computed plainly. Where not even eight
    steps fit, that candidate is used untimed, if its numbers agree.

    `load` of the cores: None measures it. Network, random state and modes stay as they are, also where copies share
    parts with the network; gradients are enabled whatever the caller's mode. An exception of a trial ends in the table
    or the note, except a ConfigError from the user's own loss or transform, which is raised.
    """
    with original_preserved(work.state.module), torch.inference_mode(False), torch.enable_grad():
        try:
            return _plan(work, request, load, seconds)
        except (MemoryError, ConfigError):  # a ConfigError is from the user's loss or transform, which the run needs
            raise
        except Exception as error:  # a network that cannot be copied, or fails: the run itself explains it better
            reason = _first_of(" ".join(str(error).split()))
            return Planned(
                work.config.execution, None, f"{UNMEASURED}, so training runs as with --plan plain: {reason}"
            )


def _expected(work: Workload, step: float) -> float:
    """Seconds of the run, if a plain step takes `step` seconds."""
    return work.seconds if work.seconds is not None else (work.steps or 0) * step


def _too_long(work: Workload, step: float, spent: float = 0.0) -> bool:
    """Whether comparing a few plain steps would take more than the planning time."""
    return step > LONG_STEP and spent + _FEWEST_STEPS * step > _SHARE * _expected(work, step)


def _first_of(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"


def _plan(
    work: Workload,
    request: ExecutionConfig,
    load: Callable[[], Load] | None,
    seconds: float | None,
) -> Planned:
    started, begin = perf_counter(), mark()
    offers = offers_for(work, request)
    if not offers.varied:
        return Planned(work.config.execution)
    copies = Trials(work, fewest_at_once(work.state.module))
    if uses_others(copies.state(offers.plain).module, work.normalize(copies.batch.inputs)):
        return Planned(work.config.execution, None, f"{SHARED}; training runs as with --plan plain")
    fits = fitting(work, offers.plain)
    if fits is not work:
        work, copies = fits, Trials(fits, copies.samples)
    usual = work.config.execution
    longest = None if seconds is None else min(LONGEST, seconds / _TRIAL_STEPS)
    found = probe(copies, offers.plain, longest, lambda whole: whole > LONGEST or _too_long(work, whole))
    expected = _expected(work, found.whole)
    budget = budget_seconds(expected) if seconds is None else seconds
    if seconds is None and expected < _SHORTEST:
        return Planned(usual)
    now = load_since(begin) if load is None else load()
    key, long = plan_key(work, request, offers, now), offers.compiling_pays(expected)
    cached = _cached(key | {"long": long}, found, offers) if seconds is None else None
    if cached is not None:
        return Planned(cached.chosen.execution(usual), cached)
    spent = perf_counter() - started
    if offers.device != "cpu":
        spent = 0.0  # mostly the loading of libraries, which training needs too
    if seconds is None:
        if budget < _LEAST:
            short = _QUICK * expected > spent + _QUICK_STEPS * max(1, len(offers.quick_candidates())) * found.whole
            return _quick_comparison(work, request, found, offers, now, started) if short else Planned(usual)
        needed = _FEWEST_STEPS * found.whole
        if _too_long(work, found.whole, spent):
            return _untimed(work, request, found, offers, now, started)
        budget = max(_TO_BEGIN * budget, spent + needed)
    search = PlanSearch(found if seconds is not None else found.of_whole_batches, offers)
    chosen = search.run(max(0.0, budget - spent), expected, load=now, thorough=seconds is not None)
    record = _record(search, chosen, work, request, now, started)
    if not search.refused:  # with other weights or data, a refused candidate might agree
        save_plan("training", key | {"long": long and not search.no_time_to_compile}, record.to_json())
    return Planned(chosen.execution(usual), record)


def _quick_comparison(
    work: Workload, request: ExecutionConfig, found: Probe, offers: Offers, now: Load, started: float
) -> Planned:
    """The faster of plain fp32 and the candidate that is nearly always fastest. Nothing is cached: a longer run
    measures more candidates."""
    search = PlanSearch(found.of_whole_batches, offers)
    chosen = search.compare_quickly(offers.quick_candidates(), load=now)
    if len(search.timings) < 2:
        return Planned(work.config.execution)
    search.remarks.append("no other candidate was tried, since the run is short")
    return Planned(chosen.execution(work.config.execution), _record(search, chosen, work, request, now, started))


def _untimed(
    work: Workload, request: ExecutionConfig, found: Probe, offers: Offers, now: Load, started: float
) -> Planned:
    usual, likely = work.config.execution, [*offers.likely(), replace(offers.plain, allocator=offers.allocator)]
    if not now.busy:  # the run has fewer threads where the cores were busy only when it began
        likely = [replace(one, threads=max(offers.threads)) for one in likely]
    search = PlanSearch(found, offers)
    chosen = next((one for one in likely if one == offers.plain or search.accepts(one)), offers.plain)
    if chosen == offers.plain and len(search.agreements) == 0:
        return Planned(usual)
    if chosen != offers.plain:
        search.remarks.append(f"chosen without timing, since a plain fp32 step takes about {found.whole:.1f} s")
    return Planned(chosen.execution(usual), _record(search, chosen, work, request, now, started))


def _record(
    search: PlanSearch, chosen: Candidate, work: Workload, request: ExecutionConfig, now: Load, started: float
) -> PlanRecord:
    """The record of a search, with its remarks."""
    return PlanRecord(
        search.rows(chosen),
        search.probe.trials.samples,
        now.name,
        perf_counter() - started,
        remarks=(*_remarks(work, request, search.offers.threads, chosen, now), *search.remarks),
        notes=(*_notes_on_table(search.probe, work, request), *search.notes),
    )


def plan_key(work: Workload, request: ExecutionConfig, offers: Offers, load: Load) -> dict[str, Any]:
    """The key of a cached plan, as plain values. It contains the load of the machine, since a plan for busy cores is
    not one for idle cores. It contains no weights and no data: only times are cached, and agreement is measured
    again."""
    config = work.config
    device = torch.device(config.execution.device or "cpu")
    return {
        "form": _FORM,
        "network": network_digest(work.state.module),
        "heads": "" if work.state.heads is None else network_digest(work.state.heads),
        "input": list(work.train.inputs.shape[1:]),
        "batch": config.batch,
        "part": config.execution.micro_batch,
        "augment": asdict(config.augment),
        "request": {name: value for name, value in asdict(request).items() if name != "plan"},
        "threads": offers.threads,
        "compiles": offers.compiles,
        "allocator": offers.allocator,
        "optimizer": [config.optim.name, bool(config.optim.ema), bool(config.optim.clip)],
        "regularize": [value > 0 for value in asdict(config.regularize).values()],
        "task": work.task.name,
        "machine": machine_facts(device),
        "load": load.name,
    }


def budget_seconds(expected: float) -> float:
    """Seconds that planning a run of `expected` seconds may take."""
    most = max(_MOST, min(_LONG_SHARE * expected, _LONG_MOST))
    return min(_SHARE * expected, most)


def _cached(key: dict[str, object], found: Probe, offers: Offers) -> PlanRecord | None:
    """The plan of an earlier run, if its choice agrees with plain fp32 on these weights and data; None where there is
    none, or its candidates are not available here."""
    values = read_plan("training", key)
    if values is None:
        return None
    with suppress(KeyError, TypeError, ValueError, StopIteration):
        record = record_from_json(values, "cached")
        if record.rows[0].candidate != offers.plain or not all(offers.has(row.candidate) for row in record.rows):
            return None
        search = PlanSearch(found, offers)
        if record.chosen.numerics == offers.plain.numerics or search.accepts(record.chosen):
            return replace(record, rows=tuple(_checked(row, search) for row in record.rows))
    return None


def _checked(row: PlanRow, search: PlanSearch) -> PlanRow:
    agreed = search.agreements.get(row.candidate)
    return row if agreed is None else replace(row, agreement=str(agreed))


def _remarks(
    work: Workload, request: ExecutionConfig, offered: tuple[int, ...], chosen: Candidate, load: Load
) -> list[str]:
    part, remarks = work.config.execution.micro_batch, []
    if part is not None and request.micro_batch is None:
        remarks.append(f"batches are computed in parts of {several(part, 'sample')}, since more do not fit into memory")
    if not load.busy or len(offered) == 1:  # no decision about threads
        return remarks
    threads = several(chosen.threads, "thread")
    instead = f"{threads} instead of {max(offered)}" if chosen.threads < max(offered) else threads
    return [
        *remarks,
        f"other processes use {load.taken:.1f} of {several(load.cores, 'core')}, so training uses {instead}",
    ]


def _notes_on_table(found: Probe, work: Workload, request: ExecutionConfig) -> list[str]:
    batch, there, timed = work.config.batch or 1, len(work.train), found.trials.samples
    notes = (
        [f"the batch of {batch:,} has all {several(there, 'sample')}, since there are no more"] if batch > there else []
    )
    whole = min(batch, there)
    if timed < whole:
        notes.append(f"timed on {timed:,} of the {several(whole, 'sample')} of a batch")
    return notes + warnings_on_request(request, work.config.execution)


@dataclass(frozen=True)
class Applied:
    """A configuration with its execution plan, applied to the network."""

    config: Config
    """All of `execution.*` is decided."""
    record: PlanRecord | None
    """The table of the plan. None: nothing was measured."""
    notes: tuple[str, ...]
    """What the user should know of it, a sentence each."""


def apply_plan(work: Workload, request: ExecutionConfig, seconds: float | None) -> Applied:
    """Decide what `request` leaves open, and bring network and average of `work` into that form. `seconds` as in
    `plan_execution`."""
    state, device = work.state, torch.device(work.config.execution.device or "cpu")
    planned = Planned(work.config.execution)
    if None in (request.precision, request.memory_format, request.compile, request.threads) and request.plan == "auto":
        planned = _within_memory(work, request, seconds)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # the memory of the copies
    config = replace(work.config, execution=planned.execution)
    place(state.module, config, device)
    if state.average is not None:
        place(state.eval_module, _uncompiled(config), device)
    state.scaler = make_scaler(config)
    return Applied(config, planned.record, tuple(_notes(work, request, planned)))


def _within_memory(work: Workload, request: ExecutionConfig, seconds: float | None) -> Planned:
    """`plan_execution`; plain fp32 where memory is too short for the copies that it measures."""
    try:
        return plan_execution(work, request, seconds=seconds)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error) or seconds is not None:
            raise
    note = "training runs in plain fp32: there is too little memory for the copies that the plan measures"
    return Planned(work.config.execution, None, note)


def _notes(work: Workload, request: ExecutionConfig, planned: Planned) -> list[str]:
    notes = [str(planned.record)] if planned.record else [planned.note] if planned.note else []
    used, table = planned.execution.threads or work.threads, work.train.inputs.ndim == 2
    if planned.record is None and request.threads is None and used < work.threads and not table:
        threads = several(used, "thread")
        notes.append(f"other processes use the cores, so training uses {threads} instead of {work.threads}")
    return notes + warnings_on_request(request, planned.execution)


def expected_length(config: Config, train: Split, spent: Callable[[], float]) -> tuple[int | None, float | None]:
    """Optimizer steps of the run, or its seconds without the `spent` ones: whichever was requested; the other is
    None."""
    budget, batch = config.budget, config.batch
    assert batch is not None, "recipes decide it"
    if budget.steps is None and budget.minutes is not None:
        return None, max(1.0, 60 * budget.minutes - spent())
    return budget.steps or steps_for_epochs(budget.epochs or 1, len(train), batch), None


def _uncompiled(config: Config) -> Config:
    return replace(config, execution=replace(config.execution, compile="off"))
