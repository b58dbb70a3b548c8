# In[1]:
# Homework 3, part 2: a long-tailed data set. We have a lot of zeros and only few nines.
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import draw_digits

random.seed(7)
np.random.seed(7)
torch.manual_seed(7)

# In[2]:
all_images, all_labels = draw_digits(6000, seed=50)
kept = []
for c in range(10):
    positions = torch.where(all_labels == c)[0]
    kept.append(positions[: int(500 * 0.8**c)])
kept = torch.cat(kept)
train_images, train_labels = all_images[kept], all_labels[kept]
valid_images, valid_labels = draw_digits(600, seed=51)

class_counts = torch.bincount(train_labels, minlength=10)
print("images per class:", class_counts.tolist())

# In[3]:
mean = (train_images.float() / 255).mean()
std = (train_images.float() / 255).std()


class LongTailDigits(Dataset):
    def __init__(self, images, labels, augment):
        self.images = (images.float() / 255 - mean) / std
        self.labels = labels
        self.augment = augment
        self.background = float(self.images.min())

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.augment:
            padded = F.pad(image, (1, 1, 1, 1), value=self.background)
            top, left = random.randint(0, 2), random.randint(0, 2)
            image = padded[:, top : top + 16, left : left + 16]
        return image, self.labels[i]


train_set = LongTailDigits(train_images, train_labels, augment=True)
valid_set = LongTailDigits(valid_images, valid_labels, augment=False)

# In[4]:
# Every class should be drawn equally often.
sample_weights = 1.0 / class_counts[train_labels].double()
sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_set), replacement=True)
train_loader = DataLoader(train_set, batch_size=64, sampler=sampler)
valid_loader = DataLoader(valid_set, batch_size=150)

# In[5]:
model = nn.Sequential(
    nn.Conv2d(1, 24, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(24, 24, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(24, 48, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(48 * 4 * 4, 64),
    nn.ReLU(),
    nn.Dropout(0.3),
    nn.Linear(64, 10),
)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
EPOCHS = 16
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

# In[6]:
history = []
for epoch in range(EPOCHS):
    model.train()
    running, seen = 0.0, 0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(y)
        seen += len(y)
    scheduler.step()

    model.eval()
    y_true, y_pred = [], []
    with torch.no_grad():
        for x, y in valid_loader:
            y_pred.append(model(x).argmax(dim=1).numpy())
            y_true.append(y.numpy())
    y_true, y_pred = np.concatenate(y_true), np.concatenate(y_pred)
    balanced = balanced_accuracy_score(y_true, y_pred)
    history.append((running / seen, balanced))
    print(f"Epoch {epoch + 1:2d}/{EPOCHS}  loss {running / seen:.4f}  balanced accuracy {balanced:.4f}")

# In[7]:
matrix = confusion_matrix(y_true, y_pred, labels=list(range(10)))
recalls = matrix.diagonal() / matrix.sum(axis=1)
for c in range(10):
    print(f"digit {c}: {int(class_counts[c]):4d} training images, recall {recalls[c]:.3f}")
