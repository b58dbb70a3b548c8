# My PointNet on simple solids (posted as a minimal example, everything is generated)
import math

import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

CLASSES = ["sphere", "cube", "cylinder", "cone"]
NUM_POINTS = 96


def sample_solid(name, n, g):
    u = torch.rand(n, generator=g)
    phi = 2 * math.pi * torch.rand(n, generator=g)
    if name == "sphere":
        z = 2 * u - 1
        r = (1 - z ** 2).sqrt()
        pts = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    elif name == "cube":
        pts = 2 * torch.rand(n, 3, generator=g) - 1
        face = torch.randint(0, 3, (n,), generator=g)
        pts[torch.arange(n), face] = torch.randint(0, 2, (n,), generator=g).float() * 2 - 1
    elif name == "cylinder":
        pts = torch.stack([0.6 * phi.cos(), 0.6 * phi.sin(), 2 * u - 1], 1)
    else:
        r = u.sqrt()
        pts = torch.stack([r * phi.cos(), r * phi.sin(), 1 - 2 * r], 1)
    pts = pts * (0.8 + 0.4 * torch.rand(1, generator=g))
    return pts + 0.02 * torch.randn(n, 3, generator=g)


class Solids(Dataset):
    def __init__(self, count, seed, class_to_idx, train):
        g = torch.Generator().manual_seed(seed)
        self.class_to_idx = class_to_idx
        self.train = train
        self.clouds, self.names = [], []
        for k in torch.randint(0, len(CLASSES), (count,), generator=g).tolist():
            self.clouds.append(sample_solid(CLASSES[k], NUM_POINTS, g))
            self.names.append(CLASSES[k])

    def __len__(self):
        return len(self.clouds)

    def __getitem__(self, idx):
        pts = self.clouds[idx]
        pts = pts - pts.mean(0)
        if self.train:  # turn about the vertical axis
            a = 2 * math.pi * torch.rand(()).item()
            rot = torch.tensor([[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0], [0.0, 0.0, 1.0]])
            pts = pts @ rot.T
        return pts, self.class_to_idx[self.names[idx]]


class PointNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 32, 1)
        self.conv2 = nn.Conv1d(32, 64, 1)
        self.conv3 = nn.Conv1d(64, 128, 1)
        self.bn1 = nn.BatchNorm1d(32)
        self.bn2 = nn.BatchNorm1d(64)
        self.bn3 = nn.BatchNorm1d(128)
        self.fc1 = nn.Linear(128, 64)
        self.fc2 = nn.Linear(64, num_classes)
        self.dropout = nn.Dropout(p=0.2)
        self.relu = nn.ReLU()

    def forward(self, x):
        x = x.transpose(1, 2)  # [batch, points, 3] -> [batch, 3, points]
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.relu(self.bn3(self.conv3(x)))
        x = x.max(dim=2)[0]
        x = self.dropout(self.relu(self.fc1(x)))
        return self.fc2(x)


def train_one_batch(model, batch, optimizer, loss):
    model.train()
    points, labels = batch
    optimizer.zero_grad()
    outputs = model(points)
    loss_value = loss(outputs, labels)
    loss_value.backward()
    optimizer.step()
    return loss_value


def setup():
    torch.manual_seed(0)
    class_to_idx = {name: i for i, name in enumerate(CLASSES)}
    train_set = Solids(900, 1, class_to_idx, train=True)
    val_set = Solids(240, 2, class_to_idx, train=False)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=32, shuffle=False)

    model = PointNet(len(CLASSES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return {
        "model": model,
        "train": train_loader,
        "val": val_loader,
        "loss": criterion,
        "optimizer": optimizer,
        "step": train_one_batch,
    }
