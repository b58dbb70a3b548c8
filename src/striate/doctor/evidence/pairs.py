"""The pairs of embeddings that a loss pulls together or pushes apart, by their gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.nearness import correlation_over_shifts
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.gradients import on_gradient
from striate.observe.interventions import change_output
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in
from striate.observe.torch_calls import torch_functions

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_STEPS = 12
_NOTHING = 0.01
"""Share of the least distance of two samples below which a distance is zero; some networks add a small number to it."""
_ROWS = 16
"""Samples of a batch that are compared to find the order of views."""
_RANKING = (functional.margin_ranking_loss, functional.triplet_margin_loss)
_LONG, _SHORT, _EVEN, _BANDS = 256, 32, 0.8, 64
"""Shortest signal; shortest signal of several channels; spectral flatness (geometric mean over mean of the bands) above
which values are noise; number of frequency bands."""


@dataclass
class Embeddings:
    """The embeddings of one step."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    """(N, …) the network's inputs, for each set of embeddings."""
    outputs: list[torch.Tensor] = field(default_factory=list)
    """(N, D) the embeddings of each set."""
    gradients: dict[int, torch.Tensor] = field(default_factory=dict)
    """(N, D) the gradient of the loss by the embeddings, by position of the set."""
    ranking_gradients: dict[int, torch.Tensor] = field(default_factory=dict)
    """The same gradient of the ranking losses alone."""


def pairs_of(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances between the inputs of pairs of samples that the loss pulls together in a few steps, and of pairs that
    it pushes apart: pairs of a sample of the first set of embeddings with one of another set, or pairs whose distance
    the network returns. Raises NoEvidence where the network neither embeds several sets of samples in a step nor
    returns distances."""
    if _is_about_pairs(evidence):
        return _distances(evidence.embeddings)
    given = _of_distances_given(evidence)
    if given is None:
        raise NoEvidence("the network does not embed several sets of samples in a step")
    return given


def _of_distances_given(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The result of `pairs_of` for a network that receives both samples of each pair and returns their distance, before
    and after training: 0 of a sample with itself, and more of all others. None elsewhere, and where the label alone
    does not decide whether a pair is pulled together."""
    batch = evidence.train.raw[0]
    sets = [tensor for _, tensor in leaves(batch) if tensor.ndim > 1 and tensor.is_floating_point()]
    if len(sets) != 2 or sets[0].shape != sets[1].shape or evidence.setup.rivals:
        return None
    if len(evidence.first.shapes) != 1 or math.prod(evidence.first.shapes[0]) != len(sets[0]):
        return None
    if not all(_gives_distances(one.model, *sets) for one in (evidence.fresh, evidence.trial.replica)):
        return None
    steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watch(replica: Replica) -> None:
        def note(args: tuple[Any, ...], output: Any) -> None:
            given, made = [t for t in tensors_in(args) if t.ndim > 1], list(tensors_in(output))
            if len(given) == 2 and len(made) == 1 and made[0].requires_grad:
                far = input_distances(*(x.detach().float().cpu() for x in given))
                on_gradient(made[0], lambda gradient: steps.append((far, gradient.detach().flatten().double().cpu())))

        change_output(replica.model, note)

    noted = evidence.variant("with distances watched", Change(prepare=watch, notes=steps), steps=_STEPS).notes
    if not noted:
        return None
    far, pull = (torch.cat(part) for part in zip(*noted, strict=True))
    targets = [main_tensor(parts(batch)[1]) for batch in evidence.train.raw]
    given = [targets[number % len(targets)] for number in range(len(noted))]
    known = torch.cat([torch.zeros(0), *(target.flatten().cpu() for target in given if target is not None)])
    pulled, pushed = pull > 1e-6 * pull.abs().max(), pull < -1e-6 * pull.abs().max()
    if len(known) != len(pull) or len(known[pulled].unique()) != 1 or len(known[pushed].unique()) != 1:
        return None  # the targets are distances: pairs farther apart than their target are pulled together
    return far[pulled], far[pushed]


def _gives_distances(model: nn.Module, one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a network returns 0 for two equal samples, and more for two different ones."""
    with suppress(Exception), preserved(model, evaluating=True), same_random_state(), torch.no_grad():
        place = next(model.parameters()).device
        one, other = one.to(place), other.to(place)
        alike = (one == other).flatten(1).all(1)
        equal, apart = main_tensor(model(one, one.clone())), main_tensor(model(one, other))
        assert equal is not None and apart is not None and len(equal) == len(apart) == equal.numel()
        return float(equal.abs().max()) < _NOTHING * float(apart.flatten()[~alike].min())
    return False


Pulled = list[list[tuple[float, float]]]


def pulled_by_class(evidence: Evidence) -> tuple[Pulled, Pulled]:
    """For each output (N, D) of the network and each of a few steps: how strongly the loss pulls together embeddings of
    the same class, and of different classes, on average; negative where it pushes them apart. Second, the same for the
    ranking losses alone, where these have a gradient. Raises NoEvidence where batches have no class numbers."""
    labels = [main_tensor(parts(batch)[1]) for batch in evidence.train.raw]
    if any(t is None or t.ndim != 1 or t.is_floating_point() for t in labels) or evidence.setup.rivals:
        raise NoEvidence("the batches have no class numbers")
    found: dict[int, list[tuple[float, float]]] = {}
    ranking_gradients: dict[int, list[tuple[float, float]]] = {}
    for number, sets in enumerate(embeddings_of(evidence, every=True)):
        noted = [(found, place, gradient) for place, gradient in sets.gradients.items()]
        noted += [
            (ranking_gradients, place, gradient)
            for place, gradient in sets.ranking_gradients.items()
            if bool(gradient.any())
        ]
        for by_output, place, gradient in noted:
            output, known = sets.outputs[place], labels[number % len(labels)]
            if known is None or not len(known) or len(output) % len(known):
                continue
            known = _for_views(known, sets.inputs[place], len(output) // len(known))
            first, second = torch.triu_indices(len(output), len(output), 1)
            # Relative to the distance: a penalty on large embeddings pulls those most that are farthest apart.
            pull = _products_of_differences(gradient, output) / _products_of_differences(output, output).clamp_min(
                1e-12
            )
            pull, same = pull[first, second], known.cpu()[first] == known.cpu()[second]
            if bool(same.any()) and bool((~same).any()):
                by_output.setdefault(place, []).append((float(pull[same].mean()), float(pull[~same].mean())))
    return list(found.values()), list(ranking_gradients.values())


def _products_of_differences(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(N, N) for each pair of rows of two (N, D): the scalar product of their difference in one with that in the other;
    by the products of rows, since (N, N, D) may not fit into memory where rows are the scores of a vocabulary."""
    products = one.double() @ other.double().T
    own = products.diag()
    return own[:, None] + own - products - products.T


def inputs_embedded(evidence: Evidence) -> list[list[torch.Tensor]]:
    """The inputs of the network's calls in each of a few steps."""
    return [sets.inputs for sets in evidence.embeddings]


def input_distances(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(N,) distances of pairs of inputs: 1 minus the highest correlation over all shifts for images, and the distance
    of spectra for signals, so that neither depends on position or time."""
    if one.ndim == 4 and min(one.shape[2:]) >= 6:
        return 1 - correlation_over_shifts(one, other)
    if _are_signals(one):
        one, other = _spectra(one), _spectra(other)
    far: torch.Tensor = (one - other).flatten(1).norm(dim=1)
    return far


def _are_signals(x: torch.Tensor) -> bool:
    """Whether rows are long and their spectrum is uneven, unlike that of numbers in random order."""
    if x.ndim not in (2, 3) or not x.is_floating_point():
        return False
    if x.shape[-1] < (_LONG if x.ndim == 2 else max(_SHORT, 2 * x.shape[1])):
        return False
    strength = _spectra(x).exp().flatten(0, -2).mean(dim=0)[1:]
    return float(strength.log().mean().exp() / strength.mean()) < _EVEN


def _spectra(x: torch.Tensor) -> torch.Tensor:
    """The logarithm of the power in each frequency band of each row."""
    strength = torch.fft.rfft(x.float()).abs().square()
    width = max(1, strength.shape[-1] // _BANDS)
    grouped = strength[..., : width * _BANDS].unflatten(-1, (-1, width))
    bands: torch.Tensor = grouped.mean(dim=-1).clamp_min(1e-12).log()
    return bands


def _for_views(labels: torch.Tensor, x: torch.Tensor, views: int) -> torch.Tensor:
    """The labels of several views of each sample, in the order of the inputs: all first views before all second views,
    or the views of a sample next to each other, whichever are more similar."""
    if views == 1 or len(x) != views * len(labels):
        return labels.repeat(views)
    apart = float(input_distances(x[:_ROWS], x[len(labels) :][:_ROWS]).mean())
    adjacent = float(input_distances(x[::views][:_ROWS], x[1::views][:_ROWS]).mean())
    return labels.repeat(views) if apart <= adjacent else labels.repeat_interleave(views)


def embeddings_of(evidence: Evidence, *, every: bool = False) -> list[Embeddings]:
    """Embeddings and their gradients in each of a few steps. `every`: of all outputs of the network, not one for each
    input."""
    steps: list[Embeddings] = []

    @contextmanager
    def watched(model: nn.Module, batch: Any, *_: Any) -> Iterator[None]:
        steps.append(Embeddings())
        live: list[torch.Tensor] = []
        alone = torch_functions(lambda *called: _ranked(steps[-1], live, *called)) if every else nullcontext()
        with alone, module_calls({"": model}, end=lambda call: _note(steps[-1], call, every, live)):
            yield
        if not every:
            steps[-1] = _unstacked(steps[-1], batch)

    name = f"with {'all outputs' if every else 'embeddings'} watched"
    found: list[Embeddings] = evidence.variant(name, Change(around=watched, notes=steps), steps=_STEPS).notes
    return found


def _is_about_pairs(evidence: Evidence) -> bool:
    """Whether the network runs several times in a step, or returns several sets of embeddings of the same shape."""
    if evidence.setup.rivals:
        return False
    shapes = [shape for shape in evidence.first.shapes if len(shape) == 2]
    wide = bool(shapes) and shapes[0][1] > 1
    alike = wide and len(shapes) in (2, 3) and len(set(shapes)) == 1
    one = wide and len(shapes) == 1
    if alike or (one and evidence.first.calls in (2, 3)):
        return True
    if any(_side_by_side(evidence.first.shown, shape) for shape in evidence.first.shapes):
        return True
    shown = evidence.calls.shown if one else None
    return shown is not None and _stacked(shown, evidence.train.raw[0]) > 1


def _stacked(x: torch.Tensor, batch: Any) -> int:
    """The number of sets of a batch that the network's input concatenates: 2 or 3, else 1."""
    sets = [tensor for _, tensor in leaves(batch) if tensor.ndim > 1]
    alike = len(sets) in (2, 3) and len({tensor.shape for tensor in sets}) == 1
    if not alike or x.shape != (len(sets) * len(sets[0]), *sets[0].shape[1:]):
        return 1
    shown, known = x.cpu().float().chunk(len(sets)), [tensor.cpu().float() for tensor in sets]
    return len(sets) if all(any(torch.equal(part, one) for one in known) for part in shown) else 1  # in any order


def _unstacked(sets: Embeddings, batch: Any) -> Embeddings:
    """Embeddings with the sets separated that the network received concatenated or stacked."""
    if len(sets.outputs) == 1 and sets.outputs[0].ndim == 3:
        apart = (sets.inputs[0], sets.outputs[0], sets.gradients.get(0, torch.zeros_like(sets.outputs[0])))
        inputs, outputs, gradients = (list(t.unbind(1)) for t in apart)
        return Embeddings(inputs, outputs, dict(enumerate(gradients)))
    count = _stacked(sets.inputs[0], batch) if len(sets.outputs) == 1 else 1
    if count == 1 or 0 not in sets.gradients or len(sets.outputs[0]) != len(sets.inputs[0]):
        return sets
    inputs, outputs, gradients = (list(t.chunk(count)) for t in (sets.inputs[0], sets.outputs[0], sets.gradients[0]))
    return Embeddings(inputs, outputs, dict(enumerate(gradients)))


def _side_by_side(x: torch.Tensor | None, output: Sequence[int]) -> bool:
    """Whether the two or three images of each row (N, 2, C, H, W) are embedded separately: (N, 2, D)."""
    return x is not None and x.ndim == 5 and x.shape[1] in (2, 3) and len(output) == 3 and x.shape[:2] == output[:2]


def _ranked(sets: Embeddings, live: list[torch.Tensor], func: Any, args: Any, kwargs: Any) -> Any:
    """Call a function of torch; where it is a ranking loss, record its gradients by the embeddings."""
    value = func(*args, **kwargs)
    if func in _RANKING and value.requires_grad and live:
        noted = dict(sets.gradients)
        gradients = torch.autograd.grad(value.sum(), live, retain_graph=True, allow_unused=True)
        sets.gradients = noted  # without those of this extra backward pass
        for place, gradient in enumerate(gradients):
            if gradient is not None:
                sets.ranking_gradients[place] = sets.ranking_gradients.get(place, 0) + gradient.double().cpu()
    return value


def _note(sets: Embeddings, call: ModuleCall, every: bool, live: list[torch.Tensor]) -> None:
    given = [t for t in tensors_in((call.args, call.kwargs)) if t.ndim > 1]
    made = [t for t in tensors_in(call.output) if t.is_floating_point() and t.requires_grad]
    stacked = not every and len(given) == len(made) == 1 and _side_by_side(given[0], made[0].shape)
    made = [t for t in made if t.ndim == 2 or stacked]
    if every:
        given = given[:1] * len(made)
    elif len(made) > 1 and len(given) != len(made):
        return
    for x, output in zip(given, made, strict=False):
        place = len(sets.outputs)
        sets.inputs.append(x.detach().float().cpu())
        sets.outputs.append(output.detach().double().cpu())
        live.append(output)

        def back(gradient: torch.Tensor, place: int = place) -> None:
            sets.gradients[place] = sets.gradients.get(place, 0) + gradient.detach().double().cpu()

        on_gradient(output, back)


def _distances(steps: Sequence[Embeddings]) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances between the inputs of pairs that are pulled together, and of pairs that are pushed apart: each of a
    sample of the first set with one of another set."""
    pulled, pushed = [torch.zeros(0)], [torch.zeros(0)]
    for sets in steps:
        shapes = {output.shape for output in sets.outputs} | {(*x.shape[:1], -1) for x in sets.inputs if not len(x)}
        if len(sets.outputs) not in (2, 3) or len(shapes) != 1 or len({x.shape for x in sets.inputs}) != 1:
            continue
        for other in range(1, len(sets.outputs)):
            if not {0, other} <= set(sets.gradients):
                continue
            apart = sets.outputs[0] - sets.outputs[other]
            pull = ((sets.gradients[0] - sets.gradients[other]) * apart).sum(1)
            far = input_distances(sets.inputs[0], sets.inputs[other])
            least = 1e-6 * pull.abs().max()
            pulled.append(far[pull > least])
            pushed.append(far[pull < -least])
    return torch.cat(pulled), torch.cat(pushed)
