"""Are filters copies of each other, or without any answer?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.passage import LayerView
from striate.doctor.evidence.units import WEIGHTED, copied_share, flat_share, hidden
from striate.records import Finding
from striate.wording import listed

MOST = 0.5
"""Share of a layer's filters: so many weights are spent on nothing."""
COSINE = 0.99
"""Of two filters. Random ones of four weights or more never come so near, learned ones hardly ever."""
STILL = 0.9
FLAT = 1e-3
"""Standard deviation of a feature map as a share of the layer's largest."""
FEWEST_UNITS, FEWEST_WEIGHTS = 6, 4


def run(evidence: Evidence) -> Iterator[Finding]:
    """Layers of which most filters are copies, or their maps the same everywhere, at the start and later."""
    known = []
    for first, later in hidden(evidence.trial):
        if first.kind not in WEIGHTED or first.units is None or len(first.units) < FEWEST_UNITS:
            continue
        copies, flat = _copies(first, COSINE), _flat(first)
        if later is not None:
            copies = min(copies, _copies(later, STILL))
            # Of a branch that begins at zero all maps are flat at first.
            flat = min(flat, _flat(later)) if flat == 1 else flat
        known.append((first.name, copies, flat))
    bad = [(name, copies, flat) for name, copies, flat in known if copies + flat >= MOST]
    if not bad:
        return
    name, copies, flat = max(bad, key=lambda item: item[1] + item[2])
    yield Finding(
        code="model.redundant-filters",
        severity="warning",
        where=listed([place for place, _, _ in bad]),
        measured=f"{copies:.0%} of the filters of {name} are copies of others (cosine above {COSINE:g}), {flat:.0%} "
        "of its feature "
        "maps are the same everywhere for every sample",
        threshold=f"{MOST:.0%} of a layer's filters",
        why="Features are worth most when they are uncorrelated and vary much; copies tell nothing that one of them "
        "does not.",
        remedy="Draw each filter at random by itself: `nn.init.kaiming_normal_(layer.weight)`; where filters were "
        "pruned, make "
        "the layer narrower.",
    )
    evidence.pictures["model.redundant-filters"] = Picture(
        "bars",
        "Share of filters that are copies or flat",
        {"share": tuple(copies + flat for _, copies, flat in known)},
        tuple(place for place, _, _ in known),
    )


def _copies(layer: LayerView, cosine: float) -> float:
    if layer.weight is None or layer.weight.shape[1] < FEWEST_WEIGHTS:
        return 0.0
    return copied_share(layer.weight, cosine)


def _flat(layer: LayerView) -> float:
    return 0.0 if layer.units is None or layer.units.shape[1] < 2 else flat_share(layer.units, FLAT)


CHECK = Check(
    codes=("model.redundant-filters",),
    question="Are features different from each other, and do they vary?",
    threshold=f"At least {MOST:.0%} of a layer's filters have a cosine above {COSINE:g} with an earlier one (above "
    f"{STILL:g} 30 "
    "steps "
    f"later), or feature maps with a standard deviation below {FLAT:g} of the layer's largest.",
    run=run,
    explains="fit.*",
)
