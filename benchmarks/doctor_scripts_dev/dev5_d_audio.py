"""Sound classification on log-mel spectrograms: gradient accumulation, mixed precision, resumable checkpoints."""
import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

CLASSES = ["tone", "chirp_up", "chirp_down", "tremolo", "vibrato", "clicks"]
SAMPLE_RATE = 4000


def synthesize(rng, label):
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    f0 = rng.uniform(300, 1100)
    name = CLASSES[label]
    if name == "chirp_up":
        freq = f0 * (1 + 0.5 * t / t[-1])
    elif name == "chirp_down":
        freq = f0 * (1.5 - 0.5 * t / t[-1])
    elif name == "vibrato":
        freq = f0 * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(5, 9) * t))
    else:
        freq = np.full_like(t, f0)
    wave = np.sin(2 * np.pi * np.cumsum(freq) / SAMPLE_RATE + rng.uniform(0, 6))
    if name == "tremolo":
        wave *= 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(5, 9) * t)
    elif name == "clicks":
        wave *= (np.floor(t * rng.uniform(14, 24)) % 2 == 0)
    wave = wave + rng.normal(0, rng.uniform(0.2, 0.6), len(t))
    return (wave * rng.uniform(0.1, 1.0)).astype(np.float32)


def mel_filterbank(n_fft, n_mels):
    def to_mel(f):
        return 2595 * np.log10(1 + f / 700)

    edges = 700 * (10 ** (np.linspace(to_mel(100), to_mel(SAMPLE_RATE / 2), n_mels + 2) / 2595) - 1)
    freqs = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    up = (freqs[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - freqs[None]) / (edges[2:] - edges[1:-1])[:, None]
    return torch.tensor(np.maximum(0, np.minimum(up, down)), dtype=torch.float32)


class LogMel:
    def __init__(self, n_fft=256, hop=50, n_mels=40):
        self.n_fft, self.hop = n_fft, hop
        self.window = torch.hann_window(n_fft)
        self.fbank = mel_filterbank(n_fft, n_mels)

    def __call__(self, waves):
        spec = torch.stft(waves, self.n_fft, self.hop, window=self.window, return_complex=True)
        return torch.log(self.fbank @ spec.abs().pow(2) + 1e-4).unsqueeze(1)


def spec_augment(x, max_freq=5, max_time=6):
    x = x.clone()
    for clip in x:
        f, t = torch.randint(1, max_freq + 1, (1,)).item(), torch.randint(1, max_time + 1, (1,)).item()
        f0 = torch.randint(0, x.size(2) - f, (1,)).item()
        t0 = torch.randint(0, x.size(3) - t, (1,)).item()
        clip[:, f0:f0 + f] = 0
        clip[:, :, t0:t0 + t] = 0
    return x


def build_datasets(args):
    rng = np.random.default_rng(args.seed)
    labels = np.arange(args.n_train + args.n_val) % len(CLASSES)
    waves = torch.from_numpy(np.stack([synthesize(rng, y) for y in labels]))
    x, y = LogMel()(waves), torch.from_numpy(labels)
    x_train, x_val = x[:args.n_train], x[args.n_train:]
    mean, std = x_train.mean(), x_train.std()
    x_train = (x_train - mean) / std
    x_val = (x_val - mean) / std
    return TensorDataset(x_train, y[:args.n_train]), TensorDataset(x_val, y[args.n_train:])


class AudioCNN(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        chans = [1, width, width * 2, width * 3]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                nn.AvgPool2d((1, 2) if i else 2),
            )
            for i, (c_in, c_out) in enumerate(zip(chans[:-1], chans[1:]))
        )
        self.fc = nn.Linear(chans[-1] * 10, num_classes)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        x = x.amax(dim=2)
        x = F.adaptive_avg_pool1d(x, 10).flatten(1)
        return self.fc(x)


class Trainer:
    def __init__(self, args):
        self.args = args
        train_set, val_set = build_datasets(args)
        self.train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
        self.val_loader = DataLoader(val_set, 60)
        self.model = AudioCNN(len(CLASSES))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        updates = args.epochs * (len(self.train_loader) // args.accum_steps)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=updates)
        self.scaler = torch.amp.GradScaler("cpu")
        self.start_epoch, self.best = 0, None
        self.last_path = os.path.join(args.output_dir, "last.pt")
        self.best_path = os.path.join(args.output_dir, "best.pt")
        if args.resume and os.path.exists(self.last_path):
            self.load(self.last_path)

    def state(self, epoch):
        return {"epoch": epoch, "best": self.best, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict()}

    def load(self, path):
        ckpt = torch.load(path, map_location="cpu")
        for name in ("model", "optimizer", "scheduler", "scaler"):
            getattr(self, name).load_state_dict(ckpt[name])
        self.start_epoch, self.best = ckpt["epoch"] + 1, ckpt["best"]
        print(f"=> resumed {path} (epoch {ckpt['epoch']})")

    def train_one_epoch(self):
        self.model.train()
        losses = []
        self.optimizer.zero_grad()
        for i, (x, y) in enumerate(self.train_loader):
            x = spec_augment(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = self.model(x)
                loss = F.cross_entropy(logits, y, label_smoothing=0.05)
            losses.append(loss.item())
            self.scaler.scale(loss / self.args.accum_steps).backward()
            if (i + 1) % self.args.accum_steps == 0:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
                self.scheduler.step()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        loss, correct, n = 0.0, 0, 0
        for x, y in self.val_loader:
            logits = self.model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            correct += (logits.argmax(1) == y).sum().item()
            n += len(y)
        return {"loss": loss / n, "acc": correct / n}

    def is_better(self, value):
        if self.best is None:
            return True
        return value > self.best if self.args.mode == "max" else value < self.best

    def fit(self):
        for epoch in range(self.start_epoch, self.args.epochs):
            train_loss = self.train_one_epoch()
            scores = self.validate()
            print(f"[{epoch}] train {train_loss:.4f} val {scores['loss']:.4f} acc {scores['acc']:.4f}")
            if self.is_better(scores[self.args.monitor]):
                self.best = scores[self.args.monitor]
                torch.save(self.state(epoch), self.best_path)
            torch.save(self.state(epoch), self.last_path)
        self.load(self.best_path)
        return self.validate()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output-dir", default=None)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--n-train", type=int, default=720)
    parser.add_argument("--n-val", type=int, default=240)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--accum-steps", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--monitor", default="acc", choices=["acc", "loss"])
    parser.add_argument("--mode", default="max", choices=["max", "min"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        args.output_dir = args.output_dir or scratch
        os.makedirs(args.output_dir, exist_ok=True)
        scores = Trainer(args).fit()
    print(f"best val acc: {scores['acc']:.4f}  loss: {scores['loss']:.4f}")


if __name__ == "__main__":
    main()
