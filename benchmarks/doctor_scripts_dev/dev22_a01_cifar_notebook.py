# %% [markdown]
# # A small residual network on CIFAR-like pictures, from scratch
# Companion notebook of the blog post. Six classes instead of ten, 16 x 16 instead of 32 x 32,
# so that it also runs on a laptop without a GPU.

# %%
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes

torch.manual_seed(0)
np.random.seed(0)
torch.set_num_threads(1)

# %% [markdown]
# ## Data
# As after unpickling the batches: `uint8` arrays of shape N x H x W x C and a vector of labels.


# %%
def load_batch(train, count):
    raw = Shapes(train=train, count=count)
    images = torch.stack(raw.images).permute(0, 2, 3, 1)
    return (images * 255).round().to(torch.uint8).contiguous().numpy(), np.array(raw.targets)


x_train, y_train = load_batch(train=True, count=1600)
x_val, y_val = load_batch(train=False, count=240)
print("train", x_train.shape, x_train.dtype, "val", x_val.shape, "classes", len(NAMES))

# %%
# PyTorch wants N x C x H x W and floats
x_train = torch.from_numpy(x_train.transpose(0, 3, 1, 2)).float() / 255
x_val = torch.from_numpy(x_val.transpose(0, 3, 1, 2)).float() / 255
y_train, y_val = torch.from_numpy(y_train).long(), torch.from_numpy(y_val).long()

mean = x_train.mean(dim=(0, 2, 3), keepdim=True)
std = x_train.std(dim=(0, 2, 3), keepdim=True)
x_train = (x_train - mean) / std
x_val = (x_val - mean) / std

# %%
batch_size = 64
train_dl = DataLoader(TensorDataset(x_train, y_train), batch_size=batch_size, shuffle=True, drop_last=True)
val_dl = DataLoader(TensorDataset(x_val, y_val), batch_size=100)


def augment(x):
    """Mirror each picture with probability 1/2, then shift the batch by up to two pixels."""
    mirrored = torch.rand(len(x)) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    top, left = torch.randint(0, 5, (2,)).tolist()
    return padded[:, :, top : top + 16, left : left + 16]


# %% [markdown]
# ## Model


# %%
def conv_block(n_in, n_out, pool=False):
    layers = [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class ResNet6(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.prep = conv_block(3, 16, pool=True)  # 8 x 8
        self.conv1 = conv_block(16, 32)
        self.res1 = nn.Sequential(conv_block(32, 32), conv_block(32, 32))
        self.conv2 = conv_block(32, 64, pool=True)  # 4 x 4
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, n_classes)

    def forward(self, x):
        x = self.conv1(self.prep(x))
        x = x + self.res1(x)
        x = self.conv2(x)
        x = F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.fc(self.dropout(x))


model = ResNet6(len(NAMES))
print(sum(p.numel() for p in model.parameters()), "parameters")

# %% [markdown]
# ## Training
# Plain SGD with momentum; the learning rate is divided by ten every ten epochs.

# %%
epochs = 26
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
history = []

for epoch in range(epochs):
    start = time.time()

    model.train()
    train_loss, seen = 0.0, 0
    for xb, yb in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(augment(xb)), yb)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * len(yb)
        seen += len(yb)
    scheduler.step()

    model.eval()
    correct, total, val_loss = 0, 0, 0.0
    with torch.no_grad():
        for xb, yb in val_dl:
            out = model(xb)
            val_loss += criterion(out, yb).item() * len(yb)
            correct += (out.argmax(dim=1) == yb).sum().item()
            total += len(yb)
    acc = correct / total

    history.append({"train_loss": train_loss / seen, "val_loss": val_loss / total, "val_acc": acc})
    print(
        f"epoch {epoch + 1:2d}  lr {optimizer.param_groups[0]['lr']:.0e}  train loss {train_loss / seen:.4f}  "
        f"val loss {val_loss / total:.4f}  val acc {acc:.4f}  ({time.time() - start:.1f} s)"
    )

# %% [markdown]
# ## Which classes are confused?

# %%
confusion = torch.zeros(len(NAMES), len(NAMES), dtype=torch.long)
model.eval()
with torch.no_grad():
    predicted = model(x_val).argmax(1)
for truth, guess in zip(y_val.tolist(), predicted.tolist()):
    confusion[truth, guess] += 1
for name, row in zip(NAMES, confusion):
    print(f"{name:>12}", row.tolist())
print("best validation accuracy:", max(entry["val_acc"] for entry in history))
