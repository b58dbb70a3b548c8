"""Semi-supervised digits: 60 labelled, 1140 unlabelled. FixMatch-style consistency with an EMA teacher."""
import copy

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits


class hparams:
    labelled_per_class = 6
    labelled_batch = 30
    unlabelled_batch = 72
    steps = 450
    lr = 0.03
    ema = 0.99
    threshold = 0.9
    unlabelled_weight = 1.0
    rampup = 100


def to_input(images):
    return images.float() / 127.5 - 1


def weak(x):
    shift = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(x, shift, dims=(2, 3))


def strong(x):
    """Shift, contrast, noise and a square erased from each image."""
    x = weak(x)
    x = (x + 1) * (0.6 + 0.6 * torch.rand(len(x), 1, 1, 1)) - 1
    x = x + 0.25 * torch.randn_like(x)
    row, col = torch.randint(0, 12, (2, len(x), 1, 1))
    ys, xs = torch.arange(16).view(1, -1, 1), torch.arange(16).view(1, 1, -1)
    hole = (ys >= row) & (ys < row + 4) & (xs >= col) & (xs < col + 4)
    return x.masked_fill(hole.unsqueeze(1), -1.0)


def cycle(*tensors, batch):
    """Endless shuffled batches."""
    while True:
        for chunk in torch.randperm(len(tensors[0])).split(batch):
            if len(chunk) == batch:
                yield tuple(t[chunk] for t in tensors)


def network():
    def block(cin, cout):
        return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1), nn.MaxPool2d(2)]

    return nn.Sequential(*block(1, 24), *block(24, 48), nn.Flatten(), nn.Linear(768, 10))


class EMA:
    def __init__(self, model, decay):
        self.shadow = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.shadow.state_dict().values(), model.state_dict().values()):
            if mine.dtype.is_floating_point:
                mine.mul_(decay).add_(theirs, alpha=1 - decay)
            else:
                mine.copy_(theirs)

    @torch.no_grad()
    def accuracy(self, x, y):
        return (self.shadow(x).argmax(1) == y).float().mean().item()


def train(hp, steps, use_unlabelled):
    torch.manual_seed(4)
    images, labels = draw_digits(1200, seed=0, noise=0.2)
    x, (x_test, y_test) = to_input(images), draw_digits(400, seed=1, noise=0.2)
    x_test = to_input(x_test)
    chosen = torch.cat([(labels == c).nonzero().flatten()[: hp.labelled_per_class] for c in range(10)])
    others = torch.ones(len(x), dtype=torch.bool)
    others[chosen] = False
    labelled = cycle(x[chosen], labels[chosen], batch=hp.labelled_batch)
    unlabelled = cycle(x[others], batch=hp.unlabelled_batch)

    model = network()
    ema = EMA(model, hp.ema)
    optimizer = torch.optim.SGD(model.parameters(), lr=hp.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        model.train()
        xl, yl = next(labelled)
        loss = supervised = F.cross_entropy(model(weak(xl)), yl)
        kept = 0.0
        if use_unlabelled:
            (xu,) = next(unlabelled)
            confidence, pseudo = ema.shadow(weak(xu)).softmax(1).max(1)
            keep = (confidence > hp.threshold).float()
            consistency = (F.cross_entropy(model(strong(xu)), pseudo, reduction="none") * keep).mean()
            loss = supervised + hp.unlabelled_weight * min(1.0, step / hp.rampup) * consistency
            kept = keep.mean().item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)
        if step % 150 == 0:
            print(f"  step {step} supervised {supervised.item():.3f} kept {kept:.0%} accuracy {ema.accuracy(x_test, y_test):.3f}")
    return ema.accuracy(x_test, y_test)


if __name__ == "__main__":
    print("60 labels only")
    baseline = train(hparams, 150, use_unlabelled=False)
    print("60 labels and 1140 unlabelled")
    semi = train(hparams, hparams.steps, use_unlabelled=True)
    print(f"test accuracy {baseline:.3f} -> {semi:.3f}")
