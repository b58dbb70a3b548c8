"""Single answers worth a look: the most confident mistakes, the least sure hits, the largest errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.evaluation.assessment.record import ClassAnswer, NumberAnswer

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


def largest_errors(
    truth: NDArray[np.float64],
    answers: NDArray[np.float64],
    names: Sequence[str],
    ids: NDArray[np.int64],
    paths: Sequence[str],
) -> tuple[NumberAnswer, ...]:
    """The numbers that are furthest off, each measured by the spread of its target; `truth` and `answers` (N, T)."""
    errors = answers - truth
    spread = truth.std(0)
    distance = np.abs(errors) / np.where(spread > 0, spread, 1)
    order = np.argsort(-distance, axis=None, kind="stable")[:SHOWN]
    found = []
    for i, t in zip(*np.unravel_index(order, errors.shape), strict=True):
        values = (float(truth[i, t]), float(answers[i, t]), float(errors[i, t]))
        found.append(NumberAnswer(int(ids[i]), paths[i], names[t], *values))
    return tuple(found)
