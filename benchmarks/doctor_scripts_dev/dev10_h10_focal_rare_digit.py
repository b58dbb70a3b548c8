"""One digit against all others: focal loss, a head that begins at the prior, threshold from validation, measured on test."""
import math
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits

RARE = 7


def sigmoid_focal_loss(logits, targets, alpha=0.7, gamma=1.5):
    p = torch.sigmoid(logits)
    ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return (alpha_t * (1 - p_t) ** gamma * ce).mean()


class RareNet(nn.Module):
    def __init__(self, prior):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ELU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ELU(),
            nn.Conv2d(32, 48, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(48), nn.ELU())
        self.head = nn.Linear(48 * 16, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -math.log((1 - prior) / prior))

    def forward(self, x):
        return self.head(self.trunk(x).flatten(1)).squeeze(1)


def average_precision(scores, targets):
    order = scores.argsort(descending=True)
    hits = targets[order].cumsum(0)
    precision = hits / torch.arange(1, len(scores) + 1)
    return float((precision * targets[order]).sum() / targets.sum())


def f1_at(scores, targets, threshold):
    predicted = (scores > threshold).float()
    tp = (predicted * targets).sum()
    return float(2 * tp / (predicted.sum() + targets.sum()).clamp(min=1))


class Split:
    def __init__(self, count, seed, statistics=None):
        images, labels = draw_digits(count, seed=seed)
        x = images.float() / 255
        self.statistics = statistics or (x.mean().item(), x.std().item())
        self.x = (x - self.statistics[0]) / self.statistics[1]
        self.y = (labels == RARE).float()

    def batches(self, size, shuffle):
        order = torch.randperm(len(self.x)) if shuffle else torch.arange(len(self.x))
        for index in order.split(size):
            yield self.x[index], self.y[index]


@torch.no_grad()
def scores_of(model, split):
    model.eval()
    return torch.cat([torch.sigmoid(model(x)) for x, _ in split.batches(300, shuffle=False)])


def main(epochs=15, batch_size=80):
    torch.manual_seed(11)
    train = Split(2000, seed=0)
    valid, test = Split(600, 1, train.statistics), Split(600, 2, train.statistics)
    model = RareNet(prior=train.y.mean().item())

    activity = {}
    model.trunk.register_forward_hook(lambda module, args, output: activity.update(mean=output.detach().mean()))

    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4, alpha=0.95, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[9, 13], gamma=0.2)
    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "best.pt")
        for epoch in range(epochs):
            model.train()
            losses = []
            for x, y in train.batches(batch_size, shuffle=True):
                loss = sigmoid_focal_loss(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            scheduler.step()
            ap = average_precision(scores_of(model, valid), valid.y)
            print(f"{epoch:2d} loss {torch.stack(losses).mean():.5f} activity {activity['mean']:.3f} valid AP {ap:.4f}")
            if ap >= best:
                best = ap
                torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))

    valid_scores = scores_of(model, valid)
    candidates = torch.linspace(0.05, 0.95, 37).tolist()
    f1 = [f1_at(valid_scores, valid.y, t) for t in candidates]
    best_thresholds = [t for t, value in zip(candidates, f1) if value == max(f1)]
    threshold = best_thresholds[len(best_thresholds) // 2]  # the middle of those that do equally well
    test_scores = scores_of(model, test)
    print(f"test AP {average_precision(test_scores, test.y):.4f} F1 {f1_at(test_scores, test.y, threshold):.4f} at {threshold:.3f}")


if __name__ == "__main__":
    main()
