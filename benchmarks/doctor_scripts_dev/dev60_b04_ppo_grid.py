# PPO in one file, in the manner of CleanRL, on a vectorized grid world
import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical


class BatteryGrid:
    """A robot has to reach its charger before the battery, which it sees, is empty. Episodes restart by themselves."""

    MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])

    def __init__(self, num_envs, size=6, battery=20, seed=0):
        self.num_envs, self.size, self.battery = num_envs, size, battery
        self.rng = np.random.default_rng(seed)
        self.robot, self.goal = np.zeros((num_envs, 2), int), np.zeros((num_envs, 2), int)
        self.left = np.zeros(num_envs, int)

    def _spawn(self, i):
        self.robot[i], self.goal[i] = self.rng.integers(0, self.size, 2), self.rng.integers(0, self.size, 2)
        while (self.robot[i] == self.goal[i]).all():
            self.goal[i] = self.rng.integers(0, self.size, 2)
        self.left[i] = self.battery

    def _obs(self):
        offset = (self.goal - self.robot) / self.size
        return np.concatenate([offset, self.robot / self.size, self.left[:, None] / self.battery], axis=1).astype(np.float32)

    def reset(self):
        for i in range(self.num_envs):
            self._spawn(i)
        return self._obs()

    def step(self, actions):
        self.robot = np.clip(self.robot + self.MOVES[actions], 0, self.size - 1)
        self.left -= 1
        reached, empty = (self.robot == self.goal).all(axis=1), self.left == 0
        rewards = np.where(reached, 1.0, np.where(empty, -1.0, -0.02)).astype(np.float32)
        dones = reached | empty
        for i in np.flatnonzero(dones):
            self._spawn(i)
        return self._obs(), rewards, dones, reached


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim=5, n_actions=4):
        super().__init__()
        self.critic = nn.Sequential(layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(),
                                    layer_init(nn.Linear(64, 1), std=1.0))
        self.actor = nn.Sequential(layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(),
                                   layer_init(nn.Linear(64, n_actions), std=0.01))

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=2.5e-3)
    parser.add_argument("--num-updates", type=int, default=30)
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--num-steps", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--minibatch-size", type=int, default=128)
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--clip-coef", type=float, default=0.2)
    parser.add_argument("--ent-coef", type=float, default=0.01)
    parser.add_argument("--vf-coef", type=float, default=0.5)
    return parser.parse_args()


def main():
    args = parse_args()
    np.random.seed(1)
    torch.manual_seed(1)
    envs, agent = BatteryGrid(args.num_envs), Agent()
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    shape = (args.num_steps, args.num_envs)
    obs, actions = torch.zeros(shape + (5,)), torch.zeros(shape)
    logprobs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))
    next_obs, next_done = torch.tensor(envs.reset()), torch.zeros(args.num_envs)
    start = time.time()

    for update in range(1, args.num_updates + 1):
        optimizer.param_groups[0]["lr"] = (1.0 - (update - 1.0) / args.num_updates) * args.learning_rate
        ended = successes = 0
        for step in range(args.num_steps):
            obs[step] = next_obs
            dones[step] = next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
            values[step], actions[step], logprobs[step] = value.flatten(), action, logprob
            new_obs, reward, done, reached = envs.step(action.numpy())
            rewards[step] = torch.tensor(reward)
            next_obs, next_done = torch.tensor(new_obs), torch.tensor(done).float()
            ended, successes = ended + done.sum(), successes + reached.sum()

        with torch.no_grad():
            next_value = agent.get_value(next_obs).flatten()
            advantages, lastgaelam = torch.zeros(shape), 0
            for t in reversed(range(args.num_steps)):
                nextnonterminal = 1.0 - (next_done if t == args.num_steps - 1 else dones[t + 1])
                nextvalues = next_value if t == args.num_steps - 1 else values[t + 1]
                delta = rewards[t] + args.gamma * nextvalues * nextnonterminal - values[t]
                advantages[t] = lastgaelam = delta + args.gamma * args.gae_lambda * nextnonterminal * lastgaelam
            returns = advantages + values

        b_obs, b_actions = obs.reshape(-1, 5), actions.reshape(-1).long()
        b_logprobs, b_advantages, b_returns = logprobs.reshape(-1), advantages.reshape(-1), returns.reshape(-1)
        b_inds = np.arange(args.num_steps * args.num_envs)
        for _ in range(args.update_epochs):
            np.random.shuffle(b_inds)
            for begin in range(0, len(b_inds), args.minibatch_size):
                mb = b_inds[begin : begin + args.minibatch_size]
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb], b_actions[mb])
                ratio = (newlogprob - b_logprobs[mb]).exp()
                adv = b_advantages[mb]
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss1 = -adv * ratio
                pg_loss2 = -adv * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                v_loss = 0.5 * ((newvalue.view(-1) - b_returns[mb]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + args.vf_coef * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        print(f"update {update}: success {successes / max(ended, 1):.2f} of {ended} episodes, "
              f"value loss {v_loss.item():.3f}, {time.time() - start:.1f} s")


if __name__ == "__main__":
    main()
