"""What decides how a network learns from rewards; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class ControlConfig:
    """Fields of `task.control.*`: learning from rewards, where DATA is an environment, `gym:ID`. Steps are steps of an
    environment, all environments counted together."""

    algorithm: Literal["pqn", "dqn", "planner"] | None = None
    """`pqn`: many environments at once, lambda returns, no replay and no target network (Gallici et al. 2024); `dqn`:
    a replay buffer and a target network (Mnih et al. 2015); `planner`: a search in copies of the environment teaches
    the network (Guo et al. 2014). Default: pqn, and planner with --recipe planner."""
    steps: Annotated[int, Ge(1), Le(10**11)] | None = None
    """Total steps, rounded up to a multiple of the environments. Default: they follow from --minutes, which is 10 if
    neither is given."""
    epoch_steps: Annotated[int, Ge(1), Le(10**10)] | None = None
    """Steps after which validation episodes are played, and a row of metrics.csv is written. Default: a 40th of all
    steps."""
    environments: Annotated[int, Ge(1), Le(4096)] | None = None
    """Number of environments played in parallel. Default: 128 for pqn, 8 for dqn, 4 for planner; with Atari 32, 8
    and 4."""
    discount: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Discount factor of a reward per step."""
    explore_start: Share = 1.0
    """Share of random actions (epsilon) at the first step."""
    explore_end: Share = 0.05
    """Share of random actions from `explore_until` on."""
    explore_until: Annotated[float, Gt(0), Le(1)] = 0.1
    """Share of all steps in which the share of random actions decreases linearly."""
    clip: Annotated[float, Gt(0), Le(1e6)] = 10.0
    """The largest L2 norm of the whole gradient; a longer one is scaled down to it."""
    clip_rewards: bool | None = None
    """Whether the network learns only from the sign of rewards; returns are reported unclipped. Default: true for
    Atari."""
    stack: Annotated[int, Ge(1), Le(32)] | None = None
    """Frames that the network sees at once, as channels. Default: 4, and 1 for games whose frames show what moves."""
    limit: Annotated[int, Ge(1), Le(10**7)] | None = None
    """Steps after which an episode is cut off; the value of its last state still counts. Default: the limit of the
    game."""
    rollout: Annotated[int, Ge(1), Le(4096)] = 32
    """pqn: steps of each environment between two updates."""
    passes: Annotated[int, Ge(1), Le(64)] = 2
    """pqn: number of passes over each rollout."""
    trace: Share = 0.65
    """pqn: lambda of the returns: 0 looks one step ahead, 1 to the end of the rollout."""
    double: bool = True
    """dqn: the network chooses the action whose value the target network gives (van Hasselt et al. 2016)."""
    dueling: bool = False
    """The network gives the value of a state and what each action adds to it (Wang et al. 2016)."""
    n_step: Annotated[int, Ge(1), Le(64)] = 3
    """dqn: number of rewards that are summed before the value of the target network is added."""
    replay_mb: Annotated[float, Gt(0), Le(10**6)] = 512.0
    """dqn: size of the replay buffer in megabytes; it stores each frame once. Checkpoints contain it too."""
    learn_after: Annotated[int, Ge(1), Le(10**9)] = 5000
    """dqn: steps before the first update."""
    update_every: Annotated[int, Ge(1), Le(10**6)] = 4
    """dqn: steps per update."""
    target_every: Annotated[int, Ge(1), Le(10**7)] = 1000
    """dqn: updates between copies of the network to the target network."""
    trajectories: Annotated[int, Ge(1), Le(10**6)] = 100
    """planner: number of trajectories that are simulated from each state before it advises an action."""
    depth: Annotated[int, Ge(1), Le(10**5)] = 40
    """planner: largest number of steps of a trajectory."""
    search_bonus: Annotated[float, Ge(0), Le(1000)] = 0.7
    """planner: the constant of the upper confidence bound (UCB1), in units of the range of returns."""
    lesson: Literal["action", "visits", "values"] = "action"
    """planner: what the network learns from the search: the advised action, as a class; the share of visits of each
    action; or the values of actions, by regression."""
    pupil_updates: Annotated[int, Ge(1), Le(1000)] = 2
    """planner: training batches per step."""
    pupil_plays: Share = 0.0
    """planner: share of steps that the network itself plays, while the planner advises what it should have done
    (interleaved in Guo et al. 2014; DAgger in Ross et al. 2011)."""
    val_episodes: Annotated[int, Ge(2), Le(10_000)] = 16
    """Validation episodes after each epoch, with seeds that training does not use; the network of the best epoch
    is saved."""
    test_episodes: Annotated[int, Ge(2), Le(100_000)] = 100
    """Test episodes for the final metrics, with yet other seeds."""
