"""Semi-supervised digits: few labels, and confident predictions for the rest (FixMatch)."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def prepare(images):
    return (images.float() / 255 - 0.17) / 0.30


def random_shift(x, amount):
    """Each image moves by its own number of pixels, up to `amount` each way."""
    size = x.shape[-1]
    padded = F.pad(x, (amount,) * 4, value=-0.5)
    offsets = torch.randint(0, 2 * amount + 1, (len(x), 2)).tolist()
    return torch.stack([padded[i, :, a : a + size, b : b + size] for i, (a, b) in enumerate(offsets)])


def weak(x):
    return random_shift(x, 1)


def strong(x):
    x = random_shift(x, 2)
    gain = 0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)
    return gain * x + 0.3 * torch.randn_like(x)


def infinite(loader):
    while True:
        yield from loader


class Net(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, 2 * width)
        self.fc1 = nn.Linear(2 * width * 16, 64)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def build_data(args):
    images, labels = draw_digits(1200, seed=0)
    images = prepare(images)
    known, hidden = slice(0, args.labeled), slice(args.labeled, None)
    labeled = TensorDataset(images[known], labels[known])
    unlabeled = TensorDataset(images[hidden])
    val_images, val_labels = draw_digits(300, seed=1)
    validation = TensorDataset(prepare(val_images), val_labels)
    return (
        DataLoader(labeled, args.batch_size, shuffle=True, drop_last=True),
        DataLoader(unlabeled, args.mu * args.batch_size, shuffle=True, drop_last=True),
        DataLoader(validation, 100),
    )


@torch.no_grad()
def test(model, loader):
    model.eval()
    loss = correct = count = 0
    for x, y in loader:
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
        count += len(y)
    return loss / count, correct / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--labeled", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mu", type=int, default=2, help="unlabeled images for each labeled one")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    labeled_loader, unlabeled_loader, val_loader = build_data(args)
    labeled_iter = infinite(labeled_loader)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)

    for epoch in range(args.epochs):
        model.train()
        sums = torch.zeros(3)
        for (u,) in unlabeled_loader:
            x, y = next(labeled_iter)
            with torch.no_grad():
                confidence, pseudo = model(weak(u)).softmax(dim=1).max(dim=1)
                mask = (confidence >= args.threshold).float()
            logits = model(torch.cat([weak(x), strong(u)]))
            logits_x, logits_u = logits.split([len(x), len(u)])
            loss_x = F.cross_entropy(logits_x, y)
            loss_u = (F.cross_entropy(logits_u, pseudo, reduction="none") * mask).mean()
            loss = loss_x + args.lambda_u * loss_u
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += torch.tensor([loss_x.item(), loss_u.item(), mask.mean().item()])
        train_x, train_u, used = (sums / len(unlabeled_loader)).tolist()
        val_loss, val_acc = test(model, val_loader)
        print(
            f"epoch {epoch + 1:2d}  loss_x {train_x:.3f}  loss_u {train_u:.3f}  mask {used:.2f}  "
            f"val loss {val_loss:.3f}  val acc {val_acc:.3f}"
        )


if __name__ == "__main__":
    main()
