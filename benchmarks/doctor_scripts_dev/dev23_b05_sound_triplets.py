"""Metric learning: embeddings of instrument sounds by triplets, with a little learner and its callbacks."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES, LENGTH = 16, 1024


def make_bank(generator):
    return {
        "pitch": torch.linspace(0.03, 0.1, CLASSES),
        "overtones": 0.15 + torch.rand(CLASSES, 4, generator=generator),
        "decay": 3 * torch.rand(CLASSES, generator=generator),
    }


def record(bank, count, generator):
    """Sounds of the instruments, each with a hum of some frequency over it, at zero mean and unit deviation."""
    labels = torch.arange(count) % CLASSES
    time = torch.arange(LENGTH)
    pitch = bank["pitch"][labels] * (1 + 0.01 * torch.randn(count, generator=generator))
    sound = torch.zeros(count, LENGTH)
    for k in range(4):
        phase = torch.rand(count, 1, generator=generator)
        tone = torch.sin(2 * math.pi * (pitch[:, None] * (k + 1) * time + phase))
        sound = sound + bank["overtones"][labels, k][:, None] * tone
    sound = sound * torch.exp(-bank["decay"][labels][:, None] * time / LENGTH)
    hum_pitch = 0.02 + 0.43 * torch.rand(count, 1, generator=generator)
    hum = torch.sin(2 * math.pi * (hum_pitch * time + torch.rand(count, 1, generator=generator)))
    sound = sound + 0.8 * hum + 0.2 * torch.randn(count, LENGTH, generator=generator)
    sound = (sound - sound.mean(dim=1, keepdim=True)) / sound.std(dim=1, keepdim=True)
    return sound, labels


class Triplets(Dataset):
    """Anchor, another sound of the same instrument, a sound of another instrument; all with random gain and noise."""

    def __init__(self, signals, labels, noise_level):
        self.signals, self.labels, self.noise_level = signals, labels, noise_level
        self.members = [torch.nonzero(labels == c).flatten() for c in range(CLASSES)]

    def __len__(self):
        return len(self.signals)

    def draw(self, label):
        members = self.members[label]
        return int(members[torch.randint(len(members), (1,))])

    def augment(self, signal):
        gain = 0.8 + 0.4 * torch.rand(1)
        return gain * signal + self.noise_level * torch.randn_like(signal)

    def __getitem__(self, index):
        label = int(self.labels[index])
        other = (label + int(torch.randint(1, CLASSES, (1,)))) % CLASSES
        chosen = (index, self.draw(label), self.draw(other))
        return tuple(self.augment(self.signals[i]) for i in chosen)


class SoundEncoder(nn.Module):
    def __init__(self, bins=65, width=96, dims=32):
        super().__init__()
        self.register_buffer("window", torch.hann_window(128))
        self.features = nn.Sequential(
            nn.Conv1d(bins, width, 3, padding=1),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 128, 3, padding=1),
            nn.BatchNorm1d(128),
            nn.ReLU(),
        )
        self.project = nn.Linear(128, dims)

    def forward(self, signals):
        spectrum = torch.stft(signals, n_fft=128, hop_length=64, window=self.window, return_complex=True)
        x = self.features(torch.log1p(spectrum.abs()))
        return F.normalize(self.project(x.mean(dim=2)), dim=1)


def triplet_loss(anchor, positive, negative, margin=0.5):
    near = (anchor - positive).pow(2).sum(dim=1)
    far = (anchor - negative).pow(2).sum(dim=1)
    return F.relu(near - far + margin).mean()


@torch.no_grad()
def recall_at_1(model, signals, labels):
    """Share of sounds whose nearest other sound is of the same instrument."""
    model.eval()
    embedded = torch.cat([model(part) for part in signals.split(200)])
    similarity = (embedded @ embedded.T).fill_diagonal_(-2.0)
    return (labels[similarity.argmax(dim=1)] == labels).float().mean().item()


class Learner:
    def __init__(self, model, loader, validation, loss_func, optimizer, callbacks=()):
        self.model, self.loader, self.validation = model, loader, validation
        self.loss_func, self.optimizer, self.callbacks = loss_func, optimizer, callbacks
        self.eval_model = model
        for callback in callbacks:
            callback.learner = self

    def call(self, event):
        for callback in self.callbacks:
            hook = getattr(callback, event, None)
            if hook is not None:
                hook()

    def one_batch(self):
        anchor, positive, negative = self.model(torch.cat(self.batch)).chunk(3)
        self.loss = self.loss_func(anchor, positive, negative)
        self.optimizer.zero_grad()
        self.loss.backward()
        self.optimizer.step()
        self.call("after_step")

    def fit(self, epochs):
        self.call("before_fit")
        for self.epoch in range(epochs):
            self.losses = []
            self.model.train()
            for self.batch in self.loader:
                self.one_batch()
                self.losses.append(self.loss.detach())
            self.recall = recall_at_1(self.eval_model, *self.validation)
            self.call("after_epoch")


class AverageWeights:
    """Validation uses a moving average of the weights."""

    def __init__(self, decay=0.97):
        self.decay = decay

    def before_fit(self):
        self.learner.eval_model = copy.deepcopy(self.learner.model)

    @torch.no_grad()
    def after_step(self):
        averaged, current = self.learner.eval_model.state_dict(), self.learner.model.state_dict()
        for name, value in averaged.items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - self.decay)
            else:
                value.copy_(current[name])


class Printer:
    def after_epoch(self):
        loss = torch.stack(self.learner.losses).mean().item()
        print(f"epoch {self.learner.epoch + 1:2d}  triplet loss {loss:.4f}  validation recall@1 {self.learner.recall:.3f}")


if __name__ == "__main__":
    torch.manual_seed(5)
    bank = make_bank(torch.Generator().manual_seed(50))
    train_signals, train_labels = record(bank, 2400, torch.Generator().manual_seed(51))
    validation = record(bank, 640, torch.Generator().manual_seed(52))
    loader = DataLoader(Triplets(train_signals, train_labels, noise_level=0.05), batch_size=48, shuffle=True)
    model = SoundEncoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    learner = Learner(model, loader, validation, triplet_loss, optimizer, [AverageWeights(), Printer()])
    learner.fit(12)
