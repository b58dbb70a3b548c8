"""Curves and areas of ranked scores agree with scikit-learn, also where scores are equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from striate.statistics.ranking import ranked_scores

SAMPLES = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=40)


@pytest.mark.slow
@given(SAMPLES.filter(lambda drawn: len({positive for positive, _ in drawn}) == 2))
def test_areas_and_curves_agree_with_scikit_learn(drawn):
    positive, scores = np.array([one for one, _ in drawn]), np.array([score for _, score in drawn], np.float32)
    ranked = ranked_scores(positive, scores)
    assert ranked.auc == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert ranked.average_precision == pytest.approx(metrics.average_precision_score(positive, scores))
    false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    assert np.allclose(ranked.roc, (false, true))
    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    assert np.allclose(ranked.precision_recall, (recall[::-1], precision[::-1]))


def test_scores_that_are_right_and_wrong():
    positive = np.array([True, True, False, False])
    best, worst = (ranked_scores(positive, np.array(scores)) for scores in ([0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9]))
    assert (best.auc, best.average_precision) == (1.0, 1.0)
    assert worst.auc == 0.0
