"""All that is measured of a training setup: each piece when a check first asks for it, then shared.
A piece of evidence that is measured once, or found not to be measurable once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import starmap
from time import perf_counter, process_time
from typing import Any, Generic, TypeVar

import torch

from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.call_graph import CallGraph
from striate.doctor.evidence.calls import StepCalls, watch_calls
from striate.doctor.evidence.changed_by_reading import Changed, changed_by_reading
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.counted_samples import Counted, asked_for, counted_by
from striate.doctor.evidence.looked_up_pairs import looked_up_pairs
from striate.doctor.evidence.pairs import Embeddings, Pulled, embeddings_of, pairs_of, pulled_by_class
from striate.doctor.evidence.predictions import Predictions, are_blends, output_of, predict
from striate.doctor.evidence.progress import Progress, chance_of, floor_of, progress_of
from striate.doctor.evidence.read_batches import Batches, drawn_anew, read_batches
from striate.doctor.evidence.samples import Samples, named_as_inputs, training_samples, validation_samples
from striate.doctor.evidence.scaled_targets import TargetScale, target_scale
from striate.doctor.evidence.scored_pairs import Scored, scored_pairs
from striate.doctor.evidence.signed_targets import wants_signs
from striate.doctor.evidence.simple_models import Reference, consult
from striate.doctor.evidence.step_trace import StepTrace
from striate.doctor.evidence.tracing import trace_answer, trace_step
from striate.doctor.evidence.trial import CLOSE_STEPS, Change, Trial, go_on, run_trial
from striate.doctor.setup.batch import Path, altered, copied, leaf, main_tensor, parts, size_of
from striate.doctor.setup.replicas import Replica, make_replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import TrainingSetup
from striate.errors import DataError, StriateError, UsageError
from striate.machine.memory import ran_out
from striate.models.preserved_state import preserved, same_random_state
from striate.wording import several

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """A cached property that remembers errors too: what failed for one check is not tried again for the next."""

    def __init__(self, measure: Callable[[Any], Value]) -> None:
        self.measure, self.__doc__ = measure, measure.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, evidence: Any, owner: type) -> Value:
        if evidence is None:
            return self  # type: ignore[return-value]
        kept: dict[str, Any] = vars(evidence).setdefault("kept", {})
        evidence.asked.add(self.name)
        if self.name not in kept:
            evidence.clock.need(0.0)  # a check that asks for several things stops between them
            try:
                kept[self.name] = self.measure(evidence)
            except (NoEvidence, StriateError) as reason:
                kept[self.name] = reason
            except Exception as error:  # whatever nobody thought of costs time once, not once a check
                if ran_out(error):
                    raise
                kept[self.name] = NoEvidence(f"measuring {self.name} failed: {type(error).__name__}: {error}")
        value = kept[self.name]
        if isinstance(value, NoEvidence | StriateError):
            raise value
        found: Value = value
        return found


def _are_equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.to_dense(), other.to_dense())


_IGNORED = -100  # which cross entropy leaves out
_OF_LOGITS = "binary_cross_entropy_with_logits"
_MOST_LOG_RATE = 80.0  # to which e can be raised in float32

STEPS = 160
"""Steps of the trial at most: what goes wrong in the optimization shows by then."""
FEWEST_STEPS = 40
SECONDS = 1.0
"""A trial may take so long, or FEWEST_STEPS, or a quarter of the budget, whichever comes first of the last two."""
LONGER_STEPS = 800
"""Further steps at most of a trial that has learned nothing yet, where there is time."""
LONGER_SHARE, LEAST_LEFT = 0.2, 0.3
"""Of the time that is left, for those steps; of the budget, that has to be left for them and for what they show."""
LEARNED = frozenset({"progress", "_chance", "after", "after_val", "after_training"})
"""What is measured of the trial's network after its steps."""


class Evidence:
    """What checks are given. Every attribute may raise NoEvidence, which skips the check that asked.

    `pictures`: checks put a picture beside their finding here, by code.
    """

    def __init__(self, setup: TrainingSetup, clock: Clock) -> None:
        self.setup, self.clock = setup, clock
        self.pictures: dict[str, Picture] = {}
        self._trials: dict[str, Trial] = {}
        self.asked: set[str] = set()
        """Names of what was asked for since this was last emptied."""

    @property
    def source(self) -> ScriptSource:
        """The user's code. Raises NoEvidence where no script was run."""
        if self.setup.source is None:
            raise NoEvidence("no script was run")
        return self.setup.source

    @Kept
    def train(self) -> Batches:
        """The first batches that the training loader yields."""
        return read_batches(self.setup.train, self.clock.until(0.12, 3.0), "train")

    @Kept
    def val(self) -> Batches:
        """The same of validation. Raises NoEvidence where none was given."""
        if self.setup.val is None:
            raise NoEvidence("no validation data were given")
        return read_batches(self.setup.val, self.clock.until(0.08, 2.0), "val")

    @Kept
    def samples(self) -> Samples:
        """What the training loader yields, sample by sample."""
        first = self.first  # before the calls of another step: loops that accumulate count theirs
        asked = [call.target for call in self.calls.losses if call.target.ndim]
        found = training_samples(self.train, first, self.setup.classifies, self.setup.unlabeled, asked, self._matters)
        inputs = named_as_inputs(found, self.train.raw[0], first, asked)
        return replace(found, y=None, classifies=False) if inputs else found

    @Kept
    def drawn_anew(self) -> bool:
        """Whether the training data set gives another input each time that it is asked for a sample."""
        return drawn_anew(self.setup.train)

    @Kept
    def targets_matter(self) -> bool:
        """Whether a step comes out otherwise with other targets; True, too, where that cannot be told."""
        path = self.samples.y_path
        return path is None or self._matters(path)

    def _matters(self, path: Path) -> bool:
        """Whether a step comes out otherwise where samples exchange what lies at a place of the batch, or have 0 or 1
        there if all have the same; True, too, where that cannot be told."""
        batch = self.train.raw[0]
        values = leaf(batch, path)
        if values is None or not values.ndim:
            return True
        same = bool((values == values[:1]).all())
        if same and self.setup.device.type == "cuda":  # a class without an output would end the process
            return True
        given = copied(batch), altered(batch, path, lambda one: (one == 0).to(one) if same else one.roll(1, 0))
        with same_random_state():
            own, other = (run_trial(self.setup, [one], 1, self.clock.until(0.05), close=False) for one in given)
        # A last layer that begins at zero gives one loss for all targets, but not one gradient.
        left = (
            [one for p in trial.replica.model.parameters() for one in (p.detach(), p.grad)] for trial in (own, other)
        )
        return not own.losses or own.losses != other.losses or not all(starmap(_are_equal, zip(*left, strict=True)))

    @Kept
    def val_samples(self) -> Samples:
        """The same of validation."""
        return validation_samples(self.val, self.samples)

    @Kept
    def reference(self) -> Reference:
        """What simple models make of the training data."""
        return consult(self.samples.sole_inputs, self.samples.labels, self.clock)

    @Kept
    def trial(self) -> Trial:
        """The user's own setup, trained for some steps on a replica."""
        self._refuse_labels_on_gpu()
        trial = self._run(self.train.raw, STEPS, None)
        if trial.astray and not trial.changed:
            raise UsageError(
                "step",
                "it trains another network than the one it is given (put back since)",
                "a step that works with its arguments alone",
                "def step(model, batch, optimizer, loss): … with these names, and no others from outside",
            )
        return trial

    def train_longer(self) -> bool:
        """Go on with a trial that learned nothing, and forget what was measured after it; whether it is twice as long
        then."""
        trial, made = self.trial, len(self.trial.rows)
        if trial.error is not None or trial.diverged or made < FEWEST_STEPS:
            return False
        if self.clock.left < LEAST_LEFT * self.clock.budget:
            return False
        go_on(trial, self.train.raw, LONGER_STEPS, perf_counter() + LONGER_SHARE * self.clock.left)
        for name in LEARNED:
            vars(self)["kept"].pop(name, None)
        self._trials.clear()
        return len(trial.rows) >= 2 * made

    def _refuse_labels_on_gpu(self) -> None:
        """A class number without an output is an assertion on a GPU, after which the whole process cannot use it."""
        if self.setup.device.type != "cuda" or not self.setup.classifies:
            return
        try:
            labels, outputs = self.train.labels, predict(self.setup, self.fresh, self.train.raw[:1]).outputs
        except NoEvidence:
            return
        classes = outputs.shape[1] if outputs.ndim == 2 else 0
        odd = labels[(labels >= classes) | ((labels < 0) & (labels != _IGNORED))]
        if classes > 1 and len(odd):
            raise DataError(
                "train",
                f"class numbers such as {int(odd[0])} for {several(classes, 'output')}",
                f"0 to {classes - 1}: on a GPU others end the process",
                f"number the classes from 0, or give the last layer {several(int(labels.max()) + 1, 'output')}",
            )

    @property
    def first(self) -> StepTrace:
        """The first step of the trial, watched from within."""
        return self.trial.first

    @Kept
    def progress(self) -> Progress:
        """How far the trial came."""
        return self.progress_of(self.trial)

    def progress_of(self, trial: Trial) -> Progress:
        """How far another trial came, from the same start. Raises NoEvidence where networks are rivals."""
        if self.setup.rivals:
            raise NoEvidence("networks train against each other: no loss of theirs says how far they are")
        first = self.trial.losses[0] if self.trial.losses else None
        return progress_of(trial, self._chance, first, floor_of(self.calls, first or 0.0))

    @Kept
    def _chance(self) -> float | None:
        y, scale = self.train.y, self.target_scale
        return chance_of(self.trial, y if y is None or scale is None else scale.of(y))

    @property
    def steps_to_try(self) -> int:
        """As many steps as the trial made, or would have made: variants are compared over the same."""
        return STEPS if self.trial.diverged else max(len(self.trial.rows), 1)

    def variant(self, name: str, change: Change, *, batches: Sequence[Any] | None = None, steps: int = 0) -> Trial:
        """A trial with a change, on the same batches (or others) and for as many steps (or `steps`); kept by `name`,
        with what was noted.

        Raises OutOfTime where it cannot be had any more.
        """
        if name not in self._trials:
            wanted = steps or self.steps_to_try
            self.clock.need(min(wanted, FEWEST_STEPS) * self.step_seconds)
            self._trials[name] = self._run(batches or self.train.raw, wanted, change, close=False)
        return self._trials[name]

    @Kept
    def step_seconds(self) -> float:
        """How long a step takes: the median of the trial's, without the first, watched ones where there are others."""
        seconds = [row.seconds for row in self.trial.rows]
        later = sorted(seconds[CLOSE_STEPS:] or seconds or [0.01])
        return later[len(later) // 2]

    @Kept
    def fresh(self) -> Replica:
        """A replica that was not trained."""
        return make_replica(self.setup)

    @Kept
    def start(self) -> Predictions:
        """What the network predicts on training batches as it was given, in evaluation mode."""
        return self._predicted(self.fresh, self._some(self.train.raw))

    @Kept
    def start_val(self) -> Predictions:
        """The same on validation batches."""
        return self._predicted(self.fresh, self._some(self.val.raw))

    @Kept
    def after(self) -> Predictions:
        """What the trial's network predicts after its steps on training batches, in evaluation mode."""
        return self._predicted(self.trial.replica, self._some(self.train.raw))

    @Kept
    def after_val(self) -> Predictions:
        """The same on validation batches."""
        return self._predicted(self.trial.replica, self._some(self.val.raw))

    @Kept
    def start_training(self) -> Predictions:
        """What the network predicts on some training batches as it was given, in training mode."""
        return self.in_training(self.fresh)

    @Kept
    def after_training(self) -> Predictions:
        """What the trial's network predicts on them after its steps, in training mode."""
        return self.in_training(self.trial.replica)

    @Kept
    def calls(self) -> StepCalls:
        """What one step of the user's calls: losses, and what Python waits for."""
        return watch_calls(self.setup, self.train.raw[0], self.clock.until(0.1))

    @Kept
    def changed_by_reading(self) -> Changed | None:
        """Whether the training data set changes what it holds when it is asked for samples."""
        return changed_by_reading(self.setup.train)

    @Kept
    def embeddings(self) -> list[Embeddings]:
        """What the network embeds in each of a few steps, with the gradients that come back."""
        return embeddings_of(self)

    @Kept
    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances between the inputs of pairs of embeddings that the loss pulls together, and pushes apart."""
        return pairs_of(self)

    @Kept
    def pulled_by_class(self) -> tuple[Pulled, Pulled]:
        """How strongly the loss pulls together embeddings of one class, and of two."""
        return pulled_by_class(self)

    @Kept
    def scored_pairs(self) -> list[tuple[Scored, Scored]]:
        """Scores that the network gives users with two items each in some steps."""
        return scored_pairs(self)

    @Kept
    def looked_up_pairs(self) -> list[tuple[Scored, Scored]]:
        """Vectors of users and of two items each that some steps look up in two tables."""
        return looked_up_pairs(self)

    @Kept
    def loss_target_path(self) -> Path | None:
        """Where in a batch the targets lie that a loss of the step is given; None where that is not seen."""
        return asked_for(self)

    @Kept
    def counted(self) -> Counted:
        """Which samples the loss counts in a few steps."""
        return counted_by(self)

    @Kept
    def graph(self) -> CallGraph:
        """One step of another double, function by function: which result goes into which call."""
        replica = make_replica(self.setup)
        found = trace_step(replica, self.train.raw[0])
        if found.outside_tensors and found.error is None:
            again = trace_step(replica, self.train.raw[-1])
            for stranger in found.outside_tensors:
                stranger.made_anew = bool(again.outside_tensors) and all(
                    other.tensor is not stranger.tensor for other in again.outside_tensors
                )
        return found

    @Kept
    def predicting(self) -> CallGraph:
        """What the network computes in evaluation mode, function by function, for a batch of training."""
        batch = copied(self.train.raw[0])
        model = self.fresh.model
        with preserved(model), same_random_state(), torch.no_grad():
            return trace_answer(self.fresh, batch, lambda: output_of(self.setup, self.fresh, batch, training=False))

    @Kept
    def classes(self) -> int:
        """How many classes the outputs tell apart: their second axis, or two where there is one number a sample.

        Raises NoEvidence where the task is another.
        """
        if not self.setup.classifies:
            raise NoEvidence(f"the task is {self.setup.task}")
        outputs = self.first.loss_outputs if self.first.loss_outputs is not None else self.first.outputs
        if not isinstance(outputs, torch.Tensor) or outputs.ndim < 1:
            raise NoEvidence("the network's outputs were not seen")
        return 2 if outputs.ndim == 1 or outputs.shape[1] == 1 else int(outputs.shape[1])

    def predictions_of(self, trial: Trial, batches: Sequence[Any]) -> Predictions:
        """What another trial's network predicts on batches."""
        return self._predicted(trial.replica, batches)

    def _run(self, batches: Sequence[Any], steps: int, change: Change | None, *, close: bool = True) -> Trial:
        began = process_time()  # on busy cores the trial is as long as on quiet ones, within the budget
        limit = self.clock.until(0.25)
        trial = run_trial(self.setup, batches, min(steps, FEWEST_STEPS), limit, change, close)
        rest = steps - len(trial.rows)
        whole = len(trial.rows) == FEWEST_STEPS and trial.error is None
        spent = process_time() - began
        if whole and rest > 0 and spent < SECONDS and perf_counter() < limit:
            pace = max(spent / FEWEST_STEPS, 1e-6)
            more = min(rest, int((SECONDS - spent) / pace))
            go_on(trial, batches, more, limit)
        return trial

    def in_training(self, replica: Replica) -> Predictions:
        """What a replica predicts on some training batches in training mode."""
        batches = self._some(self.train.raw, 512)
        return self._predicted(replica, batches, training=True)

    def _predicted(self, replica: Replica, batches: Sequence[Any], *, training: bool = False) -> Predictions:
        until, blended = self.clock.until(0.04), self.blended
        return self.in_target_units(
            predict(
                self.setup, replica, batches, training=training, until=until, scale=self.target_scale, directly=blended
            )
        )

    def in_target_units(self, predictions: Predictions) -> Predictions:
        """In the unit of the targets, where the loss takes outputs for logarithms of rates, or for logits of shares;
        with targets 0 and 1 where those of -1 and 1 ask for a sign."""
        outputs, targets = predictions.outputs, predictions.targets
        if targets is not None and outputs.numel() == targets.numel() and self.wants_signs:
            return replace(predictions, targets=(targets > 0).to(targets.dtype))
        if self.calls.log_rates and not self.calls.exp_of_exp:
            return replace(predictions, outputs=outputs.clamp(max=_MOST_LOG_RATE).exp())
        shares = targets is not None and targets.is_floating_point() and bool(((targets > 0) & (targets < 1)).any())
        size = outputs[:1].numel()
        if shares and any(call.name == _OF_LOGITS and call.input[:1].numel() == size for call in self.calls.losses):
            return replace(predictions, outputs=outputs.sigmoid())
        return predictions

    @Kept
    def blended(self) -> bool:
        """Whether the step blends samples before the network is shown them: it is asked about them as they are."""
        shown, raw = self.first.shown, main_tensor(parts(self.train.raw[0])[0])
        return shown is not None and raw is not None and are_blends(shown.detach().cpu(), raw.detach().cpu())

    @Kept
    def target_scale(self) -> TargetScale | None:
        """By what the step scales quantities before the loss gets them."""
        return target_scale(self)

    @Kept
    def wants_signs(self) -> bool:
        """Whether targets of -1 and 1 ask for the sign of a score."""
        return wants_signs(self)

    def _some(self, batches: Sequence[Any], most: int = 2048) -> Sequence[Any]:
        chosen, count = [], 0
        for batch in batches:
            chosen.append(batch)
            count += size_of(batch)
            if count >= most:
                break
        return chosen
