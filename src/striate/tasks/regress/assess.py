"""Everything that follows from predicted numbers for a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from striate.data.dataset import SampleFacts
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups
from striate.tasks.headline import Headline
from striate.tasks.regress.figures import RegressionFigures
from striate.tasks.regress.numbers import largest_errors, overall_figures, target_figures


def assess_numbers(
    evaluation: Evaluation, facts: SampleFacts, headline: Headline, names: Sequence[str]
) -> RegressionFigures:
    """Everything that follows from predicted numbers for a split; `names` are those of the numbers."""
    truth, answers = (
        np.asarray(values, np.float64).reshape(evaluation.n, -1) for values in (evaluation.targets, evaluation.decoded)
    )
    named = tuple(names) or tuple(f"value {t + 1}" for t in range(truth.shape[1]))
    groups = sample_groups(facts, evaluation.n, brightness=evaluation.brightness)
    few = f"{evaluation.n} samples are fewer than {FEWEST}."
    return RegressionFigures(
        n=evaluation.n,
        figures=overall_figures(truth, answers),
        targets=target_figures(truth, answers, named),
        largest=largest_errors(truth, answers, named, evaluation.ids, facts.paths),
        slices=headline.slices(groups, ((answers - truth) ** 2).mean(1)),
        left_out=(f"No intervals and no slices: {few}",) if evaluation.n < FEWEST else (),
    )
