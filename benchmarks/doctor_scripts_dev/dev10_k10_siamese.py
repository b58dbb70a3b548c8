"""Siamese network: are two digits the same? Contrastive loss with a margin on the distance of two embeddings."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class PairDataset(Dataset):
    """Item i is picture i with a partner: of the same class for half of all items. With `fixed`, always the same one."""

    def __init__(self, count, seed, fixed=False):
        images, self.labels = draw_digits(count, seed=seed)
        self.images = (images.float() / 255 - 0.2) / 0.3
        self.members = [(self.labels == c).nonzero().flatten() for c in range(10)]
        self.others = [(self.labels != c).nonzero().flatten() for c in range(10)]
        self.fixed = None
        if fixed:
            generator = torch.Generator().manual_seed(seed)
            self.fixed = [self.choose(i, generator) for i in range(count)]

    def choose(self, index, generator=None):
        same = int(torch.randint(2, (), generator=generator))
        label = int(self.labels[index])
        pool = self.members[label] if same else self.others[label]
        partner = int(pool[torch.randint(len(pool), (), generator=generator)])
        while partner == index:
            partner = int(pool[torch.randint(len(pool), (), generator=generator)])
        return partner, same

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        partner, same = self.fixed[index] if self.fixed else self.choose(index)
        return self.images[index], self.images[partner], torch.tensor(float(same))


class Embedder(nn.Module):
    def __init__(self, dimensions=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.GroupNorm(4, 24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.GroupNorm(4, 48),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(48 * 16, 64), nn.ReLU(), nn.Linear(64, dimensions))

    def forward(self, x):
        return self.head(self.features(x))


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, left, right, same):
        distance = F.pairwise_distance(left, right)
        pull = same * distance.pow(2)
        push = (1 - same) * F.relu(self.margin - distance).pow(2)
        return 0.5 * (pull + push).mean()


@torch.no_grad()
def evaluate(model, loader, margin):
    model.eval()
    right, loss_sum, criterion = 0, 0.0, ContrastiveLoss(margin)
    for a, b, same in loader:
        left, other = model(a), model(b)
        loss_sum += criterion(left, other, same).item() * len(same)
        predicted = (F.pairwise_distance(left, other) < margin / 2).float()
        right += int((predicted == same).sum())
    return loss_sum / len(loader.dataset), right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--batch", default=64, type=int)
    parser.add_argument("--lr", default=2e-3, type=float)
    parser.add_argument("--margin", default=2.0, type=float)
    opt = parser.parse_args()
    torch.manual_seed(17)
    train_loader = DataLoader(PairDataset(3000, seed=61), batch_size=opt.batch, shuffle=True)
    val_loader = DataLoader(PairDataset(500, seed=62, fixed=True), batch_size=250)
    model, criterion = Embedder(), ContrastiveLoss(opt.margin)
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, opt.epochs)
    for epoch in range(opt.epochs):
        model.train()
        total = torch.zeros(())
        for a, b, same in train_loader:
            # one pass for both sides: the weights are the same
            left, right = model(torch.cat([a, b])).chunk(2)
            loss = criterion(left, right, same)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(a)
        scheduler.step()
        val_loss, val_accuracy = evaluate(model, val_loader, opt.margin)
        print(
            f"epoch {epoch + 1}: train {total.item() / len(train_loader.dataset):.4f}  "
            f"val {val_loss:.4f}  pairs told apart {val_accuracy:.4f}"
        )


if __name__ == "__main__":
    main()
