"""`reward.terminal-lost`: does the target leave out the next value at the end of an episode?"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

import numpy as np
import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.target_stale import bootstraps_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reward_code import only_at_ends, recorded_bootstraps
from striate.records import Finding
from striate.tasks.control.doctor import terminal_lost


def _terminal_lost(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    known = list(recorded_bootstraps(source)) or bootstraps_of(evidence)[1]
    inverted = next((part for part in known if only_at_ends(source, part)), None)
    if inverted is not None:
        yield terminal_lost(
            source.where(inverted.node),
            f"`{ast.unparse(inverted.node)}` counts the value of the next state only where the episode has ended",
            threshold=TERMINAL_LOST.threshold,
            remedy="use `(1 - terminated)` instead, with `terminated` of env.step as a float",
        )
        return
    lost = [part for part in known if not part.masked and not _is_per_sample(source.value(part.discount))]
    if not lost or len(lost) < len(known):
        return
    yield terminal_lost(
        source.where(lost[0].node),
        f"`{ast.unparse(lost[0].node)}` counts the value of the next state even where the episode has ended",
        threshold=TERMINAL_LOST.threshold,
        remedy=f"`{ast.unparse(lost[0].node)} * (1 - terminated)`, with `terminated` of env.step as a float",
    )


def _is_per_sample(discount: object) -> bool:
    """Whether each transition has its own discount, which may be 0 at the end of an episode."""
    return isinstance(discount, torch.Tensor | np.ndarray) and math.prod(discount.shape) > 1


TERMINAL_LOST = Check(
    codes=("reward.terminal-lost",),
    threshold="each discounted value, recorded or not, is multiplied by 0 where an episode has terminated, and not "
    "where it continues",
    run=_terminal_lost,
    of_source=True,
    of_rewards=True,
)
