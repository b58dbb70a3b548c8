# Where is the shape? One box an image, snapshots at the end of each cycle of the rate.
import copy
import math

import numpy as np
import torch
from torch import nn

from toydata import Shapes

torch.manual_seed(2024)
np.random.seed(2024)
torch.set_num_threads(1)

SIZE = 20
CYCLES = 3
EPOCHS_PER_CYCLE = 8
BATCH = 60
LR_MAX = 3e-3

# %% data
train_ds, test_ds = Shapes(train=True, size=SIZE), Shapes(train=False, size=SIZE)
x_train, x_test = torch.stack(train_ds.images), torch.stack(test_ds.images)
b_train, b_test = torch.stack(train_ds.boxes), torch.stack(test_ds.boxes)
mu, sigma = x_train.mean((0, 2, 3), keepdim=True), x_train.std((0, 2, 3), keepdim=True)
x_train, x_test = (x_train - mu) / sigma, (x_test - mu) / sigma
print(x_train.shape, b_train.shape, x_test.shape)


def augment(images, boxes):
    flip = torch.rand(len(images)) < 0.5
    mirrored = boxes.clone()
    mirrored[:, 0], mirrored[:, 2] = 1 - boxes[:, 2], 1 - boxes[:, 0]
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    return images, torch.where(flip[:, None], mirrored, boxes)


# %% network
class Locator(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
        )
        self.regressor = nn.Sequential(nn.Flatten(), nn.Linear(48 * 25, 96), nn.ReLU(), nn.Linear(96, 4))

    def forward(self, x):
        center, extent = torch.sigmoid(self.regressor(self.features(x))).chunk(2, dim=1)
        return torch.cat([center - extent / 2, center + extent / 2], dim=1)


def overlaps(a, b):
    """IoU and generalized IoU of each row of `a` with the same row of `b`."""
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    outer = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    shared, hull = inner[:, 0] * inner[:, 1], outer[:, 0] * outer[:, 1]
    union = area_a + area_b - shared
    iou = shared / union
    return iou, iou - (hull - union) / hull


# %% training
net = Locator()
optimizer = torch.optim.Adam(net.parameters(), lr=LR_MAX)
steps_per_epoch = len(x_train) // BATCH
cycle_steps = steps_per_epoch * EPOCHS_PER_CYCLE
snapshots = []
step = 0
for epoch in range(CYCLES * EPOCHS_PER_CYCLE):
    net.train()
    history = []
    for rows in torch.randperm(len(x_train)).split(BATCH):
        position = (step % cycle_steps) / cycle_steps
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * LR_MAX * (1 + math.cos(math.pi * position))
        images, boxes = augment(x_train[rows], b_train[rows])
        predicted = net(images)
        giou = overlaps(predicted, boxes)[1]
        distance = (predicted - boxes).abs().sum(1)
        loss = (distance - giou).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.detach())
        step += 1
    if (epoch + 1) % EPOCHS_PER_CYCLE == 0:
        snapshots.append(copy.deepcopy(net).eval())
    print(f"epoch {epoch + 1:2d}  loss {torch.stack(history).mean():.4f}")

# %% test: each snapshot alone, and their mean
with torch.no_grad():
    answers = torch.stack([snapshot(x_test) for snapshot in snapshots])
for number, answer in enumerate(answers, 1):
    print(f"snapshot {number}: IoU {overlaps(answer, b_test)[0].mean():.4f}")
iou = overlaps(answers.mean(0), b_test)[0]
print(f"mean of snapshots: IoU {iou.mean():.4f}, above 0.5 in {(iou > 0.5).float().mean():.1%}")
