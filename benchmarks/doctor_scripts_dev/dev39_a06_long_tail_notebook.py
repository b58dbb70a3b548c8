#!/usr/bin/env python
# coding: utf-8

# # Long-tailed shapes
# Six kinds of shapes, the first nine times as common as the last. Class weights + mixup.

# In[1]:

import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, recall_score
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes

np.random.seed(0)
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
num_classes = len(NAMES)
epochs = 14
batch_size = 32
alpha = 0.2


# ## Data: a long tail for training, 40 of each kind for validation

# In[2]:

pool = Shapes(train=True, count=2400)
images, targets = torch.stack(pool.images), torch.tensor(pool.targets)

train_idx, valid_idx = [], []
for c in range(num_classes):
    members = (targets == c).nonzero().flatten()
    n = int(320 * 0.65**c)
    train_idx.append(members[:n])
    valid_idx.append(members[n : n + 40])
train_idx, valid_idx = torch.cat(train_idx), torch.cat(valid_idx)

mean = images[train_idx].mean(dim=(0, 2, 3), keepdim=True)
std = images[train_idx].std(dim=(0, 2, 3), keepdim=True)
images = (images - mean) / std

train_ds = TensorDataset(images[train_idx], targets[train_idx])
valid_ds = TensorDataset(images[valid_idx], targets[valid_idx])
train_dl = DataLoader(train_ds, batch_size=batch_size, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=120)

test_pool = Shapes(train=False)
test_ds = TensorDataset((torch.stack(test_pool.images) - mean) / std, torch.tensor(test_pool.targets))
test_dl = DataLoader(test_ds, batch_size=120)

counts = torch.bincount(targets[train_idx], minlength=num_classes).float()
print({name: int(count) for name, count in zip(NAMES, counts)})


# ## Model

# In[3]:


class ShapeNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        x = self.pool(self.bn2(self.conv2(x)).relu())
        x = self.bn3(self.conv3(x)).relu()
        return self.fc(x.mean(dim=(2, 3)))


model = ShapeNet(num_classes).to(device)
weights = counts.sum() / (num_classes * counts)
criterion = nn.CrossEntropyLoss(weight=weights.to(device))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)


# In[4]:


@torch.no_grad()
def predict(dl):
    model.eval()
    logits = torch.cat([model(xb.to(device)) for xb, _ in dl])
    labels = torch.cat([yb for _, yb in dl])
    return logits, labels


def score_of(dl):
    logits, labels = predict(dl)
    val_loss = criterion(logits, labels.to(device)).item()
    return val_loss, balanced_accuracy_score(labels.numpy(), logits.argmax(dim=1).cpu().numpy())


# ## Training

# In[5]:

best_score, best_state = 0.0, None
for epoch in range(epochs):
    model.train()
    running_loss = 0.0
    for xb, yb in train_dl:
        xb, yb = xb.to(device), yb.to(device)
        if np.random.rand() < 0.5:
            xb = xb.flip(3)
        lam = np.random.beta(alpha, alpha)
        perm = torch.randperm(len(xb), device=device)
        mixed = lam * xb + (1 - lam) * xb[perm]

        logits = model(mixed)
        loss = lam * criterion(logits, yb) + (1 - lam) * criterion(logits, yb[perm])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * len(xb)
    scheduler.step()

    val_loss, score = score_of(valid_dl)
    print(f"epoch {epoch + 1:2d}  train {running_loss / len(train_ds):.4f}  val {val_loss:.4f}  balanced acc {score:.4f}")
    if score > best_score:
        best_score = score
        best_state = copy.deepcopy(model.state_dict())


# ## Test, with the recall of each class

# In[6]:

model.load_state_dict(best_state)
logits, labels = predict(test_dl)
predicted = logits.argmax(dim=1).cpu().numpy()
print(f"test balanced accuracy {balanced_accuracy_score(labels.numpy(), predicted):.4f}")
for name, recall in zip(NAMES, recall_score(labels.numpy(), predicted, average=None)):
    print(f"  {name:12s} {recall:.3f}")
