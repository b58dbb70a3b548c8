"""FixMatch on digits: few labels, pseudo labels of weakly augmented images for strongly augmented ones."""

import argparse
import logging

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits

logger = logging.getLogger(__name__)


def to_float(image):
    return (image.float() / 255 - 0.2) / 0.3


def weak(image):
    """A shift by at most a pixel; the border of the images is empty."""
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(image, (dy, dx), dims=(-2, -1))


def strong(image):
    """A shift, another contrast, noise, and a cutout of 3 x 3."""
    image = weak(image) * float(torch.empty(()).uniform_(0.7, 1.3))
    image = image + 0.3 * torch.randn(image.shape)
    top, left = torch.randint(0, image.shape[-1] - 3, (2,)).tolist()
    image[..., top : top + 3, left : left + 3] = 0.0
    return image


class LabeledSet(Dataset):
    def __init__(self, base, indices):
        self.base, self.indices = base, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        image, target = self.base[self.indices[i]]
        return weak(image), target


class UnlabeledSet(LabeledSet):
    def __getitem__(self, i):
        image, _ = self.base[self.indices[i]]
        return weak(image), strong(image)


def x_u_split(labels, per_class, num_classes=10):
    """Indices of labeled images, as many of each class, and of unlabeled ones."""
    labeled = []
    for c in range(num_classes):
        candidates = (labels == c).nonzero().flatten()
        labeled += candidates[:per_class].tolist()
    taken = set(labeled)
    unlabeled = [i for i in range(len(labels)) if i not in taken]
    return labeled, unlabeled


class Net(nn.Module):
    def __init__(self, num_classes=10, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(4, width), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(4, 2 * width), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(2 * width * 16, num_classes)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


def train_epoch(model, labeled_loader, unlabeled_loader, optimizer, args):
    model.train()
    sums = [0.0, 0.0, 0.0]
    for (inputs_x, targets_x), (inputs_u_w, inputs_u_s) in zip(labeled_loader, unlabeled_loader):
        logits = model(torch.cat((inputs_x, inputs_u_w, inputs_u_s)))
        logits_x, logits_u_w, logits_u_s = logits.split((len(inputs_x), len(inputs_u_w), len(inputs_u_s)))
        Lx = F.cross_entropy(logits_x, targets_x, reduction="mean")
        pseudo_label = torch.softmax(logits_u_w.detach() / args.T, dim=-1)
        max_probs, targets_u = torch.max(pseudo_label, dim=-1)
        mask = max_probs.ge(args.threshold).float()
        Lu = (F.cross_entropy(logits_u_s, targets_u, reduction="none") * mask).mean()
        loss = Lx + args.lambda_u * Lu
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for i, value in enumerate((Lx, Lu, mask.mean())):
            sums[i] += value.item()
    return [value / len(labeled_loader) for value in sums]


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct = sum((model(inputs).argmax(1) == targets).sum().item() for inputs, targets in loader)
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="FixMatch training")
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--mu", type=int, default=2, help="unlabeled images per labeled one")
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--T", type=float, default=1.0)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--lr", type=float, default=0.03)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(5)

    base, test_set = Digits(train=True, transform=to_float), Digits(train=False, transform=to_float)
    labeled, unlabeled = x_u_split(base.targets, args.per_class)
    x_set, u_set = LabeledSet(base, labeled), UnlabeledSet(base, unlabeled)

    labeled_loader = DataLoader(x_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(u_set, batch_size=args.mu * args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=100)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for epoch in range(args.epochs):
        lx, lu, share = train_epoch(model, labeled_loader, unlabeled_loader, optimizer, args)
        logger.info(f"epoch {epoch + 1} Lx {lx:.4f} Lu {lu:.4f} mask {share:.2f} top-1 {test(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
