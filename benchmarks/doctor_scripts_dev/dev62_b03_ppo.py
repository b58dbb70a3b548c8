"""PPO on a small grid world, single file."""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical

args = SimpleNamespace(
    seed=1, total_timesteps=32768, learning_rate=2.5e-3, num_envs=16, num_steps=64, gamma=0.95, gae_lambda=0.95,
    num_minibatches=4, update_epochs=4, clip_coef=0.2, ent_coef=0.01, vf_coef=0.5, max_grad_norm=0.5,
)

class GridVecEnv:
    """Walk to the goal of a 5 x 5 grid. Episodes end at the goal, and are truncated after `limit` steps."""

    moves = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])

    def __init__(self, num_envs, seed, size=5, limit=24):
        self.num_envs, self.size, self.limit = num_envs, size, limit
        self.rng = np.random.default_rng(seed)
        self.pos, self.goal = (np.zeros((num_envs, 2), dtype=np.int64) for _ in range(2))
        self.t = np.zeros(num_envs, dtype=np.int64)

    def _spawn(self, which):
        for i in np.flatnonzero(which):
            start, goal = self.rng.choice(self.size**2, 2, replace=False)
            self.pos[i], self.goal[i] = divmod(start, self.size), divmod(goal, self.size)
            self.t[i] = 0

    def _obs(self):
        half = (self.size - 1) / 2
        return np.concatenate([(self.pos - half) / half, (self.goal - self.pos) / half], axis=1).astype(np.float32)

    def reset(self):
        self._spawn(np.ones(self.num_envs, dtype=bool))
        return self._obs()

    def step(self, actions):
        self.pos = np.clip(self.pos + self.moves[actions], 0, self.size - 1)
        self.t += 1
        terminated = (self.pos == self.goal).all(axis=1)
        truncated = ~terminated & (self.t >= self.limit)
        reward = np.where(terminated, 1.0, -0.02).astype(np.float32)
        final_obs = self._obs()
        self._spawn(terminated | truncated)
        return self._obs(), reward, terminated, truncated, final_obs

def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer

def mlp(n_in, n_out, std):
    hidden = [layer_init(nn.Linear(n_in, 64)), nn.Tanh(), layer_init(nn.Linear(64, 64)), nn.Tanh()]
    return nn.Sequential(*hidden, layer_init(nn.Linear(64, n_out), std=std))

class Agent(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.critic = mlp(obs_dim, 1, std=1.0)
        self.actor = mlp(obs_dim, n_actions, std=0.01)

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)

@torch.no_grad()
def evaluate(agent, seed, episodes=32):
    envs = GridVecEnv(episodes, seed)
    obs, returns, alive = envs.reset(), np.zeros(episodes), np.ones(episodes, dtype=bool)
    for _ in range(envs.limit):
        action = agent.actor(torch.from_numpy(obs)).argmax(dim=1).numpy()
        obs, reward, terminated, truncated, _ = envs.step(action)
        returns += reward * alive
        alive &= ~(terminated | truncated)
    return returns.mean()

def main():
    batch_size = args.num_envs * args.num_steps
    minibatch_size, num_iterations = batch_size // args.num_minibatches, args.total_timesteps // batch_size
    torch.manual_seed(args.seed)

    envs = GridVecEnv(args.num_envs, seed=args.seed)
    agent = Agent(4, 4)
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    obs = torch.zeros((args.num_steps, args.num_envs, 4))
    actions = torch.zeros((args.num_steps, args.num_envs), dtype=torch.long)
    logprobs, rewards, dones, values = (torch.zeros((args.num_steps, args.num_envs)) for _ in range(4))

    global_step = 0
    next_obs = torch.from_numpy(envs.reset())
    next_done = torch.zeros(args.num_envs)
    for iteration in range(1, num_iterations + 1):
        frac = 1.0 - (iteration - 1.0) / num_iterations
        optimizer.param_groups[0]["lr"] = frac * args.learning_rate

        for step in range(args.num_steps):
            global_step += args.num_envs
            obs[step] = next_obs
            dones[step] = next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
            values[step] = value.flatten()
            actions[step] = action
            logprobs[step] = logprob
            new_obs, reward, terminated, truncated, final_obs = envs.step(action.numpy())
            rewards[step] = torch.from_numpy(reward)
            with torch.no_grad():  # a time limit is no end of the task: what would follow counts
                final_value = agent.get_value(torch.from_numpy(final_obs)).flatten()
            rewards[step] += args.gamma * final_value * torch.from_numpy(truncated).float()
            next_obs = torch.from_numpy(new_obs)
            next_done = torch.from_numpy(terminated | truncated).float()

        with torch.no_grad():
            next_value = agent.get_value(next_obs).flatten()
            advantages = torch.zeros_like(rewards)
            lastgaelam = torch.zeros(args.num_envs)
            for t in reversed(range(args.num_steps)):
                nextnonterminal = 1.0 - (next_done if t == args.num_steps - 1 else dones[t + 1])
                nextvalues = next_value if t == args.num_steps - 1 else values[t + 1]
                delta = rewards[t] + args.gamma * nextvalues * nextnonterminal - values[t]
                lastgaelam = delta + args.gamma * args.gae_lambda * nextnonterminal * lastgaelam
                advantages[t] = lastgaelam
            returns = advantages + values

        b_obs, b_actions, b_logprobs = obs.reshape(-1, 4), actions.reshape(-1), logprobs.reshape(-1)
        b_advantages, b_returns = advantages.reshape(-1), returns.reshape(-1)
        for epoch in range(args.update_epochs):
            b_inds = torch.randperm(batch_size)
            for start in range(0, batch_size, minibatch_size):
                mb_inds = b_inds[start : start + minibatch_size]
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb_inds], b_actions[mb_inds])
                ratio = (newlogprob - b_logprobs[mb_inds]).exp()
                mb_advantages = b_advantages[mb_inds]
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
                pg_loss1 = -mb_advantages * ratio
                pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                newvalue = newvalue.view(-1)
                v_loss = 0.5 * ((newvalue - b_returns[mb_inds]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + v_loss * args.vf_coef
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        if iteration % 4 == 0:
            print(f"global_step={global_step}, eval_return={evaluate(agent, seed=1000):.3f}")

if __name__ == "__main__":
    main()
