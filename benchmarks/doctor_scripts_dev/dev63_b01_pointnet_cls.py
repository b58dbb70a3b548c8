"""Point cloud classification with a small PointNet on generated solids."""
import argparse
import logging

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = ["sphere", "box", "cylinder", "torus"]
logging.basicConfig(level=logging.INFO, format="%(message)s")


def log_string(text):
    logging.info(text)


def parse_args():
    parser = argparse.ArgumentParser("training")
    parser.add_argument("--batch_size", type=int, default=32, help="batch size in training")
    parser.add_argument("--epoch", default=10, type=int, help="number of epoch in training")
    parser.add_argument("--learning_rate", default=0.002, type=float, help="learning rate in training")
    parser.add_argument("--num_point", type=int, default=128, help="points of a cloud")
    parser.add_argument("--decay_rate", type=float, default=1e-4, help="weight decay")
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def sample_solid(kind, n, rng):
    if kind == 0:
        p = rng.normal(size=(n, 3))
        return p / np.linalg.norm(p, axis=1, keepdims=True)
    if kind == 1:
        p = rng.uniform(-1, 1, size=(n, 3))
        axis = rng.integers(0, 3, size=n)
        p[np.arange(n), axis] = np.sign(p[np.arange(n), axis])
        return p
    angle = rng.uniform(0, 2 * np.pi, size=n)
    if kind == 2:
        return np.stack([0.4 * np.cos(angle), 0.4 * np.sin(angle), rng.uniform(-1.2, 1.2, size=n)], axis=1)
    tube = rng.uniform(0, 2 * np.pi, size=n)
    radius = 1 + 0.3 * np.cos(tube)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.3 * np.sin(tube)], axis=1)


def pc_normalize(pc):
    pc = pc - np.mean(pc, axis=0)
    m = np.max(np.sqrt(np.sum(pc**2, axis=1)))
    return pc / m


class SolidDataLoader(Dataset):
    def __init__(self, size, num_point, split="train"):
        rng = np.random.default_rng(100 if split == "train" else 200)
        self.split = split
        self.labels = rng.integers(0, len(CLASSES), size=size)
        self.clouds = []
        for label in self.labels:
            pc = sample_solid(label, num_point, rng) + 0.02 * rng.normal(size=(num_point, 3))
            # objects of a scan: any size (in cm), anywhere in the room
            self.clouds.append(pc * rng.uniform(5, 20) + rng.uniform(-30, 30, size=(1, 3)))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        point_set = self.clouds[index]
        point_set = pc_normalize(point_set)
        return point_set.astype(np.float32), int(self.labels[index])


def augment_batch(points):
    """Rotation about the vertical axis, and scale."""
    b = points.shape[0]
    angle = torch.rand(b) * 2 * np.pi
    c, s, z = angle.cos(), angle.sin(), torch.zeros(b)
    rotation = torch.stack([c, -s, z, s, c, z, z, z, z + 1], dim=1).view(b, 3, 3)
    return torch.bmm(points, rotation) * torch.empty(b, 1, 1).uniform_(0.85, 1.15)


class PointNetCls(nn.Module):
    def __init__(self, k=4):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 32, 1)
        self.conv2 = nn.Conv1d(32, 64, 1)
        self.conv3 = nn.Conv1d(64, 128, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(128)
        self.fc1 = nn.Linear(128, 64)
        self.bn4 = nn.BatchNorm1d(64)
        self.dropout = nn.Dropout(p=0.3)
        self.fc2 = nn.Linear(64, k)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x = torch.max(x, 2)[0]
        x = self.dropout(F.relu(self.bn4(self.fc1(x))))
        x = self.fc2(x)
        return F.log_softmax(x, dim=-1)


def validate(model, loader, num_class=4):
    class_acc = np.zeros((num_class, 2))
    classifier = model.eval()
    for points, target in loader:
        points = points.transpose(2, 1)
        with torch.no_grad():
            pred = classifier(points)
        pred_choice = pred.max(1)[1]
        for cat in range(num_class):
            chosen = target == cat
            class_acc[cat, 0] += (pred_choice[chosen] == cat).sum().item()
            class_acc[cat, 1] += chosen.sum().item()
    instance = class_acc[:, 0].sum() / class_acc[:, 1].sum()
    return instance, np.mean(class_acc[:, 0] / class_acc[:, 1])


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    train_dataset = SolidDataLoader(800, args.num_point, split="train")
    val_dataset = SolidDataLoader(240, args.num_point, split="val")
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)

    classifier = PointNetCls(k=len(CLASSES))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=args.learning_rate, weight_decay=args.decay_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.7)

    best_instance_acc, best_state = 0.0, None
    for epoch in range(args.epoch):
        classifier.train()
        correct, seen = 0, 0
        for points, target in train_loader:
            optimizer.zero_grad()
            points = augment_batch(points).transpose(2, 1)
            pred = classifier(points)
            loss = F.nll_loss(pred, target)
            loss.backward()
            optimizer.step()
            correct += (pred.max(1)[1] == target).sum().item()
            seen += len(target)
        scheduler.step()

        instance_acc, class_acc = validate(classifier, val_loader)
        if instance_acc >= best_instance_acc:
            best_instance_acc = instance_acc
            best_state = {k: v.clone() for k, v in classifier.state_dict().items()}
        log_string(
            f"Epoch {epoch + 1}/{args.epoch} loss {loss.item():.4f} train acc {correct / seen:.3f} "
            f"val instance acc {instance_acc:.3f} class acc {class_acc:.3f}"
        )
    classifier.load_state_dict(best_state)
    log_string(f"Best instance accuracy: {best_instance_acc:.4f}")


if __name__ == "__main__":
    main()
