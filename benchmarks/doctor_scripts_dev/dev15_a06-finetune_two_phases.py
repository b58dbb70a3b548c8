"""
Lesson 6: transfer learning.

1. train a backbone on a task with plenty of data (six colored shapes),
2. take it to a small data set of icons in other colors; first only the new head learns,
3. then everything is unfrozen, the backbone with a smaller rate than the head.
"""
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes, shape_mask

torch.manual_seed(2024)
KINDS = ["square", "disc", "cross"]
INKS = [(0.9, 0.5, 0.1), (0.8, 0.15, 0.4), (0.1, 0.4, 0.85), (0.4, 0.1, 0.9)]  # orange, crimson, azure, violet


# %% the two data sets
def draw_icons(count, seed, size=16):
    """Icons in warm and cold inks on a light or dark ground; the class is the kind of shape alone."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=g)
    images = torch.empty(count, 3, size, size)
    for image, label in zip(images, labels.tolist()):
        width = int(torch.randint(6, 10, (1,), generator=g))
        top, left = torch.randint(0, size - width + 1, (2,), generator=g).tolist()
        ground = 0.35 + 0.3 * torch.rand(1, generator=g)
        ink = torch.tensor(INKS[int(torch.randint(0, 4, (1,), generator=g))]) + 0.2 * torch.rand(3, generator=g) - 0.1
        image[:] = ground
        image[:, shape_mask(KINDS[label], size, top, left, width)] = ink[:, None]
        image += 0.06 * torch.randn(3, size, size, generator=g)
    return images.clamp(0, 1), labels


def scaled(images):
    return (images - 0.5) / 0.2


source = Shapes(train=True, count=1000)
source_loader = DataLoader(
    TensorDataset(scaled(torch.stack(source.images)), torch.tensor(source.targets)), batch_size=50, shuffle=True
)
x, y = draw_icons(800, seed=5)
icons = DataLoader(TensorDataset(scaled(x[:640]), y[:640]), batch_size=32, shuffle=True)
icons_val = (scaled(x[640:]), y[640:])
icons_test = draw_icons(400, seed=6)
icons_test = (scaled(icons_test[0]), icons_test[1])


# %% the network: a backbone that ends in 48 features, and a head
def make_backbone():
    def stage(a, b):
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    return nn.Sequential(
        *stage(3, 16), nn.MaxPool2d(2), *stage(16, 32), nn.MaxPool2d(2), *stage(32, 48), nn.AdaptiveMaxPool2d(1), nn.Flatten()
    )


backbone = make_backbone()
loss_function = nn.CrossEntropyLoss()


def accuracy(network, data):
    network.eval()
    with torch.no_grad():
        return (network(data[0]).argmax(1) == data[1]).float().mean().item()


# %% step 1
source_net = nn.Sequential(backbone, nn.Linear(48, 6))
optimizer = torch.optim.Adam(source_net.parameters(), lr=2e-3)
for epoch in range(6):
    source_net.train()
    total = 0.0
    for images, labels in source_loader:
        optimizer.zero_grad()
        loss = loss_function(source_net(images), labels)
        loss.backward()
        optimizer.step()
        total += len(labels) * loss.item()
    print(f"source epoch {epoch}: loss {total / 1000:.3f}")
held_out = Shapes(train=False)
print("source test accuracy", accuracy(source_net, (scaled(torch.stack(held_out.images)), torch.tensor(held_out.targets))))

# %% step 2: only the head; batch norm of the backbone stays in evaluation mode
net = nn.Sequential(backbone, nn.Linear(48, 3))
for parameter in backbone.parameters():
    parameter.requires_grad = False
optimizer = torch.optim.Adam(net[1].parameters(), lr=5e-3)
for epoch in range(6):
    net.train()
    backbone.eval()
    for images, labels in icons:
        optimizer.zero_grad()
        loss_function(net(images), labels).backward()
        optimizer.step()
    print(f"head only {epoch}: validation {accuracy(net, icons_val):.3f}")

# %% step 3: everything, two rates
for parameter in backbone.parameters():
    parameter.requires_grad = True
optimizer = torch.optim.Adam([
    {"params": backbone.parameters(), "lr": 1.5e-3},
    {"params": net[1].parameters(), "lr": 3e-3},
])
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
best, best_state = 0.0, None
for epoch in range(10):
    net.train()
    for images, labels in icons:
        optimizer.zero_grad()
        loss_function(net(images), labels).backward()
        optimizer.step()
    scheduler.step()
    now = accuracy(net, icons_val)
    if now > best:
        best, best_state = now, copy.deepcopy(net.state_dict())
    print(f"fine-tuning {epoch}: validation {now:.3f}")
net.load_state_dict(best_state)
print(f"validation {best:.3f} (picked), test {accuracy(net, icons_test):.3f}")
