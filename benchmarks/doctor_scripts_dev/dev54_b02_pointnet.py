"""PointNet classification of generated solids (sphere, cube, torus, cone)."""
import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data as data

CLASSES = ["sphere", "cube", "torus", "cone"]

def sample_solid(kind, n, rng):
    if kind == "sphere":
        pts = rng.normal(size=(n, 3))
        pts /= np.linalg.norm(pts, axis=1, keepdims=True)
    elif kind == "cube":
        pts = rng.uniform(-1, 1, size=(n, 3))
        axis = rng.integers(0, 3, size=n)
        pts[np.arange(n), axis] = rng.choice([-1.0, 1.0], size=n)
    elif kind == "torus":
        u, v = rng.uniform(0, 2 * np.pi, size=(2, n))
        pts = np.stack([(1 + 0.3 * np.cos(v)) * np.cos(u), 0.3 * np.sin(v), (1 + 0.3 * np.cos(v)) * np.sin(u)], 1)
    else:
        u, h = rng.uniform(0, 2 * np.pi, size=n), np.sqrt(rng.uniform(0, 1, size=n))
        pts = np.stack([h * np.cos(u), 1 - 2 * h, h * np.sin(u)], 1)
    return pts + 0.02 * rng.normal(size=(n, 3))

class SolidDataset(data.Dataset):
    """Scans in millimeters, each of its own size and place."""

    def __init__(self, count, npoints=64, seed=0, data_augmentation=True):
        rng = np.random.default_rng(seed)
        self.data_augmentation = data_augmentation
        self.scans, self.labels = [], []
        for i in range(count):
            label = i % len(CLASSES)
            scan = sample_solid(CLASSES[label], npoints, rng)
            self.scans.append(scan * rng.uniform(20, 60) + rng.uniform(-30, 30, size=(1, 3)))
            self.labels.append(label)

    def __getitem__(self, index):
        point_set = self.scans[index]
        point_set = point_set - np.expand_dims(np.mean(point_set, axis=0), 0)  # center
        dist = np.max(np.sqrt(np.sum(point_set**2, axis=1)), 0)
        point_set = point_set / dist  # scale
        if self.data_augmentation:
            theta = np.random.uniform(0, np.pi * 2)
            rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
            point_set[:, [0, 2]] = point_set[:, [0, 2]].dot(rotation)  # random rotation
            point_set += np.random.normal(0, 0.02, size=point_set.shape)  # random jitter
        return torch.from_numpy(point_set.astype(np.float32)), self.labels[index]

    def __len__(self):
        return len(self.scans)

class STN3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 9)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(32)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2)[0]
        x = F.relu(self.bn3(self.fc1(x)))
        x = self.fc2(x).view(-1, 3, 3)
        return x + torch.eye(3, device=x.device)

class PointNetfeat(nn.Module):
    def __init__(self):
        super().__init__()
        self.stn = STN3d()
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1), nn.Conv1d(64, 128, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(128)

    def forward(self, x):
        trans = self.stn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return torch.max(x, 2)[0], trans

class PointNetCls(nn.Module):
    def __init__(self, k=40):
        super().__init__()
        self.feat = PointNetfeat()
        self.fc1, self.fc2, self.fc3 = nn.Linear(128, 64), nn.Linear(64, 64), nn.Linear(64, k)
        self.dropout = nn.Dropout(p=0.2)
        self.bn1, self.bn2 = nn.BatchNorm1d(64), nn.BatchNorm1d(64)

    def forward(self, x):
        x, trans = self.feat(x)
        x = F.relu(self.bn1(self.fc1(x)))
        x = F.relu(self.bn2(self.dropout(self.fc2(x))))
        return F.log_softmax(self.fc3(x), dim=1), trans

def feature_transform_regularizer(trans):
    identity = torch.eye(trans.size(1), device=trans.device)
    return torch.mean(torch.norm(torch.bmm(trans, trans.transpose(2, 1)) - identity, dim=(1, 2)))

def to_channels(points):
    return points.transpose(2, 1)

@torch.no_grad()
def test(classifier, testdataloader):
    classifier.eval()
    total_correct, total_testset = 0, 0
    for points, target in testdataloader:
        pred, _ = classifier(to_channels(points))
        pred_choice = pred.max(1)[1]
        total_correct += pred_choice.eq(target).sum().item()
        total_testset += points.size(0)
    return total_correct / total_testset

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchSize", type=int, default=32)
    parser.add_argument("--nepoch", type=int, default=8)
    parser.add_argument("--manualSeed", type=int, default=7)
    opt = parser.parse_args()
    np.random.seed(opt.manualSeed)
    torch.manual_seed(opt.manualSeed)
    dataset = SolidDataset(800, seed=0)
    test_dataset = SolidDataset(240, seed=1, data_augmentation=False)
    dataloader = data.DataLoader(dataset, batch_size=opt.batchSize, shuffle=True, drop_last=True)
    testdataloader = data.DataLoader(test_dataset, batch_size=opt.batchSize, shuffle=False)

    classifier = PointNetCls()
    classifier.fc3 = nn.Linear(64, len(CLASSES))
    optimizer = optim.Adam(classifier.parameters(), lr=0.002, betas=(0.9, 0.999))
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    best_acc, best_state = 0.0, None
    for epoch in range(opt.nepoch):
        classifier.train()
        for i, (points, target) in enumerate(dataloader):
            optimizer.zero_grad()
            pred, trans = classifier(to_channels(points))
            loss = F.nll_loss(pred, target)
            loss = loss + feature_transform_regularizer(trans) * 0.001
            loss.backward()
            optimizer.step()
            if i % 10 == 0:
                print(f"[{epoch}: {i}/{len(dataloader)}] train loss: {loss.item():.4f}")
        scheduler.step()
        acc = test(classifier, testdataloader)
        print(f"[{epoch}] test accuracy: {acc:.4f}")
        if acc > best_acc:
            best_acc, best_state = acc, copy.deepcopy(classifier.state_dict())
    classifier.load_state_dict(best_state)
    print(f"final accuracy {test(classifier, testdataloader):.4f}")

if __name__ == "__main__":
    main()
