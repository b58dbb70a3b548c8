"""Audio classification on log-mel-like spectrograms in the manner of the torchvision references."""
import argparse
import datetime
import os
import tempfile
import time
from collections import defaultdict, deque

import torch
import torch.utils.data
from torch import nn


class SmoothedValue:
    def __init__(self, window_size=20):
        self.deque = deque(maxlen=window_size)
        self.total, self.count = 0.0, 0

    def update(self, value, n=1):
        self.deque.append(value)
        self.count += n
        self.total += value * n

    @property
    def global_avg(self):
        return self.total / max(1, self.count)

    def __str__(self):
        return f"{sum(self.deque) / max(1, len(self.deque)):.4f} ({self.global_avg:.4f})"


class MetricLogger:
    def __init__(self, delimiter="  "):
        self.meters = defaultdict(SmoothedValue)
        self.delimiter = delimiter

    def log_every(self, iterable, print_freq, header):
        start = time.time()
        for i, obj in enumerate(iterable):
            yield obj
            if i % print_freq == 0:
                meters = self.delimiter.join(f"{k}: {v}" for k, v in self.meters.items())
                print(f"{header} [{i}/{len(iterable)}] {meters}")
        print(f"{header} Total time: {datetime.timedelta(seconds=int(time.time() - start))}")


def make_clips(n, generator, sr=2000, length=2048, classes=6):
    """Clips of one of six sound kinds: chirps up/down, tremolo, two-tone, noise burst, steady tone."""
    t = torch.arange(length) / sr
    y = torch.randint(0, classes, (n,), generator=generator)
    f = 150 + 450 * torch.rand(n, 1, generator=generator)
    phase = 6.283 * torch.rand(n, 1, generator=generator)
    noise = torch.randn(n, length, generator=generator)
    up = torch.sin(6.283 * (f + 180 * t) * t + phase)
    down = torch.sin(6.283 * (f + 360 - 180 * t) * t + phase)
    tone = torch.sin(6.283 * f * t + phase)
    tremolo = tone * (0.5 + 0.5 * torch.sin(6.283 * 6 * t))
    two = 0.6 * tone + 0.6 * torch.sin(6.283 * 1.5 * f * t)
    burst = noise * (torch.sin(6.283 * 3 * t + phase) > 0.6)
    kinds = torch.stack([up, down, tremolo, two, burst, tone], 1)
    clips = kinds[torch.arange(n), y]
    gain = 0.3 + torch.rand(n, 1, generator=generator)
    return gain * (clips + 0.4 * noise), y


def log_spectrogram(clips):
    window = torch.hann_window(128)
    spec = torch.stft(clips, n_fft=128, hop_length=64, window=window, return_complex=True).abs()
    return torch.log(spec[:, :64, :32] + 1e-3).unsqueeze(1)


class SpecDataset(torch.utils.data.Dataset):
    def __init__(self, specs, labels, mean, std, train):
        self.specs, self.labels, self.train = (specs - mean) / std, labels, train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        spec = self.specs[idx].clone()
        if self.train:
            f0 = torch.randint(0, 60, (1,)).item()
            spec[:, f0:f0 + 4, :] = 0
            if torch.rand(1).item() < 0.5:
                t0 = torch.randint(0, 29, (1,)).item()
                spec[:, :, t0:t0 + 3] = 0
        return spec, self.labels[idx]


class ConvBNReLU(nn.Sequential):
    def __init__(self, cin, cout, stride):
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class AudioNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(ConvBNReLU(1, 12, 2), ConvBNReLU(12, 24, 2), ConvBNReLU(24, 48, 2))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        x = self.features(x).mean(dim=(2, 3))
        return self.fc(self.dropout(x))


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, scheduler):
    model.train()
    metric_logger = MetricLogger()
    for spec, target in metric_logger.log_every(data_loader, args.print_freq, f"Epoch: [{epoch}]"):
        spec, target = spec.to(device), target.to(device)
        output = model(spec)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        metric_logger.meters["loss"].update(loss.item(), target.size(0))
        metric_logger.meters["acc1"].update((output.argmax(1) == target).float().mean().item(), target.size(0))


def evaluate(model, criterion, data_loader, device):
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for spec, target in data_loader:
            spec, target = spec.to(device), target.to(device)
            output = model(spec)
            metric_logger.meters["loss"].update(criterion(output, target).item(), target.size(0))
            metric_logger.meters["acc1"].update((output.argmax(1) == target).float().mean().item(), target.size(0))
    print(f"Test: Acc@1 {metric_logger.meters['acc1'].global_avg:.3f} loss {metric_logger.meters['loss'].global_avg:.4f}")
    return metric_logger.meters["acc1"].global_avg


def main(args):
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    g = torch.Generator().manual_seed(7)
    clips, labels = make_clips(1600, g)
    val_clips, val_labels = make_clips(400, g)
    train_specs, val_specs = log_spectrogram(clips), log_spectrogram(val_clips)
    mean, std = train_specs.mean(), train_specs.std()
    dataset = SpecDataset(train_specs, labels, mean, std, train=True)
    dataset_test = SpecDataset(val_specs, val_labels, mean, std, train=False)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=200)
    model = AudioNet(6).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(data_loader), pct_start=0.2)
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, scheduler)
        acc = evaluate(model, criterion, data_loader_test, device)
        checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "acc": acc}
        torch.save(checkpoint, os.path.join(args.output_dir, "checkpoint.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--print-freq", default=25, type=int)
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--output-dir", default=tempfile.gettempdir())
    main(parser.parse_args())
