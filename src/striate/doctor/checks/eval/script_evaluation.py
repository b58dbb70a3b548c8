"""The script's own evaluation, run with the trial's network, and the predictions that it should count."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from striate.data.annotations.masks import IGNORED
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import accuracy_of, classes_of
from striate.doctor.setup.batch import call, main_tensor, parts
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import called, nodes_in
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.module_calls import module_calls
from striate.observe.tensors import tensors_in

_NOT_TWICE = """
backward step save savefig dump open write to_csv makedirs mkdir add_scalar log load_state_dict
"""
_SIDE_EFFECTS = frozenset(_NOT_TWICE.split())
"""Calls that change something: an evaluation with one of them is not run again."""
_SAME = 1e-5
MOST_STEPS = 20.0
"""Time for each batch of an evaluation, in steps of the trial."""


@dataclass(frozen=True)
class EvaluationCall:
    """A call in the script that evaluated the network on the validation data."""

    where: str
    """Line of the call."""
    text: str
    """Source of the call."""
    numbers: tuple[float, ...]
    """All numbers that it returned."""
    right: tuple[int, ...]
    """Right predictions in each batch."""
    sizes: tuple[int, ...]
    """Samples in each batch."""
    accuracies: tuple[tuple[float, ...], ...] = ()
    """For each accuracy that it printed, or returned under such a name, the numbers, one of which should be it."""
    in_training: bool = False
    """Whether the network was in training mode."""

    @property
    def share(self) -> float:
        """The share of all samples that are predicted right."""
        return sum(self.right) / sum(self.sizes)

    def gives(self, value: float) -> bool:
        """Whether one of its numbers is this share, as a fraction or in percent."""
        return any(abs(number - scale * value) <= _SAME * scale for number in self.numbers for scale in (1.0, 100.0))


def first_evaluation(evidence: Evidence) -> EvaluationCall:
    """The first call that evaluates, run with the trial's network. Raises NoEvidence where the script has none that can
    be run."""
    val = evidence.val
    if not val.whole or not evidence.trial.rows:
        raise NoEvidence("only a part of the validation data was read")
    model, training = evidence.trial.replica.model, set[nn.Module]()
    for site, function, arguments in evaluation_calls(evidence):
        right, sizes = _counted(evidence)
        evidence.clock.need(MOST_STEPS * len(sizes) * evidence.step_seconds)
        training.clear()
        with module_calls({"": model}, lambda _: training.update(part for part in model.modules() if part.training)):
            result = call_with(function, arguments, {id(evidence.setup.model): model}, model)
        if result is None:
            continue
        returned, printed = result
        numbers = tuple(numbers_of(returned))
        named = (*named_accuracies(evidence.source, site, returned), *_printed(printed))
        if numbers or named:
            text = ast.unparse(site)
            return EvaluationCall(f"line {site.lineno}", text, numbers, right, sizes, named, bool(training))
    raise NoEvidence("no function of the script evaluates the network on the validation data")


def call_with(
    function: Callable[..., Any], arguments: Mapping[str, Any], others: Mapping[int, Any], model: nn.Module
) -> tuple[Any, str] | None:
    """What a function returns and prints if arguments with an `id` in `others` are replaced; None where it raises."""
    printed = io.StringIO()
    try:
        with preserved(model), same_random_state(), redirect_stdout(printed):
            replaced = {name: others.get(id(value), value) for name, value in arguments.items()}
            return function(**replaced), printed.getvalue()
    except Exception:  # the user's function, which may need what is not there
        return None


def validation_predictions(evidence: Evidence, *, evaluating: bool = True) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The classes that the trial's network predicts for the validation data, and the true ones. The network is called
    directly: the step might blend the samples. `evaluating`: in evaluation mode, else in training mode. None where the
    network does not take the inputs, or its outputs are not classes."""
    model = evidence.trial.replica.model
    predicted, known = list[torch.Tensor](), list[torch.Tensor]()
    with suppress(Exception), preserved(model, evaluating=evaluating), same_random_state(), torch.no_grad():
        if not evaluating:
            model.train()
        for batch in evidence.val.raw:
            inputs, targets = parts(batch)
            labels = main_tensor(targets)
            outputs = main_tensor(_outputs_of(model, batch, inputs, targets))
            classes = classes_of(outputs, labels)
            if classes is None or labels is None or outputs is None or _has_more_classes(outputs, labels):
                return None
            predicted.append(classes.flatten())
            known.append(labels.flatten().long())
        return torch.cat(predicted), torch.cat(known)
    return None


def _has_more_classes(outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether labels have classes without an output of their own, as ordinal grades with an output a threshold have."""
    return outputs.ndim > labels.ndim and bool(((labels >= outputs.shape[1]) & (labels != IGNORED)).any())


def _outputs_of(model: nn.Module, batch: Any, inputs: Any, targets: Any) -> Any:
    """The network's outputs for a batch. Of named tensors it gets all but the targets, if it takes their names."""
    if isinstance(batch, Mapping):
        with suppress(TypeError):
            return model(**{name: value for name, value in batch.items() if value is not targets})
    return model(**inputs) if isinstance(inputs, Mapping) else call(model, inputs)


def named_accuracies(source: ScriptSource, site: ast.Call, returned: Any) -> Iterator[tuple[float, ...]]:
    """The numbers that a call returns under a name for an accuracy, or that are assigned to such a name."""
    return (tuple(numbers_of(value)) for name, value in _named(source, site, returned) if is_accuracy(name))


def _named(source: ScriptSource, site: ast.Call, returned: Any) -> Iterator[tuple[str, Any]]:
    """The parts of what a call returns, each with its key or the name that it is assigned to."""
    if isinstance(returned, dict):
        yield from ((str(name), value) for name, value in returned.items())
        return
    made = source.parent(site)
    target = made.targets[0] if isinstance(made, ast.Assign) else None
    several = isinstance(target, ast.Tuple) and isinstance(returned, tuple | list) and len(target.elts) == len(returned)
    pairs = zip(target.elts, returned, strict=True) if several else [(target, returned)]  # type: ignore[union-attr]
    for name, value in pairs:
        if isinstance(name, ast.Name | ast.Attribute):
            yield ast.unparse(name), value


def named_numbers(source: ScriptSource, site: ast.Call, returned: Any, printed: str) -> list[tuple[str, float]]:
    """Single numbers that a call returns or prints, each with its name or the text before it, and the means of rows of
    numbers, such as a score for each class."""
    found = [(name, list(numbers_of(value))) for name, value in _named(source, site, returned)]
    found += [(f"mean {name}", _mean_of(source, name, value)) for name, value in _named(source, site, returned)]
    found += [(label, list(numbers_of(returned))) for label in _labels(source, site)]
    single = [(name, numbers[0]) for name, numbers in found if len(numbers) == 1]
    return single + [(word[1], float(word[2])) for word in _NAMED_NUMBER.finditer(printed)]


def _mean_of(source: ScriptSource, name: str, value: Any) -> list[float]:
    """The mean of a row of fractions, unless the script takes a slice of it."""
    row = torch.as_tensor(value) if isinstance(value, np.ndarray | torch.Tensor) else None
    if row is None or row.ndim != 1 or len(row) < 2 or not row.is_floating_point():
        return []
    cut = any(
        isinstance(node.slice, ast.Slice) and ast.unparse(node.value) == name for node in source.nodes(ast.Subscript)
    )
    return [] if cut else [float(row.double().mean())]


def _labels(source: ScriptSource, site: ast.Call) -> Iterator[str]:
    """The words before the result of a call in f-strings: `mean IoU` in `f"loss {x}, mean IoU {score:.3f}"`."""
    for node in nodes_in(source.scope_of(site), ast.JoinedStr):
        for place, part in enumerate(node.values):
            shown = part.value if isinstance(part, ast.FormattedValue) else None
            held = source.last_value(node, shown.id) if isinstance(shown, ast.Name) else shown
            if held is site and "loss" not in ast.unparse(shown or site).lower():
                before = (one.value if isinstance(one, ast.Constant) else "n" for one in node.values[:place])
                yield re.split(r"[^\w\s@-]", "".join(map(str, before)).rstrip(" :="))[-1].strip()


def _printed(text: str) -> Iterator[tuple[float, ...]]:
    """The numbers that follow each word for accuracy, as all three of `Accuracy: 430/450 (95.6%)`."""
    for line in text.splitlines():
        for found in _WORD.finditer(line):
            numbers = tuple(float(number) for number in _NUMBER.findall(line[found.end() : found.end() + _NEAR]))
            if numbers:
                yield numbers


def is_accuracy(name: str) -> bool:
    """Whether a name is that of an accuracy."""
    return bool(words_of(name) & {"acc", "accuracy", "acc1", "top1"})


def words_of(name: str) -> set[str]:
    """The words of a name, or of an expression, in lower case."""
    return set(re.split(r"[^a-z0-9]+", name.lower()))


_WORD = re.compile(r"\b(?:val_|test_)?(?:acc|accuracy)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NAMED_NUMBER = re.compile(r"\b([A-Za-z][A-Za-z0-9_@]*)\s*[:=]?\s*(-?\d+\.\d+)")
_NEAR = 40


def logged_with_predictions(evidence: Evidence) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:
    """The metrics that a library logs in a validation of the trial's network, by name, the predicted classes, and the
    true ones. Raises NoEvidence where no library validates, or its validation cannot be repeated."""
    numbers, found = logged_metrics(evidence), validation_predictions(evidence)
    if found is None:
        raise NoEvidence("outputs and targets are not classes")
    return numbers, *found


def logged_metrics(evidence: Evidence) -> dict[str, float]:
    """The metrics that a library logs in a validation of the trial's network, by name. Raises NoEvidence where no
    library validates, or its validation cannot be repeated."""
    library, val = evidence.source.library, evidence.val
    if library is None or library.evaluate is None:
        raise NoEvidence("no library validates")
    if not val.whole or not evidence.trial.rows:
        raise NoEvidence("only a part of the validation data was read")
    need_repeatable(evidence.source, *_VALIDATING)
    evidence.clock.need(MOST_STEPS * len(val.raw) * evidence.step_seconds)
    model = evidence.trial.replica.model
    try:
        with preserved(model), same_random_state():
            logged = library.evaluate(model, val.raw)
        return {name: float(next(iter(numbers_of(value)))) for name, value in logged.items()}
    except Exception as error:  # the user's code, which may need what is not there
        raise NoEvidence(f"validation by {library.name} cannot be tried: {type(error).__name__}") from error


def need_repeatable(source: ScriptSource, *names: str) -> None:
    """Raises NoEvidence where one of the script's functions of these names changes something when it is repeated."""
    for node in source.nodes():
        validates = isinstance(node, Function) and node.name in names
        if validates and has_side_effects(source, node, except_for=("log",)):  # type: ignore[arg-type]
            raise NoEvidence(f"{getattr(node, 'name', '')} writes something, and is not called twice")


_VALIDATING = ("validation_step", "on_validation_epoch_start", "on_validation_epoch_end", "compute_metrics")


def evaluation_calls(
    evidence: Evidence, *, of_copies: bool = False
) -> Iterator[tuple[ast.Call, Callable[..., Any], dict[str, Any]]]:
    """Calls of the user's functions that get the network and the validation loader, and whose arguments are all known:
    the call, the function, and its arguments by name. `of_copies`: also calls that get a copy of the network, as of its
    averaged weights; the copy is replaced by the network."""
    source, model = evidence.source, evidence.setup.model
    for node in source.nodes():
        functions = source.functions_of(node) if isinstance(node, ast.Call) else []
        if not isinstance(node, ast.Call) or len(functions) != 1 or has_side_effects(source, functions[0]):
            continue
        arguments = {name: source.value(value) for name, value in source.arguments(functions[0], node)}
        if of_copies:
            arguments = {name: model if _is_copy(value, model) else value for name, value in arguments.items()}
        known = list(arguments.values())
        if not any(value is model for value in known) or not any(
            value is evidence.setup.val and isinstance(value, DataLoader) for value in known
        ):
            continue
        function = source.value(node.func)
        if callable(function) and not isinstance(function, nn.Module) and len(arguments) == _count(node):
            yield node, function, arguments


def _is_copy(value: Any, model: nn.Module) -> bool:
    """Whether a value is a network of the same class, with weights of the same names and shapes."""
    if type(value) is not type(model):
        return False
    one, other = (
        {name: part.shape for name, part in network.state_dict(keep_vars=True).items()} for network in (value, model)
    )
    return one == other


def _count(call: ast.Call) -> int:
    return len(call.args) + len(call.keywords)


def has_side_effects(source: ScriptSource, function: Function, except_for: tuple[str, ...] = ()) -> bool:
    """Whether a function trains, writes, or changes variables outside of it. Calls of the names `except_for` do not
    count."""
    inside = list(nodes_in(function, ast.Call))
    inner = [part for node in inside for part in nodes_in(source.functions_of(node))]
    return any(called(node) in _SIDE_EFFECTS.difference(except_for) for node in [*inside, *inner]) or any(
        isinstance(node, ast.Global | ast.Nonlocal) for node in ast.walk(function)
    )


def predicted_by_batch(evidence: Evidence) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Outputs of the trial's network and targets, for each validation batch. Raises NoEvidence where time runs out."""
    found = evidence.predictions_of(evidence.trial, evidence.val.raw)
    targets = [main_tensor(parts(batch)[1]) for batch in evidence.val.raw]
    sizes = [0 if part is None or not part.ndim else len(part) for part in targets]
    if found.targets is None or len(found.outputs) != sum(sizes):
        raise NoEvidence("the validation data take too long to predict")
    return list(zip(found.outputs.split(sizes), found.targets.split(sizes), strict=True))


def _counted(evidence: Evidence) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pairs = predicted_by_batch(evidence)
    sizes = tuple(len(targets) for _, targets in pairs)
    shares = [accuracy_of(outputs, targets) for outputs, targets in pairs]
    if any(share is None for share in shares):
        raise NoEvidence("outputs and targets are not classes")
    return tuple(round((share or 0.0) * size) for share, size in zip(shares, sizes, strict=True)), sizes


def numbers_of(returned: Any) -> Iterator[float]:
    """All single numbers in what a function returned."""
    if isinstance(returned, int | float) and not isinstance(returned, bool):
        yield float(returned)
    elif isinstance(returned, dict):
        for value in returned.values():
            yield from numbers_of(value)
    elif isinstance(returned, list | tuple):
        for value in returned:
            yield from numbers_of(value)
    else:
        for tensor in tensors_in(returned):
            if isinstance(tensor, torch.Tensor) and tensor.numel() == 1:
                yield float(tensor)
