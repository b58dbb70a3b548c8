"""Galaxy morphology with a little learner and callbacks, in the manner of fastai: mixup, one cycle, averaged weights."""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

SHAPES = ["elliptical", "edge-on", "spiral", "ring"]


def observe(shape, rng, size=28):
    yy, xx = np.mgrid[:size, :size] - (size - 1) / 2
    yy, xx = yy - rng.uniform(-2, 2), xx - rng.uniform(-2, 2)
    turn, ratio = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0)
    u = np.cos(turn) * xx + np.sin(turn) * yy
    v = -np.sin(turn) * xx + np.cos(turn) * yy
    if shape == "edge-on":
        ratio = rng.uniform(0.15, 0.28)
    radius = np.hypot(u, v / ratio)
    core = np.exp(-((radius / 1.7) ** 2))
    width = rng.uniform(3.2, 4.6)
    if shape == "spiral":
        hand = rng.choice([-1.0, 1.0])
        arms = 0.5 + 0.5 * np.cos(2 * np.arctan2(v, u) - hand * 0.8 * radius)
        light = np.exp(-radius / (1.7 * width)) * (0.1 + arms) + 0.5 * core
    elif shape == "ring":
        light = 0.7 * np.exp(-(((radius - rng.uniform(6, 8.5)) / 1.5) ** 2)) + 0.8 * core
    else:
        light = np.exp(-radius / (width * (1.6 if shape == "edge-on" else 1.0)))
    sky = rng.uniform(0.6, 1.0) * light + rng.normal(0, 0.1, light.shape)
    for _ in range(int(rng.integers(0, 4))):
        row, column = rng.integers(0, size, 2)
        sky[row, column] += rng.uniform(0.4, 1.0)
    return sky.astype(np.float32)


class Survey(Dataset):
    def __init__(self, count, seed, augment):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, len(SHAPES), count).tolist()
        self.plates = torch.from_numpy(np.stack([observe(SHAPES[label], rng) for label in self.labels]))
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        plate = self.plates[index].unsqueeze(0)
        if self.augment:  # the sky has neither up nor down
            plate = torch.rot90(plate, int(torch.randint(4, ())), (1, 2))
            if torch.rand(()) < 0.5:
                plate = plate.flip(-1)
        return (plate - 0.2) / 0.25, self.labels[index]


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, stride)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.short(x))


class GalaxyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            Block(16, 32, 1), Block(32, 64, 2),
        )
        self.head = nn.Linear(64, len(SHAPES))

    def forward(self, x):
        z = self.trunk(x)
        return self.head(z.mean((2, 3)))


class Learner:
    def __init__(self, model, train, valid, loss_func, opt_func, callbacks):
        self.model, self.train, self.valid = model, train, valid
        self.loss_func, self.opt_func, self.callbacks = loss_func, opt_func, callbacks
        self.eval_model = model

    def __call__(self, event):
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(self)

    def one_batch(self):
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        self("after_loss")
        self.loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        self("after_batch")

    def fit(self, epochs, lr):
        self.epochs, self.lr = epochs, lr
        self.opt = self.opt_func(self.model.parameters(), lr=lr)
        self("before_fit")
        for self.epoch in range(epochs):
            self.model.train()
            losses = []
            for self.xb, self.yb in self.train:
                self.one_batch()
                losses.append(self.loss.item())
            print(f"epoch {self.epoch + 1:2d}  train {np.mean(losses):.3f}  accuracy {self.validate():.3f}")

    @torch.no_grad()
    def validate(self):
        self.eval_model.eval()
        hits = [(self.eval_model(x).argmax(-1) == y).float() for x, y in self.valid]
        return torch.cat(hits).mean().item()


class MixUp:
    def __init__(self, alpha=0.2):
        self.alpha = alpha

    def before_batch(self, learn):
        lam = float(np.random.beta(self.alpha, self.alpha))
        self.lam = max(lam, 1 - lam)
        order = torch.randperm(len(learn.xb))
        learn.xb = self.lam * learn.xb + (1 - self.lam) * learn.xb[order]
        self.partner = learn.yb[order]

    def after_loss(self, learn):
        other = learn.loss_func(learn.pred, self.partner)
        learn.loss = self.lam * learn.loss + (1 - self.lam) * other


class OneCycle:
    def before_fit(self, learn):
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(learn.opt, learn.lr, total_steps=learn.epochs * len(learn.train))

    def after_batch(self, learn):
        self.schedule.step()


class Averaged:
    """Validates an exponential moving average of the weights."""

    def __init__(self, decay=0.98):
        self.decay = decay

    def before_fit(self, learn):
        learn.eval_model = self.average = copy.deepcopy(learn.model)

    @torch.no_grad()
    def after_batch(self, learn):
        for mine, theirs in zip(self.average.state_dict().values(), learn.model.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - self.decay)
            else:
                mine.copy_(theirs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(3)
    np.random.seed(3)
    train = DataLoader(Survey(1440, seed=1, augment=True), batch_size=32, shuffle=True)
    valid = DataLoader(Survey(360, seed=2, augment=False), batch_size=90)
    learn = Learner(GalaxyNet(), train, valid, F.cross_entropy, torch.optim.AdamW, [MixUp(), OneCycle(), Averaged()])
    learn.fit(15, 4e-3)
