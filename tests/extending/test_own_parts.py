"""A loss, an optimizer and a transform of the user's own."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

import striate
from striate.api import resume
from striate.api.keywords import in_arguments
from striate.errors import ConfigError, RunError
from striate.models.trusted_code import name_of, trust_named
from striate.runs.checkpoint import load_checkpoint
from striate.training.config import ScheduleConfig
from striate.training.config_file import option_of
from striate.training.events import EpochDone, Event, StepDone
from striate.training.optimizers import learning_rate_factor
from striate.training.prepared_batch import transformed

CODE = """
import torch
from torch.nn import functional

def loss(outputs, targets):
    return functional.cross_entropy(outputs, targets)

def optimizer(params):
    return torch.optim.RMSprop(params, lr=0.002, momentum=0.5)

def transform(images):
    return images.flip(-1)
"""
PLAIN = {"execution.plan": "plain"}


def train(data: object = "digits", model: str = "mlp(8)", **named: object) -> striate.api.training.Run:
    named.setdefault("epochs", 1)
    return striate.train(data, model, set=PLAIN | dict(named.pop("set", {})), **named)


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_checkpoint(path / "checkpoints" / "last.pt")["model"]
    return found


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(first[name].equal(second[name]) for name in first)


def mean_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets)


@pytest.mark.slow
def test_the_loss_of_the_task_written_anew_gives_the_same_training() -> None:
    own, usual = train(loss=mean_loss, out="own"), train(out="usual")
    for name, value in weights(usual.path).items():
        torch.testing.assert_close(weights(own.path)[name], value)
    assert own.metrics["test"]["loss"] == pytest.approx(usual.metrics["test"]["loss"], rel=1e-5)
    assert striate.evaluate(own).metrics == own.metrics["test"]


@pytest.mark.slow
def test_numbers_are_standardized_for_the_loss() -> None:
    own = train("boston", loss=functional.mse_loss, out="own")
    for name, value in weights(train("boston", out="usual").path).items():
        torch.testing.assert_close(weights(own.path)[name], value)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda o, t: functional.cross_entropy(o, t, reduction="none"), r"shape \(8,\)"),
        (lambda o, t: functional.cross_entropy(o, t).item(), "a float"),
        (lambda o, t: functional.cross_entropy(o, t) / 0, "inf from .* before the first step"),
        (lambda o, _: o.argmax(1).float().mean(), "does not depend on the network"),
        (lambda o, t: (o.argmax(1) == t).float().mean().requires_grad_(), "does not depend on the network"),
        (lambda _, __: torch.tensor(1.0, requires_grad=True), "does not depend on the network"),
        (3, "an? int"),
    ],
)
def test_what_is_no_loss(loss: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        train("iris", loss=loss)


def test_answering_needs_no_loss_and_measuring_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.models import trusted_code as given

    run = train("iris", "mlp(4)", loss=mean_loss, out="r")
    monkeypatch.setattr(given, "_objects", {})
    assert striate.load("r").predict(np.zeros(4, np.float32)).label
    with pytest.raises(RunError, match=r"load\(path, loss=…\)"):
        striate.evaluate("r")
    striate.load("r", loss=mean_loss)
    assert striate.evaluate("r").metrics == run.metrics["test"]


def test_what_another_process_was_given_is_refused_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.models import trusted_code as given

    run = train(transform=flipped, out="r")
    monkeypatch.setattr(given, "_objects", {})
    with pytest.raises(RunError, match="transform") as caught:
        striate.train(config=run.path / "config.yaml", epochs=2, out="longer")
    assert not Path("longer").exists()
    assert "striate train" not in str(run.metrics["findings"])
    assert "striate.load" not in caught.value.remedy
    assert "striate.train(config=path, transform=…)" in caught.value.remedy
    assert striate.train(config=run.path / "config.yaml", transform=flipped, out="again").report.exists()


def test_an_interrupted_run_names_the_call_that_goes_on_with_it() -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"resume with: striate\.api\.resume\('part', optimizer=…\)"):
        train(optimizer=rmsprop, out="part", on_event=stop)
    assert resume("part", optimizer=rmsprop, quiet=True).report.exists()
    with pytest.raises(KeyboardInterrupt, match="resume with: striate train --resume plain"):
        train(out="plain", on_event=stop)


def rmsprop(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.RMSprop([{"params": params[:1], "lr": 0.001}, {"params": params[1:]}], lr=0.002, momentum=0.5)


@pytest.mark.slow
def test_an_optimizer_brings_its_rate_and_goes_on_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.training import session

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    whole = train(optimizer=rmsprop, epochs=2, out="whole")
    config = yaml.safe_load((whole.path / "config.yaml").read_text())
    assert config["optim"]["name"] == "given in Python: rmsprop"
    assert config["optim"]["lr"] == 0.002
    saved = load_checkpoint(whole.path / "checkpoints" / "last.pt")["optimizer"]["param_groups"]
    assert [group["rate_scale"] for group in saved] == [0.5, 1.0]
    with monkeypatch.context() as patch:
        patch.setattr(session, "append_row", stop)
        with pytest.raises(KeyboardInterrupt):
            train(optimizer=rmsprop, epochs=2, out="part", set={"save_seconds": 0.001})
    resume("part", optimizer=rmsprop, quiet=True)
    assert same(whole.path, Path("part"))


def linear(step: int, steps: int) -> float:
    return 1 - step / steps


@pytest.mark.slow
def test_a_schedule_of_ones_own_and_the_events() -> None:
    seen: list[Event] = []
    own = train(scheduler=linear, lr=0.01, on_event=seen.append, out="own", set={"keep": "last"})
    steps = [event for event in seen if isinstance(event, StepDone)]
    assert [event.lr for event in steps] == [0.01 * linear(k, len(steps)) for k in range(len(steps))]
    (epoch,) = (event for event in seen if isinstance(event, EpochDone))
    assert epoch.row.val["loss"] == pytest.approx(own.metrics["val"]["loss"])
    config = yaml.safe_load((own.path / "config.yaml").read_text())
    assert config["schedule"]["name"] == "given in Python: linear"
    Path("own.py").write_text("def linear(step, steps):\n    return 1 - step / steps\n")
    assert same(own.path, train(scheduler="own.py:linear", lr=0.01, out="file", set={"keep": "last"}).path)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"scheduler": lambda _step, _steps: -1.0}, "-1.0 from given in Python"),
        ({"scheduler": torch.optim.lr_scheduler.StepLR}, "StepLR raised"),
        ({"on_event": 3}, "an int"),
        ({"on_event": lambda _event: 1 / 0}, "ZeroDivisionError: division by zero, at StepDone"),
        ({"on_event": print, "cv": "2x1"}, "with cv"),
    ],
)
def test_no_schedule_and_no_reader(named: dict[str, object], told: str) -> None:
    with pytest.raises(striate.StriateError, match=told):
        train("iris", "mlp(4)", **named)


@pytest.mark.parametrize("body", ["(step, steps): return -1.0", "(step): return 1"])
def test_a_schedule_of_a_file_is_mended_there(body: str) -> None:
    own, schedule = Path("own.py").absolute(), ScheduleConfig(name="own.py:fall")
    trust_named("own.py:fall")
    own.write_text(f"def fall{body}\n")
    with pytest.raises(ConfigError) as caught:
        learning_rate_factor(schedule, 3, 10)
    where, code = caught.value.remedy.split(": ", 1)
    assert where == "in own.py"
    own.write_text(f"{code}\n")
    assert learning_rate_factor(schedule, 5, 10) == 0.5


def test_a_rate_that_is_asked_for_scales_all_groups() -> None:
    run = train("iris", "mlp(4)", optimizer=rmsprop, lr=0.01, out="r", set={"schedule.name": "constant"})
    saved = load_checkpoint(run.path / "checkpoints" / "last.pt")["optimizer"]["param_groups"]
    assert [group["lr"] for group in saved] == [0.005, 0.01]


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (lambda params: params, "a list from"),
        (torch.optim.LBFGS, "LBFGS"),
        (lambda _: torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), "not belong to the network"),
        (lambda params: torch.optim.SGD(params, lr=0.0), "no learning rate above 0"),
        ("adm", "input should be|did you mean --optim.name adamw|file.py:name"),
    ],
)
def test_what_is_no_optimizer(optimizer: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        train("iris", "mlp(4)", optimizer=optimizer)


def test_decay_belongs_into_the_function() -> None:
    with pytest.raises(ConfigError, match="weight_decay"):
        train("iris", "mlp(4)", optimizer=rmsprop, set={"optim.weight_decay": 0.1})


def flipped(images: torch.Tensor) -> torch.Tensor:
    assert images.dtype == torch.uint8
    return images.flip(-1)


def test_a_transform_sees_training_batches_alone() -> None:
    data = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8), np.arange(60) % 2
    off = {"augment.shift": 0, "augment.flip": False}
    turned = data[0][..., ::-1].copy(), data[1]
    splits = {"train": (turned[0][:40], data[1][:40]), "val": (data[0][40:50], data[1][40:50])}
    splits["test"] = data[0][50:], data[1][50:]
    by_hand = train(splits, "mlp(4)", out="hand", set=off)
    given = train(splits | {"train": (data[0][:40], data[1][:40])}, "mlp(4)", transform=flipped, out="own", set=off)
    assert same(by_hand.path, given.path)
    assert by_hand.metrics["val"] == given.metrics["val"]


def test_what_is_no_transform() -> None:
    with pytest.raises(ConfigError, match=r"torch.float32 from .*gray"):
        train("digits", "mlp(4)", transform=gray)
    batch = torch.randint(0, 256, (4, 1, 6, 6), dtype=torch.uint8)
    for number, wrong in enumerate((gray, lambda images: images[..., 1:], lambda images: images.float()[:, :, 1:])):
        with pytest.raises(ConfigError) as caught:
            transformed(batch, name_of(wrong), {})
        ending = caught.value.remedy.removeprefix("return ")

        def mended(images: torch.Tensor, wrong=wrong, ending=ending) -> torch.Tensor:
            return eval(ending, {"torch": torch, "images": wrong(images)})

        assert transformed(batch, name_of(mended), {}).shape == batch.shape, number
    for wrong, remedy in (
        (lambda _: None, "return images"),
        (lambda images: images[1:], "leave out --augment.transform"),
    ):
        with pytest.raises(ConfigError) as caught:
            transformed(batch, name_of(wrong), {})
        assert caught.value.remedy.startswith(remedy)


def gray(images: torch.Tensor) -> torch.Tensor:
    return images.float()


def boom(*_: object) -> torch.Tensor:
    raise KeyError("forgotten")


@pytest.mark.parametrize(
    ("part", "field"), [("loss", "task.loss"), ("transform", "augment.transform"), ("optimizer", "optim.name")]
)
def test_what_ones_own_code_raises_is_told_with_its_field_and_line(part: str, field: str, tmp_path: Path) -> None:
    Path("faulty.py").write_text("def boom(*_):\n    raise KeyError('forgotten')\n")
    line, here = boom.__code__.co_firstlineno + 1, Path(__file__)
    for code, file, number in ((boom, here, line), ("faulty.py:boom", tmp_path / "faulty.py", 2)):
        with pytest.raises(ConfigError) as caught:
            train("digits", "mlp(4)", **{part: code}, out="faulty")
        assert caught.value.where == field
        assert caught.value.got.startswith(f"KeyError: 'forgotten' (line {number}) from ")
        assert caught.value.remedy == f"correct line {number} of {file}"
    assert not Path("faulty").exists()


def test_a_part_that_fails_while_the_plan_is_measured_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.training.prepare.refuse_wrong_transform", lambda *_: None)
    said: list[str] = []
    with pytest.raises(ConfigError, match=r"augment\.transform"):
        striate.plan_training("digits", "mlp(4)", set={"augment.transform": name_of(boom)}, announce=said.append)
    assert not [line for line in said if "could not be measured" in line]


@pytest.mark.slow
def test_all_of_a_file(tmp_path: Path) -> None:
    Path("parts.py").write_text(CODE)
    named = {"loss": "parts.py:loss", "optimizer": "parts.py:optimizer", "transform": "parts.py:transform"}
    run = train(**named, out="r")
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    whole = str(tmp_path / "parts.py")
    assert config["task"]["loss"] == f"{whole}:loss"
    assert config["optim"]["name"] == f"{whole}:optimizer"
    assert [name for name, _ in config["code"]] == [f"{whole}:{name}" for name in ("loss", "optimizer", "transform")]
    again = striate.train(config=run.path / "config.yaml", out="again")
    assert same(run.path, again.path)


@pytest.mark.parametrize(
    ("named", "near"),
    [
        ({"learning_rate": 1}, "lr=1"),
        ({"optimiser": "sgd"}, "optimizer='sgd'"),
        ({"epoch": 1}, "epochs=1"),
        ({"batch_size": 1}, "batch=1"),
        ({"weight_decay": 0.1}, 'set={"optim.weight_decay": 0.1}'),
        ({"device": "cpu"}, "set={\"execution.device\": 'cpu'}"),
        ({"output_dir": "a"}, "out='a'"),
        ({"pretrained": True}, "weights=…"),
        ({"callbacks": []}, "on_event=…"),
        ({"nonsense": 1}, "leave out this argument"),
    ],
)
def test_a_misspelt_argument(named: dict[str, object], near: str) -> None:
    with pytest.raises(striate.StriateError) as caught:
        striate.train("iris", **named)
    assert caught.value.remedy == near


def test_other_functions_answer_it_too() -> None:
    for call in (striate.plan_training, striate.find_learning_rate):
        with pytest.raises(striate.StriateError) as caught:
            call("iris", learning_rate=1)  # type: ignore[call-arg]
        assert caught.value.remedy == 'set={"optim.lr": 1}'


@pytest.mark.parametrize(
    ("field", "near"),
    [
        ("learning_rate", "optim.lr"),
        ("optim.learning_rate", "optim.lr"),
        ("epoch", "budget.epochs"),
        ("weightdecay", "optim.weight_decay"),
        ("augment.horizontal_flip", "augment.flip"),
        ("batch_size", "batch"),
    ],
)
def test_a_misspelt_field(field: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        striate.train("iris", set={field: 1})
    told = in_arguments(f"{option_of(near)} 1", signature(striate.train).parameters)
    assert caught.value.remedy == f"did you mean {told}?"
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        striate.sweep("iris", {field: [1]})


def test_parts_of_torch_as_they_are() -> None:
    run = train(loss=torch.nn.CrossEntropyLoss, optimizer=torch.optim.SGD)
    assert run.metrics["test"]["loss"] > 0
    with pytest.raises(ConfigError) as caught:
        train(optimizer=torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]))
    assert caught.value.remedy == "optimizer=lambda parameters: torch.optim.Adam(parameters)"


def test_the_name_of_a_task_as_in_the_libraries() -> None:
    with pytest.raises(ConfigError) as caught:
        striate.train("iris", task="classification")
    assert caught.value.remedy == "task='classify'"
