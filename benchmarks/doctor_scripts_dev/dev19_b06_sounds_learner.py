"""Environmental sounds by log spectrograms and a small CNN, with a learner and callbacks in the manner of fastai."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

RATE, SAMPLES = 4000, 2048
FOLDERS = ["beep", "buzz", "click", "rain", "siren", "whistle"]


def synthesize(kind, generator):
    def rand(low, high):
        return low + (high - low) * torch.rand((), generator=generator)

    t = torch.arange(SAMPLES) / RATE
    pitch, phase = rand(400, 900), rand(0, 6.28)
    noise = torch.randn(SAMPLES, generator=generator)
    if kind == "beep":
        sound = torch.sin(6.28 * pitch * t + phase) * (torch.sin(6.28 * rand(6, 10) * t) > 0)
    elif kind == "buzz":
        sound = torch.sin(6.28 * pitch / 4 * t + phase).sign() * 0.7
    elif kind == "click":
        sound = noise * ((t * rand(5, 9)) % 1 < 0.08) * 1.5
    elif kind == "rain":
        sound = F.avg_pool1d(noise[None], 3, 1, 1)[0] * 1.2
    elif kind == "siren":
        sound = torch.sin(6.28 * pitch * t + 30 * torch.sin(6.28 * rand(2, 4) * t))
    else:
        sound = torch.sin(6.28 * (pitch + rand(200, 900) * t) * t + phase)
    return rand(0.3, 1.0) * sound + 0.65 * torch.randn(SAMPLES, generator=generator)


class SoundFolder(Dataset):
    """Like a folder of recordings: the files of one class after those of another."""

    def __init__(self, per_class, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.waves = [synthesize(kind, generator) for kind in FOLDERS for _ in range(per_class)]
        self.labels = [label for label in range(len(FOLDERS)) for _ in range(per_class)]
        self.augment, self.window = augment, torch.hann_window(128)

    def __len__(self):
        return len(self.waves)

    def __getitem__(self, index):
        wave = self.waves[index]
        if self.augment:
            wave = wave.roll(int(torch.randint(0, SAMPLES, ())))
        spectrum = torch.stft(wave, 128, 64, window=self.window, return_complex=True).abs()
        return ((torch.log(spectrum + 1e-3) - 1.0) / 1.2)[None], self.labels[index]


def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


def sound_net(n_classes):
    return nn.Sequential(
        block(1, 8), block(8, 16), block(16, 32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, n_classes),
    )


class Callback:
    def before_fit(self, learn): pass
    def after_batch(self, learn): pass
    def after_epoch(self, learn): pass


class Scheduler(Callback):
    def __init__(self, factory):
        self.factory = factory

    def before_fit(self, learn):
        self.scheduler = self.factory(learn.opt)

    def after_epoch(self, learn):
        self.scheduler.step()


class Recorder(Callback):
    def after_epoch(self, learn):
        lr = learn.opt.param_groups[0]["lr"]
        train, valid = learn.stats["train"], learn.stats["valid"]
        print(f"{learn.epoch:>3}  train_loss {train[0]:.4f}  valid_loss {valid[0]:.4f}  accuracy {valid[1]:.4f}  lr {lr:.2e}")


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func, opt_func, cbs=()):
        self.train_dl, self.valid_dl, self.model, self.loss_func = train_dl, valid_dl, model, loss_func
        self.opt_func, self.cbs, self.stats = opt_func, cbs, {}

    def _call(self, event):
        for cb in self.cbs:
            getattr(cb, event)(self)

    def one_batch(self, xb, yb, train):
        pred = self.model(xb)
        loss = self.loss_func(pred, yb)
        if train:
            loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            self._call("after_batch")
        return loss.item() * len(yb), (pred.argmax(1) == yb).sum().item(), len(yb)

    def one_epoch(self, train):
        self.model.train(train)
        with torch.set_grad_enabled(train):
            results = [self.one_batch(xb, yb, train) for xb, yb in (self.train_dl if train else self.valid_dl)]
        loss, correct, count = (sum(column) for column in zip(*results))
        self.stats["train" if train else "valid"] = loss / count, correct / count

    def fit(self, n_epochs, lr):
        self.opt = self.opt_func(self.model.parameters(), lr=lr)
        self._call("before_fit")
        for self.epoch in range(n_epochs):
            self.one_epoch(True)
            self.one_epoch(False)
            self._call("after_epoch")


torch.manual_seed(0)
train_ds = SoundFolder(200, seed=0, augment=True)
valid_ds = SoundFolder(50, seed=1)
train_dl = DataLoader(train_ds, batch_size=32, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=50)

learn = Learner(
    train_dl, valid_dl, sound_net(len(FOLDERS)), nn.CrossEntropyLoss(),
    opt_func=lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9, weight_decay=1e-4),
    cbs=[Recorder(), Scheduler(lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.8))],
)
learn.fit(12, lr=0.03)
