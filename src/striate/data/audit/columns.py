"""Columns of a table with one value in all rows."""

from __future__ import annotations

import numpy as np

from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding, some
from striate.records import Finding
from striate.wording import several


def find_constant_columns(evidence: DataEvidence) -> SampleFinding | None:
    """`data.constant-columns`: columns with one value in all rows."""
    inputs = evidence.listing.inputs
    if not evidence.listing.medium.flat or inputs is None or len(inputs) < 2:
        return None
    places = np.flatnonzero((inputs == inputs[:1]).all(axis=0)).tolist()
    if not places:
        return None
    names = evidence.listing.features or tuple(f"column {i}" for i in range(inputs.shape[1]))
    return SampleFinding(
        Finding(
            code="data.constant-columns",
            severity="warning",
            where=evidence.listing.source,
            measured=f"{len(places):,} of {several(inputs.shape[1], 'column')} have the same value in all rows: "
            f"{some([names[place] for place in places])}",
            threshold="0 columns",
            why="A constant column carries no information, and often points to an error when the file was written.",
            remedy="Check where the columns come from, or leave them out.",
        )
    )
