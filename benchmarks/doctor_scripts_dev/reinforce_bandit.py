import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions import Categorical

torch.manual_seed(0)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(6, 32)
        self.affine2 = nn.Linear(32, 3)

    def forward(self, x):
        return torch.softmax(self.affine2(torch.relu(self.affine1(x))), dim=1)


weights = torch.randn(6, 3)
policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)


def finish_episode(log_probs, rewards):
    returns = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
    policy_loss = (-log_probs * returns).mean()
    optimizer.zero_grad()
    policy_loss.backward()
    optimizer.step()
    return policy_loss


def main():
    running_reward = 0.3
    for i_episode in range(300):
        state = torch.randn(64, 6)
        probs = policy(state)
        m = Categorical(probs)
        action = m.sample()
        rewards = (action == (state @ weights).argmax(1)).float()
        finish_episode(m.log_prob(action), rewards)
        running_reward = 0.05 * rewards.mean().item() + 0.95 * running_reward
        if i_episode % 50 == 0:
            print(f"Episode {i_episode}\tAverage reward: {running_reward:.2f}")


if __name__ == "__main__":
    main()
