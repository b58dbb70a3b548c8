"""Which events does a recording hold? Several labels each; limits tuned on one set, reported on another."""
import math

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NAMES = ("hum", "whistle", "click", "sweep")
OFTEN = torch.tensor([0.45, 0.3, 0.2, 0.15])


def recordings(count, seed, length=128):
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator)
    time = torch.linspace(0, 1, length)
    present = random(count, 4) < OFTEN
    phase = 2 * math.pi * random(count, 4, 1)
    hum = torch.sin(2 * math.pi * 5 * time + phase[:, 0])
    whistle = torch.sin(2 * math.pi * 25 * time + phase[:, 1])
    click = 2.5 * torch.exp(-((time - 0.1 - 0.8 * random(count, 1)) / 0.015) ** 2)
    sweep = torch.sin(2 * math.pi * (8 + 6 * time) * time + phase[:, 3])
    parts = torch.stack([hum, whistle, click, sweep], 1) * (0.6 + 0.4 * random(count, 4, 1))
    signals = (parts * present[:, :, None]).sum(1) + 0.25 * torch.randn(count, length, generator=generator)
    return TensorDataset(signals.unsqueeze(1), present.float())


def build():
    def layer(a, b, kernel):
        return [nn.Conv1d(a, b, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm1d(b), nn.ReLU()]

    class Pool(nn.Module):
        def forward(self, x):
            return torch.cat([x.mean(2), x.amax(2)], 1)

    return nn.Sequential(*layer(1, 24, 9), *layer(24, 48, 7), *layer(48, 64, 5), Pool(), nn.Linear(128, 4))


@torch.no_grad()
def collect(model, loader):
    model.eval()
    outputs = [(torch.sigmoid(model(signals)), present) for signals, present in loader]
    return torch.cat([p for p, _ in outputs]), torch.cat([t for _, t in outputs])


def f1(probability, present, limits):
    said = (probability > limits).float()
    hit = (said * present).sum(0)
    return 2 * hit / (said.sum(0) + present.sum(0)).clamp(min=1)


def tune(probability, present):
    """For each event the limit with the best F1."""
    candidates = torch.linspace(0.1, 0.9, 33)
    scores = torch.stack([f1(probability, present, limit) for limit in candidates])
    return candidates[scores.argmax(0)]


def main(epochs=8):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(25)
    torch.set_num_threads(1)
    data = recordings(2400, seed=90)
    train_loader = DataLoader(data, batch_size=32, shuffle=True)
    dev_loader = DataLoader(recordings(500, seed=91), batch_size=125)
    test_loader = DataLoader(recordings(500, seed=92), batch_size=125)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    updates = epochs * math.ceil(len(train_loader) / 2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 20, 0.5 * (1 + math.cos(math.pi * min(step / updates, 1))))
    )
    model, optimizer, train_loader, dev_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, dev_loader, test_loader, scheduler
    )
    share = data.tensors[1].mean(0)
    rare = ((1 - share) / share).sqrt()  # milder than the full ratio; the limits do the rest

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for signals, present in train_loader:
            with accelerator.accumulate(model):
                loss = F.binary_cross_entropy_with_logits(model(signals), present, pos_weight=rare)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.item()
        limits = tune(*collect(model, dev_loader))
        scores = f1(*collect(model, test_loader), limits)
        named = " ".join(f"{name} {score:.3f}" for name, score in zip(NAMES, scores.tolist()))
        accelerator.print(f"epoch {epoch} loss {total / len(train_loader):.4f} test F1 {scores.mean():.3f} ({named})")


if __name__ == "__main__":
    main()
