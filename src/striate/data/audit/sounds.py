"""Silent sounds, and sounds that were recorded too loud."""

from __future__ import annotations

from striate.data.audit.evidence import DataEvidence, blank_samples
from striate.data.audit.sample_finding import SampleFinding, one_group_each
from striate.records import Finding
from striate.wording import percent, several_of

SILENT = 1e-4
"""Amplitude: −80 decibels of full scale."""
CLIPPED = 1e-3
"""Share of samples."""


def find_silence(evidence: DataEvidence) -> SampleFinding | None:
    """`data.silence`: sounds whose largest amplitude is below −80 dB."""
    sounds = evidence.sound_statistics
    ids = [] if sounds is None else sounds.ids[sounds.peaks < SILENT].tolist()
    threshold = f"an amplitude of {SILENT:g} of 1 (−80 dB)"
    return blank_samples(evidence, "data.silence", ids, "sound", "are silent", threshold, "silent")


def find_clipping(evidence: DataEvidence) -> SampleFinding | None:
    """`data.clipping`: sounds of which a thousandth of the samples has full amplitude, three or more in a row."""
    sounds = evidence.sound_statistics
    shares = {} if sounds is None else dict(zip(sounds.ids.tolist(), sounds.clipped.tolist(), strict=True))
    ids = sorted((i for i, share in shares.items() if share >= CLIPPED), key=lambda i: -shares[i])
    if not ids:
        return None
    total = len(evidence.splits)
    finding = Finding(
        code="data.clipping",
        severity="note",
        where=evidence.listing.source,
        measured=f"{several_of(len(ids), total, 'sound', 'are')} clipped, the most {evidence.named(ids[0])}"
        f" ({percent(shares[ids[0]])} of its samples)",
        threshold=f"{percent(CLIPPED)} of the samples of a sound",
        why="A sound recorded too loud loses its peaks, which adds noise at all frequencies. If one class has more"
        " clipped sounds, the network can recognize it by the clipping.",
        remedy="Record again at a lower gain if classes differ in clipping.",
    )
    return SampleFinding(finding, one_group_each(ids), {i: f"{percent(shares[i])} clipped" for i in ids})
