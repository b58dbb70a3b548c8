import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data as data

CLASSES = ["ball", "box", "cylinder", "cone", "ring"]


def sample_surface(name, npoints, rng):
    u, v = rng.uniform(0, 2 * np.pi, npoints), rng.uniform(-1, 1, npoints)
    if name == "ball":
        r = np.sqrt(1 - v**2)
        points = np.stack([r * np.cos(u), r * np.sin(u), v], 1)
    elif name == "box":
        points = rng.uniform(-1, 1, (npoints, 3))
        axis = rng.integers(0, 3, npoints)
        points[np.arange(npoints), axis] = np.sign(points[np.arange(npoints), axis])
    elif name == "cylinder":
        points = np.stack([0.5 * np.cos(u), 0.5 * np.sin(u), v], 1)
    elif name == "cone":
        r = (1 - v) / 2
        points = np.stack([r * np.cos(u), r * np.sin(u), v], 1)
    else:
        w = v * np.pi
        r = 1 + 0.3 * np.cos(w)
        points = np.stack([r * np.cos(u), r * np.sin(u), 0.3 * np.sin(w)], 1)
    return points * rng.uniform(0.85, 1.15, (1, 3))


class ShapeDataset(data.Dataset):
    def __init__(self, per_class, npoints=128, data_augmentation=True, seed=0):
        rng = np.random.default_rng(seed)
        self.data_augmentation = data_augmentation
        self.points, self.labels = [], []
        for label, name in enumerate(CLASSES):
            for _ in range(per_class):
                self.points.append(sample_surface(name, npoints, rng).astype(np.float32))
                self.labels.append(label)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        point_set = self.points[index]
        point_set = point_set - np.expand_dims(np.mean(point_set, axis=0), 0)  # center
        dist = np.max(np.sqrt(np.sum(point_set**2, axis=1)), 0)
        point_set = point_set / dist  # scale

        if self.data_augmentation:
            theta = np.random.uniform(0, np.pi * 2)
            rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
            point_set[:, [0, 1]] = point_set[:, [0, 1]].dot(rotation)  # random rotation about z
            point_set = point_set + np.clip(0.02 * np.random.randn(*point_set.shape), -0.05, 0.05)  # random jitter

        return torch.from_numpy(point_set.astype(np.float32)), self.labels[index]


class STN3d(nn.Module):
    def __init__(self):
        super(STN3d, self).__init__()
        self.conv1 = nn.Conv1d(3, 16, 1)
        self.conv2 = nn.Conv1d(16, 64, 1)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 9)
        self.bn1 = nn.BatchNorm1d(16)
        self.bn2 = nn.BatchNorm1d(64)
        self.bn3 = nn.BatchNorm1d(32)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2)[0]
        x = F.relu(self.bn3(self.fc1(x)))
        x = self.fc2(x)
        iden = torch.eye(3, device=x.device).flatten()
        return (x + iden).view(-1, 3, 3)


class PointNetCls(nn.Module):
    def __init__(self, k):
        super(PointNetCls, self).__init__()
        self.stn = STN3d()
        self.conv1 = nn.Conv1d(3, 32, 1)
        self.conv2 = nn.Conv1d(32, 64, 1)
        self.conv3 = nn.Conv1d(64, 128, 1)
        self.bn1 = nn.BatchNorm1d(32)
        self.bn2 = nn.BatchNorm1d(64)
        self.bn3 = nn.BatchNorm1d(128)
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
        x = F.relu(self.bn4(self.dropout(self.fc1(x))))
        return F.log_softmax(self.fc2(x), dim=1), trans


def feature_transform_regularizer(trans):
    eye = torch.eye(trans.size(1), device=trans.device)[None]
    return torch.mean(torch.norm(torch.bmm(trans, trans.transpose(2, 1)) - eye, dim=(1, 2)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchSize", type=int, default=32, help="input batch size")
    parser.add_argument("--num_points", type=int, default=128)
    parser.add_argument("--nepoch", type=int, default=6, help="number of epochs to train for")
    parser.add_argument("--manualSeed", type=int, default=42)
    opt = parser.parse_args()
    np.random.seed(opt.manualSeed)
    torch.manual_seed(opt.manualSeed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    dataset = ShapeDataset(per_class=200, npoints=opt.num_points, seed=1)
    test_dataset = ShapeDataset(per_class=50, npoints=opt.num_points, data_augmentation=False, seed=2)
    dataloader = data.DataLoader(dataset, batch_size=opt.batchSize, shuffle=True, drop_last=True)
    testdataloader = data.DataLoader(test_dataset, batch_size=opt.batchSize, shuffle=False)

    classifier = PointNetCls(k=len(CLASSES)).to(device)
    optimizer = optim.Adam(classifier.parameters(), lr=0.002, betas=(0.9, 0.999))
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)

    for epoch in range(opt.nepoch):
        classifier = classifier.train()
        for i, (points, target) in enumerate(dataloader):
            points = points.transpose(2, 1)
            points, target = points.to(device), target.to(device)
            optimizer.zero_grad()
            pred, trans = classifier(points)
            loss = F.nll_loss(pred, target) + feature_transform_regularizer(trans) * 0.001
            loss.backward()
            optimizer.step()
            if i % 10 == 0:
                correct = pred.argmax(1).eq(target).float().mean()
                print("[%d: %d/%d] train loss: %f accuracy: %f" % (epoch, i, len(dataloader), loss.item(), correct.item()))
        scheduler.step()

        classifier = classifier.eval()
        total_correct = 0
        with torch.no_grad():
            for points, target in testdataloader:
                points = points.transpose(2, 1).contiguous().to(device)
                pred, _ = classifier(points)
                total_correct += pred.cpu().argmax(1).eq(target).sum().item()
        print("[%d] test accuracy: %f" % (epoch, total_correct / float(len(test_dataset))))


if __name__ == "__main__":
    main()
