# %% [markdown]
# # Digits by distance
# An embedding learned with triplets. A digit is named after the nearest class mean (prototype);
# digits lying on their side, which the network never saw, are told apart by five examples each.

# %%
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

SEED = 2
torch.manual_seed(SEED)
rng = np.random.default_rng(SEED)


# %% data
def prepare(images):
    return (images.float() / 255 - 0.2) / 0.32


images, labels = draw_digits(1200, seed=31, noise=0.15)
x_train, y_train = prepare(images[:1000]), labels[:1000]
x_val, y_val = prepare(images[1000:]), labels[1000:]
images, labels = draw_digits(400, seed=32, noise=0.15)
x_test, y_test = prepare(images), labels


class BalancedBatches:
    """Index lists with a few samples of each of some classes."""

    def __init__(self, targets, n_classes=8, n_samples=6, n_batches=25):
        self.by_class = [np.flatnonzero(targets.numpy() == c) for c in range(10)]
        self.n_classes, self.n_samples, self.n_batches = n_classes, n_samples, n_batches

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for _ in range(self.n_batches):
            chosen = rng.choice(10, self.n_classes, replace=False)
            yield np.concatenate([rng.choice(self.by_class[c], self.n_samples, replace=False) for c in chosen]).tolist()


triplet_loader = DataLoader(TensorDataset(x_train, y_train), batch_sampler=BalancedBatches(y_train))
train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=100)
val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=100)
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=100)


# %% network
def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


class EmbeddingNet(nn.Module):
    def __init__(self, dim=32, p=0.4):
        super().__init__()
        widths = [1, 16, 32, 64]
        self.blocks = nn.ModuleList([conv_block(a, b) for a, b in zip(widths, widths[1:])])
        self.drop = nn.Dropout(p)
        self.fc = nn.Linear(64 * 2 * 2, dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.fc(self.drop(x.flatten(1))), dim=1)


# %% loss: all valid triplets of a batch
def distances(z):
    square = (z[:, None] - z[None]).pow(2).sum(dim=-1)
    return square.clamp(min=1e-12).sqrt()


def batch_all_triplet(z, targets, margin=0.3):
    dist = distances(z)
    same = targets[:, None] == targets[None]
    distinct = ~torch.eye(len(targets), dtype=torch.bool)
    gap = dist[:, :, None] - dist[:, None, :] + margin
    valid = (same & distinct)[:, :, None] & ~same[:, None, :]
    hinge = F.relu(gap[valid])
    return hinge.sum() / (hinge > 0).sum().clamp(min=1)


# %% evaluation
@torch.no_grad()
def embed(loader):
    net.eval()
    vectors, targets = [], []
    for xb, yb in loader:
        vectors.append(net(xb))
        targets.append(yb)
    return torch.cat(vectors), torch.cat(targets)


def prototypes(vectors, targets, classes):
    return torch.stack([vectors[targets == c].mean(dim=0) for c in classes])


def nearest(vectors, centers):
    return torch.cdist(vectors, centers).argmin(dim=1)


def digit_accuracy(loader):
    centers = prototypes(*embed(train_loader), range(10))
    vectors, targets = embed(loader)
    return (nearest(vectors, centers) == targets).float().mean().item()


# %% training
net = EmbeddingNet()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
history, best_acc, best_weights = [], -1.0, None
for epoch in range(10):
    net.train()
    losses = []
    for xb, yb in triplet_loader:
        loss = batch_all_triplet(net(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    acc = digit_accuracy(val_loader)
    history.append((np.mean(losses), acc))
    print(f"epoch {epoch + 1:2d}  triplet loss {history[-1][0]:.4f}  validation accuracy {acc:.4f}")
    if acc > best_acc:
        best_acc, best_weights = acc, copy.deepcopy(net.state_dict())

# %% known digits
net.load_state_dict(best_weights)
print(f"test accuracy by prototypes: {digit_accuracy(test_loader):.4f}")

# %% new classes: 2, 3, 4 and 7 turned by 90 degrees, five shots
NEW = [2, 3, 4, 7]
images, labels = draw_digits(500, seed=33, noise=0.15)
keep = torch.isin(labels, torch.tensor(NEW))
turned = torch.rot90(prepare(images[keep]), 1, (2, 3))
z_new, y_new = embed(DataLoader(TensorDataset(turned, labels[keep]), batch_size=100))
y_new = torch.tensor([NEW.index(c) for c in y_new.tolist()])
scores = []
for episode in range(30):
    support = np.concatenate([rng.choice(np.flatnonzero(y_new.numpy() == c), 5, replace=False) for c in range(4)])
    query = np.setdiff1d(np.arange(len(y_new)), support)
    centers = prototypes(z_new[support], y_new[support], range(4))
    scores.append((nearest(z_new[query], centers) == y_new[query]).float().mean().item())
print(f"four new classes, five shots: {np.mean(scores):.4f} ± {np.std(scores):.4f}")
