"""The doctor's look at a training before its first step: short, and silent unless something is wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from time import perf_counter

import torch

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.trial import run_trial
from striate.doctor.own.prepared import examine_prepared, patient_of
from striate.doctor.own.remedies import in_own_words
from striate.doctor.patient.unchanged import nothing_changes
from striate.training.execution import execution_settings, uncompiled
from striate.training.prepare import Prepared

SHARE = 0.02
"""Of the time that the steps of the run will take; half of it where the run has so many minutes, which are planned."""
MOST = 10.0
LEAST = 0.3
"""Seconds: in less nothing certain can be said."""
FEWEST_STEPS = 200
"""Of a run: the three that are made to see how long one takes are then less than SHARE of it."""


def looked_at(prepared: Prepared) -> Prepared:
    """The same training with the errors that a quick examination found among its findings. Bits of the run do not
    depend on it. Short runs, networks that learn by rules of their own, and several processes are let pass."""
    config = prepared.config
    steps = config.budget.steps or 0
    if steps < FEWEST_STEPS or config.optim.name == "own-rule" or (config.execution.processes or 1) > 1:
        return prepared
    began = perf_counter()
    patient = patient_of(prepared)
    try:
        with execution_settings(config), uncompiled(config), nothing_changes(patient):
            trial = run_trial(patient, list(islice(patient.train, 2)), 3, began + MOST, close=False)
            if not trial.rows:
                return prepared  # training itself tells it in full
            pace = min(row.seconds for row in trial.rows)
            share = SHARE if config.budget.minutes is None else SHARE / 2
            budget = min(MOST, share * steps * pace) - (perf_counter() - began)
            if budget < LEAST:
                return prepared
        diagnosis = examine_prepared(prepared, Clock(budget), quick=True)
    except Exception:  # a network that cannot be copied, no memory for copies: training itself tells what is wrong
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # training needs what the copies had
        return prepared
    known = {finding.code for finding in prepared.findings}
    errors = [f for f in diagnosis.findings if f.severity == "error" and f.code not in known]
    return replace(prepared, findings=(*prepared.findings, *(in_own_words(error, config) for error in errors)))
