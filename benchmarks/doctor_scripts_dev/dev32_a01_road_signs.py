# %% [markdown]
# Road signs, 32 x 32 pixels, six kinds. A small CNN, SGD and one cycle; the best epoch is kept for the test.

# %%
import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
np.random.seed(3)
torch.set_num_threads(1)

KINDS = ["no entry", "give way", "priority", "turn left", "turn right", "speed limit"]
RED, WHITE, YELLOW, BLUE, BLACK = (0.8, 0.1, 0.1), (0.95, 0.95, 0.95), (0.95, 0.8, 0.1), (0.1, 0.25, 0.8), (0.1, 0.1, 0.1)


# %%
def draw_sign(kind, rng):
    y, x = np.mgrid[:32, :32]
    center_y, center_x = 15.5 + rng.uniform(-4, 4, 2)
    radius = rng.uniform(7.5, 12)
    v, u = (y - center_y) / radius, (x - center_x) / radius
    disc = u**2 + v**2
    image = np.ones((32, 32, 3)) * rng.uniform(0.2, 0.7, 3) + 0.2 * (y / 31 - 0.5)[..., None]

    def paint(where, color):
        image[where] = color

    if kind == 0:
        paint(disc < 1, RED)
        paint((abs(v) < 0.2) & (abs(u) < 0.65), WHITE)
    elif kind == 1:
        paint((abs(u) < (0.95 - v) * 0.6) & (v > -0.8), RED)
        paint((abs(u) < (0.5 - v) * 0.55) & (v > -0.55), WHITE)
    elif kind == 2:
        paint(abs(u) + abs(v) < 1, WHITE)
        paint(abs(u) + abs(v) < 0.75, YELLOW)
    elif kind in (3, 4):
        along = u if kind == 3 else -u
        paint(disc < 1, BLUE)
        paint((along > -0.65) & (along < 0.05) & (abs(v) < (along + 0.65) * 0.85), WHITE)
        paint((along >= 0) & (along < 0.6) & (abs(v) < 0.18), WHITE)
    else:
        paint(disc < 1, RED)
        paint(disc < 0.5, WHITE)
        paint((abs(abs(u) - 0.25) < 0.13) & (abs(v) < 0.4), BLACK)
    image = image * rng.uniform(0.5, 1.1) + rng.normal(0, 0.08, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def draw_set(per_kind, seed):
    """Sign after sign, kind after kind, as the folders of such collections are."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(KINDS)), per_kind)
    images = np.stack([draw_sign(kind, rng) for kind in labels])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels).long()


x_train, y_train = draw_set(340, seed=0)
x_valid, y_valid = draw_set(80, seed=1)
x_test, y_test = draw_set(80, seed=2)

mean, std = x_train.mean((0, 2, 3), keepdim=True), x_train.std((0, 2, 3), keepdim=True)
x_train, x_valid, x_test = (x_train - mean) / std, (x_valid - mean) / std, (x_test - mean) / std

train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)
valid_loader = DataLoader(TensorDataset(x_valid, y_valid), batch_size=40)
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=40)


# %%
def augment(batch):
    padded = F.pad(batch, (2, 2, 2, 2), mode="replicate")
    top, left = np.random.randint(0, 5, 2)
    out = padded[:, :, top : top + 32, left : left + 32]
    gain = 1 + 0.3 * (torch.rand(len(batch), 1, 1, 1) - 0.5)
    return out * gain


def block(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]


net = nn.Sequential(
    *block(3, 16),
    *block(16, 32),
    *block(32, 64),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 64),
    nn.ReLU(),
    nn.Dropout(0.4),
    nn.Linear(64, len(KINDS)),
)
criterion = nn.CrossEntropyLoss()

EPOCHS = 11
optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9, weight_decay=5e-4, nesterov=True)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.03, total_steps=EPOCHS * len(train_loader))


# %%
@torch.no_grad()
def validate(loader):
    net.eval()
    right, total, loss_sum = 0, 0, 0.0
    for images, labels in loader:
        outputs = net(images)
        loss_sum += criterion(outputs, labels).item() * len(labels)
        right += (outputs.argmax(1) == labels).sum().item()
        total += len(labels)
    return loss_sum / total, right / total


# %%
best, kept = 0.0, None
for epoch in range(EPOCHS):
    net.train()
    running = 0.0
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(augment(images)), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item()
    valid_loss, accuracy = validate(valid_loader)
    if accuracy > best:
        best, kept = accuracy, copy.deepcopy(net.state_dict())
    print(f"epoch {epoch + 1}: train loss {running / len(train_loader):.3f}, valid loss {valid_loss:.3f}, accuracy {accuracy:.3f}")

# %%
net.load_state_dict(kept)
print("test accuracy of the epoch kept: %.3f" % validate(test_loader)[1])
