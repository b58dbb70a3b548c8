# %% [markdown]
# # Few-shot digits with triplets
# Learn an embedding on the digits 0 to 6, then recognize 7, 8 and 9 from five examples each.

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader, Dataset, TensorDataset

import toydata

torch.manual_seed(0)
np.random.seed(0)

MEAN, STD = 0.15, 0.28
N_BASE = 7
MARGIN = 0.5
EPOCHS = 14

# %% Data
train_images, train_labels = toydata.draw_digits(1500, seed=0)
test_images, test_labels = toydata.draw_digits(500, seed=1)

train_x = (train_images.float() / 255 - MEAN) / STD
test_x = (test_images.float() / 255 - MEAN) / STD

base_x, base_y = train_x[train_labels < N_BASE], train_labels[train_labels < N_BASE]
support_x, support_y = train_x[train_labels >= N_BASE], train_labels[train_labels >= N_BASE]
query_x, query_y = test_x[test_labels >= N_BASE], test_labels[test_labels >= N_BASE]
val_x, val_y = test_x[test_labels < N_BASE], test_labels[test_labels < N_BASE]
print(len(base_x), "base images,", len(support_x), "to draw supports from,", len(query_x), "queries")


# %%
class Triplets(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y
        self.members = [torch.nonzero(y == c).flatten() for c in range(N_BASE)]

    def __len__(self):
        return len(self.x)

    def pick(self, c):
        members = self.members[c]
        return self.x[members[int(torch.randint(len(members), (1,)))]]

    def __getitem__(self, i):
        c = int(self.y[i])
        other = (c + int(torch.randint(1, N_BASE, (1,)))) % N_BASE
        return self.x[i], self.pick(c), self.pick(other)


train_dl = DataLoader(Triplets(base_x, base_y), batch_size=64, shuffle=True, drop_last=True)
val_dl = DataLoader(TensorDataset(val_x, val_y), batch_size=128)


# %% Model
class EmbeddingNet(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 4 * 4, 128)
        self.fc2 = nn.Linear(128, dim)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return F.normalize(self.fc2(x), dim=1)


net = EmbeddingNet()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)


# %%
def embed(x, batch_size=128):
    net.eval()
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(batch_size)])


def few_shot(shots=5, tasks=100):
    """Nearest mean of the supports, averaged over draws of them."""
    supports, queries = embed(support_x), embed(query_x)
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(tasks):
        prototypes = []
        for c in range(N_BASE, 10):
            members = torch.nonzero(support_y == c).flatten().numpy()
            prototypes.append(supports[rng.choice(members, shots, replace=False)].mean(0))
        nearest = torch.cdist(queries, torch.stack(prototypes)).argmin(1) + N_BASE
        scores.append((nearest == query_y).float().mean().item())
    return np.mean(scores), np.std(scores)


def knn_score():
    knn = KNeighborsClassifier(5).fit(embed(base_x).numpy(), base_y.numpy())
    right = 0
    for x, y in val_dl:
        right += int((knn.predict(embed(x).numpy()) == y.numpy()).sum())
    return right / len(val_x)


print("before training: knn %.3f, few-shot %.3f ± %.3f" % (knn_score(), *few_shot()))

# %% Training
history = []
for epoch in range(EPOCHS):
    net.train()
    total = 0.0
    for a, p, n in train_dl:
        anchor, positive, negative = net(a), net(p), net(n)
        loss = F.triplet_margin_loss(anchor, positive, negative, margin=MARGIN)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    history.append(total / len(train_dl))
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1}: loss {history[-1]:.4f}, knn {knn_score():.3f}")

# %% Results
mean, std = few_shot()
print(f"5-shot accuracy on the digits 7 to 9: {mean:.3f} ± {std:.3f}")
print(f"nearest neighbors on the digits 0 to 6: {knn_score():.3f}")
