"""PPO in one file after CleanRL, on a small vectorized grid world: walk to the flag within 40 steps."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 15360
    learning_rate: float = 2e-3
    num_envs: int = 8
    num_steps: int = 64
    gamma: float = 0.97
    gae_lambda: float = 0.95
    num_minibatches: int = 4
    update_epochs: int = 4
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


class FlagVectorEnv:
    """A walker and a flag on a board of 7 x 7; 1 for the flag, -0.02 a step. Ended episodes begin anew."""

    MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])
    SIZE, LIMIT = 7, 40

    def __init__(self, num_envs, seed):
        self.num_envs = num_envs
        self.rng = np.random.default_rng(seed)
        self.place, self.flag = np.zeros((2, num_envs, 2), dtype=int)
        self.steps = np.zeros(num_envs, dtype=int)

    def _observe(self):
        return np.concatenate([self.place / 3 - 1, (self.flag - self.place) / 3], 1).astype(np.float32)

    def _begin(self, which):
        for i in np.flatnonzero(which):
            a, b = self.rng.choice(self.SIZE**2, 2, replace=False)
            self.place[i], self.flag[i] = divmod(a, self.SIZE), divmod(b, self.SIZE)
            self.steps[i] = 0

    def reset(self):
        self._begin(np.ones(self.num_envs, dtype=bool))
        return self._observe()

    def step(self, actions):
        self.place = np.clip(self.place + self.MOVES[actions], 0, self.SIZE - 1)
        self.steps += 1
        terminations = (self.place == self.flag).all(1)
        truncations = ~terminations & (self.steps >= self.LIMIT)
        rewards = np.where(terminations, 1.0, -0.02).astype(np.float32)
        infos = {"final_observation": self._observe(), "length": self.steps.copy()}
        self._begin(terminations | truncations)
        return self._observe(), rewards, terminations, truncations, infos


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(), layer_init(nn.Linear(64, 1), std=1.0)
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(), layer_init(nn.Linear(64, n_actions), std=0.01)
        )

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


@torch.no_grad()
def evaluate(agent, seed, episodes=40):
    """Share of flags reached and mean length, with the most probable actions on boards of its own."""
    envs = FlagVectorEnv(episodes, seed)
    obs, running, reached, length = envs.reset(), np.ones(episodes, dtype=bool), 0, 0
    while running.any():
        obs, _, terminations, truncations, _ = envs.step(agent.actor(torch.tensor(obs)).argmax(-1).numpy())
        length += running.sum()
        reached += (running & terminations).sum()
        running &= ~(terminations | truncations)
    return reached / episodes, length / episodes


def main():
    args = Args()
    batch_size = args.num_envs * args.num_steps
    torch.manual_seed(args.seed)
    envs = FlagVectorEnv(args.num_envs, args.seed)
    agent = Agent(4, 4)
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    obs = torch.zeros((args.num_steps, args.num_envs, 4))
    actions = torch.zeros((args.num_steps, args.num_envs), dtype=torch.long)
    logprobs, rewards, dones, values = (torch.zeros((args.num_steps, args.num_envs)) for _ in range(4))
    next_obs, next_done = torch.tensor(envs.reset()), torch.zeros(args.num_envs)
    num_iterations = args.total_timesteps // batch_size
    for iteration in range(1, num_iterations + 1):
        optimizer.param_groups[0]["lr"] = (1.0 - (iteration - 1.0) / num_iterations) * args.learning_rate
        for step in range(args.num_steps):
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
                values[step] = value.flatten()
            actions[step], logprobs[step] = action, logprob
            next_obs, reward, terminations, truncations, infos = envs.step(action.numpy())
            rewards[step] = torch.tensor(reward)
            if truncations.any():  # the time limit is no end of the task: what would have followed counts
                with torch.no_grad():
                    final_value = agent.critic(torch.tensor(infos["final_observation"])).flatten()
                rewards[step] += args.gamma * final_value * torch.tensor(truncations).float()
            next_obs, next_done = torch.tensor(next_obs), torch.tensor(terminations | truncations).float()
        with torch.no_grad():
            next_value = agent.critic(next_obs).flatten()
            advantages, lastgaelam = torch.zeros_like(rewards), 0
            for t in reversed(range(args.num_steps)):
                nextnonterminal = 1.0 - (next_done if t == args.num_steps - 1 else dones[t + 1])
                nextvalues = next_value if t == args.num_steps - 1 else values[t + 1]
                delta = rewards[t] + args.gamma * nextvalues * nextnonterminal - values[t]
                advantages[t] = lastgaelam = delta + args.gamma * args.gae_lambda * nextnonterminal * lastgaelam
            returns = advantages + values
        b_obs, b_actions, b_logprobs = obs.flatten(0, 1), actions.flatten(), logprobs.flatten()
        b_advantages, b_returns = advantages.flatten(), returns.flatten()
        for _ in range(args.update_epochs):
            for mb_inds in torch.randperm(batch_size).split(batch_size // args.num_minibatches):
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb_inds], b_actions[mb_inds])
                ratio = (newlogprob - b_logprobs[mb_inds]).exp()
                mb_advantages = b_advantages[mb_inds]
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
                pg_loss1 = -mb_advantages * ratio
                pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                v_loss = 0.5 * ((newvalue.flatten() - b_returns[mb_inds]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + args.vf_coef * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
        if iteration % 5 == 0:
            reached, length = evaluate(agent, seed=1000)
            print(f"iteration {iteration}: value loss {v_loss.item():.4f}, flags {reached:.2f}, length {length:.1f}")


if __name__ == "__main__":
    main()
