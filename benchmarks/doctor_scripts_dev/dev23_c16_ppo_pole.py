"""PPO on a cart with a pole, many carts at once, all in torch (single file, after CleanRL)."""
import math
import time

import torch
import torch.nn as nn
from torch.distributions import Categorical

NUM_ENVS, NUM_STEPS, UPDATES = 16, 96, 60
EPOCHS, MINIBATCHES = 4, 8
GAMMA, LAMBDA, CLIP, ENTROPY, LR = 0.99, 0.95, 0.2, 0.01, 1.5e-3


class PoleEnvs:
    """The classic cart and pole: falls end an episode, 200 steps cut it off."""

    def __init__(self, count, limit=200):
        self.count, self.limit = count, limit
        self.state = self.fresh(count)
        self.age = torch.zeros(count)

    def fresh(self, count):
        return torch.empty(count, 4).uniform_(-0.05, 0.05)

    def step(self, action):
        """Next observations (of new episodes where one is over), rewards, ended, cut off, last observations."""
        x, v, angle, w = self.state.unbind(1)
        force = torch.where(action == 1, 10.0, -10.0)
        cos, sin = angle.cos(), angle.sin()
        push = (force + 0.05 * w**2 * sin) / 1.1
        turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        accel = push - 0.05 * turn * cos / 1.1
        last = torch.stack([x + 0.02 * v, v + 0.02 * accel, angle + 0.02 * w, w + 0.02 * turn], dim=1)
        self.age += 1
        ended = (last[:, 0].abs() > 2.4) | (last[:, 2].abs() > 12 * math.pi / 180)
        cut = (self.age >= self.limit) & ~ended
        over = ended | cut
        self.state = torch.where(over[:, None], self.fresh(self.count), last)
        ages = self.age.clone()
        self.age = torch.where(over, torch.zeros_like(self.age), self.age)
        return self.state, torch.ones(self.count), ended, cut, last, ages


def layer(inputs, outputs, gain=math.sqrt(2)):
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 2, 0.01))
        self.critic = nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 0.1))
        self.register_buffer("scale", torch.tensor([1.0, 1.0, 0.1, 1.0]))

    def value(self, observation):
        return self.critic(observation / self.scale).squeeze(-1) * 10  # returns go up to a hundred

    def policy(self, observation):
        return Categorical(logits=self.actor(observation / self.scale))


@torch.no_grad()
def greedy_test(agent, count=20):
    envs = PoleEnvs(count)
    lengths = torch.zeros(count)
    alive = torch.ones(count, dtype=torch.bool)
    for _ in range(envs.limit):
        _, _, ended, cut, _, _ = envs.step(agent.policy(envs.state).logits.argmax(1))
        lengths += alive.float()
        alive &= ~(ended | cut)
    return lengths.mean().item()


torch.manual_seed(6)
envs, agent = PoleEnvs(NUM_ENVS), Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=LR, eps=1e-5)
observation, begun = envs.state, time.time()

for update in range(UPDATES):
    optimizer.param_groups[0]["lr"] = LR * (1 - 0.95 * update / UPDATES)
    store = {name: [] for name in ("obs", "action", "logprob", "value", "reward", "next_value", "over")}
    finished = []
    for _ in range(NUM_STEPS):
        with torch.no_grad():
            policy = agent.policy(observation)
            action = policy.sample()
            following, reward, ended, cut, last, ages = envs.step(action)
            # after a fall nothing follows; an episode that was cut off would have gone on from its last state
            next_value = torch.where(ended, torch.zeros(NUM_ENVS), agent.value(last))
            row = (observation, action, policy.log_prob(action), agent.value(observation), reward, next_value,
                   (ended | cut).float())
        for name, value in zip(store, row):
            store[name].append(value)
        finished += ages[ended | cut].tolist()
        observation = following
    data = {name: torch.stack(values) for name, values in store.items()}

    advantages = torch.zeros(NUM_STEPS, NUM_ENVS)
    running = torch.zeros(NUM_ENVS)
    for t in reversed(range(NUM_STEPS)):
        delta = data["reward"][t] + GAMMA * data["next_value"][t] - data["value"][t]
        running = delta + GAMMA * LAMBDA * (1 - data["over"][t]) * running
        advantages[t] = running
    returns = (advantages + data["value"]).flatten()
    advantages = advantages.flatten()
    obs, actions, logprobs = data["obs"].flatten(0, 1), data["action"].flatten(), data["logprob"].flatten()

    for _ in range(EPOCHS):
        for index in torch.randperm(len(obs)).chunk(MINIBATCHES):
            policy = agent.policy(obs[index])
            ratio = (policy.log_prob(actions[index]) - logprobs[index]).exp()
            gain = advantages[index]
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            actor_loss = -torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).mean()
            critic_loss = nn.functional.smooth_l1_loss(agent.value(obs[index]), returns[index])
            loss = actor_loss + 0.05 * critic_loss - ENTROPY * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 5.0)
            optimizer.step()

    mean = sum(finished) / max(1, len(finished))
    print(f"update {update:2d} episodes {len(finished):3d} of {mean:6.1f} steps | greedy {greedy_test(agent):6.1f} "
          f"| loss {loss.item():.3f} | {time.time() - begun:.0f} s", flush=True)
