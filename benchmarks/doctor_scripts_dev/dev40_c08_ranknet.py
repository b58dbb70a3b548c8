# %% [markdown]
# Which of two houses is dearer? A siamese scorer trained on pairs (RankNet), used to rank a whole market.

# %%
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import ndcg_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

SEED = 17
np.random.seed(SEED)
torch.manual_seed(SEED)

# %%
features, price = houses(2000, seed=4)
df = pd.DataFrame(features.numpy(), columns=[f"feature_{i}" for i in range(8)])
df["price"] = price.numpy()
print(df.describe().T[["mean", "std", "min", "max"]])

# %% Houses are divided, not pairs: no house of a validation pair is trained on.
train_df, rest = train_test_split(df, test_size=0.3, random_state=SEED)
val_df, test_df = train_test_split(rest, test_size=0.5, random_state=SEED)
columns = [c for c in df.columns if c != "price"]
scaler = StandardScaler().fit(train_df[columns].values)


def tensors(part):
    x = torch.tensor(scaler.transform(part[columns].values), dtype=torch.float32)
    return x, torch.tensor(part["price"].values, dtype=torch.float32)


def make_pairs(part, count, seed):
    x, p = tensors(part)
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(x), (count,), generator=generator)
    shift = torch.randint(1, len(x), (count,), generator=generator)
    second = (first + shift) % len(x)  # never the same house
    return TensorDataset(x[first], x[second], p[first] - p[second])


train_loader = DataLoader(make_pairs(train_df, 8000, 1), batch_size=100, shuffle=True)
val_loader = DataLoader(make_pairs(val_df, 2000, 2), batch_size=500)


# %%
class RankNet(nn.Module):
    def __init__(self, inputs=8, hidden=48):
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1, bias=False),  # a bias would cancel out in the difference
        )

    def forward(self, a, b):
        return (self.score(a) - self.score(b)).squeeze(1)


def pair_accuracy(net, loader):
    net.eval()
    right = 0
    with torch.no_grad():
        for a, b, gap in loader:
            right += ((net(a, b) > 0) == (gap > 0)).sum().item()
    return right / len(loader.dataset)


# %%
net = RankNet()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)
best, best_state = 0.0, None
for epoch in range(10):
    net.train()
    running = 0.0
    for a, b, gap in train_loader:
        dearer = (gap > 0).float()
        loss = F.binary_cross_entropy_with_logits(net(a, b), dearer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.detach()
    accuracy = pair_accuracy(net, val_loader)
    scheduler.step(accuracy)
    if accuracy > best:
        best, best_state = accuracy, copy.deepcopy(net.state_dict())
    print(f"epoch {epoch}: loss {float(running) / len(train_loader):.4f}, pairs right {accuracy:.4f}")

# %% The best network, on houses never seen: order of all, and of lists of 30.
net.load_state_dict(best_state)
net.eval()
x_test, p_test = tensors(test_df)
with torch.no_grad():
    s_test = net.score(x_test).squeeze(1)
ranks = pd.DataFrame({"price": p_test.numpy(), "score": s_test.numpy()}).rank()
print(f"test: Spearman {ranks['price'].corr(ranks['score']):.4f}")

order = torch.randperm(300).view(10, 30)
relevance = (p_test[order] - p_test.min()).numpy()
print(f"test: NDCG@10 {ndcg_score(relevance, s_test[order].numpy(), k=10):.4f}")
