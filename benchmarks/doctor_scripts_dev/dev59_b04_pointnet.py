"""PointNet on generated solids, in the layout of the well-known PyTorch port: provider functions in NumPy, T-Net, feature regularizer."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SHAPE_NAMES = ["sphere", "cube", "cylinder", "torus", "cone"]


def parse_args():
    parser = argparse.ArgumentParser("training")
    parser.add_argument("--batch_size", type=int, default=25)
    parser.add_argument("--epoch", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--num_point", type=int, default=96)
    return parser.parse_args()


def sample_solid(kind, n, rng):
    u, v = rng.uniform(0, 2 * np.pi, n), rng.uniform(-1, 1, n)
    if kind == "sphere":
        r = np.sqrt(1 - v**2)
        points = np.stack([r * np.cos(u), r * np.sin(u), v], 1)
    elif kind == "cube":
        points = rng.uniform(-1, 1, (n, 3))
        points[np.arange(n), rng.integers(0, 3, n)] = rng.choice([-1.0, 1.0], n)
    elif kind == "cylinder":
        points = np.stack([0.5 * np.cos(u), 0.5 * np.sin(u), 1.2 * v], 1)
    elif kind == "torus":
        w = np.pi * v
        points = np.stack([(1 + 0.3 * np.cos(w)) * np.cos(u), (1 + 0.3 * np.cos(w)) * np.sin(u), 0.3 * np.sin(w)], 1)
    else:
        h = np.sqrt(rng.uniform(0, 1, n))
        points = np.stack([h * np.cos(u), h * np.sin(u), 1 - 2 * h], 1)
    return points * rng.uniform(0.8, 1.25, (1, 3))


def pc_normalize(pc):
    pc = pc - pc.mean(axis=0)
    return pc / np.sqrt((pc**2).sum(axis=1)).max()


class SolidDataset(Dataset):
    def __init__(self, size, num_point, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, len(SHAPE_NAMES), size)
        clouds = [pc_normalize(sample_solid(SHAPE_NAMES[k], num_point, rng)) for k in self.labels]
        self.points = np.stack(clouds).astype(np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], int(self.labels[index])


def rotate_point_cloud(batch):
    """Each cloud is turned about the vertical axis."""
    angles = np.random.uniform(0, 2 * np.pi, len(batch))
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(len(batch))
    matrix = np.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], 1).reshape(-1, 3, 3)
    return batch @ matrix


def jitter_point_cloud(batch, sigma=0.01, clip=0.05):
    return batch + np.clip(sigma * np.random.randn(*batch.shape), -clip, clip)


def shuffle_points(batch):
    """The order of the points is changed, the same way in each cloud."""
    idx = np.random.permutation(batch.shape[1])
    return batch[:, idx, :]


def to_network(points):
    """(B, N, 3) to the (B, 3, N) of the convolutions."""
    return torch.as_tensor(points, dtype=torch.float32).transpose(2, 1)


class STN3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 9)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(32)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = torch.max(F.relu(self.bn2(self.conv2(x))), 2)[0]
        x = F.relu(self.bn3(self.fc1(x)))
        return self.fc2(x).view(-1, 3, 3) + torch.eye(3)


class PointNetCls(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.stn = STN3d()
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1), nn.Conv1d(64, 128, 1)
        self.fc1, self.fc2, self.dropout = nn.Linear(128, 64), nn.Linear(64, k), nn.Dropout(p=0.3)
        self.bn1, self.bn2, self.bn3, self.bn4 = (nn.BatchNorm1d(n) for n in (32, 64, 128, 64))

    def forward(self, x):
        trans = self.stn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(self.bn3(self.conv3(x)), 2)[0]
        x = self.fc2(self.dropout(F.relu(self.bn4(self.fc1(x)))))
        return F.log_softmax(x, dim=1), trans


def get_loss(pred, target, trans, mat_diff_loss_scale=0.001):
    loss = F.nll_loss(pred, target)
    mat_diff = torch.bmm(trans, trans.transpose(2, 1)) - torch.eye(3)
    return loss + mat_diff_loss_scale * torch.linalg.matrix_norm(mat_diff).mean()


@torch.no_grad()
def test(model, loader):
    classifier = model.eval()
    correct = 0
    for points, target in loader:
        pred, _ = classifier(to_network(points.numpy()))
        correct += pred.max(1)[1].eq(target).sum().item()
    return correct / len(loader.dataset)


def main(args):
    np.random.seed(5)
    torch.manual_seed(5)
    train_loader = DataLoader(SolidDataset(1000, args.num_point, seed=0), args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(SolidDataset(250, args.num_point, seed=1), args.batch_size)
    classifier = PointNetCls(len(SHAPE_NAMES))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=args.learning_rate, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    best_acc = 0.0
    for epoch in range(args.epoch):
        classifier.train()
        correct, seen = 0, 0
        for points, target in train_loader:
            optimizer.zero_grad()
            points = jitter_point_cloud(rotate_point_cloud(shuffle_points(points.numpy())))
            pred, trans = classifier(to_network(points))
            loss = get_loss(pred, target, trans)
            correct += (pred.argmax(1) == target).sum().item()
            seen += len(target)
            loss.backward()
            optimizer.step()
        scheduler.step()
        acc = test(classifier, test_loader)
        best_acc = max(best_acc, acc)
        print(f"Epoch {epoch + 1}: train {correct / seen:.3f}, test {acc:.3f}, best {best_acc:.3f}")


if __name__ == "__main__":
    main(parse_args())
