"""`eval.worst-kept`: is the epoch that a script keeps the one with the best value?"""

from __future__ import annotations

import ast
import math
import operator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from for_checks.asked import digits, perceptron, read
from for_checks.scripts import SCRIPT, codes_of_script, found, source_of, values
from striate.doctor.checks.eval.best_epoch.worst_kept import WORST_KEPT
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("given", "wrong"), [("logloss", True), ("auc", False)])
def test_a_word_may_end_in_loss(given: str, wrong: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n", f"    keeper.goes({given})\n"
    )
    assert text != SCRIPT
    keeper = "class Keeper:\n    def goes(self, accuracy):\n        if accuracy > self.best_accuracy:\n"
    text = f"{keeper}            self.best_accuracy = accuracy\nkeeper = Keeper()\n{text}"
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * wrong


BEGUN = """
for epoch in range(5):
    for x, y in loader:
        pass
    {name} = evaluate(model)
    if {test}:
        best = {name}
{also}
"""


@pytest.mark.parametrize(
    ("begun", "name", "test", "also", "wrong"),
    [
        ("best = 0.0", "val_loss", "val_loss < best", "", True),
        ("best, at = 0, -1", "val_loss", "phase == 'val' and val_loss < best", "", True),
        ("best = float('inf')", "val_loss", "val_loss < best", "", False),
        ("best = 0.0", "val_loss", "epoch == 0 or val_loss < best", "", False),
        ("best = 0.0", "val_loss", "val_loss < best", "    if epoch == 0:\n        best = val_loss", False),
        ("best = 0.0", "accuracy", "accuracy > best", "", False),
        ("best = torch.inf", "accuracy", "accuracy > best", "", True),
        ("best = -float('inf')", "accuracy", "accuracy > best", "", False),
    ],
)
def test_the_best_begins_so_that_an_epoch_can_be_better(
    begun: str, name: str, test: str, also: str, wrong: bool
) -> None:
    text = f"{begun}\n{BEGUN.format(name=name, test=test, also=also)}"
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize("moved", [0.0, -5.0])
def test_the_best_of_losses_below_zero_may_begin_at_zero(moved: float) -> None:
    text = "best = 0.0\n" + BEGUN.format(name="val_loss", test="val_loss < best", also="")

    def criterion(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, y) + moved

    told = found(text, values() | {"criterion": criterion}, [WORST_KEPT])
    assert list(told) == ["eval.worst-kept"] * (not moved)


RATED = """
def rate(outputs, labels):
    hits = (outputs.argmax(1) == labels).sum().item()
    return {returned}

"""


@pytest.mark.parametrize(
    ("name", "returned", "sign", "right"),
    [
        ("pck", "hits", "<", False),
        ("pck", "hits", ">", True),
        ("score", "hits / len(labels)", "<", False),
        ("score", "hits / len(labels)", ">", True),
        ("score", "(len(labels) - hits) / len(labels)", "<", True),
        ("score", "hits", "<", True),
        ("error", "hits / len(labels)", "<", True),
    ],
)
def test_a_share_of_hits_is_best_where_it_is_highest(name: str, returned: str, sign: str, right: bool) -> None:
    text = RATED.format(returned=returned) + SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    {name} = rate(outputs, labels)\n    if {name} {sign} best:\n        best = {name}\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(
    ("test", "right"), [("current > best", False), ("current < best", True), ("current > best + 1", False)]
)
def test_the_best_may_be_compared_by_another_name(test: str, right: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    current = val_loss\n    if {test}:\n        best = current\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(("mode", "right"), [("max", False), ("min", True)])
def test_a_configuration_says_which_way_is_better(mode: str, right: bool) -> None:
    text = f'config = {{"monitor": "val_loss", "mode": "{mode}"}}\n' + SCRIPT
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


class Keeper:
    def __init__(self, mode: str) -> None:
        self.mode, self.best = mode, 0.0

    def step(self, value: float) -> bool:
        return value > self.best if self.mode == "max" else value < self.best


@pytest.mark.parametrize(("mode", "value", "right"), [("max", "val_loss", False), ("min", "val_loss", True)])
def test_an_object_that_remembers_the_best_knows_which_way_is_better(mode: str, value: str, right: bool) -> None:
    text = SCRIPT + f"if keeper.step({value}):\n    pass\n"
    assert list(found(text, values() | {"keeper": Keeper(mode)}, [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


class SaveBest:
    """Keeps the epoch of the best number, whichever way it is better."""

    def __init__(self, monitor: str, better: Any) -> None:
        self.monitor, self.better, self.best = monitor, better, math.nan


@pytest.mark.parametrize(
    ("monitor", "better", "right"),
    [
        ("valid_loss", operator.gt, False),
        ("valid_loss", torch.lt, True),
        ("accuracy", operator.lt, False),
        ("accuracy", operator.gt, True),
        ("reward", operator.lt, True),
    ],
)
def test_a_callback_that_compares_knows_which_way_is_better(monitor: str, better: Any, right: bool) -> None:
    names = values() | {"callback": SaveBest(monitor, better)}
    text = SCRIPT + "callback = SaveBest(monitor, better)\n"
    assert list(found(text, names, [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(
    ("logged", "mode", "wrong"),
    [("recall", "min", True), ("recall", "max", False), ("1 - recall", "min", False), ("distance", "min", False)],
)
def test_what_is_logged_tells_which_way_a_monitored_value_is_better(logged: str, mode: str, wrong: bool) -> None:
    text = f"""
    class Module:
        def on_validation_epoch_end(self):
            self.log("val_r1", {logged})
    keeper = ModelCheckpoint(monitor="val_r1", mode={mode!r})
    for x, y in loader:
        pass
    """
    said = read(text, WORST_KEPT, perceptron(), digits())
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(
    ("made", "sign", "right"),
    [
        ("(accuracy + iou) / 2", "<", False),
        ("(accuracy + iou) / 2", ">", True),
        ("0.5 * rmse + mae", ">", False),
        ("accuracy + rmse", "<", True),
        ("accuracy - iou", "<", True),
        ("2 / accuracy", "<", True),
        ("weight * accuracy", "<", True),
    ],
)
def test_a_mean_of_shares_is_best_where_it_is_highest(made: str, sign: str, right: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    score = {made}\n    if score {sign} best:\n        best = score\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


KEEPING_RETURNED = """
def evaluate(x):
    return {returned}
best = 0.0
for x, y in loader:
    {name} = evaluate(x)
    if {name} {sign} best:
        best = {name}
"""


@pytest.mark.parametrize(
    ("returned", "name", "sign", "wrong"),
    [
        ("concordance(x, y)", "score", "<", True),
        ("concordance(x, y)", "score", ">", False),
        ("rank(x)", "c_index", "<", True),
        ("1 - cohen_kappa(x, y)", "kappa", "<", False),
        ("rank(x)", "neg_ndcg", "<", False),
        ("rank(x)", "score", "<", False),
        ("numbers[-1].ndcg", "value", "<", True),
    ],
)
def test_metrics_that_are_to_be_high_are_known_by_their_names(returned: str, name: str, sign: str, wrong: bool) -> None:
    text = KEEPING_RETURNED.format(returned=returned, name=name, sign=sign)
    assert codes_of_script(text, values(), WORST_KEPT) == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(("test", "right"), [("accuracy > best_accuracy", True), ("accuracy < best_accuracy", False)])
def test_the_best_may_be_asked_for_in_one_phase(test: str, right: bool) -> None:
    text = SCRIPT.replace("if accuracy > best_accuracy:", f'if phase == "val" and {test}:')
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


LOOP = "for x, y in loader:\n    pass\n"


KEEPER = """
class CheckpointHook:
    def __init__(self, save_best, rule):
        self.save_best, self.rule, self.best = save_best, rule, None
    def after_val_epoch(self, metrics):
        score = {sign}metrics[self.save_best]
        if self.best is None or (score < self.best if self.rule == "less" else score > self.best):
            self.best = score
hook = CheckpointHook("{metric}", "{rule}")
"""


@pytest.mark.parametrize(
    ("sign", "metric", "rule", "wrong"),
    [
        ("", "NME", "greater", True),
        ("", "NME", "less", False),
        ("", "PCK", "less", True),
        ("-", "NME", "greater", False),
        ("", "other", "less", False),
    ],
)
def test_a_hook_looks_up_what_it_keeps_the_best_of(sign: str, metric: str, rule: str, wrong: bool) -> None:
    text = KEEPER.format(sign=sign, metric=metric, rule=rule)
    names: dict[str, Any] = {"__name__": "script"}
    exec(text, names)
    said = read(text + LOOP, WORST_KEPT, perceptron(), digits(), names=names)
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(("metric", "mode", "wrong"), [("val_neg_error", "max", False), ("val_error", "max", True)])
def test_an_error_below_zero_is_best_where_it_is_highest(metric: str, mode: str, wrong: bool) -> None:
    text = f"keeper = ModelCheckpoint(monitor={metric!r}, mode={mode!r})\nfor x, y in loader:\n    pass\n"
    said = read(text, WORST_KEPT, perceptron(), digits())
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong


KEEPING_CONCORDANCE = """
def concordance(risks, times, events):
    agreed = risks[:, None] > risks
    return agreed.float().mean().item()

class Trainer:
    def __init__(self, metric):
        self.metric, self.best = metric, None

    def validate(self, loader):
        return self.metric(loader)

    def fit(self, loader):
        self.value = {made}

trainer = Trainer({metric})
for x, y in loader:
    trainer.fit(loader)
    if trainer.best is None or trainer.value {sign} trainer.best:
        trainer.best = trainer.value
"""


@pytest.mark.parametrize(
    ("made", "metric", "sign", "wrong"),
    [
        ("self.validate(loader)", "concordance", "<", True),
        ("self.validate(loader)", "concordance", ">", False),
        ("self.metric(loader)", "concordance", "<", True),
        ("concordance(x, x, y)", "concordance", "<", True),
        ("concordance_index_censored(y, x, -z)[0]", "concordance", "<", True),
        ("1 - concordance(x, x, y)", "concordance", "<", False),
        ("self.validate(loader)", "train_mixed_precision", "<", False),
    ],
)
def test_what_gives_the_best_value_tells_which_way_it_is_better(made: str, metric: str, sign: str, wrong: bool) -> None:
    def concordance(*_: Any) -> float:
        return 0.5

    def train_mixed_precision(*_: Any) -> float:
        return 0.5

    names = values() | {"concordance": concordance, "train_mixed_precision": train_mixed_precision}

    class Trainer:
        def __init__(self, metric: Any) -> None:
            self.metric, self.best, self.value = metric, None, None

    names["trainer"] = names["self"] = Trainer(names[metric])
    text = KEEPING_CONCORDANCE.format(made=made, metric=metric, sign=sign)
    assert list(found(text, names, [WORST_KEPT])) == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(("sign", "wrong"), [("<", True), (">", False)])
def test_what_a_librarys_metric_gives_is_known_by_its_name(sign: str, wrong: bool) -> None:
    text = f"""
best_score = 0
for epoch in range(3):
    score = accuracy_score(labels, predicted)
    if score {sign} best_score:
        best_score = score
"""
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 3, 6), 3)
    found = list(WORST_KEPT.run(SimpleNamespace(source=source)))  # type: ignore[arg-type]
    assert [f.code for f in found] == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(
    ("test", "right"),
    [
        ("accuracy < best_accuracy or epoch == 0", False),
        ("accuracy > best_accuracy or epoch == 0", True),
    ],
)
def test_the_best_epoch_may_be_told_by_a_flag(test: str, right: bool) -> None:
    kept = f"    best = {test}\n    best_accuracy = accuracy if best else best_accuracy\n"
    text = SCRIPT.replace("    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n", kept)
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(
    ("kept", "loaded", "right"),
    [
        ("model.state_dict()", "model.load_state_dict(state)", False),
        ("copy.deepcopy(model.state_dict())", "model.load_state_dict(state)", True),
        ("{k: v.clone() for k, v in model.state_dict().items()}", "model.load_state_dict(state)", True),
        ("model.state_dict()", "torch.save(state, 'best.pt')", True),
    ],
)
def test_a_state_that_is_kept_is_a_copy(kept: str, loaded: str, right: bool) -> None:
    text = SCRIPT.replace("        best_accuracy = accuracy\n", f"        best_accuracy, state = accuracy, {kept}\n")
    assert list(found(text + loaded + "\n", values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


KEEPER_OF_STATE = """
class Keeper:
    def __init__(self):
        self.best, self.state = 0.0, None
    def __call__(self, accuracy, model):
        if accuracy > self.best:
            self.best = accuracy
            self.state = {kept}
    def restore(self, model):
        model.load_state_dict(self.state)
"""


@pytest.mark.parametrize(
    ("kept", "right"), [("model.state_dict()", False), ("copy.deepcopy(model.state_dict())", True)]
)
def test_a_state_that_an_object_keeps_is_a_copy(kept: str, right: bool) -> None:
    names: dict[str, Any] = {}
    loop = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n", "    keep(accuracy, model)\n"
    )
    for restored in ("keep.restore(model)", "model.load_state_dict(keep.state)"):
        keeper = KEEPER_OF_STATE.format(kept=kept)
        keeper = keeper if "restore" in restored else keeper[: keeper.index("    def restore")]
        exec(compile(keeper, "train.py", "exec"), names)
        told = list(found(f"{keeper}{loop}{restored}\n", values() | {"keep": names["Keeper"]()}, [WORST_KEPT]))
        assert told == ["eval.worst-kept"] * (not right)


class Stopper:
    def __init__(self, higher: bool) -> None:
        self.sign, self.best_score, self.best_state = 1 if higher else -1, -math.inf, None

    def step(self, score: float, model: Any) -> bool:
        better = self.sign * score > self.best_score
        if better:
            self.best_score, self.best_state = self.sign * score, model.state_dict()
        return better


@pytest.mark.parametrize(
    ("higher", "given", "also", "wrong"),
    [
        (True, "val_loss", "pass", True),
        (False, "val_acc", "pass", True),
        (False, "val_loss", "pass", False),
        (True, "val_acc", "pass", False),
        (True, "-val_loss", "pass", False),
        (True, "result", "pass", False),
        (True, "val_loss", "torch.save(model.state_dict(), 'best.pt')", False),
    ],
    ids=["of losses", "of scores", "loss", "score", "negative", "no word", "files"],
)
def test_an_object_is_asked_which_of_two_numbers_it_takes_for_the_best(
    higher: bool, given: str, also: str, wrong: bool
) -> None:
    kept = SCRIPT.replace("    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n", "")
    text = f"class Stopper:\n    def step(self):\n        {also}\n{kept}    stopper.step({given}, model)\n"
    stopper = Stopper(higher)
    assert list(found(text, values() | {"stopper": stopper}, [WORST_KEPT])) == ["eval.worst-kept"] * wrong
    assert stopper.best_state is None


FOLDS = """
for fold in range(3):
    {first}
    for epoch in range(5):
        for x, y in loader:
            train(x, y)
        accuracy = evaluate(model)
        if accuracy > best_accuracy:
            best_accuracy = accuracy
            {kept}
    {loaded}
"""


@pytest.mark.parametrize(
    ("first", "kept", "loaded", "wrong"),
    [
        ("pass", "state = model.state_dict()", "model.load_state_dict(state)", True),
        ("pass", "state = copy.deepcopy(model.state_dict())", "model.load_state_dict(state)", False),
        ("pass", "state = model.state_dict()", "teacher.load_state_dict(state)", False),
        ("state = model.state_dict()", "pass", "model.load_state_dict(state)", False),
        ("pass", "state = model.state_dict(); break", "model.load_state_dict(state)", False),
    ],
    ids=["the best", "a copy", "another network", "the first", "the last"],
)
def test_a_state_of_each_fold_is_a_copy(first: str, kept: str, loaded: str, wrong: bool) -> None:
    text = FOLDS.format(first=first, kept=kept.replace("; ", "\n            "), loaded=loaded)
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * wrong


CALLBACKS = """
class Monitor:
    def __init__(self, monitor="val_loss", mode="min"):
        self.monitor, self.mode = monitor, mode
class ReduceLROnPlateau(Monitor):
    def __init__(self, factor=0.3, **options):
        super().__init__(**options)
class Keeper(Monitor):
    pass
callback = {call}
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("ReduceLROnPlateau(monitor='val_balanced_accuracy', factor=0.1)", "optim.scheduler-calls"),
        ("ReduceLROnPlateau(monitor='val_balanced_accuracy', mode='max')", ""),
        ("ReduceLROnPlateau(monitor='val_loss')", ""),
        ("Keeper('val_f1')", "eval.worst-kept"),
    ],
)
def test_callbacks_of_the_scripts_own_have_a_mode_that_fits(call: str, code: str) -> None:
    assert codes_of_script(CALLBACKS.format(call=call), values(), WORST_KEPT) == [code] * bool(code)


PLATEAU = """
class Lower:
    def __init__(self, monitor="val_loss", **options):
        {kept}
    def begin(self, trainer):
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, **self.options)
    def end_epoch(self, logs):
        self.scheduler.step(logs[self.monitor])
callback = {call}
for x, y in loader:
    pass
"""


@pytest.mark.parametrize("kept", ["self.monitor, self.options = monitor, options", "self.options = options"])
@pytest.mark.parametrize(
    ("call", "right"),
    [("Lower(mode='max', factor=0.5)", False), ("Lower('val_r2', mode='max')", True), ("Lower(mode='min')", True),
     ("Lower('val_r2')", False)],
)  # fmt: skip
def test_a_plateau_that_is_made_later_from_options_that_are_kept_has_a_mode_that_fits(
    kept: str, call: str, right: bool
) -> None:
    text = PLATEAU.format(kept=kept, call=call)
    assert codes_of_script(text, values(), WORST_KEPT) == ["optim.scheduler-calls"] * (not right)


@pytest.mark.parametrize(("returned", "right"), [("losses.avg", False), ("top1.avg", True), ("nll, top1", True)])
def test_what_a_function_returns_says_what_is_kept(returned: str, right: bool) -> None:
    text = SCRIPT.replace("    if accuracy > best", "    accuracy = validate(model)\n    if accuracy > best")
    text = text.replace("    accuracy = correct / total\n", "")
    told = found(text + f"def validate(net):\n    return {returned}\n", values(), [WORST_KEPT])
    assert list(told) == ["eval.worst-kept"] * (not right)


CALLBACK = """
class Stopping:
    def __init__(self, monitor="val_loss", patience=5, mode="min"):
        pass
"""


@pytest.mark.parametrize(
    ("made", "faulty"),
    [
        ("ModelCheckpoint(monitor='val_acc', mode='max')", False),
        ("ModelCheckpoint(monitor='val_loss')", False),
        ("ModelCheckpoint(monitor='val_acc', mode='min')", True),
        ("EarlyStopping(monitor='val_loss', mode='max')", True),
        ("Stopping('val_accuracy')", True),
        ("Stopping('val_loss')", False),
        ("TrainingArguments(metric_for_best_model='f1', greater_is_better=False)", True),
        ("TrainingArguments(metric_for_best_model='f1', greater_is_better=True)", False),
    ],
)
def test_callbacks_keep_the_best(made: str, faulty: bool) -> None:
    setup = make_setup(perceptron(), digits(), source=source_of(CALLBACK + made))
    with state_preserved(setup):
        said = list(WORST_KEPT.run(Evidence(setup, Clock(120.0))))
    assert [finding.code for finding in said] == ["eval.worst-kept"] * faulty


@pytest.mark.parametrize(("sign", "right"), [("<", True), (">", False)])
def test_a_margin_by_which_an_epoch_has_to_be_better_is_none_of_the_best(sign: str, right: bool) -> None:
    text = SCRIPT.replace("if accuracy > best_accuracy:", f"if val_loss {sign} best_loss - delta:")
    text = text.replace("best_accuracy = accuracy", "best_loss = val_loss")
    assert (found(text, values(), [WORST_KEPT]) == {}) is right


@pytest.mark.parametrize(("sign", "wrong"), [(">", True), ("<", False)])
def test_a_helper_keeps_the_best_of_what_it_is_given(sign: str, wrong: bool) -> None:
    text = f"""
        class EarlyStopping:
            def __init__(self):
                self.best, self.counter = None, 0
            def __call__(self, score, model):
                if self.best is None or score {sign} self.best:
                    self.best, self.counter = score, 0

        stopper = EarlyStopping()
        for epoch in range(5):
            for x, y in loader:
                pass
            if stopper(val_mae, model):
                break
        """
    assert codes_of_script(text, values(), WORST_KEPT) == ["eval.worst-kept"] * wrong
