# %% [code]
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

SEED = 42
random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)

device = "cuda" if torch.cuda.is_available() else "cpu"
EPOCHS = 14
BATCH_SIZE = 32
LR = 2e-3

# %% [code]
# Build the (imbalanced) table of images and label names
names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
keep_share = np.array([1.0, 1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2, 0.2])
raw = load_digits()
rng = np.random.RandomState(SEED)
keep = rng.rand(len(raw.target)) < keep_share[raw.target]
images = raw.images[keep]
images = images + rng.normal(0, 2.0, images.shape)
labels = names[raw.target[keep]]
print("images:", images.shape)
print("counts:", dict(zip(*np.unique(labels, return_counts=True))))

# %% [code]
X_train, X_val, y_train_names, y_val_names = train_test_split(
    images, labels, test_size=0.3, stratify=labels, random_state=SEED
)

class_to_idx = {name: i for i, name in enumerate(sorted(set(y_train_names)))}
y_train = np.array([class_to_idx[name] for name in y_train_names])
y_val = np.array([class_to_idx[name] for name in y_val_names])

mean, std = X_train.mean(), X_train.std()
X_train = torch.tensor((X_train - mean) / std, dtype=torch.float32).unsqueeze(1)
X_val = torch.tensor((X_val - mean) / std, dtype=torch.float32).unsqueeze(1)
y_train = torch.tensor(y_train)
y_val = torch.tensor(y_val)

# %% [code]
class_counts = np.bincount(y_train.numpy(), minlength=10)
class_weights = torch.tensor(1.0 / np.sqrt(class_counts), dtype=torch.float32)
class_weights = class_weights / class_weights.mean()
sample_weights = class_weights[y_train]

sampler = WeightedRandomSampler(sample_weights, num_samples=len(y_train), replacement=True)
train_loader = DataLoader(TensorDataset(X_train, y_train), batch_size=BATCH_SIZE, sampler=sampler, drop_last=True)
val_loader = DataLoader(TensorDataset(X_val, y_val), batch_size=128, shuffle=False)

# look at one batch
xb, yb = next(iter(train_loader))
print("batch:", xb.shape, yb.shape, "first labels:", yb[:8].tolist())


# %% [code]
class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = self.drop(x.flatten(1))
        x = F.relu(self.fc1(x))
        return self.fc2(x)


model = Net().to(device)
criterion = nn.CrossEntropyLoss(weight=class_weights.to(device))
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

# %% [code]
best_f1 = 0.0
history = []
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for images_, labels_ in train_loader:
        images_, labels_ = images_.to(device), labels_.to(device)
        optimizer.zero_grad()
        outputs = model(images_)
        loss = criterion(outputs, labels_)
        loss.backward()
        optimizer.step()
        running += loss.item()
    scheduler.step()

    model.eval()
    val_preds, val_true = [], []
    with torch.no_grad():
        for images_, labels_ in val_loader:
            logits = model(images_.to(device))
            val_preds.extend(logits.argmax(dim=1).cpu().tolist())
            val_true.extend(labels_.tolist())
    f1 = f1_score(val_true, val_preds, average="macro")
    acc = np.mean(np.array(val_true) == np.array(val_preds))
    history.append((running / len(train_loader), f1, acc))
    best_f1 = max(best_f1, f1)
    print(f"epoch {epoch + 1:2d} loss {history[-1][0]:.4f} val macro-F1 {f1:.4f} val acc {acc:.4f}")

# %% [code]
print(confusion_matrix(val_true, val_preds))
print(f"best macro-F1: {best_f1:.4f}")
