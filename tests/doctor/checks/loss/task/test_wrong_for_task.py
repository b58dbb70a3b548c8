"""`loss.wrong-for-task`: does the loss fit the task and its targets?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, digits, loop, perceptron, stepped
from for_checks.claims import forecasts, patients, pinball, said_of_times, sorted_cox
from for_checks.networks import TwoHeads
from for_checks.steps import own_loss, scaled_quantities, stepping
from striate.doctor.checks.loss.counted.ignored_class import IGNORED_CLASS
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.checks.model.mode import MODE
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, y: functional.cross_entropy(o[:1], y[:1]), "always the same, number 0"),
        (lambda o, y: functional.cross_entropy(o, y, reduction="none").max(), "at most 1 sample"),
        (lambda o, y: functional.cross_entropy(o, y, reduction="none").topk(8).values.mean(), ""),
    ],
    ids=["the first", "the largest", "the hardest eight"],
)
def test_a_loss_of_one_sample_a_batch_is_wrong(loss: Any, said: str) -> None:
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), **stepping(loss))
    assert [said in finding.measured for finding in found] == [True] * bool(said)


TARGETS = torch.eye(10)


DIVERGENCES: list[tuple[Any, str]] = [
    (lambda o, y: functional.kl_div(TARGETS[y], o.log_softmax(1)), "as the target"),
    (lambda o, y: functional.kl_div(o.log_softmax(1), (4 * TARGETS[y]).log_softmax(1)), "kl_div is log probabilities"),
    (lambda o, y: functional.kl_div(o.log_softmax(1), 4 * TARGETS[y] - 1), "not probabilities that sum to 1"),
    (lambda o, y: functional.binary_cross_entropy_with_logits(TARGETS[y], o.sigmoid()), "as the target"),
    (lambda o, y: functional.kl_div(o.log_softmax(1), (4 * TARGETS[y]).log_softmax(1), log_target=True), ""),
    (lambda o, y: functional.kl_div((4 * TARGETS[y]).log_softmax(1), o.softmax(1)), ""),
    (lambda o, y: functional.kl_div(o.log_softmax(1), TARGETS[y] * (torch.arange(len(y)) % 3 > 0)[:, None]), ""),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("loss", "said"), DIVERGENCES)
def test_outputs_and_targets_stand_in_their_places(loss: Any, said: str) -> None:
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), **stepping(loss))
    assert [said in finding.measured for finding in found] == [True] * bool(said)


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("where", ["network", "step"])
@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Sigmoid()])
def test_a_softmax_where_several_classes_may_be_right(last: nn.Module, where: str, several: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(160, 8)
    tags = (x[:, :4] > 0.3).float() if several else torch.eye(4)[x[:, :4].argmax(1)]

    def cross_entropy(p: Tensor, y: Tensor) -> Tensor:
        return -(y * p.clamp_min(1e-6).log() + (1 - y) * (1 - p).clamp_min(1e-6).log()).mean()

    options: dict[str, Any] = {"loss": nn.BCELoss(), "task": "multilabel"}
    model = nn.Sequential(nn.Linear(8, 4), last)
    if where == "step":
        model, options = (
            nn.Sequential(nn.Linear(8, 4)),
            stepping(lambda o, y: functional.binary_cross_entropy(last(o), y)),
        )
    elif several:
        options["loss"] = cross_entropy
    found = asked(WRONG_FOR_TASK, model, DataLoader(TensorDataset(x, tags), 32), **options)
    errors = [one.measured for one in found if one.severity == "error"]
    named = several and isinstance(last, nn.Softmax)
    assert ["the targets sum to 0 to" in measured for measured in errors] == [True] * named


@pytest.mark.parametrize("shift", [0, 1])
def test_a_class_whose_target_is_the_next_output_is_reported(shift: int) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, functional.one_hot((y + shift) % 10, 10).float())

    options = stepping(loss) | {"optimizer": lambda p: torch.optim.Adam(p, lr=1e-2)}
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), **options)
    assert ["1 for class 0" in f.measured for f in found if f.severity == "error"] == [True] * shift


def test_labels_smoothed_away_are_wrong() -> None:
    loss = nn.CrossEntropyLoss(label_smoothing=0.95)
    (found,) = asked(WRONG_FOR_TASK, perceptron(), digits(), **stepping(loss))
    assert "makes the target 0.145 for the right class and 0.095 for each other class" in found.measured


def test_views_of_one_sample_are_not_quantities() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    views = DataLoader(TensorDataset(x, x + 0.1), 32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        def alike(outputs: Tensor, other: Tensor) -> Tensor:
            return functional.cross_entropy(outputs @ model(other).T, torch.arange(len(outputs)))

        return loop(model, batch, optimizer, alike)

    assert not asked(WRONG_FOR_TASK, nn.Linear(64, 16), views, step=step, task="regress")


class Answer(dict[str, Any]):
    """As a library's record of outputs: a dictionary whose entries are attributes as well."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        vars(self)[key] = value


def test_what_a_step_keeps_in_a_dictionary_of_its_own_class_is_copied() -> None:
    model, last = perceptron(), Answer()
    last["loss"] = model(torch.zeros(1, 1, 8, 8)).sum()  # of a graph: cannot be copied deeply

    def step(net: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Any:
        last["loss"] = loop(net, batch, optimizer, nn.CrossEntropyLoss())
        return last["loss"]

    before = last["loss"]
    assert not asked(WRONG_FOR_TASK, model, digits(), step=step)
    assert last["loss"] is before


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("factor", "wrong"), [(0.01, True), (0.5, False)])
def test_scores_that_are_divided_away(factor: float, wrong: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(outputs * factor, y)

    optimizer = lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9)  # noqa: E731
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), optimizer=optimizer, **stepping(loss))
    assert ["multiplied by 0.01" in finding.measured for finding in found] == [True] * wrong


class Speech(nn.Module):
    """Scores of five classes for each of twelve steps, logarithms along `axis`."""

    def __init__(self, axis: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out, self.axis = nn.Linear(4, 5), axis

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x).log_softmax(self.axis).transpose(0, 1)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("axis", "steps", "least", "told"),
    [(1, 12, 1, "of ctc_loss sum to"), (2, 12, 1, ""), (2, 6, 1, "the longest of"), (2, 12, 0, "which is its blank")],
)
def test_alignments(axis: int, steps: int, least: int, told: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 12, 4, generator=generator), torch.randint(least, 5, (64, 3), generator=generator)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        size = len(targets)
        return functional.ctc_loss(
            outputs, targets, torch.full((size,), steps), torch.full((size,), 3), zero_infinity=True
        )

    found = []
    for check in (WRONG_FOR_TASK, IGNORED_CLASS):
        with suppress(NoEvidence):
            found += asked(check, Speech(axis), DataLoader(TensorDataset(x, y), 16), **stepping(loss))
    assert [told in finding.measured for finding in found] == [True] * bool(told)


def ending_with(outputs: int, *last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs), *last)


def one_hot_bce(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy(outputs.softmax(1), functional.one_hot(y, 10).float())


def own_likelihood(outputs: Tensor, y: Tensor) -> Tensor:
    return -outputs[torch.arange(len(y)), y].mean()


def to_numbers(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(outputs.squeeze(1), y.float())


WRONG: list[tuple[str, nn.Module, Any, str]] = [
    ("class numbers", ending_with(1), to_numbers, "CrossEntropyLoss"),
    ("scores", ending_with(10), nn.NLLLoss(), "CrossEntropyLoss"),
    ("probabilities", ending_with(10, nn.Softmax(1)), nn.NLLLoss(), "log_softmax"),
    ("own likelihood", ending_with(10), own_likelihood, "CrossEntropyLoss"),
    ("softmax and yes or no", ending_with(10), one_hot_bce, "CrossEntropyLoss"),
    ("one output", ending_with(1), lambda o, y: functional.cross_entropy(o, y[:, None].float()), "BCEWithLogitsLoss"),
    (
        "as if a batch were classes",
        ending_with(1),
        lambda o, y: functional.cross_entropy(o[:, 0], y.float()),
        "MSELoss",
    ),
    (
        "numbers for yes and no",
        ending_with(1),
        lambda o, y: functional.binary_cross_entropy_with_logits(o[:, 0], y.float()),
        "",
    ),
    (
        "divergence",
        ending_with(10),
        lambda o, y: functional.kl_div(o, functional.one_hot(y, 10).float()),
        "log_softmax",
    ),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("name", "model", "loss", "remedy"), WRONG, ids=[row[0] for row in WRONG])
def test_arguments_of_a_loss_show_that_it_is_wrong(name: str, model: nn.Module, loss: Any, remedy: str) -> None:
    (found,) = asked(WRONG_FOR_TASK, model, digits(), loss=loss)
    assert found.code == "loss.wrong-for-task"
    assert found.severity in ("error", "warning")
    assert remedy in found.remedy


def test_a_loss_inside_the_step_is_seen_too() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch, optimizer, functional.nll_loss)

    (found,) = asked(WRONG_FOR_TASK, ending_with(10), digits(), step=step)
    assert "exponentials sum to" in found.measured


RIGHT: list[tuple[nn.Module, Any]] = [
    (ending_with(10), nn.CrossEntropyLoss(label_smoothing=0.1)),
    (ending_with(10, nn.LogSoftmax(1)), nn.NLLLoss()),
    (ending_with(10, nn.LogSoftmax(1)), own_likelihood),
    (ending_with(10), lambda o, y: functional.mse_loss(o, functional.one_hot(y, 10).float())),
    (
        ending_with(10, nn.LogSoftmax(1)),
        lambda o, y: functional.kl_div(o, functional.one_hot(y, 10).float(), reduction="batchmean"),
    ),
    (ending_with(10), nn.MultiMarginLoss()),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("model", "loss"), RIGHT)
def test_losses_for_classes_are_right(model: nn.Module, loss: Any) -> None:
    assert not asked(WRONG_FOR_TASK, model, digits(), loss=loss)


def test_quantities_that_are_whole_numbers_are_no_classes() -> None:
    assert not asked(WRONG_FOR_TASK, ending_with(1), digits(), loss=to_numbers, task="regress")


def test_cross_entropy_for_quantities_is_wrong() -> None:
    (found,) = asked(
        WRONG_FOR_TASK,
        ending_with(20),
        digits(),
        loss=lambda o, y: functional.cross_entropy(o, y),
        task="regress",
    )
    assert "nn.MSELoss()" in found.remedy


@pytest.mark.each_nth(1)
@pytest.mark.parametrize(("low", "high", "remedy"), [(0, 255, "`targets / 255`"), (-1, 1, "`(targets +1) / 2`")])
def test_two_values_of_targets_are_scaled(low: int, high: int, remedy: str) -> None:
    y = torch.arange(128).remainder(2)[:, None] * float(high - low) + low
    loader = DataLoader(TensorDataset(torch.randn(128, 64), y), 32)
    (found,) = asked(WRONG_FOR_TASK, ending_with(1), loader, loss=nn.BCEWithLogitsLoss(), task="regress")
    assert remedy in found.remedy


def test_several_right_classes_are_no_matter_of_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(128, 64, generator=generator), (torch.rand(128, 5, generator=generator) < 0.4).float()
    loader = DataLoader(TensorDataset(x, y), 32)
    (found,) = asked(WRONG_FOR_TASK, ending_with(5), loader, loss=nn.CrossEntropyLoss())
    assert "BCEWithLogitsLoss" in found.remedy
    assert not asked(WRONG_FOR_TASK, ending_with(5), loader, loss=nn.BCEWithLogitsLoss())


RAISING: list[tuple[nn.Module, Any, str]] = [
    (ending_with(10), lambda o, y: functional.cross_entropy(o, y[:, None]), "squeeze(1)"),
    (ending_with(10), lambda o, y: functional.cross_entropy(o, y, reduction="none"), "mean()"),
    (ending_with(1), nn.CrossEntropyLoss(), "output for each class"),
    (ending_with(10), lambda o, y: functional.mse_loss(o, y.float()), "CrossEntropyLoss"),
    (ending_with(10), lambda o, y: functional.cross_entropy(o, y.int()), "long()"),
]


@pytest.mark.parametrize(("model", "loss", "remedy"), RAISING)
def test_a_loss_that_raises_is_explained(model: nn.Module, loss: Any, remedy: str) -> None:
    (found,) = asked(WRONG_FOR_TASK, model, digits(), loss=loss)
    assert "raises" in found.measured
    assert remedy in found.remedy


@pytest.mark.parametrize(("log_input", "wrong"), [(True, True), (False, False)])
def test_poisson_of_rates(log_input: bool, wrong: bool) -> None:
    x, model = torch.randn(64, 8), nn.Linear(8, 1)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.poisson_nll_loss(model(batch[0]).exp().squeeze(1), batch[1], log_input=log_input)
        return stepped(loss, optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    findings = asked_in_script(
        WRONG_FOR_TASK, model, DataLoader(TensorDataset(x, torch.poisson(x[:, 0].exp())), 32), **options
    )
    assert ["log_input" in one.measured for one in findings] == [True] * wrong


X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("positive", [False, True])
def test_poisson_of_numbers_below_zero(positive: bool) -> None:
    model = nn.Linear(8, 1)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        rates = model(batch[0])[:, 0]
        rates = functional.softplus(rates) if positive else rates
        return stepped(functional.poisson_nll_loss(rates, batch[1], log_input=False), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    train = DataLoader(TensorDataset(X, torch.poisson(X[:, 0].exp())), 16)
    findings = asked_in_script(WRONG_FOR_TASK, model, train, **options)
    assert ["below 0" in one.measured for one in findings] == [True] * (not positive)


def forecaster(quantiles: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4 * quantiles), nn.Unflatten(1, (4, quantiles)))


@pytest.mark.parametrize(
    ("listed", "turned", "right"),
    [
        ([0.1, 0.5, 0.9], True, False),
        ([0.1, 0.5, 0.9], False, True),
        ([0.9, 0.5, 0.1], False, True),
        ([0.5, 0.8], True, False),
    ],
)
def test_quantiles_are_those_that_the_script_lists(listed: list[float], turned: bool, right: bool) -> None:
    model = forecaster(len(listed))
    source = ScriptSource({}, {"levels": listed}, ("script.py", 1, 2), None)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": pinball(listed, turned)}
    setup = make_setup(model, forecasts(), task="regress", source=source, **options)
    findings = list(WRONG_FOR_TASK.run(Evidence(setup, Clock(60.0))))
    assert ["lists the quantiles" in one.measured for one in findings] == [True] * (not right)


@pytest.mark.parametrize("classes", ["cross entropy", "by hand", "as numbers"])
def test_a_quantity_predicted_with_classes_is_not_their_numbers(classes: str) -> None:
    numbers = torch.Generator().manual_seed(0)
    x, speed, kinds = torch.randn(128, 64, generator=numbers), torch.rand(128, generator=numbers), torch.arange(128) % 4

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        logits, found = model(batch[0])
        wanted = batch[2].float() if classes == "as numbers" else batch[1]
        loss = functional.smooth_l1_loss(found, wanted)
        if classes == "cross entropy":
            loss = loss + functional.cross_entropy(logits, batch[2])
        if classes == "by hand":
            loss = loss - logits.log_softmax(1).gather(1, batch[2][:, None]).mean()
        return stepped(loss, optimizer)

    model, loader = TwoHeads(4), DataLoader(TensorDataset(x, speed, kinds), 32)
    findings = asked_in_script(WRONG_FOR_TASK, model, loader, step=step, task="classify")
    assert [one.code for one in findings] == ["loss.wrong-for-task"] * (classes == "as numbers")


def test_a_likelihood_without_its_minus_is_the_loss_of_its_task() -> None:
    """Its sign is wrong, which another check tells."""

    def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.log_softmax(1).gather(1, targets[:, None]).mean()

    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    assert asked(WRONG_FOR_TASK, model, digits(), loss=likelihood, optimizer=optimizer, step=loop) == []


class OwnErrors(nn.Module):
    """It draws the noise that it is to find, and gives the error of each sample; or an answer of its own."""

    def __init__(self, errors: bool) -> None:
        super().__init__()
        self.errors = errors
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        found: Tensor = self.layers(x + noise)
        return (found - noise).square().mean(1) if self.errors else found.mean(1)


@pytest.mark.parametrize("errors", [True, False])
def test_a_network_that_gives_its_own_errors(errors: bool) -> None:
    torch.manual_seed(0)
    y = torch.arange(320) % 5
    train = DataLoader(TensorDataset(0.2 * torch.randn(320, 8) + y[:, None], y), 32, shuffle=True)
    options = {"loss": lambda out, y: out.mean() if errors else (out - y).square().mean()}
    model = OwnErrors(errors)
    options |= {"optimizer": torch.optim.Adam(model.parameters(), 1e-2)}
    checks = (WRONG_FOR_TASK, SIGN, DEGENERATE, MODE)
    codes = [one.code for check in checks for one in asked_in_script(check, model, train, **options)]
    assert codes == ([] if errors else ["loss.wrong-for-task", "model.mode"])


def matrix_cox(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    at_risk = (durations[None] >= durations[:, None]).float()
    return -((risks - (at_risk @ risks.exp()).log()) * events).mean()


def unsorted(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return -((risks - risks.logcumsumexp(0)) * events).sum() / events.sum()


def exponential(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return (durations / 20 * risks.exp() - events * risks).mean()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (sorted_cox, ""),
        (matrix_cox, ""),
        (exponential, ""),
        (lambda risks, *rest: sorted_cox(-risks, *rest), ""),
        (lambda risks, *rest: sorted_cox(risks, *rest, descending=False), "that left before"),
        (lambda risks, durations, events: matrix_cox(risks, -durations, events), "that left before"),
        (unsorted, "in the batch"),
        (lambda risks, durations, events: matrix_cox(risks, durations, 1 - events), "counts censored samples"),
    ],
)
def test_who_is_at_risk_is_still_there(loss: Any, wrong: str, stacked: bool) -> None:
    measured = [
        text for text in said_of_times(WRONG_FOR_TASK, loss, patients(stacked=stacked), stacked) if "partial" in text
    ]
    assert [wrong in text for text in measured] == [True] * bool(wrong)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels, 10).float()


def of_raw_outputs(outputs: Tensor, labels: Tensor) -> Tensor:
    return -(one_hot(labels) * outputs.clamp(1e-32, 1 - 1e-7).log()).sum(1).mean()


def test_logarithms_of_raw_outputs_teach_nothing() -> None:
    (found,) = asked(WRONG_FOR_TASK, perceptron(), digits(), step=own_loss(of_raw_outputs), optimizer=sgd)
    assert (found.code, found.severity) == ("loss.wrong-for-task", "error")
    assert "if the outputs get the gradient of `nn.CrossEntropyLoss()` instead" in found.measured
    assert "nn.CrossEntropyLoss()" in found.remedy


def test_of_labels_by_chance_no_loss_is_at_fault() -> None:
    x = torch.randn(320, 64, generator=torch.Generator().manual_seed(0))
    y = torch.randint(10, (320,), generator=torch.Generator().manual_seed(1))
    data = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    assert not asked(WRONG_FOR_TASK, model, data, step=own_loss(of_raw_outputs), optimizer=sgd)


def test_a_loss_that_forgets_the_sign_of_quantities_teaches_nothing() -> None:
    torch.manual_seed(0)
    pairs = TensorDataset(*scaled_quantities().tensors[:2])
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.abs() - targets.abs()).square().mean()

    found = asked(WRONG_FOR_TASK, model, DataLoader(pairs, 32, shuffle=True), step=own_loss(wrong), optimizer=sgd)
    (text,) = (finding.measured for finding in found)
    assert "`nn.MSELoss()`" in text
    assert "of the targets' variance" in text


@pytest.mark.parametrize(
    ("outputs", "remedy"), [(10, "pass all 10 outputs to the loss"), (1, "give the last layer 10")]
)
def test_class_numbers_as_quantities_are_explained_by_the_outputs_that_there_are(outputs: int, remedy: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))

    def loss(given: Tensor, y: Tensor) -> Tensor:
        return functional.mse_loss(given.amax(1), y.float())

    (found,) = asked(WRONG_FOR_TASK, model, digits(), loss=loss, task="classify")
    assert remedy in found.remedy
    assert "outputs of shape (32,)" in found.measured


@pytest.mark.parametrize("several", [True, False])
def test_the_first_of_several_labels_is_no_class(several: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(160, 8)
    tags = (x[:, :4] > 0.3).float() if several else torch.eye(4)[x[:, :4].argmax(1)]
    options = stepping(lambda o, y: functional.cross_entropy(o, y.argmax(1)))
    found = asked(WRONG_FOR_TASK, nn.Linear(8, 4), DataLoader(TensorDataset(x, tags), 32), **options)
    assert ["only the first label" in one.measured for one in found if one.severity == "error"] == [True] * several
