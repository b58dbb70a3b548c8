"""Audio of four kinds: log spectrogram inside the model, residual 1-d convolutions, Accelerate with accumulation and checkpoints."""
import argparse
import tempfile

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class LogSpectrogram(nn.Module):
    def __init__(self, n_fft=32, hop=4):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, signal):
        spectrum = torch.stft(signal.squeeze(1), self.n_fft, self.hop, window=self.window, return_complex=True).abs()
        return torch.log1p(10 * spectrum)


class ResBlock1d(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class AudioNet(nn.Module):
    def __init__(self, classes=4, width=48):
        super().__init__()
        self.spectrogram = LogSpectrogram()
        self.entry = nn.Sequential(nn.BatchNorm1d(17), nn.Conv1d(17, width, 3, padding=1, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(ResBlock1d(width, 1), ResBlock1d(width, 2))
        self.classify = nn.Linear(2 * width, classes)

    def forward(self, signal):
        x = self.blocks(self.entry(self.spectrogram(signal)))
        return self.classify(torch.cat([x.mean(-1), x.amax(-1)], 1))


def collate_with_gain(samples):
    """Training signals are made louder or softer and get a little more noise; each keeps its kind."""
    signals, labels = torch.stack([s for s, _ in samples]), torch.stack([y for _, y in samples])
    gain = 0.8 + 0.4 * torch.rand(len(signals), 1, 1)
    return signals * gain + 0.05 * torch.randn_like(signals), labels


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()

    set_seed(4)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.accumulation)
    train_x, train_y = waves(1200, seed=0)
    val_x, val_y = waves(300, seed=1)
    train_loader = DataLoader(TensorDataset(train_x, train_y), args.batch_size, shuffle=True, collate_fn=collate_with_gain)
    val_loader = DataLoader(TensorDataset(val_x, val_y), 150)
    model = AudioNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    updates = args.epochs * len(train_loader) // args.accumulation
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates, eta_min=1e-5)
    # one process, and the scheduler counts updates: its prepared form steps only with the optimizer
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(model, optimizer, train_loader, val_loader, scheduler)

    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(args.epochs):
            model.train()
            total = torch.zeros(())
            for signals, labels in train_loader:
                with accelerator.accumulate(model):
                    loss = F.cross_entropy(model(signals), labels, label_smoothing=0.02)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 3.0)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                total += loss.detach()

            model.eval()
            right = count = 0
            for signals, labels in val_loader:
                with torch.no_grad():
                    predictions = model(signals).argmax(-1)
                predictions, labels = accelerator.gather_for_metrics((predictions, labels))
                right, count = right + (predictions == labels).sum().item(), count + len(labels)
            accuracy = right / count
            accelerator.print(f"epoch {epoch} loss {total / len(train_loader):.4f} accuracy {accuracy:.4f} lr {scheduler.get_last_lr()[0]:.2e}")
            if accuracy > best:
                best = accuracy
                accelerator.save_state(folder)
    accelerator.print(f"best accuracy {best:.4f}")


if __name__ == "__main__":
    main()
