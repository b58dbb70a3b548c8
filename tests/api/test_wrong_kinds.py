"""What is given in Python and is of the wrong kind is answered in our form."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.api import diagnose_run, evaluate_player, resume, verify
from striate.api.keywords import in_arguments
from striate.cli import main
from striate.errors import ConfigError, StriateError

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a path for a module": (lambda: striate.explain(nn.Linear(4, 2), "rose.jpg"), "a str, for an nn.Module"),
    "not finite": (lambda: striate.explain(nn.Linear(4, 2), torch.full((4,), torch.nan)), "NaN or Inf"),
    "a module to evaluate": (lambda: striate.evaluate(nn.Linear(4, 2), "iris"), "a Linear"),  # type: ignore[arg-type]
    "a class to explain": (lambda: striate.explain(nn.Linear, "a.png"), "a type"),  # type: ignore[arg-type]
    "a class to evaluate": (lambda: striate.evaluate(nn.Linear, "iris"), "a type"),  # type: ignore[arg-type]
    "a loss by torch's name": (lambda: striate.train("iris", loss="cross_entropy"), "loss='cross-entropy'"),
    "None to load": (lambda: striate.load(None), "a NoneType"),  # type: ignore[arg-type]
    "a module to export": (lambda: striate.export(nn.Linear(4, 2), "torch"), "a Linear"),  # type: ignore[arg-type]
    "a number to compare": (lambda: striate.compare(3), "an int"),  # type: ignore[arg-type]
    "a list to resume": (lambda: resume(["runs/none"]), "a list"),  # type: ignore[arg-type]
    "one run to compare": (lambda: striate.compare("runs/none"), "runs/none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_wrong_kind(case: str) -> None:
    call, said = WRONG[case]
    with pytest.raises(StriateError) as raised:
        call()
    assert said in str(raised.value)


def test_what_takes_the_path_of_a_run_takes_the_run() -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    run = striate.train((x, y), "mlp(4)", epochs=1, out="r", set={"execution.plan": "plain"})
    assert striate.load(run).run == run.path
    assert resume(run, data=(x, y), quiet=True).metrics == run.metrics
    assert verify(run).path == run.path
    with pytest.raises(StriateError, match=r"remedy:   reject=0\.05"):
        striate.load(run, reject=5.0)
    for verb in (diagnose_run, partial(striate.play, out="game.gif"), evaluate_player, striate.learning_curve):
        with pytest.raises(StriateError, match=r"not in a file|learned from samples"):
            verb(run)


@pytest.mark.parametrize("device", ["cuda:99", "mps", "gpu", "auto", "meta", 3, None])
def test_a_network_is_not_loaded_to_a_device_that_is_not_there(device: str) -> None:
    """Not called a damaged checkpoint; the device is told before anything is read."""
    with pytest.raises(ConfigError, match=rf"device\n.*{device}(.|\n)*cpu(.|\n)*device=\"cpu\""):
        striate.load("runs/none", device=device)


@pytest.mark.parametrize(
    ("remedy", "told"),
    [
        ("--epochs 20", "epochs=20"),
        ("--model 'mlp(4)' --weights r18.pt, which fit", "model='mlp(4)' weights='r18.pt', which fit"),
        ("leave out --lr: the recipe decides it then", "leave out lr: the recipe decides it then"),
        ("leave out --optim.clip", 'leave out "optim.clip" in set'),
        ("--optim.lr 1e-3, or did you mean --recipe quick?", "lr=1e-3, or did you mean recipe='quick'?"),
        ("give --data.val_fraction 0.2", 'give set={"data.val_fraction": 0.2}'),
        ("--target null turns it off", "set={\"budget.target\": 'null'} turns it off"),
        ("add --baseline or --augment.flip", 'add baseline=True or set={"augment.flip": …}'),
        ("--out runs/a-2, or: striate train --resume runs/a", "out='runs/a-2', or: striate train --resume runs/a"),
        ("train anew with --set code=[]", 'train anew with set={"code": []}'),
        ("--resume runs/a", "--resume runs/a"),
        ("cut 2 -- 3", "cut 2 -- 3"),
        ("--targets age:number,b:class, or", "set={\"data.targets\": 'age:number,b:class'}, or"),
    ],
)
def test_options_in_remedies_are_arguments_where_a_function_was_called(remedy: str, told: str) -> None:
    assert in_arguments(remedy, signature(striate.train).parameters) == told


def test_a_command_is_told_options_and_a_call_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for call in (striate.find_learning_rate, striate.plan_training):
        with pytest.raises(StriateError) as caught:
            call("iris", seconds=-1)
        assert re.fullmatch(r"seconds=\d+", caught.value.remedy)
    with pytest.raises(StriateError) as caught:
        striate.train("iris", epochs=0)
    assert (caught.value.where, caught.value.remedy) == ("epochs=… (budget.epochs)", "epochs=20")
    for fields, where in (({"optim.clip": -1}, 'set={"optim.clip": …}'), ({"optim.lrr": 1}, 'set={"optim.lrr": …}')):
        with pytest.raises(StriateError) as caught:
            striate.train("iris", set=fields)
        assert caught.value.where == where
    with pytest.raises(StriateError) as caught:
        striate.train("iris", epochs=1.5)  # type: ignore[arg-type]
    assert caught.value.expected == "a whole number"
    assert main(["lr-find", "iris", "--seconds", "-1"]) == 2
    assert "remedy:   --seconds 45" in capsys.readouterr().err
    with pytest.raises(StriateError, match="seconds=45"):  # also after a command
        striate.find_learning_rate("iris", seconds=-1)
