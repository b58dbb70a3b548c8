"""`data.same-order`: does a sampler draw all samples, in a different order each epoch?"""

from __future__ import annotations

import ast
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import called, last_name, names_in, nodes_in, receiver_of, stored_in
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import several

_ALIKE = 3
"""The least number of batches that are compared."""
_MOST = 100_000
"""The largest number of samples of an epoch that are compared."""
_FEW = 4
"""An error from so many times as many replicas as processes: two replicas in one process may be a test of the
script."""

_SAME_BATCHES = (
    "The batches are the same in each epoch: training learns less from them, and batch norm sees the same neighbors."
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    source, loader = evidence.source, evidence.setup.train
    sampler = loader.sampler if isinstance(loader, DataLoader) else None
    seeded = _seeded_in_each_step(evidence)
    if seeded is not None or (seeded := _seeded_in_each_epoch(source, loader)) is not None:
        yield seeded
        return
    if not isinstance(sampler, DistributedSampler):
        yield from _of_own_sampler(evidence, "sampler")
        yield from _of_own_sampler(evidence, "batch_sampler")
        return
    processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    begins_others = "WORLD_SIZE" in os.environ or source.calls("init_process_group", "spawn")
    if sampler.num_replicas > processes and not begins_others:
        yield _of_missing_processes(sampler, processes)
        return
    if not sampler.shuffle or source.calls("set_epoch") or source.epochs == 1:
        return
    yield SAME_ORDER.finding(
        severity="warning",
        where="the sampler of the training loader",
        measured="DistributedSampler shuffles by its epoch number, and no code calls `set_epoch`: each epoch has "
        "the order of the first, and each process gets the same samples",
        limit="a DistributedSampler that shuffles, more than one epoch, and no call of `set_epoch`",
        why=_SAME_BATCHES,
        remedy="`loader.sampler.set_epoch(epoch)` at the beginning of each epoch",
    )


def _of_own_sampler(evidence: Evidence, name: str) -> Iterator[Finding]:
    """A sampler of the script, of samples or of batches, that shuffles by an epoch number which no code sets, or seeds
    its generator again in each epoch."""
    source, loader = evidence.source, cast(Any, evidence.setup.train)
    loads = isinstance(loader, DataLoader)
    sampler: Any = getattr(loader, name, None)  # a loop may draw batches with it, too
    by_epoch = _takes_epochs(sampler)
    if by_epoch and (source.calls("set_epoch") or source.epochs == 1):
        return
    if by_epoch and (_takes_epochs(loader) or source.library is not None):  # they call `set_epoch` themselves
        return
    if not by_epoch and not _seeds_itself(source, sampler):
        return
    with same_random_state():
        one, other = (list(itertools.islice(_indices(sampler), _MOST)) for _ in range(2))
    if one != other or one == sorted(one) or (not by_epoch and len(one) == _MOST):  # the sampler may be endless
        return
    shown = len(set(one))
    there = len(loader.dataset) if loads else shown
    only = f", {shown:,} of {several(there, 'sample')}" if shown < there else ""
    how = (
        "shuffles by its epoch number, and no code calls its `set_epoch`"
        if by_epoch
        else "seeds its generator again in `__iter__`"
    )
    yield SAME_ORDER.finding(
        severity="warning",
        where=f"the {name.replace('_', ' ')} of the training {'loader' if loads else 'loop'}",
        measured=f"{type(sampler).__name__} {how}: each epoch has the order of the first{only}",
        limit="more than one epoch, and a sampler that draws the same order twice: it has a `set_epoch` that no "
        "code calls, or makes or seeds a generator in `__iter__`",
        why="The batches are the same in each epoch, and the network never sees the samples they leave out.",
        remedy=f"`{'loader.' * loads}{name}.set_epoch(epoch)` at the beginning of each epoch"
        if by_epoch
        else "one generator for all epochs, made in `__init__`: `self.rng = np.random.default_rng(seed)`",
    )


_SEEDING = ("default_rng", "RandomState", "Random", "Generator", "manual_seed", "seed")


def _seeds_itself(source: ScriptSource, sampler: Any) -> bool:
    """Whether the `__iter__` of a script's sampler creates or seeds a generator from attributes that only `__init__`
    sets, where training has several epochs and the sampler is created once."""
    kind = type(sampler).__name__
    owner = next((node for node in source.nodes(ast.ClassDef) if node.name == kind), None)
    if owner is None or (source.epochs or 1) == 1:
        return False
    own = {part.name: part for part in owner.body if isinstance(part, ast.FunctionDef)}
    drawing = list(ast.walk(own["__iter__"])) if "__iter__" in own else []
    drawing += [part for node in drawing if called(node) in own for part in ast.walk(own[called(node)])]
    read = {node.attr for node in drawing if isinstance(node, ast.Attribute)}
    begun = set(ast.walk(own["__init__"])) if "__init__" in own else set()
    made = [node for node in drawing if isinstance(node, ast.Assign) and called(node.value) in _SEEDING]
    generators = {part for node in made for part in nodes_in(node.targets)}
    inside = set(ast.walk(owner)) - begun - generators  # `self.rng = np.random.default_rng(self.seed)`
    changed = any(
        node.attr in read and isinstance(node.ctx, ast.Store) and (node in inside or ast.unparse(node.value) != "self")
        for node in source.nodes(ast.Attribute)
    )
    by_epoch = any("epoch" in last_name(node) for node in drawing)
    made_again = any(site.often != "once" or "epoch" in site.text for site in source.calls(kind))
    return any(called(node) in _SEEDING for node in drawing) and not (changed or by_epoch or made_again)


def _takes_epochs(thing: object) -> bool:
    return callable(getattr(thing, "set_epoch", None))


def _indices(sampler: Iterable[Any]) -> Iterator[Any]:
    """The indices that a sampler draws, one by one; those of a batch sampler are flattened."""
    for one in sampler:
        numbers = one.tolist() if isinstance(one, torch.Tensor | np.ndarray) else one
        yield from numbers if isinstance(numbers, list | tuple) else (numbers,)


def _seeded_in_each_step(evidence: Evidence) -> Finding | None:
    """Batches that are all identical: each pass begins the loader again, the random generator is seeded before each, or
    the function that yields them takes the same samples each time."""
    batches = evidence.train.raw
    if count := getattr(evidence.setup.train, "first_of", 0):
        return SAME_ORDER.finding(
            severity="error",
            where="the training loop",
            measured="each pass of the loop makes a new iterator of its loader, which does not shuffle, and takes its "
            f"first batch: the first of {several(count, 'batch', 'batches')}, again and again",
            limit="`next(iter(loader))` in each pass of the loop, of a loader in a fixed order with several batches",
            why="The network only sees these samples.",
            remedy="loop over the loader itself: `for batch in loader:`",
        )
    if again := getattr(evidence.setup.train, "alike", 0):
        return SAME_ORDER.finding(
            severity="error",
            where="the training loop",
            measured=f"each of the {several(again, 'batch', 'batches')} of a pass has the same samples, and those "
            "of the next pass have others",
            limit=f"{_ALIKE} or more batches of sample indices that are identical in a pass, and others in the next",
            why="Each pass shows the network only one batch, again and again.",
            remedy="slice the indices at the start of each batch: `yield order[start : start + size]`",
        )
    sites = [site for site in evidence.source.calls("manual_seed", "seed", "seed_everything") if site.often == "batch"]
    if len(batches) < _ALIKE or not (sites or getattr(evidence.setup.train, "by_chance", False)):
        return None
    first = list(leaves(batches[0]))
    for batch in batches[1:]:
        for (path, one), (place, other) in zip(first, leaves(batch), strict=False):
            if path != place or one.shape != other.shape or not torch.equal(one, other):
                return None
    alike = f"{several(len(batches), 'batch', 'batches')} that were drawn are identical"
    return SAME_ORDER.finding(
        severity="error",
        where=sites[0].where if sites else "the training loop",
        measured=f"`{sites[0].text}` runs before each batch, and {alike}" if sites else alike,
        limit=f"{_ALIKE} or more batches, drawn at random or after a seed, that are identical",
        why="The network only sees these samples.",
        remedy=f"`{sites[0].text}` once, at the beginning of the script"
        if sites
        else "one generator for all batches, made once outside of the function that draws them: "
        "`generator = torch.Generator().manual_seed(0)`",
    )


def _seeded_in_each_epoch(source: ScriptSource, loader: object) -> Finding | None:
    """The same seed in each pass of a loop around the training loop, which makes no network: the loader then shuffles
    as in the first epoch."""
    sampler, training = getattr(loader, "sampler", None), source.training_loop
    if not isinstance(sampler, RandomSampler) or sampler.generator is not None or training is None:
        return None
    if source.epochs == 1 or source.calls("fork_rng", "set_rng_state", "setstate"):
        return None
    around = [loop for loop in {*source.running_loops, *source.loops_of(training)} if loop is not training]
    networks = {name for name, value in source.names.items() if isinstance(value, nn.Module)}
    for site in source.calls("manual_seed", "seed_everything", "set_seed", "seed_all"):
        inside = [loop for loop in around if site.node in nodes_in(loop.body)]
        if not inside or site.often == "batch" or not _seeds_torch(site):
            continue
        changing = set[str]().union(*map(stored_in, inside))
        if names_in(site.node) & changing or networks & changing:
            continue  # by the number of the epoch; or each pass is a training of its own
        return SAME_ORDER.finding(
            severity="warning",
            where=site.where,
            measured=f"`{site.text}` runs in each epoch, and the loader shuffles by the generator that it seeds: each "
            "epoch has the order of the first, and the same random numbers for augmentation and dropout",
            limit="torch's generator is seeded in a loop around the training loop, by a number that does not change, "
            "and the loader shuffles by it",
            why=_SAME_BATCHES,
            remedy=f"`{site.text}` once, at the beginning of the script",
        )
    return None


def _seeds_torch(site: Site) -> bool:
    """Whether a call seeds torch's own generator, not one that it makes."""
    receiver = receiver_of(site.node)
    return called(site.node) != "manual_seed" or (isinstance(receiver, ast.Name) and receiver.id == "torch")


def _of_missing_processes(sampler: DistributedSampler[Any], processes: int) -> Finding:
    """A DistributedSampler for more processes than are running."""
    all_of_them = several(len(cast(Any, sampler.dataset)), "sample")
    return SAME_ORDER.finding(
        severity="error" if sampler.num_replicas >= _FEW * processes else "note",
        where="the sampler of the training loader",
        measured=f"DistributedSampler draws for process {sampler.rank} of {sampler.num_replicas}, "
        f"{len(sampler):,} of {all_of_them}; {several(processes, 'process', 'processes')} "
        f"{'is' if processes == 1 else 'are'} running",
        limit="a DistributedSampler for more processes than are running",
        why="The samples of the other processes are never drawn.",
        remedy="`DistributedSampler(data)` without further arguments detects the number of processes; or use "
        "`DataLoader(data, batch_size, shuffle=True)` in one process",
    )


SAME_ORDER = Check(
    codes=("data.same-order",),
    run=_run,
    of_source=True,
    explains="data.too-few data.imbalance data.missing-class data.duplicates optim.lr-schedule fit.*",
)
