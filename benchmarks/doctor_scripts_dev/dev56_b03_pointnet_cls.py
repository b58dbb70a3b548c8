"""PointNet classification of generated solids (idiom of Pointnet_Pointnet2_pytorch)."""

import argparse
import copy
import logging

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = ["sphere", "box", "cone", "cylinder"]


def pc_normalize(pc):
    pc = pc - pc.mean(axis=0)
    return pc / np.max(np.sqrt(np.sum(pc**2, axis=1)))


def sample_solid(kind, npoint, rng):
    if kind == "sphere":
        pc = rng.normal(size=(npoint, 3))
        pc /= np.linalg.norm(pc, axis=1, keepdims=True)
    elif kind == "box":
        pc = rng.uniform(-1, 1, size=(npoint, 3))
        side = rng.integers(0, 3, npoint)
        pc[np.arange(npoint), side] = rng.choice([-1.0, 1.0], npoint)
    else:
        angle = rng.uniform(0, 2 * np.pi, npoint)
        z = np.sqrt(rng.uniform(0, 1, npoint)) if kind == "cone" else rng.uniform(0, 1, npoint)
        radius = z if kind == "cone" else np.full(npoint, 0.5)
        pc = np.stack([radius * np.cos(angle), radius * np.sin(angle), 2 * z - 1], axis=1)
    return pc * rng.uniform(0.9, 1.1, size=(1, 3))


class SolidsDataLoader(Dataset):
    def __init__(self, split, count, npoint):
        rng = np.random.default_rng({"train": 5, "test": 6}[split])
        self.labels = rng.integers(0, len(CLASSES), count)
        self.points = [pc_normalize(sample_solid(CLASSES[k], npoint, rng)).astype(np.float32) for k in self.labels]

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return self.points[index], int(self.labels[index])


def random_point_dropout(batch_pc, max_dropout_ratio=0.5):
    for b in range(batch_pc.shape[0]):
        dropout_ratio = np.random.random() * max_dropout_ratio
        drop_idx = np.where(np.random.random(batch_pc.shape[1]) <= dropout_ratio)[0]
        if len(drop_idx) > 0:
            batch_pc[b, drop_idx, :] = batch_pc[b, 0, :]
    return batch_pc


def shuffle_points(batch_pc):
    """The order of the points in a cloud says nothing."""
    idx = np.random.permutation(batch_pc.shape[1])
    return batch_pc[:, idx, :]


def rotate_z(batch_pc, angle):
    cosval, sinval = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosval, sinval, 0], [-sinval, cosval, 0], [0, 0, 1]], dtype=np.float32)
    return batch_pc @ rotation


def random_scale_and_shift(batch_pc, low=0.9, high=1.1, shift_range=0.05):
    count = batch_pc.shape[0]
    scales = np.random.uniform(low, high, (count, 1, 1))
    shifts = np.random.uniform(-shift_range, shift_range, (count, 1, 3))
    return (batch_pc * scales + shifts).astype(np.float32)


class PointNet(nn.Module):
    def __init__(self, num_class):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 32, 1)
        self.conv2 = nn.Conv1d(32, 64, 1)
        self.conv3 = nn.Conv1d(64, 96, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(96)
        self.fc1 = nn.Linear(96, 64)
        self.bn4 = nn.BatchNorm1d(64)
        self.fc2 = nn.Linear(64, num_class)
        self.drop1 = nn.Dropout(0.1)
        self.drop2 = nn.Dropout(0.2)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = torch.max(x, 2)[0]
        x = self.drop1(x)
        x = self.drop2(F.relu(self.bn4(self.fc1(x))))
        return F.log_softmax(self.fc2(x), -1)


def test(classifier, loader):
    classifier.eval()
    correct = 0
    with torch.no_grad():
        for points, target in loader:
            pred = classifier(points.transpose(2, 1))
            correct += pred.max(1)[1].eq(target).sum().item()
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser("training")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--epoch", type=int, default=10)
    parser.add_argument("--learning_rate", type=float, default=0.002)
    parser.add_argument("--decay_rate", type=float, default=1e-4)
    parser.add_argument("--num_point", type=int, default=96)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger = logging.getLogger("PointNet")
    torch.manual_seed(0)
    np.random.seed(0)

    train_dataset = SolidsDataLoader("train", 960, args.num_point)
    test_dataset = SolidsDataLoader("test", 210, args.num_point)
    trainDataLoader = DataLoader(train_dataset, args.batch_size, shuffle=True, drop_last=True)
    testDataLoader = DataLoader(test_dataset, 64, shuffle=False)

    classifier = PointNet(len(CLASSES))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=args.learning_rate, weight_decay=args.decay_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.7)
    best_instance_acc, best_state = 0.0, None

    for epoch in range(args.epoch):
        classifier.train()
        losses = []
        for points, target in trainDataLoader:
            optimizer.zero_grad()
            points = random_point_dropout(points.numpy().copy())
            points = shuffle_points(points)
            points = rotate_z(points, np.random.uniform(0, 2 * np.pi))
            points = torch.from_numpy(random_scale_and_shift(points))
            points = points.transpose(2, 1)
            loss = F.nll_loss(classifier(points), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()

        instance_acc = test(classifier, testDataLoader)
        if instance_acc >= best_instance_acc:
            best_instance_acc = instance_acc
            best_state = copy.deepcopy(classifier.state_dict())
        logger.info("Epoch %d loss %.4f test accuracy %.4f best %.4f", epoch + 1, np.mean(losses), instance_acc, best_instance_acc)

    classifier.load_state_dict(best_state)
    logger.info("Final test accuracy of the best checkpoint: %.4f", test(classifier, testDataLoader))


if __name__ == "__main__":
    main()
