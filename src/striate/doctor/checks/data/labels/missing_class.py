"""`data.missing-class`: does the loader yield every class?"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import suppress

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.class_counts import ClassCounts, class_counts, need_used_targets
from striate.doctor.checks.data.labels.missing_tokens import CHANCE, SHARE, tokens_missing
from striate.doctor.checks.data.labels.too_few import are_drawn_often, weights_of_few
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import first_of_each
from striate.doctor.evidence.substituted_outputs import loss_of_batch
from striate.doctor.setup.batch import altered, leaves, main_tensor
from striate.doctor.setup.syntax import stored_in
from striate.records import Finding, Remedy
from striate.wording import percent

_SEEN, _ROWS, _FEW_BATCHES = 10, 20, 4
_THRESHOLD = (
    "each class of validation occurs in training, if chance would show it; each output has a class, if the loader "
    f"yields {_SEEN} samples for each output and most outputs (half of them for maps) have one"
)

_MAPS = (
    "Check a few maps beside their inputs: a scale of 0 to 1 that became integers (`(mask * 255).long()`), an "
    "empty folder, maps of another data set. `torch.bincount(y.flatten())` counts what the loader yields."
)
_WEIGHTED = (
    "Give the sampler a weight for each sample: `WeightedRandomSampler(class_weight[targets], len(targets))`, with "
    "the class numbers of all samples as `targets`."
)
_SAMPLES = (
    "Check what the loader draws from: weights of 0 in a `WeightedRandomSampler`, a missing folder, a split by "
    "position instead of at random. `torch.bincount(torch.cat([y for _, y in train]))` counts what it yields."
)


def _find_missing_class(evidence: Evidence) -> Iterable[Finding]:
    if (missing := tokens_missing(evidence)) is not None:
        yield _of_tokens(*missing)
        return
    if evidence.setup.rivals:
        raise NoEvidence("networks that train against each other have labels of their own")
    if _is_one_of_many(evidence):
        raise NoEvidence("each of several copies of a network is trained with a part of the data")
    counts = class_counts(evidence)
    whole = evidence.train.whole
    absent = _of_validation(counts, whole)
    if absent and counts.outputs is not None and min(absent) >= counts.outputs:
        raise NoEvidence("validation has classes that the network has no outputs for: it belongs to another training")
    certain = bool(absent)
    # The first part of a sorted data set has one class; maps with a single class are not typical of a data set.
    if not absent and (whole or counts.positions is not None) and counts.outputs is not None:
        absent = _of_outputs(counts, counts.outputs)
        certain = int((counts.train > 0).sum()) == 1
        if not whole and not certain:
            return
    if not absent:
        return
    if counts.val is not None and validates_on_new_classes(evidence, counts.train.nonzero(), counts.val.nonzero()):
        raise NoEvidence("validation has none of the classes of training: embeddings are evaluated on new classes")
    weighted, x = weights_of_few(evidence.setup.train), evidence.samples.x
    if weighted and are_drawn_often(evidence.setup.train, x):
        return  # other samples are never drawn, whatever their class: see `data.too-few`
    if x is not None and not weighted and 2 * len(first_of_each(x)) < len(x):
        raise NoEvidence("most samples are copies of others, which explains missing classes")
    need_used_targets(evidence)
    if _numbered_by_batch(evidence):
        raise NoEvidence("each batch has the same labels, and the loss only compares them with each other")
    named = ", ".join(map(str, absent[:8])) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    held = 0 if counts.val is None else int(counts.val[absent].sum())
    beside = f"; validation has {held:,} of {'it' if len(absent) == 1 else 'them'}" if held else ""
    remedy = _SAMPLES if counts.positions is None else _MAPS
    yield MISSING_CLASS.finding(
        severity="error" if certain else "warning",
        where="training loader",
        measured=f"of {_seen(counts):,} {counts.things} of {'an epoch' if whole else 'the first batches'}, none is of "
        f"class {named}{beside or f', though there are {counts.outputs} outputs'}{weighted}",
        why="The network cannot learn a class that it never sees: it predicts another class for all such samples.",
        remedy=Remedy(_WEIGHTED if weighted else remedy, command=("data", "check", "DATA")),
    )


def _is_one_of_many(evidence: Evidence) -> bool:
    """Whether the network is a copy that a function makes and trains, and a loop calls that function, as for the
    clients of a federated average or the tasks of meta-learning; or a copy that a loop makes for the training it
    calls."""
    source, model = evidence.setup.source, evidence.setup.model
    if source is None:
        return False
    for site in source.calls("deepcopy"):
        original = source.value(site.node.args[0]) if site.node.args else None
        around = {*source.loops_of(site.node)}
        if type(original) is type(model) and original is not model and around & {*source.running_loops}:
            return True
        function, assigned = source.function_of(site.node), source.parent(site.node)
        names = stored_in(assigned) if isinstance(assigned, ast.Assign) else set[str]()
        if function is not None and any(source.names.get(name) is model for name in names):
            outside = (part for call in source.calls_of(function) for part in source.enclosing(call.node))
            return any(isinstance(part, ast.For | ast.While | ast.ListComp) for part in outside)
    return False


def _numbered_by_batch(evidence: Evidence) -> bool:
    """Whether each batch has the same labels, each as often, and the loss is the same with classes in another order, as
    that of triplets: labels may then be numbered anew in each batch."""
    batch = evidence.train.raw[0]
    paths = [path for path, part in leaves(batch) if part.ndim == 1 and not part.is_floating_point()]
    if len(paths) != 1 or len(evidence.train.raw) < _FEW_BATCHES:
        return False
    first, *others = (dict(leaves(one)).get(paths[0]) for one in evidence.train.raw)
    if (
        first is None
        or len(first.unique()) < 2
        or any(one is None or not torch.equal(one.sort().values, first.sort().values) for one in others)
    ):
        return False
    reversed_classes = altered(batch, paths[0], lambda numbers: numbers.max() - numbers)
    with suppress(NoEvidence):
        return loss_of_batch(evidence, None, batch) == loss_of_batch(evidence, None, reversed_classes)
    return False


def _of_tokens(share: float, by_chance: float, tokens: list[int]) -> Finding:
    named = ", ".join(map(str, tokens[:8])) + (f" and {len(tokens) - 8} more" if len(tokens) > 8 else "")
    return MISSING_CLASS.finding(
        severity="error",
        where="the training sequences",
        measured=f"{percent(share, 0)} of the target tokens of validation sequences never occur in training (tokens "
        f"{named}); between two halves of training it is {percent(by_chance, 0)}",
        limit=f"{percent(SHARE, 0)} of the target tokens of validation never occur in training, {CHANCE:g} "
        "times as many as between two halves of training",
        why="The network never predicts a token that it was never trained to predict: validation has sentences of "
        "another kind, or its words are numbered in another way.",
        remedy="split sorted data at random: `order = torch.randperm(len(data))`, and use one vocabulary for both",
    )


def validates_on_new_classes(evidence: Evidence, train: torch.Tensor, val: torch.Tensor) -> bool:
    """Whether validation shares no class with training, and the network does not have an output for each class of
    both."""
    outputs = main_tensor(evidence.first.outputs)
    given = outputs.shape[1] if outputs is not None and outputs.ndim == 2 else 0
    return not bool(torch.isin(val, train).any()) and given != 1 + int(val.max())


def _seen(counts: ClassCounts) -> int:
    """The number of samples; for maps, which contain several classes, that of the most frequent class."""
    return int(counts.train.sum() if counts.positions is None else counts.train.max())


def _of_validation(counts: ClassCounts, whole: bool) -> list[int]:
    """Classes of validation that are missing in training, beyond chance."""
    if counts.val is None or (not whole and int((counts.train > 0).sum()) < 2):
        return []  # the beginning of a sorted data set shows one class: that is another fault
    seen, held = _seen(counts), int(counts.val.sum() if counts.positions is None else counts.val.max())
    share = (counts.val.double() / max(held, 1)).clamp(max=1)
    unlikely = (1 - share) ** seen < 1e-3
    found: list[int] = ((counts.train == 0) & (counts.val > 0) & unlikely).nonzero().flatten().tolist()
    return found


def _of_outputs(counts: ClassCounts, outputs: int) -> list[int]:
    """Outputs without a class, if most outputs have one (half of them for maps): heads for more classes than the data
    have are common."""
    total, absent = _seen(counts), counts.train[:outputs] == 0
    found: list[int] = absent.nonzero().flatten().tolist()
    if int((counts.train > 0).sum()) == 1 and total >= _ROWS and outputs > 1:
        return found
    if found == [0]:
        return []  # classes are numbered from 1, with a spare output
    few = len(found) < 0.5 * outputs or (counts.positions is not None and len(found) == 0.5 * outputs)
    return found if few and total >= _SEEN * outputs else []


MISSING_CLASS = Check(
    codes=("data.missing-class",),
    threshold=_THRESHOLD,
    run=_find_missing_class,
    explains="data.imbalance data.shift fit.*",
)
