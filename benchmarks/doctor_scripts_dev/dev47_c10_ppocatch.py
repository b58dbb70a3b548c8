# PPO in one file, after CleanRL; the game is Catch (bsuite): move the paddle under the falling ball
import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=38400)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=20)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--num-minibatches", type=int, default=4)
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--clip-coef", type=float, default=0.2)
    parser.add_argument("--ent-coef", type=float, default=0.01)
    parser.add_argument("--vf-coef", type=float, default=0.5)
    parser.add_argument("--max-grad-norm", type=float, default=0.5)
    return parser.parse_args()


class CatchVec:
    """Many games at once. The ball falls a row each step; at the bottom +1 if it is caught, -1 if not."""

    def __init__(self, num_envs, rows=6, cols=5, seed=0):
        self.n, self.rows, self.cols = num_envs, rows, cols
        self.rng = torch.Generator().manual_seed(seed)
        self.row, self.col, self.paddle = (torch.zeros(num_envs, dtype=torch.long) for _ in range(3))
        self.obs_dim = rows * cols + cols

    def _restart(self, which):
        fresh = torch.randint(0, self.cols, (2, self.n), generator=self.rng)
        self.row = torch.where(which, torch.zeros_like(self.row), self.row)
        self.col = torch.where(which, fresh[0], self.col)
        self.paddle = torch.where(which, fresh[1], self.paddle)

    def _observe(self):
        ball = nn.functional.one_hot(self.row * self.cols + self.col, self.rows * self.cols)
        return torch.cat([ball, nn.functional.one_hot(self.paddle, self.cols)], dim=1).float()

    def reset(self):
        self._restart(torch.ones(self.n, dtype=torch.bool))
        return self._observe()

    def step(self, action):
        self.paddle = (self.paddle + action - 1).clamp(0, self.cols - 1)
        self.row = self.row + 1
        done = self.row == self.rows - 1
        reward = done.float() * (2 * (self.paddle == self.col).float() - 1)
        self._restart(done)  # the observation returned is already that of the next game
        return self._observe(), reward, done.float()


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim, n_actions=3):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0))
        self.actor = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, n_actions), std=0.01))

    def get_value(self, x):
        return self.critic(x).squeeze(-1)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.get_value(x)


if __name__ == "__main__":
    args = parse_args()
    torch.manual_seed(args.seed)
    envs = CatchVec(args.num_envs, seed=args.seed)
    agent = Agent(envs.obs_dim)
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    batch_size = args.num_envs * args.num_steps
    minibatch_size = batch_size // args.num_minibatches
    num_updates = args.total_timesteps // batch_size
    shape = (args.num_steps, args.num_envs)
    obs = torch.zeros(*shape, envs.obs_dim)
    actions = torch.zeros(shape, dtype=torch.long)
    logprobs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))

    start_time = time.time()
    next_obs, next_done = envs.reset(), torch.zeros(args.num_envs)
    for update in range(1, num_updates + 1):
        optimizer.param_groups[0]["lr"] = (1.0 - (update - 1.0) / num_updates) * args.learning_rate
        for step in range(args.num_steps):
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                actions[step], logprobs[step], _, values[step] = agent.get_action_and_value(next_obs)
            next_obs, rewards[step], next_done = envs.step(actions[step])

        with torch.no_grad():
            advantages, lastgaelam = torch.zeros(shape), 0
            following = torch.cat([values[1:], agent.get_value(next_obs)[None]])
            alive = 1.0 - torch.cat([dones[1:], next_done[None]])
            for t in reversed(range(args.num_steps)):
                delta = rewards[t] + args.gamma * following[t] * alive[t] - values[t]
                advantages[t] = lastgaelam = delta + args.gamma * args.gae_lambda * alive[t] * lastgaelam
            returns = advantages + values

        b_obs, b_actions = obs.flatten(0, 1), actions.flatten()
        b_logprobs, b_advantages, b_returns = logprobs.flatten(), advantages.flatten(), returns.flatten()
        for epoch in range(args.update_epochs):
            for mb in torch.randperm(batch_size).split(minibatch_size):
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb], b_actions[mb])
                ratio = (newlogprob - b_logprobs[mb]).exp()
                adv = b_advantages[mb]
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss = torch.max(-adv * ratio, -adv * ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)).mean()
                v_loss = 0.5 * ((newvalue - b_returns[mb]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + args.vf_coef * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        if update % 10 == 0:
            games = torch.cat([dones[1:], next_done[None]]).sum()
            print(f"update {update}  return {rewards.sum() / games:+.3f}  v_loss {v_loss.item():.4f}  "
                  f"SPS {int(update * batch_size / (time.time() - start_time))}")

    test_envs = CatchVec(200, seed=999)
    observation, total = test_envs.reset(), torch.zeros(200)
    with torch.no_grad():
        for _ in range(test_envs.rows - 1):
            observation, reward, _ = test_envs.step(agent.actor(observation).argmax(dim=1))
            total += reward
    print(f"greedy return over 200 games: {total.mean():+.3f}")
