"""Finds NaN and Inf in losses, gradients and weights, at the step, and names the layer, the samples and a remedy.

The gradients of a step are checked before the optimizer's step, in one pass over memory. On a CPU each step reads the
result. On an accelerator that would make the host wait: there the flag stays on the device, fused optimizers skip every
step from the first bad one on, and the flags of several steps are read together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from striate.data.loader import Batch
from striate.errors import NonFiniteLoss
from striate.training.events import EpochRow
from striate.training.execution import uncompiled
from striate.training.nonfinite.locate import Fault, locate_nonfinite
from striate.training.processes.group import ALONE
from striate.training.setup import Setup
from striate.training.state import TrainingState
from striate.wording import several

MakePasses = Callable[[Setup, Batch], tuple[torch.Tensor, Callable[[], object]]]
"""Returns the prepared inputs (B, …) of a step, and a function that runs its forward and backward pass."""

_CHECK_EVERY = 20  # steps between two checks on an accelerator
_NAMED = 5  # samples in the message


def checked_each_step(device: torch.device) -> bool:
    """Whether the check can be read at each step without waiting for an accelerator."""
    return device.type == "cpu"


@dataclass(frozen=True)
class StepFacts:
    """Facts about a step, for the message."""

    step: int
    """From 1."""
    epoch: int
    """From 1."""
    lr: float
    ids: Sequence[int] = ()
    """Its samples, in the order of the batch."""


def facts_of(setup: Setup, batch: Batch) -> StepFacts:
    """The facts of the current step."""
    lr = setup.state.optimizer.param_groups[-1]["lr"]
    return StepFacts(setup.state.step + 1, setup.epoch + 1, lr, batch.ids.tolist())


def mark_nonfinite(state: TrainingState, parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """A scalar on the device: 1 from the first call on where a gradient of `parameters` has NaN or Inf, else 0. On an
    accelerator, fused optimizers take no step while it is 1."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if state.fault is None or state.unscaled is None:
        state.fault, state.unscaled = torch.zeros((), device=state.device), torch.ones((), device=state.device)
        if not checked_each_step(state.device) and state.optimizer.defaults.get("fused"):
            state.optimizer.found_inf = state.fault  # type: ignore[attr-defined]
    # torch.amp.GradScaler's single pass over all gradients, here with the factor 1.
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, state.fault, state.unscaled)
    return state.fault


def count_skipped(state: TrainingState) -> None:
    """After the scaler's step, before its update: count on the device whether the scaler skipped the step."""
    if state.scaler is None:
        return
    found = list(state.scaler._found_inf_per_device(state.optimizer).values())
    skipped = torch.stack([flag.float() for flag in found]).sum().clamp(max=1)
    state.skipped = skipped if state.skipped is None else state.skipped + skipped


def refuse_nonfinite_step(
    setup: Setup,
    batch: Batch,
    inputs: torch.Tensor,
    loss: torch.Tensor,
    trained: Iterable[torch.Tensor],
    again: Callable[[], object],
) -> None:
    """Raise NonFiniteLoss where the scalar `loss` or a gradient of the `trained` parameters has NaN or Inf, before the
    optimizer's step.

    `inputs` (B, …) is the whole prepared batch; `again` repeats the passes of the step. The network stays as it is. On
    an accelerator only the flag is set, which `LossWatch` reads later. Several processes must come to the same verdict:
    they check only the gradient, which is their sum.
    """
    state = setup.state
    if state.scaler is None and not setup.processes.sharded:
        mark_nonfinite(state, trained)
    if not checked_each_step(loss.device):
        return
    bad_loss = not setup.processes.several and not math.isfinite(loss.item())
    if bad_loss or (state.fault is not None and state.fault.item()):
        place = locate_nonfinite(state.module, inputs, again)
        raise _error(f"{float(loss):g}" if bad_loss else "", place, facts_of(setup, batch))


def refuse_nonfinite_loss(setup: Setup, batch: Batch, inputs: torch.Tensor, loss: torch.Tensor) -> None:
    """Raise NonFiniteLoss where the scalar `loss` of a network that learns without gradients is NaN or Inf."""
    if checked_each_step(loss.device) and not math.isfinite(loss.item()):
        module = setup.state.module
        place = locate_nonfinite(module, inputs, torch.no_grad()(lambda: module(inputs)))
        raise _error(f"{float(loss):g}", place, facts_of(setup, batch))


def _error(loss: str, place: Fault, facts: StepFacts) -> NonFiniteLoss:
    ids = [facts.ids[row] for row in place.rows if row < len(facts.ids)]
    at_fault = f", of {_samples(ids)}" if ids else ""
    what, got = ("loss", f"{loss} at") if loss else ("gradient", "NaN or Inf at")
    return NonFiniteLoss(
        f"training, step {facts.step} in epoch {facts.epoch}: {what}",
        f"{got} learning rate {facts.lr:.3g}; {place.words}{at_fault}",
        "a finite number",
        _remedy(facts.lr),
        step=facts.step,
        epoch=facts.epoch,
        lr=facts.lr,
        layer=place.layer,
        samples=ids or list(facts.ids),
    )


def _samples(ids: Sequence[int]) -> str:
    more = f", … ({len(ids)} in total)" if len(ids) > _NAMED else ""
    return f"sample{'s' * (len(ids) > 1)} {', '.join(map(str, ids[:_NAMED]))}{more}"


class LossWatch:
    """Reads the losses of several steps at once, so that no step waits for an accelerator."""

    def __init__(self) -> None:
        self._unread: list[tuple[StepFacts, torch.Tensor, torch.Tensor | None]] = []

    def after_step(self, setup: Setup, batch: Batch, loss: torch.Tensor, passes: MakePasses) -> None:
        """Where steps are not checked one by one: record the scalar `loss` of a step; read the losses since the last
        check when there are enough, or the epoch ends. Raises NonFiniteLoss as `check` does."""
        if checked_each_step(loss.device):
            return
        self.add(facts_of(setup, batch), loss, setup.state.fault)
        if len(self._unread) >= _CHECK_EVERY or setup.state.step + 1 == setup.epoch_end:
            self.check(lambda facts: locate_in_step(setup, passes, facts))

    def add(self, facts: StepFacts, loss: torch.Tensor, fault: torch.Tensor | None = None) -> None:
        """Record the scalar `loss` of a step, and the current flag of `mark_nonfinite`."""
        self._unread.append((facts, loss, None if fault is None else fault.clone()))

    def check(self, explain: Callable[[StepFacts], Fault]) -> None:
        """Raise NonFiniteLoss, about the first step at fault, where a loss or gradient since the last check has NaN or
        Inf. `explain` locates a bad gradient, if the weights have not followed it."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        losses = torch.stack([loss for _, loss, _ in unread]).tolist()
        faults = [fault for _, _, fault in unread if fault is not None]
        flags = torch.stack(faults).tolist() if len(faults) == len(unread) else [0.0] * len(unread)
        for (facts, _, _), loss, flag in zip(unread, losses, flags, strict=True):
            if not flag and math.isfinite(loss):
                continue
            late = f"found in step {unread[-1][0].step}, after the weights have changed: no layer can be named"
            raise _error("" if math.isfinite(loss) else f"{loss:g}", explain(facts) if flag else Fault(late), facts)


def refuse_nonfinite_epoch(row: EpochRow) -> None:
    """Raise NonFiniteLoss where a metric of the epoch is NaN or Inf, so that no such epoch becomes the best."""
    metrics = {f"{split} {name}": value for split in ("train", "val") for name, value in getattr(row, split).items()}
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise NonFiniteLoss(
            f"training, end of epoch {row.epoch}",
            f"{bad[0]} is {metrics[bad[0]]}",
            "finite metrics",
            _remedy(row.lr),
        )


def refuse_only_skipped(row: EpochRow, steps: int) -> None:
    """Raise NonFiniteLoss where the scaler of fp16 skipped all of `steps` steps."""
    if steps and row.skipped_steps == steps:
        raise NonFiniteLoss(
            f"training, end of epoch {row.epoch}",
            f"no finite gradient in any of its {several(steps, 'step')}, at any scale of the fp16 loss",
            "steps with finite gradients",
            _remedy(row.lr),
        )


def refuse_nonfinite_state(state: TrainingState) -> None:
    """Raise NonFiniteLoss where weights, averages or optimizer state have NaN or Inf, or a step was skipped because its
    gradient had, so that no checkpoint holds such a state."""
    lr = state.optimizer.param_groups[-1]["lr"]
    bad = next((name for name, tensor in _tensors(state) if not bool(torch.isfinite(tensor).all())), None)
    if bad is None and state.fault is not None and bool(state.fault):
        bad = "a gradient since the last check"
    if bad is not None:
        raise NonFiniteLoss(f"training, step {state.step}", f"{bad} has NaN or Inf", "finite weights", _remedy(lr))


def _tensors(state: TrainingState) -> Iterable[tuple[str, torch.Tensor]]:
    """Weights and buffers of all networks, and the optimizer state of each weight."""
    networks = {"": state.module, "averaged ": None if state.average is None else state.average.module}
    networks["auxiliary "] = state.heads
    for kind, network in networks.items():
        for name, tensor in () if network is None else network.state_dict().items():
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                yield f"{kind}{name}", tensor
    names: dict[object, str] = {parameter: name for name, parameter in state.module.named_parameters()}
    for parameter, values in state.optimizer.state.items():
        for kind, value in values.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                yield f"{kind} of {names.get(parameter, 'a parameter')} in the optimizer", value


def _remedy(lr: float) -> str:
    lower = f"--lr {min(lr / 10, 1e-3):.2g}"
    return f"{lower}, --optim.clip 1, or --plan plain for fp32; an earlier checkpoint is intact"


def locate_in_step(setup: Setup, passes: MakePasses, facts: StepFacts) -> Fault:
    """Where NaN or Inf first appeared in an earlier step of the epoch. Its update and all later ones were skipped."""
    state = setup.state
    if not hasattr(state.optimizer, "found_inf"):
        return Fault("found later, after the weights have changed: no layer can be named")
    now, state.step = state.step, facts.step - 1
    try:
        inputs, both = passes(replace(setup.for_step(), processes=ALONE), setup.batch_of(state.step))
        with uncompiled(setup.config):
            return locate_nonfinite(state.module, inputs, both)
    finally:
        state.step = now
