"""`data.random-validation`: does validation show the same images each time?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import inputs_vary
from striate.doctor.setup.batch import leaves
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    # Random crops of texts and random noise may be intended; random images with one label are not.
    if not evidence.setup.classifies or evidence.val_samples.inputs.ndim != 4 or evidence.val_samples.labels.ndim != 1:
        raise NoEvidence("validation does not consist of images with one label each")
    if inputs_vary(evidence.setup.val):
        if _has_several_images(evidence):
            yield RANDOM_VALIDATION.finding(
                severity="note",
                where="the validation data set",
                measured="reading the same sample twice gives two different pairs of images",
                why="Each evaluation is one of other pairs: the metric varies between epochs with the same network.",
                remedy="draw the pairs of validation once, before the first epoch, and keep them",
            )
            return
        yield RANDOM_VALIDATION.finding(
            severity="warning",
            where="the validation data set",
            measured="reading the same sample twice gives two different images",
            why="Validation is augmented like training: its metric varies between epochs with the same network, "
            "and it is measured on harder images than those to come.",
            remedy="use a separate data set for validation, with a deterministic transform (resize, center crop, "
            "normalize); after `random_split`, use its positions: `Subset(plain, val.indices)`",
        )


def _has_several_images(evidence: Evidence) -> bool:
    """Whether each sample has two or more images of one size, which are drawn to be compared."""
    x = evidence.val_samples.inputs
    return sum(part.ndim == 4 and part.shape[1:] == x.shape[1:] for _, part in leaves(evidence.val.raw[0])) > 1


RANDOM_VALIDATION = Check(
    codes=("data.random-validation",),
    threshold="each of the first samples is the same image each time it is read",
    run=_run,
)
