"""A class is chosen from probabilities in one place: by the largest, by costs, or by thresholds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.cli.main import main
from striate.errors import StriateError, UsageError
from striate.tasks.classify.decision import MOST_PROBABLE, effect_of, make_rule, rare_class_findings
from striate.tasks.classify.task import Classify
from striate.tasks.registry import task_from_state, task_to_state
from striate.tasks.regress.task import Regress
from striate.training.config_file import config_from_yaml

CLASSES = ("doubtful", "healthy", "ill")
RULE = "--cost", "ill=30"


def chosen(probabilities, *, cost=None, threshold=None, classes=CLASSES):
    rule = make_rule(classes, cost, threshold)
    return [classes[k] for k in rule.choose(np.array(probabilities, np.float32))]


def test_the_class_with_the_largest_cost_times_probability_is_the_bayes_decision() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 500).astype(np.float32)
    rule = make_rule(CLASSES, "ill=10,doubtful=3", None)
    costs = np.array([3.0, 1.0, 10.0])
    # What is lost on average by each answer: the costs of all other classes, as probable as they are.
    lost = np.stack([(np.delete(costs, k) * np.delete(probabilities, k, 1)).sum(1) for k in range(3)], 1)
    np.testing.assert_array_equal(rule.choose(probabilities), lost.argmin(1))
    np.testing.assert_array_equal(MOST_PROBABLE.choose(torch.from_numpy(probabilities)), probabilities.argmax(1))


def test_a_threshold_is_reached_or_one_of_the_others_is_predicted() -> None:
    rows = [[0.1, 0.7, 0.2], [0.1, 0.71, 0.19], [0.05, 0.35, 0.6], [0.3, 0.5, 0.2]]
    assert chosen(rows, threshold="ill=0.2") == ["ill", "healthy", "ill", "ill"]
    assert chosen(rows, threshold={"ill": 0.7}) == ["healthy", "healthy", "healthy", "healthy"]
    assert chosen(rows, threshold=["ill=0.2", "doubtful=0.12"]) == ["ill", "healthy", "ill", "doubtful"]
    assert chosen(rows, cost="doubtful=9", threshold="ill=0.5") == ["doubtful", "doubtful", "ill", "doubtful"]


@pytest.mark.parametrize(
    ("cost", "threshold", "got", "remedy"),
    [
        ("il=10", None, "the class 'il'", "--cost ill=10"),
        ("ill=0", None, "0 for 'ill'", "--cost ill=10"),
        ("ill=inf", None, "inf for 'ill'", "--cost ill=10"),
        ("ill=nan", None, "nan for 'ill'", "--cost ill=10"),
        (None, "ill=nan", "nan for 'ill'", "--threshold ill=0.2"),
        ("ill", None, "'ill' without a number", "--cost ill=10"),
        ("ill=ten", None, "'ill=ten'", "--cost doubtful=10"),
        (["ill=2", "ill=3"], None, "'ill' twice", "--cost ill=2"),
        ({"ill": "2"}, None, "'2' for 'ill'", "--cost ill=10"),
        (None, "ill=1.2", "1.2 for 'ill'", "--threshold ill=0.2"),
        (None, "ill", "'ill' without a number", "--threshold ill=0.2"),
        (None, "ill=.2,healthy=.3,doubtful=.1", "a threshold for every class", "--threshold ill=0.2"),
        ("ill=2", "ill=0.2", "both for 'ill'", "--cost ill=2"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_what_can(cost, threshold, got, remedy) -> None:
    with pytest.raises(UsageError) as refused:
        make_rule(CLASSES, cost, threshold)
    assert (refused.value.got, str(refused.value.remedy)) == (got, remedy)
    option, _, value = remedy.partition(" ")
    make_rule(CLASSES, *((value, None) if option == "--cost" else (None, value)))  # works as it is pasted


def test_names_with_signs_of_the_grammar_are_read() -> None:
    names = ("a,b=1", "c")
    assert make_rule(names, "a,b=1=3,c=2", None).costs == ((0, 3.0), (1, 2.0))


def test_a_threshold_without_a_number_has_the_best_f1_on_validation() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(400) < 0.1).astype(np.int64)
    ill = np.clip(rng.normal(0.15 + 0.2 * truth, 0.08), 0, 1).astype(np.float32)
    rule = make_rule(("healthy", "ill"), None, "ill", lambda: (np.stack([1 - ill, ill], 1), truth))
    [(_, value)] = rule.thresholds

    def f1(threshold):
        said = ill >= threshold
        return 2 * (said & (truth == 1)).sum() / (said.sum() + truth.sum())

    assert f1(value) == max(f1(one) for one in ill)
    assert f"{f1(value):.2f} instead of" in rule.chosen
    assert f"n = 400, {truth.sum()} samples of ill" in rule.chosen
    with pytest.raises(UsageError, match="no validation sample"):
        make_rule(("healthy", "ill"), None, "ill", lambda: (np.stack([1 - ill, ill], 1), 0 * truth))


def test_tasks_without_classes_refuse() -> None:
    with pytest.raises(UsageError, match="predicts no classes"):
        Regress(("y",), (0.0,), (1.0,)).deciding("ill=10", None)


def test_a_task_keeps_its_rule_and_training_does_not_follow_it() -> None:
    task = Classify(CLASSES).deciding("ill=30", "doubtful=0.4")
    made = task_from_state(json.loads(json.dumps(task_to_state(task))), "a checkpoint")
    assert made == task
    logits, targets = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 3
    assert torch.equal(task.tally(logits, targets), Classify(CLASSES).tally(logits, targets))
    for damaged in ({"costs": [[7, 1.0]], "thresholds": []}, {"costs": 3, "thresholds": []}, {"costs": []}):
        with pytest.raises((TypeError, KeyError)):  # as the reader of checkpoints expects
            Classify.from_state(task.state() | {"rule": damaged})


def rare(rng, n, share, shift):
    """Probabilities of two classes, the second one rare and underestimated."""
    truth = (np.arange(n) % round(1 / share) == 0).astype(np.int64)
    logit = rng.normal(shift * truth - 3.5, 1)
    ill = 1 / (1 + np.exp(-logit))
    return np.stack([1 - ill, ill], 1).astype(np.float32), truth


def test_a_cost_is_suggested_where_validation_shows_that_it_finds_more() -> None:
    rng = np.random.default_rng(0)
    probabilities, truth = rare(rng, 1000, 0.05, 2.0)
    [finding] = rare_class_findings(("healthy", "ill"), probabilities, truth, "runs/cells")
    assert finding.code == "fit.rare-class"
    assert "50 of 1,000 samples" in finding.measured
    assert finding.remedy.for_training("DATA").startswith("striate eval runs/cells --cost ill=")
    rule = make_rule(("healthy", "ill"), finding.remedy.rpartition(" ")[2], None)
    effect = effect_of(rule, ("healthy", "ill"), *rare(rng, 1000, 0.05, 2.0))  # other samples like these
    assert effect.classes[0].recall.value > effect.classes[0].recall_before.value
    said = Classify(("healthy", "ill")).deciding("ill=2", None)
    assert not said.validation_findings(probabilities, truth, "runs/cells")


@pytest.mark.parametrize(
    ("n", "share", "shift"), [(1000, 0.05, 0.0), (200, 0.05, 2.0), (1000, 0.2, 2.0), (1000, 0.05, 9.0)]
)
def test_nothing_is_suggested_by_chance_of_few_of_common_or_of_recognized_classes(n, share, shift) -> None:
    told = 0
    for seed in range(20):
        probabilities, truth = rare(np.random.default_rng(seed), n, share, shift)
        told += len(rare_class_findings(("healthy", "ill"), probabilities, truth, "run"))
    assert told <= 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 300 images, of which a class is rare."""
    root = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    for name, n, level in (("healthy", 240, 100), ("ill", 30, 112), ("doubtful", 30, 200)):
        (root / name).mkdir()
        for k in range(n):
            Image.fromarray(rng.normal(level, 30, (8, 8)).clip(0, 255).astype(np.uint8)).save(root / name / f"{k}.png")
    out = root.parent / f"{root.name}-run"
    fields = {"execution.plan": "plain", "data.val_fraction": 0.3, "task.cost": "doubtful=1.5"}
    striate.train(root, model="gap fc(3)", epochs=3, out=out, set=fields)
    return out


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[list[dict], str]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    return [json.loads(line) for line in ([out] if out.startswith("{\n") else out.splitlines())], err


def test_a_run_keeps_its_rule_and_another_one_takes_its_place(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert striate.load(run).task.decision_text.startswith("the class with the largest probability × cost (1.5 for")
    files = sorted((Path(config_from_yaml(run / "config.yaml").data.source) / "ill").iterdir())[:8]
    raw, _ = asked(capsys, "predict", run, *files, "--cost", "ill=1")
    other, said = asked(capsys, "predict", run, *files, *RULE)
    assert "predicted: the class with the largest probability × cost (30 for ill" in said
    assert [line["top"] for line in raw] == [line["top"] for line in other]
    for line in other:
        weighed = {name: share * (30 if name == "ill" else 1) for name, share in line["top"]}
        assert line["label"] == max(weighed, key=weighed.__getitem__)
        assert line["probability"] == dict(line["top"])[line["label"]]
    assert {line["label"] for line in other} != {line["label"] for line in raw}


def test_eval_says_what_changes_beside_the_most_probable_class(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [document], _ = asked(capsys, "eval", run, *RULE)
    found = striate.evaluate(run, cost={"ill": 30})
    most_probable = np.zeros((3, 3), int)
    np.add.at(most_probable, (found.targets, found.decoded.argmax(1)), 1)
    decision, k = document["assessment"]["decision"], document["classes"].index("ill")
    [row] = decision["classes"]
    for confusion, end in ((most_probable, "_before"), (np.array(document["confusion"]), "")):
        assert decision[f"accuracy{end}"]["value"] == pytest.approx(confusion.trace() / document["n"])
        assert row[f"recall{end}"]["value"] == pytest.approx(confusion[k, k] / confusion[k].sum())
        assert row[f"predicted{end}"] == confusion[:, k].sum()
    assert row["recall"]["value"] > row["recall_before"]["value"]
    assert found.metrics["accuracy"] == document["accuracy"] == decision["accuracy"]["value"]
    assert max(map(len, str(found).splitlines())) <= 80
    assert re.search(rf"ill, recall +\S+\s% of {row['n']} +\S+\s% of {row['n']}\n", str(found))


def test_a_threshold_is_chosen_on_saved_validation_predictions(run: Path) -> None:
    chosen = striate.load(run, threshold="ill").task
    assert "has the best F1 on validation" in chosen.decision_text
    (run / "predictions" / "val.npz").rename(run / "val.npz")
    try:
        assert striate.load(run, threshold={"ill": None}).task.rule.named == chosen.rule.named
    finally:
        (run / "val.npz").rename(run / "predictions" / "val.npz")


@pytest.mark.parametrize("words", [("eval",), ("predict", "x.png"), ("explain", "x.png")])
def test_verbs_refuse_an_unknown_class(run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert main([words[0], str(run), *words[1:], "--cost", "il=10"]) == 2
    assert "--cost ill=10" in capsys.readouterr().err


def test_training_refuses_a_cost_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(StriateError, match=r'set=\{"task\.cost": .3=2.\}'):
        striate.train("digits", out=tmp_path / "run", set={"task.cost": "33=2"})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_explanation_follows_the_rule(run: Path) -> None:
    image = next((Path(config_from_yaml(run / "config.yaml").data.source) / "healthy").iterdir())
    explained = striate.explain(run, image, "saliency", cost={"ill": 1000})
    assert (explained.label, explained.nudge) == ("ill", None)
    assert explained.runner_up[0] != "ill"
    assert "1000 for ill" in " ".join(str(explained).split())
    assert striate.explain(striate.load(run), image, "saliency", cost={"ill": 1000}).label == "ill"
