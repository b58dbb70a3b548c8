"""Weights that a library's validation uses in place of the trained ones, and that no line of the script changes."""

from __future__ import annotations

from contextlib import suppress

import torch

from striate.doctor.checks.eval.script_evaluation import need_repeatable
from striate.doctor.checks.model.evaluated.never_updated import in_idle_function, is_harmless, reads_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.tracing import trace_prediction
from striate.doctor.evidence.trial_variants import unchanged_parameters
from striate.models.preserved_state import preserved, same_random_state

_DEEPEST = 4


def validated_unchanged(evidence: Evidence) -> list[str]:
    """The names of such weights; empty where validation also uses trained ones, or where code that no trial runs, such
    as a method for the end of an epoch, may change them."""
    try:
        used = _used_in_validation(evidence)
    except NoEvidence:
        return []
    unchanged, source = set(unchanged_parameters(evidence.trial)), evidence.source
    moved = evidence.trial.replica.originals.keys() - unchanged
    if used & moved:
        return []
    names = [name for name in evidence.trial.replica.originals if name in used & unchanged]
    for attribute in {_separate_attribute(name, moved) for name in names}:
        reads = [node for node in reads_of(source, attribute) if not in_idle_function(source, node)]
        if not all(is_harmless(source, node, [], _DEEPEST) for node in reads):
            return []
    return names


def _used_in_validation(evidence: Evidence) -> frozenset[str]:
    """The names of the parameters that the library's validation uses for a batch. Raises NoEvidence."""
    library = evidence.setup.source.library if evidence.setup.source is not None else None
    if library is None or library.evaluate is None:
        raise NoEvidence("no library validates")
    need_repeatable(evidence.source, "validation_step", "on_validation_epoch_start", "on_validation_epoch_end")
    evaluate, replica, batch = library.evaluate, evidence.fresh, evidence.val.raw[0]

    def validate() -> None:
        with suppress(Exception):  # the user's code may fail after it has used the parameters
            evaluate(replica.model, [batch])

    with preserved(replica.model), same_random_state(), torch.no_grad():
        return trace_prediction(replica, batch, validate).used


def _separate_attribute(name: str, others: set[str]) -> str:
    """The first attribute in a parameter's path below which no other parameter is: `ema` of `ema.module.weight` if the
    other one is `net.weight`."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        if not any(other.startswith(".".join(parts[:count]) + ".") for other in others):
            return parts[count - 1]
    return parts[-1]
