"""Causes and what follows from them: the table, and how findings are sorted out with it."""

from __future__ import annotations

import pytest

from striate.doctor.causes import EXPLAINS, FIRST, cause_of_all, sort_out
from striate.doctor.checks.every import every_check
from striate.doctor.diagnosis import Diagnosis, Learning
from striate.records import Finding, Severity

CODES = {code for check in every_check() for code in check.codes}


def finding(code: str, severity: Severity = "warning") -> Finding:
    return Finding(code, severity, "somewhere", "much", "less", "It matters.", "Change it.")


def test_the_codes_are_those_that_are_promised() -> None:
    promised = {
        "data": "labels-random label-noise leak duplicates imbalance missing-class not-normalized not-finite "
        "constant-images shift label-map scrambled not-shuffled label-range too-few "
        "target-scale augmentation same-order split-overlap step-labels targets-left-behind "
        "target-in-input random-validation",
        "model": "double-softmax no-nonlinearity dead-units saturated vanishing-gradient exploding-gradient "
        "symmetric-init unused-parameters frozen-parameters too-small shrinks-too-fast receptive-field collapsed "
        "redundant-filters mode batch-norm-small-batch batch-mixing shared-weights unregistered-parameters "
        "dropout-too-high graph-detached last-layer-clipped evaluates-untrained sees-future "
        "weights-not-loaded attends-padding order-ignored",
        "loss": "wrong-for-task broadcast not-finite sign initial-off degenerate class-weights "
        "ignored-class padding-counted pairs-swapped",
        "optim": "lr-too-high lr-too-low lr-schedule clip-too-small missing-zero-grad parameters-missing "
        "weight-decay-too-high gradient-wrong no-step low-precision accumulation clip-order "
        "scheduler-calls scaler-order state-lost",
        "eval": "mode wrong-axis threshold wrong-count batch-means worst-kept",
        "reward": "never-seen scale terminal-lost truncated-terminal off-by-one target-stale no-exploration endless",
        "fit": "overfit underfit plateau cannot-overfit-batch",
        "speed": "input-bound slow-plan sync-every-step small-batch",
    }
    assert {f"{group}.{name}" for group, names in promised.items() for name in names.split()} == CODES


def test_the_table_knows_all_its_codes() -> None:
    groups = {f"{code.partition('.')[0]}.*" for code in CODES}
    assert set(EXPLAINS) <= CODES
    assert {word for codes in EXPLAINS.values() for word in codes} <= CODES | groups
    assert set(FIRST) <= CODES


def test_what_follows_is_listed_under_its_cause() -> None:
    rate, units, plateau = finding("optim.lr-too-high", "error"), finding("model.dead-units"), finding("fit.plateau")
    roots, follows = sort_out([plateau, units, rate])
    assert roots == (rate,)
    assert set(follows[rate.code]) == {units, plateau}


def test_a_cause_is_as_grave_as_what_follows() -> None:
    roots, follows = sort_out([finding("data.imbalance"), finding("loss.degenerate", "error")])
    assert [(root.code, root.severity) for root in roots] == [("data.imbalance", "error")]
    assert [other.code for other in follows["data.imbalance"]] == ["loss.degenerate"]


@pytest.mark.parametrize(
    ("cause", "symptom"),
    [("model.graph-detached", "model.evaluates-untrained"), ("eval.wrong-axis", "eval.wrong-count")],
)
def test_one_fault_is_one_finding(cause: str, symptom: str) -> None:
    roots, _ = sort_out([finding(symptom, "error"), finding(cause, "error")])
    assert [root.code for root in roots] == [cause]
    assert [root.code for root in sort_out([finding(symptom, "error")])[0]] == [symptom]


def test_a_note_explains_nothing() -> None:
    roots, follows = sort_out([finding("optim.lr-too-high", "note"), finding("fit.plateau", "error")])
    assert [root.code for root in roots] == ["fit.plateau", "optim.lr-too-high"]
    assert not follows


def test_only_an_error_spares_the_search_for_what_would_follow() -> None:
    assert cause_of_all(("fit.plateau",), [finding("optim.lr-too-high", "error")]) == "optim.lr-too-high"
    assert not cause_of_all(("fit.plateau",), [finding("optim.lr-too-high")])
    assert not cause_of_all(("data.leak", "fit.plateau"), [finding("optim.lr-too-high", "error")])


def test_a_check_that_had_no_time_leaves_the_verdict_open() -> None:
    learned = Learning(True, "97 % of the training samples are right after 160 steps")
    looked = ("data.leak", "loss.sign")
    assert Diagnosis((), looked_at=looked, learning=learned).verdict == "healthy"
    cut = Diagnosis(
        (), skipped={"fit.overfit": "the 5 seconds ran out (--seconds)"}, looked_at=looked, learning=learned
    )
    document = cut.to_json()
    assert (document["verdict"], document["healthy"], document["left_out"]) == ("unknown", False, ["fit.overfit"])
    closing = " ".join(str(cut).split())
    assert "not looked at: 1 check, 1 of which ran out of time or failed. Whether it is healthy is not known" in closing


def test_labels_look_random_to_a_network_whose_numbers_are_dropped() -> None:
    found = [Finding(code, "error", "", "", "", "", "") for code in ("data.labels-random", "model.dropout-too-high")]
    assert [one.code for one in sort_out(found)[0]] == ["model.dropout-too-high"]
