"""PointNet classification of generated solids."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = ["sphere", "cube", "cone", "torus"]


def sample_solid(name, n, rng):
    angle = rng.uniform(0, 2 * np.pi, n)
    if name == "sphere":
        points = rng.normal(size=(n, 3))
        return points / np.linalg.norm(points, axis=1, keepdims=True)
    if name == "cube":
        points = rng.uniform(-1, 1, (n, 3))
        points[np.arange(n), rng.integers(0, 3, n)] = rng.choice([-1.0, 1.0], n)
        return points
    if name == "cone":
        height = 1 - np.sqrt(rng.uniform(0, 1, n))
        radius = 1 - height
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), 2 * height - 1], 1)
    tube = rng.uniform(0, 2 * np.pi, n)
    radius = 1 + 0.3 * np.cos(tube)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.3 * np.sin(tube)], 1)


def pc_normalize(pc):
    pc = pc - pc.mean(axis=0)
    return pc / np.max(np.sqrt(np.sum(pc**2, axis=1)))


def rotate_point_cloud_z(pc, rng):
    theta = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(theta), np.sin(theta)
    return pc @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def jitter_point_cloud(pc, rng, sigma=0.01, clip=0.05):
    return pc + np.clip(sigma * rng.normal(size=pc.shape), -clip, clip)


class SolidsDataset(Dataset):
    def __init__(self, count, num_point, split):
        rng = np.random.default_rng(0 if split == "train" else 1)
        self.augment = split == "train"
        self.rng = np.random.default_rng(2)
        self.labels = rng.permutation(np.arange(count) % len(CLASSES))
        self.clouds = []
        for label in self.labels:
            pc = sample_solid(CLASSES[label], num_point, rng) * rng.uniform(0.8, 1.2, (1, 3))
            self.clouds.append(pc_normalize(rotate_point_cloud_z(pc, rng)))

    def __len__(self):
        return len(self.clouds)

    def __getitem__(self, index):
        pc = self.clouds[index]
        if self.augment:
            pc = rotate_point_cloud_z(pc, self.rng)
            pc = jitter_point_cloud(pc, self.rng)
        return pc.astype(np.float32), int(self.labels[index])


class PointNetEncoder(nn.Module):
    def __init__(self, channel=3):
        super().__init__()
        self.conv1 = nn.Conv1d(channel, 32, 1)
        self.conv2 = nn.Conv1d(32, 64, 1)
        self.conv3 = nn.Conv1d(64, 128, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(128)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return torch.max(x, 2)[0]


class get_model(nn.Module):
    def __init__(self, k=4):
        super().__init__()
        self.feat = PointNetEncoder(channel=3)
        self.fc1 = nn.Linear(128, 64)
        self.bn1 = nn.BatchNorm1d(64)
        self.dropout = nn.Dropout(p=0.3)
        self.fc2 = nn.Linear(64, k)

    def forward(self, x):
        x = self.feat(x)
        x = self.dropout(F.relu(self.bn1(self.fc1(x))))
        return F.log_softmax(self.fc2(x), dim=-1)


def test(model, loader):
    classifier = model.eval()
    correct, seen = 0, 0
    class_acc = np.zeros((len(CLASSES), 2))
    with torch.no_grad():
        for points, target in loader:
            pred = classifier(points.transpose(2, 1))
            choice = pred.max(1)[1]
            for cat in target.unique().tolist():
                of_class = target == cat
                class_acc[cat, 0] += (choice[of_class] == cat).sum().item()
                class_acc[cat, 1] += of_class.sum().item()
            correct += choice.eq(target).sum().item()
            seen += len(target)
    instance_acc = correct / seen
    return instance_acc, float(np.mean(class_acc[:, 0] / class_acc[:, 1]))


def parse_args():
    parser = argparse.ArgumentParser("training")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--epoch", default=10, type=int)
    parser.add_argument("--learning_rate", default=0.003, type=float)
    parser.add_argument("--num_point", type=int, default=96)
    parser.add_argument("--decay_rate", type=float, default=1e-4)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(0)
    train_loader = DataLoader(
        SolidsDataset(960, args.num_point, "train"), batch_size=args.batch_size, shuffle=True, drop_last=True
    )
    test_loader = DataLoader(SolidsDataset(200, args.num_point, "test"), batch_size=args.batch_size)
    classifier, criterion = get_model(len(CLASSES)), nn.NLLLoss()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=args.learning_rate, weight_decay=args.decay_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.7)
    best_instance_acc = 0.0
    for epoch in range(args.epoch):
        classifier.train()
        correct, seen = 0, 0
        for points, target in train_loader:
            optimizer.zero_grad()
            points = points.transpose(2, 1)
            pred = classifier(points)
            loss = criterion(pred, target)
            loss.backward()
            optimizer.step()
            correct += pred.max(1)[1].eq(target).sum().item()
            seen += len(target)
        scheduler.step()
        instance_acc, mean_class_acc = test(classifier, test_loader)
        best_instance_acc = max(best_instance_acc, instance_acc)
        print(f"Epoch {epoch + 1}: train {correct / seen:.3f} test {instance_acc:.3f} "
              f"class {mean_class_acc:.3f} best {best_instance_acc:.3f}")


if __name__ == "__main__":
    main()
