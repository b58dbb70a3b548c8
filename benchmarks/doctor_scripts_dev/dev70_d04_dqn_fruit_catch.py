"""DQN on a small fruit catching game (numpy only environment)."""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

config = {
    "seed": 1,
    "total_steps": 14000, "learning_starts": 500, "buffer_size": 10000,
    "batch_size": 64,
    "gamma": 0.95,
    "lr": 1e-3,
    "sync_every": 200,
    "eps_start": 1.0, "eps_end": 0.05, "eps_steps": 5000,
    "eval_every": 2000,
    "eval_episodes": 20,
}


class FruitCatch:
    """+1 for a caught fruit, -1 and the end for a miss; cut after `max_fruits`."""
    n_actions = 3
    obs_dim = 4

    def __init__(self, width=10, height=8, max_fruits=10, seed=0):
        self.width, self.height, self.max_fruits = width, height, max_fruits
        self.rng = np.random.default_rng(seed)
        self._buf = np.zeros(self.obs_dim, dtype=np.float32)

    def _spawn(self):
        self.fx = int(self.rng.integers(self.width))
        self.fy = 0
        self.drift = int(self.rng.integers(-1, 2))

    def _observe(self):
        self._buf[0] = 2 * self.fx / (self.width - 1) - 1
        self._buf[1] = 2 * self.fy / (self.height - 1) - 1
        self._buf[2] = self.drift
        self._buf[3] = 2 * self.basket / (self.width - 1) - 1
        return self._buf.copy()

    def reset(self):
        self.basket = self.width // 2
        self.fruits = 0
        self._spawn()
        return self._observe()

    def step(self, action):
        self.basket = int(np.clip(self.basket + action - 1, 0, self.width - 1))
        self.fy += 1
        self.fx += self.drift
        if not 0 <= self.fx < self.width:
            self.drift = -self.drift
            self.fx += 2 * self.drift
        reward, terminated, truncated = 0.0, False, False
        if self.fy == self.height - 1:
            if abs(self.fx - self.basket) <= 1:
                reward = 1.0
                self.fruits += 1
                truncated = self.fruits >= self.max_fruits
                self._spawn()
            else:
                reward, terminated = -1.0, True
        return self._observe(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, obs_dim):
        self.s = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.a = np.zeros(capacity, dtype=np.int64)
        self.r = np.zeros(capacity, dtype=np.float32)
        self.s2 = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.d = np.zeros(capacity, dtype=np.float32)
        self.capacity, self.pos, self.size = capacity, 0, 0

    def push(self, s, a, r, s2, d):
        i = self.pos
        self.s[i], self.a[i], self.r[i], self.s2[i], self.d[i] = s, a, r, s2, d
        self.pos = (self.pos + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size, batch_size)
        return [torch.from_numpy(x[idx]) for x in (self.s, self.a, self.r, self.s2, self.d)]


class QNet(nn.Module):
    def __init__(self, obs_dim, n_actions, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, n_actions))

    def forward(self, x):
        return self.net(x)


class Agent:
    def __init__(self, cfg, env):
        self.cfg = cfg
        self.n_actions = env.n_actions
        self.q = QNet(env.obs_dim, env.n_actions)
        self.target = QNet(env.obs_dim, env.n_actions)
        self.target.load_state_dict(self.q.state_dict())
        self.opt = torch.optim.Adam(self.q.parameters(), lr=cfg["lr"])
        self.buffer = ReplayBuffer(cfg["buffer_size"], env.obs_dim)

    def epsilon(self, t):
        frac = min(1.0, t / self.cfg["eps_steps"])
        return self.cfg["eps_start"] + frac * (self.cfg["eps_end"] - self.cfg["eps_start"])

    @torch.no_grad()
    def act(self, obs, eps):
        if random.random() < eps:
            return random.randrange(self.n_actions)
        return int(self.q(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))

    def learn(self):
        s, a, r, s2, d = self.buffer.sample(self.cfg["batch_size"])
        with torch.no_grad():
            next_q = self.target(s2).max(dim=1).values
            y = r + self.cfg["gamma"] * (1 - d) * next_q
        q = self.q(s).gather(1, a.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(q, y)
        self.opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)
        self.opt.step()
        return loss.item()

    def sync(self):
        self.target.load_state_dict(self.q.state_dict())


def evaluate(agent, episodes, seed=10_000):
    env = FruitCatch(seed=seed)
    scores = []
    for _ in range(episodes):
        obs, done, score = env.reset(), False, 0.0
        while not done:
            obs, reward, terminated, truncated = env.step(agent.act(obs, 0.0))
            score += reward
            done = terminated or truncated
        scores.append(score)
    return float(np.mean(scores))


def main(cfg):
    random.seed(cfg["seed"])
    np.random.seed(cfg["seed"])
    torch.manual_seed(cfg["seed"])
    env = FruitCatch(seed=cfg["seed"])
    agent = Agent(cfg, env)
    print(f"untrained: {evaluate(agent, cfg['eval_episodes']):+.2f}")

    obs, ep_len, losses, lengths = env.reset(), 0, [], []
    for t in range(1, cfg["total_steps"] + 1):
        action = agent.act(obs, agent.epsilon(t))
        next_obs, reward, terminated, truncated = env.step(action)
        ep_len += 1
        agent.buffer.push(obs, action, reward, next_obs, float(terminated))
        obs = next_obs
        if terminated or truncated:
            lengths.append(ep_len)
            obs, ep_len = env.reset(), 0
        if t >= cfg["learning_starts"]:
            losses.append(agent.learn())
            if t % cfg["sync_every"] == 0:
                agent.sync()
        if t % cfg["eval_every"] == 0:
            score = evaluate(agent, cfg["eval_episodes"])
            print(f"step {t:6d}  eps {agent.epsilon(t):.2f}  loss {np.mean(losses[-1000:]):.4f}  "
                  f"length {np.mean(lengths[-50:]):.0f}  score {score:+.2f}")

    print(f"final score over 100 episodes: {evaluate(agent, 100, seed=77):+.2f} (best possible +10)")


if __name__ == "__main__":
    main(config)
