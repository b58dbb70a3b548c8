"""Diagnoses a training setup: runs the checks and collects their findings."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType

import torch
from torch import nn

from striate.doctor.built_network import built_network
from striate.doctor.causes import cause_of_all, sort_out
from striate.doctor.checks import reward
from striate.doctor.checks.check import Check
from striate.doctor.checks.every import every_check
from striate.doctor.checks.loss.broadcast import BROADCAST_OF_VARIABLES
from striate.doctor.checks.optim.other_optimizers import WITHOUT_OPTIMIZER
from striate.doctor.checks.optim.steps_by_code import STEPS_BY_CODE
from striate.doctor.checks.reward.batches import learns_from_rewards
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.evidence.clock import Clock, NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import AFTER_TRIAL, Evidence
from striate.doctor.evidence.learning import learning_of
from striate.doctor.evidence.trial import Trial
from striate.doctor.finding_words import in_python_names
from striate.doctor.setup.batch import parts
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import (
    Batches,
    Loss,
    OptimizerOrMaker,
    Step,
    TrainingSetup,
    make_setup,
    usual_step,
)
from striate.errors import DataError, ModelError, StriateError, UsageError, one_line
from striate.machine.load import current_load, maybe_busy
from striate.machine.memory import ran_out
from striate.models.build import Model
from striate.models.check import check_forward
from striate.records import Finding

_SECONDS = 30.0


def diagnose(
    model: Model,
    train: Batches,
    val: Batches | None = None,
    *,
    loss: Loss | None = None,
    optimizer: OptimizerOrMaker | None = None,
    step: Step | None = None,
    task: str = "classify",
    budget_seconds: float = 30,
) -> Diagnosis:
    """Find out why a network does not learn, and what to change. The arguments are not changed.

    `model`: a module, a class or function that makes one, a zoo name, a layer string, `path/to/file.py:function` (which
    RUNS that code), or a run or checkpoint; all but a module are built here for the shape and the number of classes of
    the training data. `train`, `val`: a DataLoader or a pair (x, y) each. `loss(outputs, targets)` returns a scalar;
    None: cross entropy, for `task="regress"` the mean squared error, for `task="segment"` cross entropy over pixels,
    which ignores class 255. `optimizer`: an Optimizer of the model's parameters, a function that makes one from
    parameters, or None. `step(model, batch, optimizer, loss)` makes one training step as the user's loop does and
    returns the loss; it is called on copies only. `budget_seconds`: time limit, which only a single step may exceed;
    `.skipped` names the checks that had no time.

    Raises UsageError; DataError where a loader cannot be read; ModelError where the network cannot be run or copied.
    """
    if not isinstance(budget_seconds, int | float) or not 0 < budget_seconds < float("inf"):
        raise UsageError("budget_seconds", repr(budget_seconds), "a number of seconds above 0", "budget_seconds=30")
    setup = make_setup(
        built_network(model, train, task), train, val, loss=loss, optimizer=optimizer, step=step, task=task
    )
    return diagnose_setup(setup, budget_seconds)


def diagnose_setup(setup: TrainingSetup, budget_seconds: float) -> Diagnosis:
    """Diagnose a setup. Its state is restored."""
    clock = Clock(float(budget_seconds))
    with state_preserved(setup), threads_to_spare():
        return examine(setup, clock)


@contextmanager
def threads_to_spare() -> Iterator[None]:
    """While the body runs, torch uses no more threads than there are idle cores: threads that wait for cores make a
    step of a small network ten times as slow."""
    before = torch.get_num_threads()
    if before > 1 and maybe_busy() and (load := current_load()).busy:
        torch.set_num_threads(max(1, min(before, load.cores - round(load.taken))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def examine_rewards(source: ScriptSource) -> Diagnosis:
    """Diagnose the code of a script that plays an environment, and its replay buffer, without running a step."""
    checks = [
        check for check in (*reward.CHECKS, BROADCAST_OF_VARIABLES, WITHOUT_OPTIMIZER, STEPS_BY_CODE) if check.of_source
    ]
    return _of_code(
        source, torch.nn.Identity(), checks, "no training step is made for a script that plays an environment"
    )


def examine_code(source: ScriptSource, model: nn.Module, why: str) -> Diagnosis:
    """Diagnose the code of a script, where no step of its loop can be run: `why` gives the reason."""
    checks = [one for one in every_check() if one.of_source and not one.of_rewards]
    return _of_code(source, model, [*checks, BROADCAST_OF_VARIABLES, STEPS_BY_CODE], why)


def _of_code(source: ScriptSource, model: nn.Module, checks: list[Check], why: str) -> Diagnosis:
    clock = Clock(_SECONDS)
    evidence = Evidence(make_setup(model, [], step=usual_step, source=source), clock)
    found, skipped, looked = list[Finding](), dict[str, str](), list[str]()
    for check in checks:
        try:
            with clock.interrupting(_BEYOND):
                found += check.run(evidence)
            looked += check.codes
        except NoEvidence as reason:
            skipped |= dict.fromkeys(check.codes, str(reason))
        except DataError:  # there are no batches
            skipped |= dict.fromkeys(check.codes, why)
    skipped["data, loss, model, optim, eval, fit and speed"] = why
    firsts = {finding.code: in_python_names(finding, model) for finding in found[::-1]}
    roots, follows = sort_out(list(firsts.values()))
    return Diagnosis(roots, follows, skipped, tuple(dict.fromkeys(looked)), clock.spent)


def examine(
    setup: TrainingSetup, clock: Clock, *, quick: bool = False, without: frozenset[str] = frozenset()
) -> Diagnosis:
    """Run all checks, or only the `quick` ones, except those of codes in `without`. The caller preserves the state."""
    evidence = Evidence(setup, clock)
    checks = [check for check in every_check() if _applies(check, evidence, quick, without)]
    results = _Results()
    for check in checks:
        results.run(check, evidence)
    learning = None if quick else learning_of(evidence)
    if learning is not None and not learning.shown and not results.alarming and _longer(evidence):
        for check in checks:
            if check.codes in results.of_trial and not set(check.codes) <= _ONCE:
                results.run(check, evidence)
        learning = learning_of(evidence)
    found = results.found + _unexplained(evidence, results.found)
    roots, follows = sort_out([in_python_names(finding, setup.model) for finding in found])
    return Diagnosis(roots, follows, results.skipped, results.looked_at, clock.spent, evidence.pictures, learning)


_MAY_BE_INTENDED = frozenset(
    {
        "data.label-noise",
        "data.too-few",
        "fit.cannot-overfit-batch",
        "fit.overfit",
        "fit.plateau",
        "fit.underfit",
        "model.redundant-filters",
    }
)
"""Codes that are no mistake in code, but a relation of data, network and time that the author of a script may know: for
a script, a warning of these becomes a note."""
_BEYOND = 0.1
"""Share of the budget by which checks that only read code may be late."""
_ONCE = frozenset({"fit.overfit"})
"""Codes that are not checked again after a longer trial, which repeats the same few batches more often than a
training."""


def _applies(check: Check, evidence: Evidence, quick: bool, without: frozenset[str]) -> bool:
    if check.of_rewards and not learns_from_rewards(evidence):
        return False
    if (quick and not check.quick) or (check.of_source and evidence.setup.source is None):
        return False
    return not without.issuperset(check.codes)


def _longer(evidence: Evidence) -> bool:
    try:
        return evidence.train_longer()
    except (NoEvidence, StriateError):
        return False


@dataclass
class _Results:
    """The results of the checks."""

    found: list[Finding] = field(default_factory=list)
    looked: list[Check] = field(default_factory=list)
    """The checks that ran, in order."""
    why: dict[int, tuple[Check, str, bool]] = field(default_factory=dict)
    """By id of a skipped check: the check, the reason, and whether it lacked time."""
    of_trial: set[tuple[str, ...]] = field(default_factory=set)
    """Codes of the checks that may depend on what the network learned in the trial: all but quick ones that do not read
    it."""
    by: dict[str, Check] = field(default_factory=dict)
    """By code of a finding, the check that it comes from."""

    @property
    def alarming(self) -> bool:
        """Whether there is an error or a warning."""
        return any(finding.severity != "note" for finding in self.found)

    @property
    def looked_at(self) -> tuple[str, ...]:
        """The codes of the checks that ran."""
        return tuple(dict.fromkeys(code for check in self.looked for code in check.codes))

    @property
    def skipped(self) -> dict[str, str]:
        """By code, why it was not checked: the reason of the first of its checks that lacked time, or else was skipped.
        Without a check that lacked time, a code that another check covered is left out."""
        looked, found = set(self.looked_at), dict[str, str]()
        for check, why, late in sorted(self.why.values(), key=lambda skipped: not skipped[2]):
            for code in check.codes:
                if late or code not in looked:
                    found.setdefault(code, why)
        return found

    def run(self, check: Check, evidence: Evidence) -> None:
        """Run a check. Its findings replace earlier ones of the same codes; its notes do not replace the errors and
        warnings of another check."""
        if not check.quick and (cause := cause_of_all(check.codes, self.found)):
            self._skip(check, f"it would follow from {cause}")
            return
        evidence.requested.clear()
        found = list[Finding]()
        try:
            clock = evidence.clock
            # Reading code takes little time; a check that needs more reads the clock itself.
            clock.need(-_BEYOND * clock.budget if check.of_source else 0.0)
            with clock.interrupting(_BEYOND) if check.of_source else nullcontext():
                found += check.run(evidence)
            if evidence.setup.source is not None:
                found = list(map(_as_of_script, found))
            self.looked.append(check)
            self.why.pop(id(check), None)
        except NoEvidence as reason:
            self._skip(check, str(reason), late=isinstance(reason, OutOfTime))
        except StriateError:
            raise
        except Exception as error:  # an unforeseen error of one check must not end the others
            if ran_out(error):
                raise
            self._skip(check, f"the check itself failed: {type(error).__name__}: {error}")
        found = [one for one in found if one.severity != "note" or not self._alarmed_by_another(check, one.code)]
        codes = {one.code for one in found}
        self.found = [one for one in self.found if one.code not in codes] + found
        self.by |= dict.fromkeys(codes, check)
        if not check.quick or not AFTER_TRIAL.isdisjoint(evidence.requested):
            self.of_trial.add(check.codes)

    def _alarmed_by_another(self, check: Check, code: str) -> bool:
        return self.by.get(code, check) is not check and any(
            one.code == code and one.severity != "note" for one in self.found
        )

    def _skip(self, check: Check, why: str, *, late: bool = False) -> None:
        """Record a skipped check, unless it ran before."""
        if not any(one is check for one in self.looked):
            self.why[id(check)] = check, why, late


def _as_of_script(finding: Finding) -> Finding:
    may_be_intended = finding.code in _MAY_BE_INTENDED and finding.severity == "warning"
    return replace(finding, severity="note") if may_be_intended else finding


def _unexplained(evidence: Evidence, found: list[Finding]) -> list[Finding]:
    """The finding about a first step that raises an error which no check explains. Raises ModelError where the network
    itself raises it, or no step could be tried; UsageError where it is a mistake in the loss or step that was given."""
    trial = vars(evidence).get("cached", {}).get("trial")
    if isinstance(trial, NoEvidence) and not isinstance(trial, OutOfTime):
        raise ModelError("the training step", str(trial), "one that can be tried on copies", _FIX)
    if not isinstance(trial, Trial) or trial.error is None or trial.rows:
        return []
    name = type(trial.error).__name__
    if any(
        (finding.severity == "error" and not finding.code.startswith("data.")) or name in finding.measured
        for finding in found
    ):
        return []
    raised = f"{name}: {one_line(str(trial.error))[:300]}"
    setup, phase = evidence.setup, trial.phase
    if phase == "forward" or (phase == "start" and setup.own_step):
        if setup.own_step:
            _check_inputs(setup, parts(evidence.train.raw[0])[0], raised)
        raise ModelError("the network", raised + _at(trial.error), "one that takes a batch", _FIX)
    where = "loss" if phase == "loss" or setup.own_step else "step"
    at = _at(trial.error, getattr(getattr(setup, where), "__code__", None))
    # Torch raises these for tensors that do not fit; others are mistakes in the code of an argument.
    if setup.source is None and (
        phase == "start" or not isinstance(trial.error, RuntimeError | ValueError | IndexError)
    ):
        raise UsageError(where, raised + at, _FORMS[where], _FIX)
    backward = any(frame.name == "backward" for frame in traceback.extract_tb(trial.error.__traceback__))
    place = "the loss" if phase == "loss" else "the backward pass" if backward else "the training step"
    return [
        Finding(
            code="loss.wrong-for-task" if phase == "loss" else "optim.no-step",
            severity="error",
            where=place + at,
            measured=f"the first step raises {raised}",
            threshold="a first step that raises an exception",
            why="No step can be made, so nothing is learned.",
            remedy=_FIX,
        )
    ]


def _check_inputs(setup: TrainingSetup, inputs: object, raised: str) -> None:
    """Raise ModelError, with a remedy for the layer that refuses them, where the network does not take the type or the
    shape of a batch of inputs, because of which it has `raised` an exception."""
    if not isinstance(inputs, torch.Tensor) or inputs.ndim < 2:
        return
    own = next((p.dtype for p in setup.model.parameters() if p.is_floating_point()), inputs.dtype)
    if inputs.dtype != own and "type" in raised:
        made = f"x.to({own})" + " / 255" * (inputs.dtype == torch.uint8)
        remedy = f"train=({made}, y), or `{made}` in the data set"
        raise ModelError("the network", f"inputs of type {inputs.dtype}: {raised}", f"{own}, as its weights", remedy)
    check_forward(setup.model, tuple(inputs.shape[1:]))


_FORMS = {
    "step": "step(model, batch, optimizer, loss), which makes one training step and returns the loss",
    "loss": "loss(outputs, targets), which returns a tensor of one number",
}
_LIBRARIES = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])


def _at(error: BaseException, called: CodeType | None = None) -> str:
    """The file and line of the user's code that raised the error, as ` (train.py, line 3)`; without any, those of the
    function that was `called`."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if called is not None:
        frames.insert(0, (called.co_filename, called.co_firstlineno))
    own = [frame for frame in frames if not frame[0].startswith(_LIBRARIES)]
    return f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""


_FIX = "Run one step of your own loop on one batch, and fix what it raises."
