"""Classification of generated point clouds with a small PointNet, after fxia22/pointnet.pytorch."""

import argparse
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

CLASSES = ["sphere", "cube", "torus", "cone"]


def sample_surface(kind, npoints, rng):
    u, v = rng.random(npoints), rng.random(npoints)
    if kind == 0:
        points = rng.normal(size=(npoints, 3))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    elif kind == 1:
        points = rng.uniform(-1, 1, (npoints, 3))
        axis, side = rng.integers(0, 3, npoints), rng.choice([-1.0, 1.0], npoints)
        points[np.arange(npoints), axis] = side
    elif kind == 2:
        a, b = 2 * math.pi * u, 2 * math.pi * v
        points = np.stack([(1 + 0.35 * np.cos(b)) * np.cos(a), (1 + 0.35 * np.cos(b)) * np.sin(a), 0.35 * np.sin(b)], 1)
    else:
        a, r = 2 * math.pi * u, np.sqrt(v)
        points = np.stack([r * np.cos(a), r * np.sin(a), 1 - 2 * r], 1)
    points = points * rng.uniform(0.8, 1.2, (1, 3))
    points = points - points.mean(0)
    return points / np.linalg.norm(points, axis=1).max()


class ShapeDataset(Dataset):
    def __init__(self, split, count, npoints=96, data_augmentation=True):
        rng = np.random.default_rng(0 if split == "train" else 1)
        self.labels = rng.integers(0, len(CLASSES), count)
        self.clouds = [sample_surface(kind, npoints, rng).astype(np.float32) for kind in self.labels]
        self.data_augmentation = data_augmentation

    def __getitem__(self, index):
        point_set = self.clouds[index]
        if self.data_augmentation:
            theta = np.random.uniform(0, 2 * np.pi)
            rotation = np.array([[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]])
            point_set = point_set @ rotation.astype(np.float32)
            jitter = np.random.normal(0, 0.02, size=point_set.shape).clip(-0.05, 0.05)
            point_set = point_set + jitter.astype(np.float32)
        return torch.from_numpy(point_set), int(self.labels[index])

    def __len__(self):
        return len(self.clouds)


class STN3d(nn.Module):
    """Predicts a 3 x 3 matrix, which begins at the identity."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 16, 1)
        self.conv2 = nn.Conv1d(16, 64, 1)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 9)
        self.bn1 = nn.BatchNorm1d(16)
        self.bn2 = nn.BatchNorm1d(64)
        self.bn3 = nn.BatchNorm1d(32)
        nn.init.normal_(self.fc2.weight, std=0.001)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2)[0]
        x = F.relu(self.bn3(self.fc1(x)))
        return self.fc2(x).view(-1, 3, 3) + torch.eye(3, device=x.device)


class PointNetCls(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.stn = STN3d()
        self.conv1 = nn.Conv1d(3, 32, 1)
        self.conv2 = nn.Conv1d(32, 64, 1)
        self.conv3 = nn.Conv1d(64, 128, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(128)
        self.fc1 = nn.Linear(128, 64)
        self.bn4 = nn.BatchNorm1d(64)
        self.dropout = nn.Dropout(p=0.3)
        self.fc2 = nn.Linear(64, k)

    def forward(self, x):
        trans = self.stn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x = torch.max(x, 2)[0]
        x = F.relu(self.bn4(self.fc1(x)))
        x = self.fc2(self.dropout(x))
        return F.log_softmax(x, dim=1), trans


def transform_regularizer(trans):
    identity = torch.eye(trans.size(1), device=trans.device)
    return (torch.bmm(trans, trans.transpose(2, 1)) - identity).norm(dim=(1, 2)).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchSize", type=int, default=32)
    parser.add_argument("--nepoch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--feature_transform_weight", type=float, default=0.01)
    opt = parser.parse_args()
    torch.manual_seed(5)
    np.random.seed(5)

    dataset = ShapeDataset("train", 800)
    test_dataset = ShapeDataset("test", 200, data_augmentation=False)
    dataloader = DataLoader(dataset, batch_size=opt.batchSize, shuffle=True)
    testdataloader = DataLoader(test_dataset, batch_size=50)
    classifier = PointNetCls(k=len(CLASSES))
    optimizer = optim.Adam(classifier.parameters(), lr=opt.lr, betas=(0.9, 0.999))
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    num_batch = math.ceil(len(dataset) / opt.batchSize)

    for epoch in range(opt.nepoch):
        classifier.train()
        for i, (points, target) in enumerate(dataloader):
            points = points.transpose(2, 1)
            optimizer.zero_grad()
            pred, trans = classifier(points)
            loss = F.nll_loss(pred, target)
            loss = loss + opt.feature_transform_weight * transform_regularizer(trans)
            loss.backward()
            optimizer.step()
            if i % 10 == 0:
                correct = (pred.argmax(1) == target).sum().item()
                print(f"[{epoch}: {i}/{num_batch}] train loss: {loss.item():.3f} accuracy: {correct / len(target):.3f}")
        scheduler.step()

        classifier.eval()
        total_correct = total_testset = 0
        with torch.no_grad():
            for points, target in testdataloader:
                points = points.transpose(2, 1)
                pred_choice = classifier(points)[0].argmax(1)
                total_correct += (pred_choice == target).sum().item()
                total_testset += len(points)
        print(f"epoch {epoch} test accuracy {total_correct / total_testset:.3f}")


if __name__ == "__main__":
    main()
