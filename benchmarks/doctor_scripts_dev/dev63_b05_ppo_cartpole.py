"""PPO in a single file, on a vectorized pole balancing task written in numpy."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--num-updates", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=2.5e-3)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--num-minibatches", type=int, default=4)
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--clip-coef", type=float, default=0.2)
    parser.add_argument("--ent-coef", type=float, default=0.005)
    parser.add_argument("--vf-coef", type=float, default=0.5)
    parser.add_argument("--max-grad-norm", type=float, default=0.5)
    return parser.parse_args()


class VecPole:
    """A pole on a cart; reward 1 a step until it falls or the cart leaves, 200 steps at most."""

    def __init__(self, num_envs, seed, limit=200):
        self.num_envs, self.limit = num_envs, limit
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, size=(self.num_envs, 4))
        self.steps = np.zeros(self.num_envs, dtype=int)
        return self.state.astype(np.float32)

    def step(self, action):
        x, v, theta, omega = self.state.T
        force = np.where(action == 1, 10.0, -10.0)
        cos, sin = np.cos(theta), np.sin(theta)
        temp = (force + 0.05 * omega**2 * sin) / 1.1
        alpha = (9.8 * sin - cos * temp) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        acc = temp - 0.05 * alpha * cos / 1.1
        self.state = np.stack([x + 0.02 * v, v + 0.02 * acc, theta + 0.02 * omega, omega + 0.02 * alpha], axis=1)
        self.steps += 1
        terminated = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.2095)
        truncated = (self.steps >= self.limit) & ~terminated
        done = terminated | truncated
        info = {"final_obs": self.state.astype(np.float32), "lengths": self.steps[done].tolist()}
        self.state[done] = self.rng.uniform(-0.05, 0.05, size=(int(done.sum()), 4))
        self.steps[done] = 0
        return self.state.astype(np.float32), np.ones(self.num_envs, dtype=np.float32), terminated, truncated, info


def layer_init(layer, std=2**0.5):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(outputs, std):
    hidden = [layer_init(nn.Linear(4, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh()]
    return nn.Sequential(*hidden, layer_init(nn.Linear(64, outputs), std=std))


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = mlp(1, std=1.0)
        self.actor = mlp(2, std=0.01)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


@torch.no_grad()
def evaluate(agent, seed, num_envs=10):
    envs = VecPole(num_envs, seed)
    obs, alive, returns = envs.reset(), np.ones(num_envs, dtype=bool), np.zeros(num_envs)
    while alive.any():
        action = agent.actor(torch.from_numpy(obs)).argmax(1).numpy()
        obs, reward, terminated, truncated, _ = envs.step(action)
        returns += reward * alive
        alive &= ~(terminated | truncated)
    return returns.mean()


def main():
    args = parse_args()
    batch_size = args.num_envs * args.num_steps
    minibatch_size = batch_size // args.num_minibatches
    torch.manual_seed(args.seed)
    envs = VecPole(args.num_envs, args.seed)
    agent = Agent()
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    shape = (args.num_steps, args.num_envs)
    obs, actions = torch.zeros(shape + (4,)), torch.zeros(shape, dtype=torch.long)
    logprobs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))
    next_obs, next_done = torch.from_numpy(envs.reset()), torch.zeros(args.num_envs)

    for update in range(1, args.num_updates + 1):
        optimizer.param_groups[0]["lr"] = (1.0 - (update - 1.0) / args.num_updates) * args.learning_rate
        lengths = []
        for step in range(args.num_steps):
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
            values[step], actions[step], logprobs[step] = value.flatten(), action, logprob
            new_obs, reward, terminated, truncated, info = envs.step(action.numpy())
            with torch.no_grad():  # the time limit is no end of the task: bootstrap
                final_value = agent.critic(torch.from_numpy(info["final_obs"])).flatten()
            rewards[step] = torch.from_numpy(reward) + args.gamma * final_value * torch.from_numpy(truncated).float()
            next_obs, next_done = torch.from_numpy(new_obs), torch.from_numpy(terminated | truncated).float()
            lengths += info["lengths"]

        with torch.no_grad():
            next_value = agent.critic(next_obs).flatten()
            advantages, lastgaelam = torch.zeros_like(rewards), 0
            for t in reversed(range(args.num_steps)):
                last = t == args.num_steps - 1
                nextnonterminal = 1.0 - (next_done if last else dones[t + 1])
                nextvalues = next_value if last else values[t + 1]
                delta = rewards[t] + args.gamma * nextvalues * nextnonterminal - values[t]
                advantages[t] = lastgaelam = delta + args.gamma * args.gae_lambda * nextnonterminal * lastgaelam
            returns = advantages + values

        b_obs, b_actions, b_logprobs = obs.reshape(-1, 4), actions.reshape(-1), logprobs.reshape(-1)
        b_advantages, b_returns = advantages.reshape(-1), returns.reshape(-1)
        for epoch in range(args.update_epochs):
            for mb in torch.randperm(batch_size).split(minibatch_size):
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb], b_actions[mb])
                ratio = (newlogprob - b_logprobs[mb]).exp()
                adv = b_advantages[mb]
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss1 = -adv * ratio
                pg_loss2 = -adv * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                newvalue = newvalue.view(-1)
                v_loss = 0.5 * ((newvalue - b_returns[mb]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + args.vf_coef * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
        if update % 5 == 0:
            print(f"global_step={update * batch_size}, episodic_return={np.mean(lengths or [0]):.1f}, v_loss={v_loss.item():.3f}")
    print(f"evaluation: mean return {evaluate(agent, args.seed + 1000):.1f}")


if __name__ == "__main__":
    main()
