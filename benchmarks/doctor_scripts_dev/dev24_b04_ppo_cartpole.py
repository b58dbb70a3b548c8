"""PPO on a pole on a cart; sixteen carts at a time, physics in numpy."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

ENVS, STEPS, UPDATES = 16, 64, 240
EPOCHS, MINIBATCH = 4, 256
LR = 1e-3
GAMMA, LAMBDA = 0.98, 0.95
CLIP, ENTROPY, MAX_NORM = 0.2, 0.01, 0.5


class CartPoles:
    """`count` carts; those that fall, leave the track or reach `limit` steps begin anew."""

    def __init__(self, count, seed, limit=200):
        self.count, self.limit = count, limit
        self.rng = np.random.default_rng(seed)
        self.finished = []

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, (self.count, 4))
        self.steps = np.zeros(self.count, dtype=int)
        return self.state.astype(np.float32)

    def step(self, actions):
        x, speed, angle, spin = self.state.T
        force = np.where(actions == 1, 10.0, -10.0)
        cos, sin = np.cos(angle), np.sin(angle)
        push = (force + 0.05 * spin**2 * sin) / 1.1
        spin_change = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        speed_change = push - 0.05 * spin_change * cos / 1.1
        self.state = np.stack(
            [x + 0.02 * speed, speed + 0.02 * speed_change, angle + 0.02 * spin, spin + 0.02 * spin_change], axis=1
        )
        self.steps += 1
        terminated = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.2095)
        truncated = (self.steps >= self.limit) & ~terminated
        last = self.state.astype(np.float32)
        over = terminated | truncated
        self.finished.extend(self.steps[over].tolist())
        self.state[over] = self.rng.uniform(-0.05, 0.05, (int(over.sum()), 4))
        self.steps[over] = 0
        reward = np.ones(self.count, dtype=np.float32)
        return self.state.astype(np.float32), reward, terminated, truncated, last


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
        self.critic = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

    def policy(self, obs):
        return Categorical(logits=self.actor(obs))

    def value(self, obs):
        return self.critic(obs).squeeze(-1)


@torch.no_grad()
def collect(agent, env, obs):
    """Plays STEPS steps on every cart; gives what the update needs, and the next observations."""
    obs_buf = torch.zeros(STEPS, ENVS, 4)
    act_buf = torch.zeros(STEPS, ENVS, dtype=torch.long)
    logp_buf, val_buf, rew_buf, done_buf = (torch.zeros(STEPS, ENVS) for _ in range(4))
    for t in range(STEPS):
        dist = agent.policy(obs)
        action = dist.sample()
        next_obs, reward, terminated, truncated, last_obs = env.step(action.numpy())
        reward = torch.from_numpy(reward)
        if truncated.any():
            # the time is up, the pole still stands: what would have come is worth something
            cut = torch.from_numpy(truncated)
            reward[cut] += GAMMA * agent.value(torch.from_numpy(last_obs)[cut])
        obs_buf[t] = obs
        act_buf[t] = action
        logp_buf[t] = dist.log_prob(action)
        val_buf[t] = agent.value(obs)
        rew_buf[t] = reward
        done_buf[t] = torch.from_numpy(terminated | truncated).float()
        obs = torch.from_numpy(next_obs)

    advantages = torch.zeros(STEPS, ENVS)
    following, running = agent.value(obs), torch.zeros(ENVS)
    for t in reversed(range(STEPS)):
        alive = 1.0 - done_buf[t]
        delta = rew_buf[t] + GAMMA * following * alive - val_buf[t]
        running = delta + GAMMA * LAMBDA * alive * running
        advantages[t] = running
        following = val_buf[t]
    returns = advantages + val_buf
    batch = [buffer.flatten(0, 1) for buffer in (obs_buf, act_buf, logp_buf, advantages, returns)]
    return batch, obs


def update(agent, optimizer, batch):
    size = len(batch[0])
    for _ in range(EPOCHS):
        for index in torch.randperm(size).split(MINIBATCH):
            obs, action, old_logp, advantage, target = (tensor[index] for tensor in batch)
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            dist = agent.policy(obs)
            ratio = (dist.log_prob(action) - old_logp).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
            value_loss = F.mse_loss(agent.value(obs), target)
            loss = policy_loss + 0.5 * value_loss - ENTROPY * dist.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            for part in (agent.actor, agent.critic):
                nn.utils.clip_grad_norm_(part.parameters(), MAX_NORM)
            optimizer.step()
    return policy_loss.item(), value_loss.item()


@torch.no_grad()
def evaluate(agent, count=10):
    """Mean length of the first episode of each cart, with the likeliest action."""
    env = CartPoles(count, seed=1000)
    obs = torch.from_numpy(env.reset())
    length, alive = np.zeros(count), np.ones(count, dtype=bool)
    while alive.any():
        action = agent.actor(obs).argmax(dim=-1)
        next_obs, _, terminated, truncated, _ = env.step(action.numpy())
        length += alive
        alive &= ~(terminated | truncated)
        obs = torch.from_numpy(next_obs)
    return length.mean()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=LR)
    env = CartPoles(ENVS, seed=0)
    obs = torch.from_numpy(env.reset())
    for i in range(UPDATES):
        optimizer.param_groups[0]["lr"] = LR * (1 - i / UPDATES)
        batch, obs = collect(agent, env, obs)
        policy_loss, value_loss = update(agent, optimizer, batch)
        if (i + 1) % 10 == 0:
            recent = np.mean(env.finished[-50:])
            print(
                f"update {i + 1:3d}  return {recent:6.1f}  greedy {evaluate(agent):6.1f}  "
                f"policy loss {policy_loss:+.4f}  value loss {value_loss:.2f}"
            )
    print(f"final greedy return {evaluate(agent, count=30):.1f} of 200")
