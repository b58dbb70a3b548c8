# %% [markdown]
# # Siamese network: do two images show the same digit?
# Contrastive loss on pairs; unseen pairs of unseen images are verified by their distance.

# %%
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset

import toydata

torch.manual_seed(7)

BATCH_SIZE = 64
EPOCHS = 10
MARGIN = 1.0
LR = 0.01

# %%
train_images, train_labels = toydata.draw_digits(1000, seed=0)
val_images, val_labels = toydata.draw_digits(300, seed=1)

train_images = train_images.float() / 255
val_images = val_images.float() / 255
mean, std = train_images.mean(), train_images.std()
train_images = (train_images - mean) / std
val_images = (val_images - mean) / std


# %%
class PairDataset(Dataset):
    """Two images and a target: 1 for the same digit, 0 for different digits."""

    def __init__(self, images, labels, num_pairs, seed):
        rng = np.random.default_rng(seed)
        by_class = [np.flatnonzero(labels.numpy() == c) for c in range(10)]
        self.images = images
        self.pairs, self.targets = [], []
        for n in range(num_pairs):
            c = int(rng.integers(10))
            d = c if n % 2 == 0 else (c + int(rng.integers(1, 10))) % 10
            self.pairs.append((int(rng.choice(by_class[c])), int(rng.choice(by_class[d]))))
            self.targets.append(float(c == d))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        a, b = self.pairs[i]
        return self.images[a], self.images[b], torch.tensor(self.targets[i])


train_loader = DataLoader(PairDataset(train_images, train_labels, 2000, seed=2), BATCH_SIZE, shuffle=True)
val_loader = DataLoader(PairDataset(val_images, val_labels, 600, seed=3), BATCH_SIZE)


# %%
def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class Encoder(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.blocks = nn.ModuleList([conv_block(1, 16), conv_block(16, 32), conv_block(32, 64)])
        self.head = nn.Linear(64 * 2 * 2, dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(1))


def contrastive_loss(dist, y):
    attract = y * dist.pow(2)
    repel = (1 - y) * F.relu(MARGIN - dist).pow(2)
    return (attract + repel).mean()


# %%
def verify(encoder, loader):
    """Loss, area under the ROC curve, and accuracy at half the margin."""
    encoder.eval()
    dists, ys = [], []
    with torch.no_grad():
        for x1, x2, y in loader:
            dists.append(F.pairwise_distance(encoder(x1), encoder(x2)))
            ys.append(y)
    dist, y = torch.cat(dists), torch.cat(ys)
    loss = contrastive_loss(dist, y).item()
    auc = roc_auc_score(y.numpy(), -dist.numpy())
    accuracy = ((dist < MARGIN / 2) == (y == 1)).float().mean().item()
    return loss, auc, accuracy


# %%
encoder = Encoder()
optimizer = torch.optim.SGD(encoder.parameters(), lr=LR, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)

best_loss = float("inf")
best_state = None

for epoch in range(EPOCHS):
    encoder.train()
    running = 0.0
    for x1, x2, y in train_loader:
        optimizer.zero_grad()
        dist = F.pairwise_distance(encoder(x1), encoder(x2))
        loss = contrastive_loss(dist, y)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(y)
    scheduler.step()

    val_loss, val_auc, val_acc = verify(encoder, val_loader)
    print(
        f"epoch {epoch + 1:2d}  train loss {running / len(train_loader.dataset):.4f}  "
        f"val loss {val_loss:.4f}  AUC {val_auc:.4f}  accuracy {val_acc:.4f}"
    )
    if val_loss < best_loss:
        best_loss = val_loss
        best_state = copy.deepcopy(encoder.state_dict())

# %%
encoder.load_state_dict(best_state)
val_loss, val_auc, val_acc = verify(encoder, val_loader)
print(f"kept: val loss {val_loss:.4f}  AUC {val_auc:.4f}  accuracy {val_acc:.4f}")
