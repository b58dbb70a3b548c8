"""What is measured of a training setup: each quantity when a check first needs it, then shared by all checks."""

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
from striate.doctor.evidence.changed_by_reading import ChangedByReading, changed_by_reading
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.counted_samples import CountedSamples, counted_samples, loss_target_path
from striate.doctor.evidence.looked_up_pairs import looked_up_pairs
from striate.doctor.evidence.pairs import Embeddings, Pulled, embeddings_of, pairs_of, pulled_by_class
from striate.doctor.evidence.predictions import Predictions, are_blends, output_of, predict
from striate.doctor.evidence.progress import Progress, chance_of, floor_of, progress_of
from striate.doctor.evidence.read_batches import Batches, inputs_vary, read_batches
from striate.doctor.evidence.samples import Samples, targets_are_inputs, training_samples, validation_samples
from striate.doctor.evidence.scaled_targets import TargetScale, target_scale
from striate.doctor.evidence.scored_pairs import Scored, scored_pairs
from striate.doctor.evidence.signed_targets import targets_are_signs
from striate.doctor.evidence.simple_models import Reference, fit_simple_models
from striate.doctor.evidence.step_trace import StepTrace
from striate.doctor.evidence.tracing import trace_prediction, trace_step
from striate.doctor.evidence.trial import CLOSE_STEPS, Change, Trial, go_on, run_trial
from striate.doctor.setup.batch import Path, altered, copied, leaf, main_tensor, parts, size_of
from striate.doctor.setup.preserved_state import same_values
from striate.doctor.setup.replicas import Replica, make_replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import TrainingSetup
from striate.errors import DataError, StriateError, UsageError
from striate.machine.memory import ran_out
from striate.models.preserved_state import preserved, same_random_state
from striate.wording import several

Value = TypeVar("Value")


class Cached(Generic[Value]):
    """A cached property that caches errors too: a measurement that failed is not repeated for the next check."""

    def __init__(self, measure: Callable[[Any], Value]) -> None:
        self.measure, self.__doc__ = measure, measure.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, evidence: Any, owner: type) -> Value:
        if evidence is None:
            return self  # type: ignore[return-value]
        cached: dict[str, Any] = vars(evidence).setdefault("cached", {})
        evidence.requested.add(self.name)
        if self.name not in cached:
            evidence.clock.need(0.0)  # a check that needs several measurements stops between them
            try:
                cached[self.name] = self.measure(evidence)
            except (NoEvidence, StriateError) as reason:
                cached[self.name] = reason
            except Exception as error:  # an unforeseen error costs time once, not once for each check
                if ran_out(error):
                    raise
                cached[self.name] = NoEvidence(f"measuring {self.name} failed: {type(error).__name__}: {error}")
        value = cached[self.name]
        if isinstance(value, NoEvidence | StriateError):
            raise value
        found: Value = value
        return found


def _are_equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and same_values(one, other)


_IGNORED = -100  # the target that cross entropy ignores
_OF_LOGITS = "binary_cross_entropy_with_logits"
_MOST_LOG_RATE = 80.0  # exp() of more overflows float32

STEPS = 160
"""Most steps of the trial: faults of the optimization show by then."""
FEWEST_STEPS = 40
"""Steps that the trial makes even if they take more than SECONDS, unless a quarter of the budget runs out first."""
SECONDS = 1.0
"""Processor time after which a trial makes no further steps."""
LONGER_STEPS = 800
"""Most further steps of a trial that has learned nothing yet, where there is time."""
LONGER_SHARE, LEAST_LEFT = 0.2, 0.3
"""Share of the remaining time that the further steps may take; share of the budget that must remain for them."""
AFTER_TRIAL = frozenset({"progress", "_chance", "after", "after_val", "after_training"})
"""Names of the evidence that depends on the network after the trial."""


class Evidence:
    """The measurements that checks read. Every attribute may raise NoEvidence, which skips the check that reads it."""

    def __init__(self, setup: TrainingSetup, clock: Clock) -> None:
        self.setup, self.clock = setup, clock
        self.pictures: dict[str, Picture] = {}
        """Pictures that checks add to their findings, by code."""
        self._trials: dict[str, Trial] = {}
        self.requested: set[str] = set()
        """Names of the attributes that were read since this set was last cleared."""

    @property
    def source(self) -> ScriptSource:
        """The user's code. Raises NoEvidence where no script was run."""
        if self.setup.source is None:
            raise NoEvidence("no script was run")
        return self.setup.source

    @Cached
    def train(self) -> Batches:
        """The first batches that the training loader yields."""
        return read_batches(self.setup.train, self.clock.until(0.12, 3.0), "train")

    @Cached
    def val(self) -> Batches:
        """The first batches of the validation loader. Raises NoEvidence without validation data."""
        if self.setup.val is None:
            raise NoEvidence("no validation data were given")
        return read_batches(self.setup.val, self.clock.until(0.08, 2.0), "val")

    @Cached
    def samples(self) -> Samples:
        """The samples of the training batches."""
        first = (
            self.first
        )  # before `calls`, which runs another step: a loop that accumulates gradients counts its steps
        loss_targets = [call.target for call in self.calls.losses if call.target.ndim]
        found = training_samples(
            self.train, first, self.setup.classifies, self.setup.unlabeled, loss_targets, self._matters
        )
        inputs = targets_are_inputs(found, self.train.raw[0], first, loss_targets)
        return replace(found, y=None, classifies=False) if inputs else found

    @Cached
    def inputs_vary(self) -> bool:
        """Whether reading a training sample twice returns two different inputs."""
        return inputs_vary(self.setup.train)

    @Cached
    def targets_matter(self) -> bool:
        """Whether other targets change the result of a step; True also where that is unknown."""
        path = self.samples.y_path
        return path is None or self._matters(path)

    def _matters(self, path: Path) -> bool:
        """Whether the result of a step changes when the samples exchange the values at `path` of the batch; if these
        are all the same, when they are set to 0, or to 1 in place of 0. True also where that is unknown."""
        batch = self.train.raw[0]
        values = leaf(batch, path)
        if values is None or not values.ndim:
            return True
        same = bool((values == values[:1]).all())
        if same and self.setup.device.type == "cuda":  # a class without an output would end the process
            return True
        variants = copied(batch), altered(batch, path, lambda one: (one == 0).to(one) if same else one.roll(1, 0))
        with same_random_state():
            own, other = (run_trial(self.setup, [one], 1, self.clock.until(0.05), close=False) for one in variants)
        # With a last layer of zeros the loss is the same for all targets, but the gradient differs.
        results = (
            [one for p in trial.replica.model.parameters() for one in (p.detach(), p.grad)] for trial in (own, other)
        )
        return not own.losses or own.losses != other.losses or not all(starmap(_are_equal, zip(*results, strict=True)))

    @Cached
    def val_samples(self) -> Samples:
        """The samples of the validation batches."""
        return validation_samples(self.val, self.samples)

    @Cached
    def reference(self) -> Reference:
        """Simple models fitted to the training data."""
        return fit_simple_models(self.samples.sole_inputs, self.samples.labels, self.clock)

    @Cached
    def trial(self) -> Trial:
        """The user's own setup, trained for some steps on a replica."""
        self._refuse_labels_on_gpu()
        trial = self._run(self.train.raw, STEPS, None)
        if trial.changed_original and not trial.changed:
            raise UsageError(
                "step",
                "it trains another network than the one that it is called with (restored since)",
                "a step that works with its arguments alone",
                "def step(model, batch, optimizer, loss): … with these names, and no others from outside",
            )
        if not trial.gives_loss and self.setup.source is None:
            raise UsageError(
                "step", "it returns no loss", "a step that returns its loss", "end it with `return loss.detach()`"
            )
        return trial

    def train_longer(self) -> bool:
        """Continue a trial that learned nothing, and discard what was measured after it. Returns whether it at least
        doubled its steps."""
        trial, steps = self.trial, len(self.trial.rows)
        if trial.error is not None or trial.diverged or steps < FEWEST_STEPS:
            return False
        if self.clock.left < LEAST_LEFT * self.clock.budget:
            return False
        go_on(trial, self.train.raw, LONGER_STEPS, perf_counter() + LONGER_SHARE * self.clock.left)
        for name in AFTER_TRIAL:
            vars(self)["cached"].pop(name, None)
        self._trials.clear()
        return len(trial.rows) >= 2 * steps

    def _refuse_labels_on_gpu(self) -> None:
        """Raise DataError for class numbers without an output: on a GPU they raise an assertion that ends its use."""
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
        """The trace of the trial's first step."""
        return self.trial.first

    @Cached
    def progress(self) -> Progress:
        """How far the trial reduced the loss."""
        return self.progress_of(self.trial)

    def progress_of(self, trial: Trial) -> Progress:
        """How far a trial reduced the loss, from the first loss of `self.trial`. Raises NoEvidence where networks are
        rivals."""
        if self.setup.rivals:
            raise NoEvidence("networks train against each other, so their losses do not measure progress")
        first = self.trial.losses[0] if self.trial.losses else None
        return progress_of(trial, self._chance, first, floor_of(self.calls, first or 0.0))

    @Cached
    def _chance(self) -> float | None:
        y, scale = self.train.y, self.target_scale
        return chance_of(self.trial, y if y is None or scale is None else scale.of(y))

    @property
    def steps_to_try(self) -> int:
        """The number of steps of a variant: as many as the trial made, or would have made had it not diverged."""
        return STEPS if self.trial.diverged else max(len(self.trial.rows), 1)

    def variant(self, name: str, change: Change, *, batches: Sequence[Any] | None = None, steps: int = 0) -> Trial:
        """A trial with a change, on the training batches (or `batches`), for as many steps as the trial (or `steps`);
        cached by `name` together with its notes.

        Raises OutOfTime where the time left is too short for it.
        """
        if name not in self._trials:
            count = steps or self.steps_to_try
            self.clock.need(min(count, FEWEST_STEPS) * self.step_seconds)
            self._trials[name] = self._run(batches or self.train.raw, count, change, close=False)
        return self._trials[name]

    @Cached
    def step_seconds(self) -> float:
        """Seconds of a step: the median over the trial, without its first, traced steps if there are others."""
        seconds = [row.seconds for row in self.trial.rows]
        later = sorted(seconds[CLOSE_STEPS:] or seconds or [0.01])
        return later[len(later) // 2]

    @Cached
    def fresh(self) -> Replica:
        """A replica in the state in which the setup was given."""
        return make_replica(self.setup)

    @Cached
    def start(self) -> Predictions:
        """Predictions of the network before the trial for training batches, in evaluation mode."""
        return self._predicted(self.fresh, self._some(self.train.raw))

    @Cached
    def start_val(self) -> Predictions:
        """Predictions of the network before the trial for validation batches, in evaluation mode."""
        return self._predicted(self.fresh, self._some(self.val.raw))

    @Cached
    def after(self) -> Predictions:
        """Predictions of the network after the trial for training batches, in evaluation mode."""
        return self._predicted(self.trial.replica, self._some(self.train.raw))

    @Cached
    def after_val(self) -> Predictions:
        """Predictions of the network after the trial for validation batches, in evaluation mode."""
        return self._predicted(self.trial.replica, self._some(self.val.raw))

    @Cached
    def start_training(self) -> Predictions:
        """Predictions of the network before the trial for some training batches, in training mode."""
        return self.in_training(self.fresh)

    @Cached
    def after_training(self) -> Predictions:
        """Predictions of the network after the trial for the same batches, in training mode."""
        return self.in_training(self.trial.replica)

    @Cached
    def calls(self) -> StepCalls:
        """The calls of torch functions in one of the user's steps: losses, and values that Python waits for."""
        return watch_calls(self.setup, self.train.raw[0], self.clock.until(0.1))

    @Cached
    def changed_by_reading(self) -> ChangedByReading | None:
        """How reading samples changes the data that the training set stores; None where it changes nothing."""
        return changed_by_reading(self.setup.train)

    @Cached
    def embeddings(self) -> list[Embeddings]:
        """The embeddings of a few steps, with their gradients."""
        return embeddings_of(self)

    @Cached
    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances between the inputs of pairs of embeddings that the loss pulls together, and pushes apart."""
        return pairs_of(self)

    @Cached
    def pulled_by_class(self) -> tuple[Pulled, Pulled]:
        """How strongly the loss pulls together embeddings of the same class, and of different classes."""
        return pulled_by_class(self)

    @Cached
    def scored_pairs(self) -> list[tuple[Scored, Scored]]:
        """The network's scores of users with two items each, in some steps."""
        return scored_pairs(self)

    @Cached
    def looked_up_pairs(self) -> list[tuple[Scored, Scored]]:
        """Embeddings of users and of two items each that some steps look up in two tables."""
        return looked_up_pairs(self)

    @Cached
    def loss_target_path(self) -> Path | None:
        """The place in a batch of the targets that a loss of the step receives; None where it is unknown."""
        return loss_target_path(self)

    @Cached
    def counted(self) -> CountedSamples:
        """The samples that the loss counts in a few steps."""
        return counted_samples(self)

    @Cached
    def graph(self) -> CallGraph:
        """The call graph of one step of another replica."""
        replica = make_replica(self.setup)
        found = trace_step(replica, self.train.raw[0])
        if found.outside_tensors and found.error is None:
            again = trace_step(replica, self.train.raw[-1])
            for outside in found.outside_tensors:
                outside.recreated = bool(again.outside_tensors) and all(
                    other.tensor is not outside.tensor for other in again.outside_tensors
                )
        return found

    @Cached
    def prediction_graph(self) -> CallGraph:
        """The call graph of a prediction for a training batch, in evaluation mode."""
        batch = copied(self.train.raw[0])
        model = self.fresh.model
        with preserved(model), same_random_state(), torch.no_grad():
            return trace_prediction(self.fresh, batch, lambda: output_of(self.setup, self.fresh, batch, training=False))

    @Cached
    def classes(self) -> int:
        """The number of classes: the length of the outputs' second axis, or two where a sample has one output.

        Raises NoEvidence where the task is no classification.
        """
        if not self.setup.classifies:
            raise NoEvidence(f"the task is {self.setup.task}")
        outputs = self.first.loss_outputs if self.first.loss_outputs is not None else self.first.outputs
        if not isinstance(outputs, torch.Tensor) or outputs.ndim < 1:
            raise NoEvidence("the network's outputs were not recorded")
        return 2 if outputs.ndim == 1 or outputs.shape[1] == 1 else int(outputs.shape[1])

    def predictions_of(self, trial: Trial, batches: Sequence[Any]) -> Predictions:
        """Predictions of the network of another trial for `batches`, in evaluation mode."""
        return self._predicted(trial.replica, batches)

    def _run(self, batches: Sequence[Any], steps: int, change: Change | None, *, close: bool = True) -> Trial:
        began = process_time()  # not wall time: on busy cores the trial makes as many steps as on idle ones
        limit = self.clock.until(0.25)
        trial = run_trial(self.setup, batches, min(steps, FEWEST_STEPS), limit, change, close)
        rest = steps - len(trial.rows)
        completed = len(trial.rows) == FEWEST_STEPS and trial.error is None
        spent = process_time() - began
        if completed and rest > 0 and spent < SECONDS and perf_counter() < limit:
            pace = max(spent / FEWEST_STEPS, 1e-6)
            more = min(rest, int((SECONDS - spent) / pace))
            go_on(trial, batches, more, limit)
        return trial

    def in_training(self, replica: Replica) -> Predictions:
        """Predictions of a replica for some training batches, in training mode."""
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
        """Predictions in the unit of the targets: exp of outputs that the loss reads as logarithms of rates, the
        sigmoid of outputs that it reads as logits of fractions. Targets -1 and 1 that stand for signs become 0 and
        1."""
        outputs, targets = predictions.outputs, predictions.targets
        if targets is not None and outputs.numel() == targets.numel() and self.targets_are_signs:
            return replace(predictions, targets=(targets > 0).to(targets.dtype))
        if self.calls.log_rates and not self.calls.exp_of_exp:
            return replace(predictions, outputs=outputs.clamp(max=_MOST_LOG_RATE).exp())
        fractions = targets is not None and targets.is_floating_point() and bool(((targets > 0) & (targets < 1)).any())
        size = outputs[:1].numel()
        if fractions and any(call.name == _OF_LOGITS and call.input[:1].numel() == size for call in self.calls.losses):
            return replace(predictions, outputs=outputs.sigmoid())
        return predictions

    @Cached
    def blended(self) -> bool:
        """Whether the step blends samples, as mixup does, before it calls the network. Predictions are then made for
        the samples as they are."""
        shown, raw = self.first.shown, main_tensor(parts(self.train.raw[0])[0])
        return shown is not None and raw is not None and are_blends(shown.detach().cpu(), raw.detach().cpu())

    @Cached
    def target_scale(self) -> TargetScale | None:
        """How the step scales numeric targets before it calls the loss; None where it does not."""
        return target_scale(self)

    @Cached
    def targets_are_signs(self) -> bool:
        """Whether the targets -1 and 1 stand for the sign of a score."""
        return targets_are_signs(self)

    def _some(self, batches: Sequence[Any], most: int = 2048) -> Sequence[Any]:
        """The first batches, until they have at least `most` samples."""
        chosen, count = [], 0
        for batch in batches:
            chosen.append(batch)
            count += size_of(batch)
            if count >= most:
                break
        return chosen
