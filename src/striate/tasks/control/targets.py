"""Targets of the values of actions: rewards, and the value of the state after them.

A terminated episode has no value after its end; a truncated one has. NumPy definitions of the same functions are in
`striate.reference.returns`.
"""

from __future__ import annotations

import torch


def lambda_returns(
    rewards_TN: torch.Tensor,
    next_values_TN: torch.Tensor,
    terminated_TN: torch.Tensor,
    over_TN: torch.Tensor,
    discount: float,
    trace: float,
) -> torch.Tensor:
    """(T, N): for each step t the return G_t = r_t + γ · ((1 − λ) · v_t + λ · G_{t+1}) of Peng and Williams (1996),
    where v_t is `next_values`, the value of the state after step t.

    At the end of an episode, the next one does not count: G_t = r_t where the episode is terminated, r_t + γ · v_t
    where it is truncated, and after the last step.
    """
    returns = torch.empty_like(rewards_TN)
    ahead = next_values_TN[-1]
    for t in reversed(range(len(rewards_TN))):
        later = torch.where(over_TN[t], next_values_TN[t], trace * ahead + (1 - trace) * next_values_TN[t])
        ahead = returns[t] = rewards_TN[t] + discount * later * ~terminated_TN[t]
    return returns


def n_step_targets(
    rewards_BN: torch.Tensor,
    terminated_BN: torch.Tensor,
    values_B: torch.Tensor,
    discount: float,
) -> torch.Tensor:
    """(B,): r_0 + γ r_1 + … + γ^(n−1) r_(n−1) + γ^n · `values`; terms after a terminated step do not count (Sutton and
    Barto 2018, 7.1)."""
    going = torch.ones_like(values_B)
    total, factor = torch.zeros_like(values_B), 1.0
    for step in range(rewards_BN.shape[1]):
        total = total + factor * going * rewards_BN[:, step]
        going = going * ~terminated_BN[:, step]
        factor *= discount
    return total + factor * going * values_B


def next_values(online_BA: torch.Tensor, target_BA: torch.Tensor, *, double: bool) -> torch.Tensor:
    """(B,): the target network's value of its best action; with `double`, of the action that the network itself ranks
    first."""
    if not double:
        return target_BA.amax(dim=1)
    return target_BA.gather(1, online_BA.argmax(dim=1, keepdim=True))[:, 0]
