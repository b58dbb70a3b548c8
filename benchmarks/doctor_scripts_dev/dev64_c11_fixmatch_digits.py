"""Self-training in the manner of FixMatch: few labels, many images without, pseudo labels from weak augmentation."""

import argparse
import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from toydata import draw_digits


def normalize(images):
    return (images.float() / 255 - 0.2) / 0.3


def weak(x):
    """Each image is moved by up to one pixel."""
    return random_shift(x, 1)


def strong(x):
    """Moved, of another contrast, noisy, and with a small square cut out."""
    x = random_shift(x, 1)
    x = x * (0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)) + 0.15 * torch.randn_like(x)
    size = x.size(-1)
    rows = torch.randint(0, size - 3, (len(x), 1, 1, 1))
    cols = torch.randint(0, size - 3, (len(x), 1, 1, 1))
    grid = torch.arange(size)
    y_in = (grid.view(1, 1, -1, 1) >= rows) & (grid.view(1, 1, -1, 1) < rows + 3)
    x_in = (grid.view(1, 1, 1, -1) >= cols) & (grid.view(1, 1, 1, -1) < cols + 3)
    return x.masked_fill(y_in & x_in, 0.0)


def random_shift(x, limit):
    n, _, h, w = x.shape
    padded = F.pad(x, [limit] * 4, mode="replicate")
    top = torch.randint(0, 2 * limit + 1, (n, 1, 1))
    left = torch.randint(0, 2 * limit + 1, (n, 1, 1))
    rows = top + torch.arange(h).view(1, -1, 1)
    cols = left + torch.arange(w).view(1, 1, -1)
    return padded[torch.arange(n).view(-1, 1, 1), 0, rows, cols].unsqueeze(1)


class Net(nn.Module):
    def __init__(self, num_classes=10, dropout=0.2):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(32 * 16, num_classes))

    def forward(self, x):
        return self.fc(self.features(x))


def get_data(args):
    images, labels = draw_digits(1600, seed=0)
    images = normalize(images)
    labeled = TensorDataset(images[: args.num_labeled], labels[: args.num_labeled])
    unlabeled = TensorDataset(images[args.num_labeled :])
    test_images, test_labels = draw_digits(300, seed=1)
    return labeled, unlabeled, TensorDataset(normalize(test_images), test_labels)


@torch.no_grad()
def test(model, loader):
    model.eval()
    hits = torch.cat([model(x).argmax(1) == y for x, y in loader])
    return hits.float().mean().item()


@torch.no_grad()
def guess(model, x, threshold):
    probs = torch.softmax(model(x), dim=-1)
    max_probs, targets = probs.max(dim=-1)
    return targets, max_probs.ge(threshold).float()


def train_epoch(model, labeled_iter, unlabeled_loader, optimizer, scheduler, args):
    model.train()
    sums, steps = [0.0, 0.0, 0.0], 0
    for (inputs_u,) in unlabeled_loader:
        inputs_x, targets_x = next(labeled_iter)
        targets_u, mask = guess(model, weak(inputs_u), args.threshold)
        logits = model(torch.cat([weak(inputs_x), strong(inputs_u)]))
        logits_x, logits_u = logits.split([len(inputs_x), len(inputs_u)])
        Lx = F.cross_entropy(logits_x, targets_x)
        Lu = (F.cross_entropy(logits_u, targets_u, reduction="none") * mask).mean()
        loss = Lx + args.lambda_u * Lu
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        steps += 1
        for i, value in enumerate((Lx, Lu, mask.mean())):
            sums[i] += value.item()
    return [s / steps for s in sums]


def main():
    parser = argparse.ArgumentParser(description="FixMatch")
    parser.add_argument("--num-labeled", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mu", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    args = parser.parse_args()
    torch.manual_seed(5)

    labeled, unlabeled, test_set = get_data(args)
    labeled_loader = DataLoader(labeled, args.batch_size, sampler=RandomSampler(labeled), drop_last=True)
    unlabeled_loader = DataLoader(unlabeled, args.batch_size * args.mu, sampler=RandomSampler(unlabeled), drop_last=True)
    test_loader = DataLoader(test_set, 150)
    labeled_iter = itertools.chain.from_iterable(labeled_loader for _ in itertools.count())

    model = Net()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": rest}], lr=args.lr, momentum=0.9, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(unlabeled_loader))
    for epoch in range(args.epochs):
        lx, lu, share = train_epoch(model, labeled_iter, unlabeled_loader, optimizer, scheduler, args)
        print(f"epoch {epoch + 1}: Lx {lx:.4f} Lu {lu:.4f} mask {share:.2f} | test {test(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
