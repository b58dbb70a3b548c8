"""Returns of reinforcement learning, from rewards and the values of states, by the definitions, step by step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.reference.arguments import number, one_each, row


def n_step_return(rewards: ArrayLike, terminated: ArrayLike, value: float, discount: float) -> float:
    """r_0 + γ r_1 + … + γ^(n−1) r_(n−1) + γ^n `value`, where `value` is that of the state after the last of n steps.
    The sum ends with a step that terminates the episode (Sutton and Barto 2018, equation 7.1). Raises ShapeError,
    UsageError."""
    total, r = 0.0, row(rewards, "rewards")
    value, discount = number(value, "value"), number(discount, "discount", 0, 1)
    for power, (reward, ended) in enumerate(zip(r, one_each(terminated, "terminated", len(r), "rewards"), strict=True)):
        total += discount**power * float(reward)
        if ended:
            return total
    return total + discount ** len(r) * value


def lambda_return(
    rewards: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    discount: float,
    trace: float,
) -> NDArray[np.float64]:
    """The λ-return (T,) of each of T steps of one environment: the mean of its n-step returns with weights
    (1 − λ) λ^(n−1), where the longest return has the remaining weight (Sutton and Barto 2018, equation 12.3).

    `next_values` (T,) are the values of the states after each step. The longest return ends with the episode, whether
    it is terminated or truncated, or with the last step. Raises ShapeError, UsageError.
    """
    r, trace = row(rewards, "rewards"), number(trace, "trace", 0, 1)
    others = {"next_values": row(next_values, "next_values"), "terminated": terminated, "truncated": truncated}
    v, ended, cut = (one_each(values, name, len(r), "rewards") for name, values in others.items())
    returns = np.zeros(len(r))
    for t in range(len(r)):
        longest = next((k for k in range(t, len(r)) if ended[k] or cut[k]), len(r) - 1) - t + 1
        for n in range(1, longest + 1):
            part = n_step_return(r[t : t + n], ended[t : t + n], float(v[t + n - 1]), discount)
            returns[t] += part * (trace ** (n - 1) * (1 - trace) if n < longest else trace ** (n - 1))
    return returns
