"""`eval.threshold`: can outputs fall on both sides of the threshold that they are compared with?"""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron, read
from for_checks.scripts import SCRIPT, codes_of_script, found, values
from striate.doctor.checks.eval.threshold import THRESHOLD


class Likes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x))[:, 0]


@pytest.mark.parametrize(("limit", "wrong"), [("0", True), ("0.3", False)])
def test_probabilities_that_a_network_gives_are_above_zero(limit: str, wrong: bool) -> None:
    text = f"def test():\n    out = model(x)\n    return (out > {limit}) == y\nfor x, y in loader:\n    pass\n"
    x, model = torch.randn(64, 8), Likes()
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 32)
    said = read(text, THRESHOLD, model, loader, loss=nn.BCELoss(), names={"model": model})
    assert [one.code for one in said] == ["eval.threshold"] * wrong


@pytest.mark.parametrize(
    ("kept", "wrong"),
    [("(logits, y)", True), ("(y, logits)", False), ("(logits.sigmoid(), y)", False), ("logits", False)],
)
def test_logits_that_another_method_keeps_are_no_probabilities(kept: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        class Tagger:
            def validation_step(self, batch):
                x, y = batch
                logits = model(x)
                self.outputs.append({kept})
            def on_validation_epoch_end(self):
                logits = torch.cat([one[0] for one in self.outputs])
                return logits > 0.5
        """)
    loss = nn.ModuleDict({"loss": nn.BCEWithLogitsLoss()})
    assert codes_of_script(text, values() | {"tagger": loss}, THRESHOLD) == ["eval.threshold"] * wrong


SCORED = """
def infer(loader):
    outputs = []
    for x, _ in loader:
        outputs.append(model(x){squashed})
    return torch.cat(outputs).numpy()
def score(y, p, raw=False):
    {given}
    return ((p > 0.5) == y).mean()
held, kept = infer(val_loader), np.zeros((9, 3))
print(score(labels, held), score(labels[rows], {other}))
"""


@pytest.mark.parametrize(
    ("squashed", "given", "other", "wrong"),
    [
        (".sigmoid()", "p = 1 / (1 + np.exp(-p))", "kept[rows]", True),
        (".sigmoid()", "p = torch.sigmoid(p)", "kept[rows]", True),
        ("", "p = 1 / (1 + np.exp(-p))", "kept[rows]", False),
        (".sigmoid()", "pass", "kept[rows]", False),
        (".sigmoid()", "p = 1 / (1 + np.exp(-p)) if raw else p", "kept[rows]", False),
        (".sigmoid()", "p = torch.sigmoid(p) if raw else p", "held", False),
        (".sigmoid()", "p = 1 / (1 + np.exp(-p))", "model(x).numpy()", False),  # it is called with logits, too
        (".sigmoid()", "p = torch.sigmoid(p) if raw else torch.softmax(p, 1)", "kept[rows]", False),
    ],
)
def test_a_sigmoid_that_is_written_out_is_one(squashed: str, given: str, other: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(SCORED.format(squashed=squashed, given=given, other=other))
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("made", "wrong"), [("torch.cat(outputs)", True), ("torch.cat(outputs).sigmoid()", False)])
def test_logits_of_all_batches_are_no_probabilities(made: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        def valid_fn(loader):
            outputs = []
            for x, y in loader:
                outputs.append(model(x.to("cpu")).cpu())
            probs = {made}.numpy()
            return (probs > 0.5).astype(int)
        """)
    names = values() | {"criterion": nn.BCEWithLogitsLoss()}
    assert codes_of_script(text, names, THRESHOLD) == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("given", "wrong"), [("torch.sigmoid(model(x)).cpu()", True), ("model(x).cpu()", False)])
def test_what_another_function_has_squashed_is_not_squashed_again(given: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        def infer(loader):
            outputs, targets = [], []
            for x, y in loader:
                outputs.append({given})
                targets.append(y)
            return torch.cat(outputs), torch.cat(targets)
        def score(outputs, targets):
            return ((torch.sigmoid(outputs) > 0.5) == targets).float().mean()
        print(score(*infer(val_loader)))
        """)
    assert codes_of_script(text, values(), THRESHOLD) == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("by", "most", "wrong"), [("softmax", 2, True), ("softmax", 1, False), ("sigmoid", 2, False)])
def test_labels_that_are_there_at_once_are_no_rivals(by: str, most: int, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        @torch.no_grad()
        def infer(loader):
            for x, y in loader:
                yield torch.{by}(model(x), {"dim=1" if by == "softmax" else ""})
        for x, y in loader:
            pass
        """)
    labels = torch.zeros(60, 5)
    labels[torch.arange(60), torch.arange(60) % 5] = 1
    labels[torch.arange(60), (torch.arange(60) + 1) % 5] = float(most > 1)
    names = values() | {"criterion": nn.BCEWithLogitsLoss()}
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), TensorDataset(torch.randn(60, 1, 8, 8), labels)
    options = {"names": names | {"model": model}, "loss": nn.BCEWithLogitsLoss(), "task": "multilabel"}
    said = read(text, THRESHOLD, model, DataLoader(data, 20), **options)
    assert ["shares 1 among 5 labels" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("asked_for", "right"), [("prob > 0", False), ("prob > 0.5", True), ("score > 0", True)])
def test_probabilities_are_held_against_a_half(asked_for: str, right: bool) -> None:
    text = SCRIPT.replace("outputs.argmax(dim=1)", asked_for)
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(
    ("lines", "right"),
    [
        ("if drop_prob > 0:\n        return None", True),
        ("if self.training and drop_prob > 0:\n        return None", True),
        ("return 1 if prob > 0 else 0", True),
        ("drops = drop_prob > 0", True),
        ("probs = probs[probs > 0]", True),
        ("predicted[probs > 0] = 1", False),
        ("return (probs > 0) & known", False),
        ("return probs > 0", False),
    ],
)
def test_a_probability_that_is_a_setting_is_no_prediction(lines: str, right: bool) -> None:
    text = f"{SCRIPT}\n\ndef mixed(self, x, probs, prob, drop_prob=0.0):\n    {lines}\n"
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


def test_a_probability_that_is_known_to_be_one_number_is_a_setting() -> None:
    text = SCRIPT + "\nuses_mixup = mixup_prob > 0\n"
    assert list(found(text, values() | {"mixup_prob": 0.2}, [THRESHOLD])) == []
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"]


@pytest.mark.parametrize(("given", "right"), [("outputs", True), ("torch.sigmoid(outputs)", False)])
def test_logits_that_are_put_together_are_held_against_their_limit(given: str, right: bool) -> None:
    text = SCRIPT.replace("            predicted = outputs.argmax(dim=1)\n", f"            logits.append({given})\n")
    text = text.replace("correct += (predicted == y).sum().item()", "wanted.append(y)")
    text = text.replace(
        "    accuracy = correct / total\n",
        "    logits, wanted = torch.cat(logits).numpy(), torch.cat(wanted).numpy()\n    chosen = logits > 0\n",
    )
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(("put", "wrong"), [("torch.sigmoid(out)", True), ("out", False)])
def test_what_a_function_gives_beside_labels_is_a_probability(put: str, wrong: bool) -> None:
    text = f"""
    def predict(batches):
        outs, ys = [], []
        for x, y in batches:
            outs.append(torch.sigmoid(model(x)))
            ys.append(y)
        return torch.cat(outs), torch.cat(ys)
    def scores(batches):
        out, y = predict(batches)
        return ({put} > 0.5).float()
    for x, y in loader:
        pass
    scores(val_loader)
    """
    model = perceptron()
    said = read(text, THRESHOLD, model, digits(), names={"model": model, "val_loader": digits()})
    assert ["are probabilities already" in one.measured for one in said] == [True] * wrong


COLLECTED = """
def test():
    told = []
    for x, y in loader:
        out = model(x)
        told.extend({given}.tolist())
    told = np.array(told)
    return told > {limit}

for x, y in loader:
    pass
"""


@pytest.mark.parametrize(("given", "limit", "wrong"), [("out", "0", True), ("out", "0.3", False), ("x", "0", False)])
def test_probabilities_that_make_a_list_longer_are_above_zero(given: str, limit: str, wrong: bool) -> None:
    text = COLLECTED.format(given=given, limit=limit)
    x, model = torch.randn(64, 8), Likes()
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 32)
    said = read(text, THRESHOLD, model, data, loss=nn.BCELoss(), names={"model": model})
    assert [one.code for one in said] == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("limit", "right"), [("0.0", False), ("0.5", True)])
def test_a_list_of_shares_is_held_against_a_share(limit: str, right: bool) -> None:
    text = SCRIPT.replace("predicted = outputs.argmax(dim=1)", "shares.append(torch.sigmoid(outputs))") + (
        f"    predicted = (torch.cat(shares) > {limit}).int()\n"
    )
    text = text.replace("    model.eval()\n", "    model.eval()\n    shares = []\n")
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(
    ("predicted", "right"),
    [
        ("y_prob.sigmoid() > 0.5", False),
        ("torch.sigmoid(outputs.sigmoid()) > 0.5", False),
        ("torch.sigmoid(logits) > 0.5", True),
        ("y_prob > 0.5", True),
    ],
)
def test_a_sigmoid_is_applied_once(predicted: str, right: bool) -> None:
    text = SCRIPT.replace("outputs.argmax(dim=1)", predicted)
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(("made", "limit", "right"), [("torch.sigmoid(outputs)", 0, False), ("outputs", 0, True)])
def test_shares_in_a_variable_are_held_against_a_share(made: str, limit: int, right: bool) -> None:
    text = SCRIPT.replace("predicted = outputs.argmax(dim=1)", f"p = {made}\n            predicted = p > {limit}")
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(
    ("network", "predicted", "wrong"),
    [
        ("logits", "probs > 0", False),
        ("shares", "probs > 0", True),
        ("logits", "torch.sigmoid(probs) > 0.5", False),
        ("shares", "torch.sigmoid(probs) > 0.5", True),
    ],
)
def test_outputs_that_are_negative_are_no_probabilities_by_name(network: str, predicted: str, wrong: bool) -> None:
    text = f"def test():\n    probs = model(x)\n    return ({predicted}) == y\nfor x, y in loader:\n    pass\n"
    x = torch.randn(64, 8)
    model: nn.Module = Likes() if network == "shares" else nn.Sequential(nn.Linear(8, 1), nn.Flatten(0))
    loss = nn.BCELoss() if network == "shares" else nn.BCEWithLogitsLoss()
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 32)
    said = read(text, THRESHOLD, model, loader, loss=loss, names={"model": model})
    assert [one.code for one in said] == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("put", "wrong"), [("model(x)", False), ("torch.sigmoid(model(x))", True)])
def test_a_list_named_for_probabilities_may_hold_logits(put: str, wrong: bool) -> None:
    text = f"""
    def test():
        probs = []
        for x, y in batches:
            probs.append({put}.cpu().numpy())
        probs = np.concatenate(probs)
        return probs > 0.0
    for x, y in loader:
        pass
    """
    x, model = torch.randn(64, 8), nn.Sequential(nn.Linear(8, 1), nn.Flatten(0))
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 32)
    said = read(text, THRESHOLD, model, loader, loss=nn.BCEWithLogitsLoss(), names={"model": model})
    assert [one.code for one in said] == ["eval.threshold"] * wrong


@pytest.mark.parametrize(
    ("made", "limit", "right"),
    [("torch.sigmoid(model(x))", 0.5, True), ("torch.sigmoid(model(x))", 0, False), ("model(x)", 0.5, False)],
)
def test_probabilities_that_a_function_returns_for_all_batches(made: str, limit: float, right: bool) -> None:
    text = (
        f"def predict(loader):\n    return torch.cat([{made} for x, _ in loader]).numpy()\n"
        f"def score(loader, y):\n    found = predict(loader)\n    return ((found > {limit}) == y).mean()\n"
        "score(loader, y)\nfor x, y in loader:\n    pass\n"
    )
    given = values() | {"criterion": nn.BCEWithLogitsLoss()}
    assert list(found(text, given, [THRESHOLD])) == ["eval.threshold"] * (not right)
