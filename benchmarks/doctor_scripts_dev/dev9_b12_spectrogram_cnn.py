"""Audio-like tagging: log-mel-ish spectrograms, mixup, AMP, an averaged copy of the weights that is evaluated."""
import time
from copy import deepcopy

import torch
from torch import nn
from torch.amp import GradScaler, autocast
from torch.utils.data import DataLoader, Dataset

from toydata import waves

HPARAMS = dict(n_fft=32, hop=4, epochs=8, batch_size=32, max_lr=0.08, momentum=0.9, weight_decay=5e-4, mixup=0.3,
               ema_decay=0.95, clip=2.0, seed=0)


class LogSpectrogram(nn.Module):
    def __init__(self, n_fft, hop):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, wave):  # (batch, 1, time) -> (batch, 1, freq, frames)
        spec = torch.stft(wave.squeeze(1), self.n_fft, self.hop, window=self.window, return_complex=True)
        return torch.log(spec.abs().pow(2) + 1e-3).unsqueeze(1)


class WaveSet(Dataset):
    def __init__(self, count, seed, train):
        self.x, self.y = waves(count, length=128, seed=seed)
        self.train = train

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if self.train:  # gain and shift
            x = torch.roll(x * torch.empty(1).uniform_(0.7, 1.3), int(torch.randint(128, (1,))), -1)
        return x, self.y[i]


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.fc = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // reduction, 1), nn.SiLU(),
                                nn.Conv2d(channels // reduction, channels, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels),
                                  nn.SiLU(), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), SqueezeExcite(channels))
        nn.init.zeros_(self.body[-2].weight)  # each block begins as the identity

    def forward(self, x):
        return torch.relu(x + self.body(x))


def build_model():
    return nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 24, 3, stride=(1, 2), padding=1, bias=False), nn.BatchNorm2d(24), nn.SiLU(),
                         Residual(24), nn.MaxPool2d(2), nn.Conv2d(24, 48, 1), Residual(48), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Dropout(0.1), nn.Linear(48, 4))


class ModelEma:
    def __init__(self, model, decay):
        self.module = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for average, current in zip(self.module.state_dict().values(), model.state_dict().values()):
            if average.dtype.is_floating_point:
                average.mul_(self.decay).add_(current, alpha=1 - self.decay)
            else:
                average.copy_(current)


def mixup(x, y, alpha):
    lam = torch.distributions.Beta(alpha, alpha).sample().item()
    index = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[index], y, y[index], lam


@torch.no_grad()
def validate(model, features, loader):
    model.eval()
    correct, total = 0, 0
    for wave, target in loader:
        correct += model(features(wave)).argmax(1).eq(target).sum().item()
        total += target.size(0)
    return 100.0 * correct / total


def main(hp):
    torch.manual_seed(hp["seed"])
    train_loader = DataLoader(WaveSet(800, 0, True), hp["batch_size"], shuffle=True, drop_last=True)
    val_loader = DataLoader(WaveSet(300, 1, False), 100)
    features, model = LogSpectrogram(hp["n_fft"], hp["hop"]), build_model()
    ema = ModelEma(model, hp["ema_decay"])
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=hp["max_lr"], momentum=hp["momentum"], weight_decay=hp["weight_decay"], nesterov=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, hp["max_lr"], steps_per_epoch=len(train_loader), epochs=hp["epochs"])
    scaler = GradScaler("cpu", init_scale=2.0**10)
    for epoch in range(hp["epochs"]):
        model.train()
        start, losses = time.perf_counter(), []
        for wave, target in train_loader:
            x, y_a, y_b, lam = mixup(features(wave), target, hp["mixup"])
            optimizer.zero_grad()
            with autocast("cpu", dtype=torch.bfloat16):
                output = model(x)
            loss = lam * criterion(output.float(), y_a) + (1 - lam) * criterion(output.float(), y_b)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), hp["clip"])
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            ema.update(model)
            losses.append(loss.item())
        print(f"[{epoch}] loss {sum(losses) / len(losses):.3f} raw {validate(model, features, val_loader):.1f} "
              f"ema {validate(ema.module, features, val_loader):.1f} ({time.perf_counter() - start:.1f}s)")


if __name__ == "__main__":
    main(HPARAMS)
