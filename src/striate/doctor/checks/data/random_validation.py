"""`data.random-validation`: does validation show the same images each time?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.reading import drawn_anew
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    # Texts are cut at random and noise is drawn on purpose; of a picture with one label nobody means that.
    if not evidence.setup.classifies or evidence.val_samples.inputs.ndim != 4 or evidence.val_samples.labels.ndim != 1:
        raise NoEvidence("validation is no pictures with one label each")
    if drawn_anew(evidence.setup.val):
        yield RANDOM_VALIDATION.finding(
            severity="warning",
            where="the validation data set",
            measured="the same sample asked for twice is two different images",
            why="Validation is augmented as training is: its metric varies from epoch to epoch with the same network, "
            "and is that of images which are harder than those to come.",
            remedy="a data set of its own for validation, with a transform that draws nothing (resize, center crop, "
            "normalize); of `random_split`, the positions: `Subset(plain, val.indices)`",
        )


RANDOM_VALIDATION = Check(
    codes=("data.random-validation",),
    question="Does validation show the same images each time?",
    threshold="each of the first samples is the same image whenever it is asked for",
    run=_run,
)
