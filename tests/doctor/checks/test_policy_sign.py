"""The loss of a policy: actions that brought much become likelier."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch

from striate.doctor.checks.reward.policy_sign import POLICY_SIGN
from striate.doctor.diagnose import examine_rewards
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource

EPISODES = """
def finish_episode():
    returns = discounted(policy.rewards)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    policy_loss = []
    for log_prob, R in zip(policy.saved_log_probs, returns):
        policy_loss.append({term})
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum()
    policy_loss.backward()
    optimizer.step()
for episode in range(100):
    finish_episode()
"""
ACTOR_CRITIC = """
for step in range(100):
    logp, value, entropy = evaluate(obs, act)
    advantages = returns - value.detach()
    actor_loss = {term}
    loss = actor_loss + 0.5 * (returns - value).pow(2).mean() - 0.01 * entropy.mean()
    loss.backward()
    optimizer.step()
"""


def of_code(text: str, **names: Any) -> list[str]:
    """What is found of a script whose steps are not made."""
    source = ScriptSource({"play.py": ast.parse(text)}, names, ("play.py", 1, 20), 1)
    return [finding.code for finding in examine_rewards(source).findings]


def _found(text: str) -> list[str]:
    source = ScriptSource({"play.py": ast.parse(text)}, {}, ("play.py", 1, 20), 1)
    said: Any = []
    with suppress(NoEvidence):
        said = examine_rewards(source).findings
    return [finding.code for finding in said if finding.code in POLICY_SIGN.codes]


@pytest.mark.parametrize(
    ("text", "term", "right"),
    [
        (EPISODES, "-log_prob * R", True),
        (EPISODES, "log_prob * R", False),
        (EPISODES, "-(log_prob * R)", True),
        (ACTOR_CRITIC, "-(logp * advantages).mean()", True),
        (ACTOR_CRITIC, "(logp * advantages).mean()", False),
        (ACTOR_CRITIC, "(logp * -advantages).mean()", True),
        (ACTOR_CRITIC, "(-logp * advantages).mean()", True),
        (ACTOR_CRITIC, "torch.mean(advantages.detach() * logp)", False),
        (ACTOR_CRITIC, "-torch.min(ratio * advantages, clipped * advantages).mean()", True),
        (ACTOR_CRITIC, "torch.min(ratio * advantages, clipped * advantages).mean()", False),
        (ACTOR_CRITIC, "(alpha * logp - q).mean()", True),
    ],
)
def test_actions_that_brought_much_become_likelier(text: str, term: str, right: bool) -> None:
    assert _found(text.format(term=term)) == ["loss.sign"] * (not right)


def test_a_score_that_is_turned_round_later() -> None:
    text = ACTOR_CRITIC.format(term="(logp * advantages).mean()")
    assert _found(text.replace("loss.backward()", "(-loss).backward()")) == []
    assert _found(text + "optimizer = Adam(p, maximize=True)\n") == []


POLICY = """
for update in range(100):
    for step in range(10):
        policy = Categorical({given})
        action = policy.sample()
        kept.append({term})
    loss = -(torch.cat(kept) * advantages).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("given", "term", "codes"),
    [
        ("logits=actor(obs)", "policy.log_prob(action)", []),
        ("logits=actor(obs)", "policy.log_prob(action).detach()", ["model.graph-detached"]),
        ("logits=actor(obs)", "policy.log_prob(action).item()", ["model.graph-detached"]),
        ("logits=actor(obs).softmax(-1)", "policy.log_prob(action)", ["model.double-softmax"]),
        ("probs=actor(obs).softmax(-1)", "policy.log_prob(action)", []),
    ],
)
def test_a_policy_gets_a_gradient_and_scores(given: str, term: str, codes: list[str]) -> None:
    assert of_code(POLICY.format(given=given, term=term)) == codes


def test_what_an_older_policy_gave_is_cut_off() -> None:
    text = POLICY.format(given="logits=actor(obs)", term="policy.log_prob(action).detach()")
    assert of_code(text + "    ratio = (new.log_prob(actions) - old).exp()\n") == []


@pytest.mark.parametrize(("rate", "wrong"), [(0.1, True), (3e-3, False)])
def test_adam_with_a_rate_of_gradient_descent(rate: float, wrong: bool) -> None:
    optimizer = torch.optim.Adam([torch.zeros(3, requires_grad=True)], lr=rate)
    text = POLICY.format(given="logits=actor(obs)", term="policy.log_prob(action)")
    assert of_code(text, optimizer=optimizer) == ["optim.lr-too-high"] * wrong


@pytest.mark.parametrize(("shape", "wrong"), [((64, 1), True), ((64,), False)])
def test_returns_and_values_are_of_one_shape(shape: tuple[int, ...], wrong: bool) -> None:
    text = POLICY.format(given="logits=actor(obs)", term="policy.log_prob(action)")
    text += "    value_loss = (returns - values).pow(2).mean()\n"
    assert of_code(text, returns=torch.rand(64), values=torch.rand(shape)) == ["loss.broadcast"] * wrong
