"""`loss.sign` of policies: does the loss grow with the log probability of rewarded actions?"""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest

from for_checks.rewards import ACTOR_CRITIC, of_code
from striate.doctor.checks.reward.policy_sign import POLICY_SIGN
from striate.doctor.diagnose import examine_rewards
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource

CLIPPED = "torch.max({sign}advantages * ratio, {sign}advantages * ratio.clamp(0.8, 1.2)).mean()"


@pytest.mark.parametrize(("gain", "sign", "wrong"), [("", "", True), ("", "-", False), ("cost_", "", False)])
def test_the_larger_of_two_losses_of_a_policy(gain: str, sign: str, wrong: bool) -> None:
    term = CLIPPED.format(sign=sign).replace("advantages", f"{gain}advantages")
    watched = "    with torch.no_grad():\n        divergence = (-log_ratio).mean()\n"
    assert of_code(ACTOR_CRITIC.format(term=term) + watched) == ["loss.sign"] * wrong


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


def test_a_score_that_is_negated_later() -> None:
    text = ACTOR_CRITIC.format(term="(logp * advantages).mean()")
    assert _found(text.replace("loss.backward()", "(-loss).backward()")) == []
    assert _found(text + "optimizer = Adam(p, maximize=True)\n") == []
