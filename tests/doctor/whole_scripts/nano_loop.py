"""Like Karpathy's: everything at the top, get_batch, a loop over iterations. The bug: a learning rate far too high."""

import sys

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.nn import functional as F  # noqa: N812

# hyperparameters
batch_size = 32
max_iters = 100_000
eval_interval = 500
learning_rate = 10.0 if "--broken" in sys.argv else 3e-3
# ------------
torch.manual_seed(1337)
x, y = load_digits(return_X_y=True)
data = torch.tensor(x, dtype=torch.float32) / 8 - 1
labels = torch.tensor(y)
n = int(0.9 * len(data))


def get_batch(split):
    ix = torch.randint(0, n, (batch_size,)) if split == "train" else torch.randint(n, len(data), (batch_size,))
    return data[ix], labels[ix]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, idx, targets=None):
        logits = self.net(idx)
        loss = None if targets is None else F.cross_entropy(logits, targets)
        return logits, loss


@torch.no_grad()
def estimate_loss():
    model.eval()
    losses = [model(*get_batch("val"))[1].item() for _ in range(5)]
    model.train()
    return sum(losses) / len(losses)


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
for step in range(max_iters):
    if step % eval_interval == 0:
        print(f"step {step}: val loss {estimate_loss():.4f}")
    xb, yb = get_batch("train")
    logits, loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
