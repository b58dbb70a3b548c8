"""`data.random-validation`: does validation show the same images each time?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import inputs_vary
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    # Random crops of texts and random noise may be intended; random images with one label are not.
    if not evidence.setup.classifies or evidence.val_samples.inputs.ndim != 4 or evidence.val_samples.labels.ndim != 1:
        raise NoEvidence("validation does not consist of images with one label each")
    if inputs_vary(evidence.setup.val):
        yield RANDOM_VALIDATION.finding(
            severity="warning",
            where="the validation data set",
            measured="reading the same sample twice gives two different images",
            why="Validation is augmented like training: its metric varies between epochs with the same network, "
            "and it is measured on harder images than those to come.",
            remedy="use a separate data set for validation, with a deterministic transform (resize, center crop, "
            "normalize); after `random_split`, use its positions: `Subset(plain, val.indices)`",
        )


RANDOM_VALIDATION = Check(
    codes=("data.random-validation",),
    threshold="each of the first samples is the same image each time it is read",
    run=_run,
)
