"""`loss.wrong-for-task` of variational autoencoders: a mean over pixels is added to a sum over codes."""

from __future__ import annotations

import ast
import textwrap

import pytest

from for_checks.asked import asked, digits, perceptron, read, said
from striate.doctor.checks.loss.task.term_scales import TERM_SCALES
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(("weight", "right"), [("1.0", False), ("0.004", True), ("weights[epoch]", True)])
def test_the_weight_of_a_divergence_may_stand_in_the_step(weight: str, right: bool) -> None:
    tree = ast.parse(
        textwrap.dedent(f"""
        def training_step(self, x, epoch):
            rec = F.mse_loss(self(x), x)
            kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
            beta = {weight}
            return rec + beta * kld
        for x, y in loader:
            step(x)
        """)
    )
    source = ScriptSource({"t.py": tree}, {}, ("t.py", 7, 8), 5)
    assert len(said(TERM_SCALES, perceptron(), digits(), source=source)) == (not right)


@pytest.mark.parametrize(
    ("end", "weight", "right"),
    [
        ("1.0", "beta", False),
        ("0.01", "beta", True),
        ("1.0", "weight_at(epoch)", False),
        ("0.01", "min(0.01, epoch / 10)", True),
        ("1.0", "other_at(epoch)", True),
    ],
)
def test_a_weight_that_grows_counts_by_its_highest_value(end: str, weight: str, right: bool) -> None:
    text = f"""
    def weight_at(epoch):
        return min({end}, (epoch + 1) / 12)
    def terms(x):
        rec = F.mse_loss(decode(x), x)
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
        return rec, kld
    for epoch in range(60):
        beta = weight_at(epoch)
        for x, y in loader:
            rec, kld = terms(x)
            loss = rec + {weight} * kld
    """
    said_of = read(text, TERM_SCALES, perceptron(), digits(), names={"beta": 1 / 12, "epoch": 0})
    assert len(said_of) == (not right)


@pytest.mark.parametrize(
    ("term", "wrong"),
    [
        ("F.mse_loss(out, x)", True),
        ("128 * F.mse_loss(out, x).log()", False),
        ("128 * torch.log(F.mse_loss(out, x))", False),
    ],
)
@pytest.mark.parametrize("noted", ["", "self.log('error', rec)"])
def test_the_logarithm_of_a_mean_is_a_likelihood(term: str, noted: str, wrong: bool) -> None:
    text = f"""
def criterion(self, out, x, mu, logvar):
    rec = {term}
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    {noted}
    return rec + kld
for x, y in loader:
    criterion(x)
"""
    source = ScriptSource({"t.py": ast.parse(text)}, {}, ("t.py", 7, 8), 5)
    assert len(asked(TERM_SCALES, perceptron(), digits(), source=source)) == wrong


@pytest.mark.parametrize(
    ("reconstruction", "divergence", "right"),
    [
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)", False),
        ("F.mse_loss(out, x, reduction='mean')", "-0.5 * torch.sum(1 + logvar - mu ** 2 - logvar.exp())", False),
        ("F.mse_loss(out, x, reduction='sum')", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())", True),
        ("F.mse_loss(out, x)", "-0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp())", True),
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1).mean()", False),
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1).mean() * beta", False),
        ("F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1).mean() * 0.01", True),
        ("64 * F.mse_loss(out, x)", "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)", True),
    ],
)
def test_terms_of_a_variational_autoencoder_have_one_scale(reconstruction: str, divergence: str, right: bool) -> None:
    text = f"""
    def criterion(out, x, mu, logvar):
        rec = {reconstruction}
        kld = {divergence}
        return rec + kld
    for x, y in loader:
        beta = min(1.0, epoch / 10)
        loss = criterion(model(x))
    """
    assert len(read(text, TERM_SCALES, perceptron(), digits())) == (not right)
