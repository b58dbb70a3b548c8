"""`striate.evaluate`: words that mean nothing are refused, and a run's own settings hold."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

import striate
from striate.api import diagnose_run, write_evaluation
from striate.cli import main
from striate.data.dataset import Split
from striate.data.loader import Batch, batches
from striate.errors import ChangedDataError, OtherClassesError, RunError, UsageError


def test_fields_that_are_no_dict_are_refused():
    with pytest.raises(UsageError, match="set") as caught:
        striate.train("iris", set=["optim.lr"])
    assert caught.value.got == "a list"


def test_a_plan_that_is_no_plan_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="'palin'"):
        striate.evaluate("no such run", plan="palin")


def test_the_first_argument_has_the_same_name_wherever_a_run_or_a_network_is_taken() -> None:
    for function in (striate.evaluate, striate.explain):
        assert next(iter(signature(function).parameters)) == "run_or_trained"


def test_of_classes_that_the_network_does_not_know_the_commands_that_help_are_told(own_folder: Path) -> None:
    striate.train("iris", "fc(6) relu fc(3)", epochs=1, out="run", set={"execution.plan": "plain"})
    arrays = {"x": np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32), "y": np.array(["a", "b"] * 20)}
    np.savez("other.npz", **arrays)
    with pytest.raises(OtherClassesError) as caught:
        striate.evaluate("run", "other.npz")
    for verb, command in zip(("predict", "train"), caught.value.remedy.split(": striate ")[1:], strict=True):
        words = shlex.split(command.partition(";")[0])
        assert words[0] == verb
        assert main([*words, *(["--epochs", "1"] if verb == "train" else [])]) == 0
    with pytest.raises(OtherClassesError) as caught:
        striate.evaluate("run", (arrays["x"], arrays["y"]))
    assert "striate" not in caught.value.remedy


def test_of_data_that_have_changed_the_samples_and_the_commands_that_help_are_told(
    photos: Callable[..., Path],
) -> None:
    folder = photos()
    network = "conv(4,3) relu gap fc(3)"
    run = striate.train(folder, network, epochs=1, out="run", set={"execution.plan": "plain"}).path
    gone = sorted(folder.rglob("*.png"))[0]
    content = gone.read_bytes()
    gone.unlink()
    named = gone.relative_to(folder).as_posix()
    for act in (lambda: striate.evaluate(run), lambda: diagnose_run(run)):
        with pytest.raises(ChangedDataError) as caught:
            act()
        assert caught.value.got.endswith(f": 1 sample is gone ({named})")
    for verb, command in zip(("eval", "train"), caught.value.remedy.split(": striate ")[1:], strict=True):
        words = shlex.split(command.partition(";")[0])
        assert words[0] == verb
        assert main(words) == 0
    (folder / "red" / "more.png").write_bytes(content + b" ")
    gone.write_bytes(content)
    with pytest.raises(ChangedDataError, match=r"1 sample is new \(red/more.png\)"):
        striate.evaluate(run)
    with pytest.raises(ChangedDataError) as caught:
        striate.train(config=run / "config.yaml", out="again")
    assert caught.value.remedy.endswith("""with set={"data.fingerprint": 'null'}""")
    assert striate.train(config=run / "config.yaml", out="again", set={"data.fingerprint": "null"}).metrics


def test_no_other_place_is_suggested_for_what_belongs_into_a_run(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = striate.train("iris", "fc(3)", epochs=1, out="run", set={"execution.plan": "plain"})
    evaluation = striate.evaluate(run)

    def read_only(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("striate.api.measuring.make_folder", read_only)
    with pytest.raises(RunError) as caught:
        write_evaluation("run", evaluation)
    assert caught.value.remedy == "make the disk writable"


@pytest.mark.slow
def test_as_many_samples_are_measured_at_once_as_the_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    run = striate.train("digits", model="conv(2,3) relu flatten fc(10)", epochs=1, set={"execution.micro_batch": 19})
    sizes: list[int] = []

    def noted(split: Split, batch: int) -> Iterator[Batch]:
        for part in batches(split, batch):
            sizes.append(len(part.ids))
            yield part

    monkeypatch.setattr("striate.evaluation.evaluate.batches", noted)
    assert striate.evaluate(run, plan="plain").n == sum(sizes)
    assert max(sizes) in (19, 20)  # a lone last sample joins the others
