"""PointNet classification of point clouds drawn from the surfaces of simple solids."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = ["sphere", "cube", "cylinder", "cone"]


def sample_surface(kind, n, rng):
    if kind == "sphere":
        points = rng.normal(size=(n, 3))
        return points / np.linalg.norm(points, axis=1, keepdims=True)
    if kind == "cube":
        points = rng.uniform(-1, 1, (n, 3))
        points[np.arange(n), rng.integers(0, 3, n)] = rng.choice([-1.0, 1.0], n)
        return points
    angle, height = rng.uniform(0, 2 * np.pi, n), rng.uniform(-1, 1, n)
    radius = np.full(n, 0.6) if kind == "cylinder" else (1 - height) / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def pc_normalize(pc):
    pc = pc - pc.mean(axis=0)
    return pc / np.sqrt((pc**2).sum(axis=1)).max()


def rotate_z(pc, rng):
    theta = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(theta), np.sin(theta)
    return pc @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def jitter(pc, rng, sigma=0.01, clip=0.05):
    return pc + np.clip(sigma * rng.normal(size=pc.shape), -clip, clip)


def random_point_dropout(pc, rng, max_dropout_ratio=0.4):
    ratio = rng.random() * max_dropout_ratio
    drop = rng.random(len(pc)) < ratio
    pc = pc.copy()
    pc[drop] = pc[0]
    return pc


class SolidsDataset(Dataset):
    def __init__(self, split, count, npoints):
        rng = np.random.default_rng(0 if split == "train" else 1)
        self.split, self.rng = split, np.random.default_rng(2)
        self.labels = rng.integers(0, len(CLASSES), count)
        self.clouds = []
        for label in self.labels:
            pc = sample_surface(CLASSES[label], npoints, rng) * rng.uniform(0.85, 1.15, 3)
            pc = pc + 0.02 * rng.normal(size=pc.shape)
            self.clouds.append(pc_normalize(rotate_z(pc, rng)))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        pc = self.clouds[index]
        if self.split == "train":
            pc = random_point_dropout(pc, self.rng)
            pc = jitter(rotate_z(pc, self.rng), self.rng)
        return torch.from_numpy(pc.astype(np.float32)), int(self.labels[index])


class STN3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(32), nn.BatchNorm1d(64)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 9)
        nn.init.normal_(self.fc2.weight, std=0.01)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.fc1(x.max(dim=2)[0]))
        return self.fc2(x).view(-1, 3, 3) + torch.eye(3, device=x.device)


class PointNet(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.stn = STN3d()
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1), nn.Conv1d(64, 128, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(128)
        self.fc1, self.fc2 = nn.Linear(128, 64), nn.Linear(64, k)
        self.bn4, self.dropout = nn.BatchNorm1d(64), nn.Dropout(0.3)

    def forward(self, points):
        x = points.transpose(2, 1)
        trans = self.stn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x)).max(dim=2)[0]
        x = self.dropout(F.relu(self.bn4(self.fc1(x))))
        return F.log_softmax(self.fc2(x), dim=1), trans


def feature_transform_regularizer(trans):
    return torch.mean(torch.norm(torch.bmm(trans, trans.transpose(2, 1)) - torch.eye(3), dim=(1, 2)))


def get_loss(pred, target, trans, scale=0.001):
    return F.nll_loss(pred, target) + scale * feature_transform_regularizer(trans)


def test(model, loader):
    correct = 0
    model.eval()
    with torch.no_grad():
        for points, target in loader:
            choice = model(points)[0].argmax(dim=1)
            correct += (choice == target).sum().item()
    return correct / len(loader.dataset)


def parse_args():
    parser = argparse.ArgumentParser("training")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--epoch", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=0.002)
    parser.add_argument("--num_point", type=int, default=96)
    return parser.parse_args()


def main(args):
    torch.manual_seed(0)
    train_loader = DataLoader(SolidsDataset("train", 960, args.num_point), args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(SolidsDataset("test", 320, args.num_point), args.batch_size, shuffle=False)
    model = PointNet(len(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.7)
    best = 0.0
    for epoch in range(args.epoch):
        model.train()
        seen, total = 0, 0.0
        for points, target in train_loader:
            optimizer.zero_grad()
            pred, trans = model(points)
            loss = get_loss(pred, target, trans)
            loss.backward()
            optimizer.step()
            seen, total = seen + len(target), total + loss.item() * len(target)
        scheduler.step()
        instance_acc = test(model, test_loader)
        best = max(best, instance_acc)
        print(f"Epoch {epoch + 1}/{args.epoch}: loss {total / seen:.4f} "
              f"test accuracy {instance_acc:.4f} best {best:.4f}")


if __name__ == "__main__":
    main(parse_args())
