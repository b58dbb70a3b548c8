"""Which of five glyphs are in a picture: binary cross-entropy per glyph with positive weights, compiled model, mAP."""
import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

GLYPHS = torch.tensor([
    [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]],
    [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]],
    [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]],
    [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]],
    [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]],
]).float()


class Scenes(Dataset):
    """20 x 20 pixels, nine places, each glyph present with its own frequency."""

    frequency = torch.tensor([0.5, 0.4, 0.3, 0.25, 0.35])

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.labels = (torch.rand(count, 5, generator=g) < self.frequency).float()
        self.images = 0.1 * torch.randn(count, 1, 20, 20, generator=g)
        for image, present in zip(self.images, self.labels):
            places = torch.randperm(9, generator=g)
            for place, kind in zip(places.tolist(), present.nonzero().flatten().tolist()):
                top, left = 1 + place // 3 * 6, 1 + place % 3 * 6
                strength = 0.6 + 0.4 * float(torch.rand((), generator=g))
                image[0, top:top + 5, left:left + 5] += strength * GLYPHS[kind]
        self.images = (self.images - 0.17) / 0.34

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


class Tagger(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classify = nn.Linear(64, classes)

    def forward(self, x):
        return self.classify(self.pool(self.body(x)).flatten(1))


def mean_average_precision(scores, labels):
    result = []
    for s, y in zip(scores.T, labels.T):
        ranked = y[s.argsort(descending=True)]
        precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
        result.append((precision * ranked).sum() / ranked.sum())
    return torch.stack(result)


@torch.inference_mode()
def validate(model, loader):
    model.eval()
    outputs, labels = zip(*[(model(x), y) for x, y in loader])
    logits, labels = torch.cat(outputs), torch.cat(labels)
    predicted = (logits > 0).float()  # a logit of zero is a probability of a half
    tp = (predicted * labels).sum(0)
    f1 = 2 * tp / (predicted.sum(0) + labels.sum(0)).clamp(min=1)
    exact = (predicted == labels).all(1).float().mean()
    return mean_average_precision(logits, labels).mean().item(), f1.mean().item(), exact.item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    opts = parser.parse_args()
    torch.manual_seed(1)

    train, valid = Scenes(1600, 0), Scenes(400, 1)
    loaders = DataLoader(train, opts.batch_size, shuffle=True, drop_last=True), DataLoader(valid, 200)
    positives = train.labels.mean(0)
    criterion = nn.BCEWithLogitsLoss(pos_weight=((1 - positives) / positives).sqrt())
    net = Tagger()
    model = torch.compile(net, backend="eager")
    optimizer = torch.optim.NAdam(net.parameters(), lr=opts.lr)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=opts.epochs * len(loaders[0]), power=1.0)
    for epoch in range(opts.epochs):
        model.train()
        running = torch.zeros(())
        for x, y in loaders[0]:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.detach()
        ap, f1, exact = validate(model, loaders[1])
        print(f"epoch {epoch} loss {running / len(loaders[0]):.4f} | mAP {ap:.4f} F1 {f1:.4f} exact {exact:.4f}")


if __name__ == "__main__":
    main()
