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
    """Steps in all, rounded up to a multiple of the environments. Default: they follow from --minutes, which are 10
    where neither is given."""
    stretch: Annotated[int, Ge(1), Le(10**10)] | None = None
    """Steps after which validation episodes are played, and a row of metrics.csv is written. Default: a 40th of all."""
    environments: Annotated[int, Ge(1), Le(4096)] | None = None
    """Environments that are played side by side. Default: 128 for pqn, 8 for dqn, 4 for planner; with Atari 32, 8
    and 4."""
    discount: Annotated[float, Ge(0), Lt(1)] = 0.99
    """What a reward is worth a step later."""
    explore_start: Share = 1.0
    """Share of random actions (epsilon) at the first step."""
    explore_end: Share = 0.05
    """Share of random actions from `explore_until` on."""
    explore_until: Annotated[float, Gt(0), Le(1)] = 0.1
    """Share of all steps in which the share of random actions falls, in a straight line."""
    clip: Annotated[float, Gt(0), Le(1e6)] = 10.0
    """The largest L2 norm of the whole gradient; a longer one is scaled down to it."""
    clip_rewards: bool | None = None
    """Whether the network learns from the sign of rewards alone; returns are reported as they are. Default: for games
    of Atari."""
    stack: Annotated[int, Ge(1), Le(32)] | None = None
    """Frames that the network sees at once, as channels. Default: 4, and 1 for games whose frames show what moves."""
    limit: Annotated[int, Ge(1), Le(10**7)] | None = None
    """Steps after which an episode is cut off; what would follow still counts in the value. Default: that of the
    game."""
    rollout: Annotated[int, Ge(1), Le(4096)] = 32
    """pqn: steps of each environment between two updates."""
    passes: Annotated[int, Ge(1), Le(64)] = 2
    """pqn: how often each rollout is learned from."""
    trace: Share = 0.65
    """pqn: lambda of the returns: 0 looks one step ahead, 1 to the end of the rollout."""
    double: bool = True
    """dqn: the network chooses the action whose value the target network gives (van Hasselt et al. 2016)."""
    dueling: bool = False
    """The network gives the value of a state and what each action adds to it (Wang et al. 2016)."""
    n_step: Annotated[int, Ge(1), Le(64)] = 3
    """dqn: rewards that are summed before the target network's value follows."""
    replay_mb: Annotated[float, Gt(0), Le(10**6)] = 512.0
    """dqn: megabytes of the replay buffer, in which each frame lies once. A checkpoint holds it too."""
    learn_after: Annotated[int, Ge(1), Le(10**9)] = 5000
    """dqn: steps before the first update."""
    update_every: Annotated[int, Ge(1), Le(10**6)] = 4
    """dqn: steps for each update."""
    target_every: Annotated[int, Ge(1), Le(10**7)] = 1000
    """dqn: updates after which the target network becomes the network."""
    trajectories: Annotated[int, Ge(1), Le(10**6)] = 100
    """planner: games that are played ahead from each state before an action is advised."""
    depth: Annotated[int, Ge(1), Le(10**5)] = 40
    """planner: steps of each of them at most."""
    search_bonus: Annotated[float, Ge(0), Le(1000)] = 0.7
    """planner: the constant of the upper confidence bound (UCB1), in units of the range of returns."""
    lesson: Literal["action", "visits", "values"] = "action"
    """planner: what the network learns of the search: the action advised, as a class; the share of visits of each
    action; or the values of actions, by regression."""
    pupil_updates: Annotated[int, Ge(1), Le(1000)] = 2
    """planner: batches of lessons for each step."""
    pupil_plays: Share = 0.0
    """planner: share of steps that the network itself plays, while the planner advises what it should have done
    (interleaved in Guo et al. 2014; DAgger in Ross et al. 2011)."""
    val_episodes: Annotated[int, Ge(2), Le(10_000)] = 16
    """Validation episodes after each stretch, of seeds that training has not; the best stretch's network is kept."""
    test_episodes: Annotated[int, Ge(2), Le(100_000)] = 100
    """Episodes of other seeds again, for the final figures."""
