"""`data.split-overlap`: does the script divide samples so that training and validation share some?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.overlap.drawn_again import drawn_alike, split_again
from striate.doctor.checks.data.splits.overlap.in_common import images_shared, memory_shared, positions_shared
from striate.doctor.checks.data.splits.overlap.never_read import (
    another_part,
    never_read,
    never_used,
    training_under_each_name,
)
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    found = (
        list(positions_shared(evidence))
        or list(islice(images_shared(evidence), 1))
        or list(memory_shared(evidence))
        or list(drawn_alike(evidence))
        or list(split_again(evidence.source))
        or list(training_under_each_name(evidence.source))
    )
    found = found or list(never_used(evidence)) or list(another_part(evidence))
    yield from found or never_read(evidence)


SPLIT_OVERLAP = Check(
    codes=("data.split-overlap",),
    run=_run,
    of_source=True,
    explains="data.leak",
)
