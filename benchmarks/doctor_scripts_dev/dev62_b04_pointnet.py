"""PointNet classification of generated point clouds."""

from __future__ import print_function

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data

CLASSES = ["sphere", "box", "cylinder", "cross"]


def sample_shape(kind, npoints, rng):
    if kind == "sphere":
        points = rng.normal(size=(npoints, 3))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    elif kind == "box":
        points = rng.uniform(-1, 1, (npoints, 3))
        points[np.arange(npoints), rng.integers(0, 3, npoints)] = rng.choice([-1.0, 1.0], npoints)
    elif kind == "cylinder":
        angle = rng.uniform(0, 2 * np.pi, npoints)
        points = np.stack([0.4 * np.cos(angle), rng.uniform(-1, 1, npoints), 0.4 * np.sin(angle)], axis=1)
    else:
        points = rng.normal(0, 0.05, (npoints, 3))
        points[np.arange(npoints), rng.integers(0, 3, npoints)] = rng.uniform(-1, 1, npoints)
    # scanners place objects anywhere, and in units of their own
    return points * rng.uniform(2.0, 6.0) + rng.uniform(-3, 3, 3)


class ShapeDataset(torch.utils.data.Dataset):
    def __init__(self, count, npoints=96, split="train", data_augmentation=True):
        rng = np.random.default_rng(0 if split == "train" else 1)
        self.split = split
        self.data_augmentation = data_augmentation
        self.labels = rng.integers(0, len(CLASSES), count)
        self.clouds = [sample_shape(CLASSES[label], npoints, rng) for label in self.labels]

    def __getitem__(self, index):
        point_set = self.clouds[index].astype(np.float32)
        point_set = point_set - np.expand_dims(np.mean(point_set, axis=0), 0)  # center
        dist = np.max(np.sqrt(np.sum(point_set**2, axis=1)), 0)
        point_set = point_set / dist  # scale

        if self.data_augmentation:
            theta = np.random.uniform(0, np.pi * 2)
            rotation_matrix = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
            point_set[:, [0, 2]] = point_set[:, [0, 2]].dot(rotation_matrix)  # random rotation
            point_set += np.random.normal(0, 0.02, size=point_set.shape)  # random jitter

        return torch.from_numpy(point_set.astype(np.float32)), int(self.labels[index])

    def __len__(self):
        return len(self.labels)


class STN3d(nn.Module):
    def __init__(self):
        super(STN3d, self).__init__()
        self.conv1 = nn.Conv1d(3, 16, 1)
        self.conv2 = nn.Conv1d(16, 32, 1)
        self.fc1 = nn.Linear(32, 16)
        self.fc2 = nn.Linear(16, 9)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(16), nn.BatchNorm1d(32), nn.BatchNorm1d(16)
        nn.init.normal_(self.fc2.weight, std=0.01)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2)[0]
        x = F.relu(self.bn3(self.fc1(x)))
        iden = torch.eye(3, dtype=x.dtype, device=x.device).unsqueeze(0)
        return self.fc2(x).view(-1, 3, 3) + iden


class PointNetCls(nn.Module):
    def __init__(self, k=2):
        super(PointNetCls, self).__init__()
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
        x = self.dropout(F.relu(self.bn4(self.fc1(x))))
        return F.log_softmax(self.fc2(x), dim=1), trans


def feature_transform_regularizer(trans):
    iden = torch.eye(trans.size(1), device=trans.device).unsqueeze(0)
    return torch.mean(torch.norm(torch.bmm(trans, trans.transpose(2, 1)) - iden, dim=(1, 2)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchSize", type=int, default=32, help="input batch size")
    parser.add_argument("--nepoch", type=int, default=8, help="number of epochs to train for")
    parser.add_argument("--no_regularizer", action="store_true", help="leave the transform free")
    opt = parser.parse_args()

    opt.manualSeed = 42
    random.seed(opt.manualSeed)
    np.random.seed(opt.manualSeed)
    torch.manual_seed(opt.manualSeed)

    dataset = ShapeDataset(count=800, split="train")
    test_dataset = ShapeDataset(count=240, split="test", data_augmentation=False)
    dataloader = torch.utils.data.DataLoader(dataset, batch_size=opt.batchSize, shuffle=True, drop_last=True)
    testdataloader = torch.utils.data.DataLoader(test_dataset, batch_size=opt.batchSize, shuffle=False)

    classifier = PointNetCls(k=len(CLASSES))
    optimizer = optim.Adam(classifier.parameters(), lr=0.002, betas=(0.9, 0.999))
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)

    num_batch = len(dataloader)
    for epoch in range(opt.nepoch):
        classifier.train()
        for i, (points, target) in enumerate(dataloader, 0):
            points = points.transpose(2, 1)
            optimizer.zero_grad()
            pred, trans = classifier(points)
            loss = F.nll_loss(pred, target)
            if not opt.no_regularizer:
                loss += feature_transform_regularizer(trans) * 0.001
            loss.backward()
            optimizer.step()
            if i % 10 == 0:
                print("[%d: %d/%d] train loss: %f" % (epoch, i, num_batch, loss.item()))
        scheduler.step()

        classifier.eval()
        total_correct, total_testset = 0, 0
        with torch.no_grad():
            for points, target in testdataloader:
                points = points.transpose(2, 1)
                pred, _ = classifier(points)
                pred_choice = pred.max(1)[1]
                total_correct += pred_choice.eq(target).sum().item()
                total_testset += points.size(0)
        print("[%d] test accuracy: %f" % (epoch, total_correct / float(total_testset)))


if __name__ == "__main__":
    main()
