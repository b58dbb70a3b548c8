"""Multi-label: which digits does an image of two digits show? BCE with pos_weight, thresholds from validation."""

import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def pairs(count, seed):
    left, left_labels = draw_digits(count, seed=seed)
    right, right_labels = draw_digits(count, seed=seed + 1000)
    images = torch.cat([left, right], dim=3).float() / 255
    targets = torch.zeros(count, 10)
    rows = torch.arange(count)
    targets[rows, left_labels] = 1.0
    targets[rows, right_labels] = 1.0
    return images, targets


class PairNet(nn.Module):
    def __init__(self):
        super().__init__()

        def stage(cin, cout):
            return [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU()]

        self.features = nn.Sequential(
            *stage(1, 16), nn.MaxPool2d(2), *stage(16, 32), *stage(32, 48), nn.MaxPool2d(2), *stage(48, 64)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 8, 96), nn.ReLU(), nn.Linear(96, 10))

    def forward(self, x):
        return self.head(self.features(x))


def fit_epoch(net, loader, optimizer, criterion, scheduler):
    net.train()
    losses = []
    for x, y in loader:
        loss = criterion(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def scores(net, loader):
    net.eval()
    pairs_ = [(torch.sigmoid(net(x)), y) for x, y in loader]
    return torch.cat([p for p, _ in pairs_]).numpy(), torch.cat([y for _, y in pairs_]).int().numpy()


def best_thresholds(probabilities, targets):
    grid = [i / 20 for i in range(2, 19)]
    return [
        max(grid, key=lambda t: f1_score(targets[:, k], (probabilities[:, k] > t).astype(int), zero_division=0))
        for k in range(targets.shape[1])
    ]


if __name__ == "__main__":
    torch.manual_seed(8)
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = pairs(2400, 0), pairs(400, 1), pairs(400, 2)
    mean, std = x_train.mean(), x_train.std()
    make = lambda x, y, **options: DataLoader(TensorDataset((x - mean) / std, y), **options)
    train_loader = make(x_train, y_train, batch_size=60, shuffle=True)
    val_loader, test_loader = make(x_val, y_val, batch_size=200), make(x_test, y_test, batch_size=200)

    positives = y_train.sum(0)
    criterion = nn.BCEWithLogitsLoss(pos_weight=((len(y_train) - positives) / positives).sqrt())
    net, epochs = PairNet(), 16
    optimizer = torch.optim.NAdam(net.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(train_loader))
    for epoch in range(epochs):
        loss = fit_epoch(net, train_loader, optimizer, criterion, scheduler)
        p, t = scores(net, val_loader)
        print(
            f"epoch {epoch} loss {loss:.4f} mAP {average_precision_score(t, p, average='macro'):.3f} "
            f"macro F1 {f1_score(t, (p > 0.5).astype(int), average='macro', zero_division=0):.3f}"
        )
    thresholds = best_thresholds(*scores(net, val_loader))
    p, t = scores(net, test_loader)
    print(f"test macro F1 with tuned thresholds {f1_score(t, (p > thresholds).astype(int), average='macro'):.3f}")
