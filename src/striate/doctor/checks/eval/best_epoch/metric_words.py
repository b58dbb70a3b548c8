"""Whether a metric should be low, as a loss, or high, as an accuracy, by the words of names in a script."""

from __future__ import annotations

import ast
import re

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, nodes_in

LOW = frozenset(
    ("loss", "nll", "error", "err", "mse", "rmse", "mae", "ppl", "perplexity", "wer", "cer", "fid", "brier", "nme")
)
HIGH = frozenset((
    "acc", "accuracy", "f1", "iou", "miou", "dice", "auc", "auroc", "psnr", "ssim", "top1", "recall", "precision",
    "bleu", "rouge", "chrf", "meteor", "bertscore", "cider", "map50", "ndcg", "mrr", "kappa", "qwk", "mcc", "matthews",
    "jaccard", "concordance", "cindex", "harrell", "harrells", "spearman", "pearson", "kendall", "r2", "auprc", "aupr",
    "pck", "pckh", "oks",
))  # fmt: skip
_RIGHT = frozenset(("correct", "hits"))
NEGATIVE, _TRAINS = frozenset(("neg", "negative")), frozenset(("train", "training", "mixed", "half"))


def words_of(node: ast.expr) -> set[str]:
    """The words of an expression; with `acc1` also `acc`, and with `logloss` also `loss`."""
    words = words_in(ast.unparse(node))
    return words | {word.rstrip("0123456789") for word in words} | {"loss" for word in words if word.endswith("loss")}


def words_in(text: str) -> set[str]:
    """The words of a text; the c-index of survival analysis is one word."""
    return set(re.findall(r"[a-z]+\d*", re.sub("(?<![a-z])c[_-](index|stat(istic)?)(?![a-z])", "cindex", text.lower())))


def if_decisive(words: set[str]) -> set[str]:
    """The words, if one of them is that of a metric; else none."""
    return words if words & (LOW | HIGH) else set()


def negates(node: ast.AST) -> bool:
    """Whether an expression negates a value, `-score` or `1 - score`, other than an argument of a metric."""
    if isinstance(node, ast.Call) and if_decisive(words_of(ast.Name(called(node)))):
        return False  # `concordance_index(times, -risks, events)`
    turned = (isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant)) or (
        is_operation(node, ast.Sub) and isinstance(node.left, ast.Constant)
    )
    return turned or any(map(negates, ast.iter_child_nodes(node)))


def assigned_values(source: ScriptSource, value: ast.expr) -> list[ast.expr]:
    """The values that are assigned to a name in its function, or to an attribute of this name in the script."""
    named = isinstance(value, ast.Name)
    attribute = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    scopes = [source.scope_of(value)] if named else source.trees.values() if attribute else ()
    parts = list(nodes_in(scopes, ast.Assign))
    if named:
        return [part.value for part in parts if [ast.unparse(target) for target in part.targets] == [attribute]]
    return [
        part.value
        for part in parts
        if not isinstance(part.value, ast.Constant)
        and any(isinstance(target, ast.Attribute) and target.attr == attribute for target in part.targets)
    ]


def words_of_result(source: ScriptSource, made: list[ast.expr], *, by_names: bool = False) -> set[str]:
    """The words of a value by the one expression that `made` it: the result of the user's function, another variable,
    or, with `by_names`, the names of functions. Empty where there is not exactly one; words of both kinds where the
    value is negated, as `1 - score`."""
    if len(made) == 1 and not isinstance(made[0], ast.Call) and negates(made[0]):
        return {*LOW, *HIGH}
    if len(made) == 1 and isinstance(made[0], ast.Name | ast.Attribute | ast.Subscript):  # `current = val_loss`
        return if_decisive(words_of(made[0]))
    if len(made) != 1 or not isinstance(made[0], ast.Call):
        return set()
    functions = source.functions_of(made[0])
    if not functions:  # `accuracy_score(y, predicted)`
        return if_decisive(_names_of(source, made[0]) if by_names else words_of(ast.Name(called(made[0]))))
    returned = [part.value for part in nodes_in(functions, ast.Return) if part.value]
    if len(returned) != 1 or isinstance(returned[0], ast.Tuple | ast.Dict):
        return set()
    if negates(returned[0]):
        return {*LOW, *HIGH}
    words = {word.removesuffix("es") if word.endswith("sses") else word for word in words_of(returned[0])}
    calls = (part for part in (*ast.walk(returned[0]), made[0]) if by_names and isinstance(part, ast.Call))
    return if_decisive(words) or next(filter(None, (if_decisive(_names_of(source, call)) for call in calls)), set())


def words_of_hit_rate(source: ScriptSource, made: list[ast.expr]) -> set[str]:
    """The word "accuracy" if a value, or the result of the user's function, is a number of hits divided by another;
    else none."""
    values = list(made)
    if len(made) == 1 and isinstance(made[0], ast.Call):
        inside = list(nodes_in(source.functions_of(made[0])))
        values = [part.value for part in inside if isinstance(part, ast.Return) and part.value]
    value = values[0] if len(values) == 1 else None
    if not is_operation(value, ast.Div):
        return set()
    less = any(isinstance(part, ast.Sub) for part in ast.walk(value))  # `(total - hits) / total`
    return {"accuracy"} if words_of(value.left) & _RIGHT and not less else set()


def words_of_sum(value: ast.expr) -> set[str]:
    """The words of all terms of a sum such as `(accuracy + 2 * iou) / 3`; empty where one has none of a metric."""
    if not isinstance(value, ast.BinOp):
        return if_decisive(words_of(value)) if isinstance(value, ast.Name | ast.Attribute | ast.Subscript) else set()
    if isinstance(value.op, ast.Add):
        one, other = words_of_sum(value.left), words_of_sum(value.right)
        return one | other if one and other else set()
    if isinstance(value.op, ast.Mult | ast.Div) and isinstance(value.right, ast.Constant):
        return words_of_sum(value.left)
    return (
        words_of_sum(value.right) if isinstance(value.op, ast.Mult) and isinstance(value.left, ast.Constant) else set()
    )


def _names_of(source: ScriptSource, call: ast.Call) -> set[str]:
    """The words of a called function, as it is written and as it is defined: `self.metric` may be any. Empty for
    functions that train."""
    words = words_of(ast.Name(f"{called(call)} {getattr(source.value(call.func), '__name__', '')}"))
    return set() if words & _TRAINS else words


def words_of_arguments(source: ScriptSource, value: ast.expr) -> set[str]:
    """The words of the arguments that calls pass for a parameter of a method: `stopper(val_mae, model)`, where the
    stopper is of a class of the script."""
    function = source.function_of(value)
    owner = None if function is None else source.parent(function)
    if (
        not isinstance(value, ast.Name)
        or not isinstance(owner, ast.ClassDef)
        or not isinstance(function, ast.FunctionDef)
    ):
        return set()
    parameters = [part.arg for part in function.args.args[1:]]
    made = {
        target.id
        for site in source.calls(owner.name)
        if isinstance(assigned := source.parent(site.node), ast.Assign)
        for target in assigned.targets
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for site in source.calls(*made, function.name) if value.id in parameters else ():
        name = site.node.func.value if isinstance(site.node.func, ast.Attribute) else site.node.func
        of_it = isinstance(name, ast.Name) and name.id in made
        if of_it and (function.name == "__call__") == isinstance(site.node.func, ast.Name):
            arguments = dict(zip(parameters, site.node.args, strict=False))
            arguments |= {word.arg: word.value for word in site.node.keywords if word.arg}
            found |= words_of(arguments[value.id]) if value.id in arguments else set()
    return found if found & (LOW | HIGH) else set()
