"""Symbols of sheet music, some of them rare, with a small learner with callbacks (after fastai)."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

torch.set_num_threads(1)
torch.manual_seed(8)

TRAIN_COUNTS = {"quarter": 600, "half": 300, "sharp": 160, "whole": 100, "eighth": 70, "natural": 50}


# ---------------------------------------------------------------- data
def engrave(name, rng, size=32):
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    paper = np.full((size, size), rng.uniform(0.88, 1.0))
    first, gap = int(rng.integers(5, 9)), 5
    for line in range(5):
        paper[first + gap * line] = rng.uniform(0.3, 0.5)
    cy, cx = first + gap * rng.integers(2, 5) - rng.integers(0, 2) * 2.5, rng.uniform(11, 20)
    ink = np.zeros((size, size), dtype=bool)
    if name in ("quarter", "half", "whole", "eighth"):
        dy, dx = yy - cy, xx - cx
        oval = ((dy + 0.3 * dx) / 2.6) ** 2 + (dx / 3.8) ** 2
        ink |= oval < 1
        if name in ("half", "whole"):
            ink &= oval > 0.4
        if name != "whole":
            stem = (np.abs(xx - np.round(cx) - 3) < 0.6) & (yy < cy) & (yy > cy - 12)
            ink |= stem
        if name == "eighth":
            flag = (np.abs((xx - cx - 3) - 0.8 * (yy - cy + 11)) < 1.2) & (yy > cy - 12) & (yy < cy - 5) & (xx > cx + 2)
            ink |= flag
    else:
        cy = min(cy, 24)
        for side in (-2, 2):
            upper, lower = cy - 6, cy + 6
            if name == "natural":
                upper, lower = (cy - 6, cy + 3) if side < 0 else (cy - 3, cy + 6)
            ink |= (np.abs(xx - np.round(cx) - side) < 0.6) & (yy >= upper) & (yy <= lower)
        reach = 2.6 if name == "natural" else 4.6
        for side in (-2.5, 2.5):
            ink |= (np.abs(yy - cy - side + 0.25 * (xx - cx)) < 0.9) & (np.abs(xx - cx) < reach)
    paper[ink] = rng.uniform(0.0, 0.15)
    paper = paper + rng.normal(0, 0.05, paper.shape)
    return (np.clip(paper, 0, 1) * 255).astype(np.uint8)


def scan(counts, seed):
    """Images and names, name by name in the order of the alphabet."""
    rng = np.random.default_rng(seed)
    names = [name for name in sorted(counts) for _ in range(counts[name])]
    return np.stack([engrave(name, rng) for name in names]), np.array(names)


class SymbolDataset(Dataset):
    def __init__(self, images, names, vocab=None, jitter=0):
        self.images, self.names, self.jitter = images, names, jitter
        self.vocab = vocab or list(dict.fromkeys(names.tolist()))
        numbers = {name: number for number, name in enumerate(self.vocab)}
        self.labels = torch.tensor([numbers[name] for name in names.tolist()])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).float().div(255).sub(0.8).div(0.28).unsqueeze(0)
        if self.jitter:
            shift = torch.randint(-self.jitter, self.jitter + 1, (2,)).tolist()
            image = torch.roll(image, shift, dims=(1, 2))
        return image, self.labels[index]


# ---------------------------------------------------------------- learner
class Callback:
    def before_fit(self, learn): ...
    def after_step(self, learn): ...
    def before_validate(self, learn): ...


class OneCycle(Callback):
    def before_fit(self, learn):
        steps = learn.epochs * len(learn.train_dl)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(learn.opt, max_lr=learn.lr, total_steps=steps)

    def after_step(self, learn):
        self.scheduler.step()


class EMA(Callback):
    """An average of the weights is what is validated and kept."""

    def __init__(self, decay):
        self.decay = decay

    def before_fit(self, learn):
        self.average = copy.deepcopy(learn.model)
        for p in self.average.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def after_step(self, learn):
        for slow, fast in zip(self.average.parameters(), learn.model.parameters()):
            slow.lerp_(fast, 1 - self.decay)
        for slow, fast in zip(self.average.buffers(), learn.model.buffers()):
            slow.copy_(fast)

    def before_validate(self, learn):
        learn.eval_model = self.average


def balanced_accuracy(predicted, labels, classes):
    recalls = [(predicted[labels == c] == c).float().mean() for c in range(classes) if (labels == c).any()]
    return torch.stack(recalls).mean().item()


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, lr=3e-3, cbs=()):
        self.train_dl, self.valid_dl, self.model, self.loss_func = train_dl, valid_dl, model, loss_func
        self.lr, self.cbs, self.eval_model = lr, list(cbs), model
        self.opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)

    def __call__(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def one_batch(self, xb, yb):
        loss = self.loss_func(self.model(xb), yb)
        loss.backward()
        self.opt.step()
        self("after_step")
        self.opt.zero_grad()
        return loss.item()

    @torch.no_grad()
    def validate(self):
        self("before_validate")
        self.eval_model.eval()
        outputs = [(self.eval_model(xb), yb) for xb, yb in self.valid_dl]
        logits, labels = (torch.cat(parts) for parts in zip(*outputs))
        return F.cross_entropy(logits, labels).item(), balanced_accuracy(logits.argmax(1), labels, logits.shape[1])

    def fit(self, epochs):
        self.epochs = epochs
        self("before_fit")
        print("epoch  train_loss  valid_loss  balanced_accuracy")
        for epoch in range(epochs):
            self.model.train()
            losses = [self.one_batch(xb, yb) for xb, yb in self.train_dl]
            valid_loss, accuracy = self.validate()
            print(f"{epoch:5d}  {np.mean(losses):10.4f}  {valid_loss:10.4f}  {accuracy:17.3f}")


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


# ---------------------------------------------------------------- run
rng = np.random.default_rng(4)
images, names = scan(TRAIN_COUNTS, seed=0)
order = rng.permutation(len(images))
images, names = images[order], names[order]
train_ds = SymbolDataset(images, names, jitter=2)
valid_ds = SymbolDataset(*scan(dict.fromkeys(TRAIN_COUNTS, 50), seed=1), vocab=train_ds.vocab)

class_counts = torch.bincount(train_ds.labels).float()
sample_weights = (1 / class_counts)[train_ds.labels]
sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_ds), replacement=True)
train_dl = DataLoader(train_ds, batch_size=32, sampler=sampler)
valid_dl = DataLoader(valid_ds, batch_size=100)

model = nn.Sequential(
    block(1, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, len(train_ds.vocab))
)
loss_func = nn.CrossEntropyLoss()
learn = Learner(train_dl, valid_dl, model, loss_func, lr=3e-3, cbs=[OneCycle(), EMA(decay=0.98)])
learn.fit(14)
