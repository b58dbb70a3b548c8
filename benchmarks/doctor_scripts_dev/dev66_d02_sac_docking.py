# Soft actor-critic, single file, on a small vectorised docking task.
import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--total-steps", type=int, default=4000, help="vector steps of all environments")
    parser.add_argument("--learning-starts", type=int, default=200)
    parser.add_argument("--buffer-size", type=int, default=20000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--tau", type=float, default=0.01)
    parser.add_argument("--policy-lr", type=float, default=1e-3)
    parser.add_argument("--q-lr", type=float, default=1e-3)
    parser.add_argument("--policy-frequency", type=int, default=2)
    parser.add_argument("--eval-every", type=int, default=500)
    return parser.parse_args()


class DockingVecEnv:
    """A craft in the plane has to come to rest close to the origin.

    Leaving the arena or docking terminates an episode; after `max_steps` it is truncated. Environments
    reset by themselves; `info["final_obs"]` holds the observation before the reset.
    """

    def __init__(self, num_envs, seed=0, max_steps=80, dt=0.1):
        self.num_envs, self.max_steps, self.dt = num_envs, max_steps, dt
        self.rng = np.random.default_rng(seed)
        self.low, self.high = np.full(2, -2.0, dtype=np.float32), np.full(2, 2.0, dtype=np.float32)
        self.obs_dim, self.act_dim = 4, 2

    def _spawn(self, n):
        angle, radius = self.rng.uniform(0, 2 * np.pi, n), self.rng.uniform(0.8, 1.6, n)
        pos = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return pos, self.rng.normal(0, 0.3, (n, 2))

    def _obs(self):
        return np.concatenate([self.pos, self.vel], axis=1).astype(np.float32)

    def reset(self):
        self.pos, self.vel = self._spawn(self.num_envs)
        self.t, self.ret = np.zeros(self.num_envs, dtype=np.int64), np.zeros(self.num_envs)
        return self._obs()

    def step(self, action):
        action = np.clip(action, self.low, self.high)
        swirl = 0.4 * np.stack([-self.pos[:, 1], self.pos[:, 0]], axis=1)
        self.vel = self.vel + self.dt * (action + swirl)
        self.pos = self.pos + self.dt * self.vel
        self.t += 1
        dist, speed = np.linalg.norm(self.pos, axis=1), np.linalg.norm(self.vel, axis=1)
        docked, crashed = (dist < 0.15) & (speed < 0.4), dist > 2.5
        reward = -0.1 * dist - 0.01 * (action ** 2).sum(1) + 5.0 * docked - 5.0 * crashed
        terminated = docked | crashed
        truncated = (self.t >= self.max_steps) & ~terminated
        self.ret += reward
        done = terminated | truncated
        info = {"final_obs": self._obs(), "docked": docked.copy(), "return": self.ret.copy(), "length": self.t.copy()}
        if done.any():
            self.pos[done], self.vel[done] = self._spawn(int(done.sum()))
            self.t[done], self.ret[done] = 0, 0.0
        return self._obs(), reward.astype(np.float32), terminated, truncated, info


class ReplayBuffer:
    def __init__(self, capacity, obs_dim, act_dim):
        self.capacity, self.pos, self.size = capacity, 0, 0
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.actions = np.zeros((capacity, act_dim), np.float32)
        self.rewards = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, np.float32)

    def add(self, obs, next_obs, actions, rewards, terminated):
        idx = (self.pos + np.arange(len(obs))) % self.capacity
        self.obs[idx], self.next_obs[idx], self.actions[idx] = obs, next_obs, actions
        self.rewards[idx], self.terminated[idx] = rewards, terminated
        self.pos = (self.pos + len(obs)) % self.capacity
        self.size = min(self.size + len(obs), self.capacity)

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size, batch_size)
        arrays = (self.obs, self.next_obs, self.actions, self.rewards, self.terminated)
        return tuple(torch.from_numpy(a[idx]) for a in arrays)


LOG_STD_MIN, LOG_STD_MAX = -5, 2


class SoftQNetwork(nn.Module):
    def __init__(self, env, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(env.obs_dim + env.act_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x, a):
        return self.net(torch.cat([x, a], 1))


class Actor(nn.Module):
    def __init__(self, env, hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(env.obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.fc_mean = nn.Linear(hidden, env.act_dim)
        self.fc_logstd = nn.Linear(hidden, env.act_dim)
        self.register_buffer("action_scale", torch.tensor((env.high - env.low) / 2.0))
        self.register_buffer("action_bias", torch.tensor((env.high + env.low) / 2.0))

    def forward(self, x):
        h = self.trunk(x)
        log_std = torch.tanh(self.fc_logstd(h))
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (log_std + 1)
        return self.fc_mean(h), log_std

    def get_action(self, x):
        mean, log_std = self(x)
        normal = torch.distributions.Normal(mean, log_std.exp())
        x_t = normal.rsample()
        y_t = torch.tanh(x_t)
        log_prob = normal.log_prob(x_t) - torch.log(self.action_scale * (1 - y_t.pow(2)) + 1e-6)
        action = y_t * self.action_scale + self.action_bias
        mean = torch.tanh(mean) * self.action_scale + self.action_bias
        return action, log_prob.sum(1, keepdim=True), mean


@torch.no_grad()
def evaluate(actor, seed, episodes=100):
    env = DockingVecEnv(episodes, seed=seed)
    obs = env.reset()
    returns, docked, finished = np.zeros(episodes), np.zeros(episodes, bool), np.zeros(episodes, bool)
    while not finished.all():
        _, _, mean = actor.get_action(torch.from_numpy(obs))
        obs, _, terminated, truncated, info = env.step(mean.numpy())
        first = (terminated | truncated) & ~finished
        returns[first], docked[first] = info["return"][first], info["docked"][first]
        finished |= first
    return returns.mean(), docked.mean()


if __name__ == "__main__":
    args = parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    envs = DockingVecEnv(args.num_envs, seed=args.seed)
    actor = Actor(envs)
    qf1, qf2 = SoftQNetwork(envs), SoftQNetwork(envs)
    qf1_target, qf2_target = SoftQNetwork(envs), SoftQNetwork(envs)
    qf1_target.load_state_dict(qf1.state_dict())
    qf2_target.load_state_dict(qf2.state_dict())
    q_optimizer = optim.Adam(list(qf1.parameters()) + list(qf2.parameters()), lr=args.q_lr)
    actor_optimizer = optim.Adam(actor.parameters(), lr=args.policy_lr)

    target_entropy = -float(envs.act_dim)
    log_alpha = torch.full((1,), np.log(0.2), dtype=torch.float32, requires_grad=True)
    alpha = log_alpha.exp().item()
    a_optimizer = optim.Adam([log_alpha], lr=args.q_lr)

    rb = ReplayBuffer(args.buffer_size, envs.obs_dim, envs.act_dim)
    start, obs = time.time(), envs.reset()
    for step in range(1, args.total_steps + 1):
        if step <= args.learning_starts:
            actions = np.random.uniform(envs.low, envs.high, (args.num_envs, envs.act_dim)).astype(np.float32)
        else:
            with torch.no_grad():
                actions = actor.get_action(torch.from_numpy(obs))[0].numpy()
        next_obs, rewards, terminated, truncated, info = envs.step(actions)
        rb.add(obs, info["final_obs"], actions, rewards, terminated)
        obs = next_obs
        if step <= args.learning_starts:
            continue

        b_obs, b_next_obs, b_actions, b_rewards, b_term = rb.sample(args.batch_size)
        with torch.no_grad():
            next_actions, next_log_pi, _ = actor.get_action(b_next_obs)
            min_next = torch.min(qf1_target(b_next_obs, next_actions), qf2_target(b_next_obs, next_actions))
            next_v = (min_next - alpha * next_log_pi).view(-1)
            target = b_rewards + (1 - b_term) * args.gamma * next_v
        qf1_loss = F.mse_loss(qf1(b_obs, b_actions).view(-1), target)
        qf2_loss = F.mse_loss(qf2(b_obs, b_actions).view(-1), target)
        q_optimizer.zero_grad()
        (qf1_loss + qf2_loss).backward()
        q_optimizer.step()

        if step % args.policy_frequency == 0:
            for _ in range(args.policy_frequency):
                pi, log_pi, _ = actor.get_action(b_obs)
                min_q = torch.min(qf1(b_obs, pi), qf2(b_obs, pi))
                actor_loss = (alpha * log_pi - min_q).mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()

                alpha_loss = (-log_alpha.exp() * (log_pi.detach() + target_entropy)).mean()
                a_optimizer.zero_grad()
                alpha_loss.backward()
                a_optimizer.step()
                alpha = log_alpha.exp().item()

        with torch.no_grad():
            for net, net_target in ((qf1, qf1_target), (qf2, qf2_target)):
                for p, p_t in zip(net.parameters(), net_target.parameters()):
                    p_t.mul_(1 - args.tau).add_(args.tau * p)

        if step % args.eval_every == 0:
            ret, success = evaluate(actor, seed=1000 + args.seed)
            print(f"step {step} return {ret:.3f} docked {success:.2f} qf1_loss {qf1_loss.item():.4f} "
                  f"alpha {alpha:.4f} SPS {int(step * args.num_envs / (time.time() - start))}")
    ret, success = evaluate(actor, seed=5000 + args.seed, episodes=300)
    print(f"final return {ret:.3f} docked {success:.3f}")
