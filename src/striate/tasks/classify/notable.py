"""Single predictions worth a look: the most confident mistakes, the least sure hits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.tasks.classify.figures import ClassAnswer

SHOWN = 24
"""So many answers a list."""


def notable_answers(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    ids: NDArray[np.int64],
    paths: Sequence[str],
) -> tuple[tuple[ClassAnswer, ...], tuple[ClassAnswer, ...]]:
    """The mistakes, the most confident first, and the hits, the one with the smallest lead over another class first."""
    predicted = probabilities.argmax(1)
    confidence = probabilities[np.arange(len(truth)), predicted]
    lead = confidence - runner_up(probabilities, predicted)[1]
    wrong, right = np.flatnonzero(predicted != truth), np.flatnonzero(predicted == truth)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")[:SHOWN]]
    unsure = right[np.argsort(lead[right], kind="stable")[:SHOWN]]

    def described(chosen: NDArray[np.int64]) -> tuple[ClassAnswer, ...]:
        runners_up, next_probable = runner_up(probabilities[chosen], predicted[chosen])
        return tuple(
            ClassAnswer(
                int(ids[i]),
                paths[i],
                classes[truth[i]],
                classes[predicted[i]],
                float(confidence[i]),
                classes[runners_up[place]] if len(classes) > 1 else "",
                float(next_probable[place]),
            )
            for place, i in enumerate(chosen.tolist())
        )

    return described(mistakes), described(unsure)


def runner_up(
    probabilities: NDArray[np.float32], said: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N,) which class is the most probable beside the one that is `said`, and how probable it is; 0 and 0 where there
    is one class."""
    rows = np.arange(len(probabilities))
    rest = probabilities.copy()
    rest[rows, said] = 0 if rest.shape[1] == 1 else -1
    second = rest.argmax(1)
    return second, rest[rows, second]
