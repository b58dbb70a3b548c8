"""A small vision transformer with a convolutional stem, trained by Accelerate with accumulated gradients."""

import math

import torch
import torch.nn as nn
from accelerate import Accelerator
from torch.utils.data import DataLoader

from toydata import Shapes


class ViT(nn.Module):
    def __init__(self, dim=64, depth=2, heads=4, classes=6):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, dim, 3, stride=2, padding=1),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, dim))
        layer = nn.TransformerEncoderLayer(
            dim, heads, dim_feedforward=2 * dim, dropout=0.05, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, images):
        tokens = self.stem(images).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.encoder(tokens)).mean(1))


def warmup_cosine(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def main(epochs=24, lr=2e-3, accumulate=2):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    normalize = lambda image: (image - 0.5) / 0.25
    train_loader = DataLoader(Shapes(True, 1920, transform=normalize), batch_size=32, shuffle=True)
    val_loader = DataLoader(Shapes(False, 300, transform=normalize), batch_size=100)

    model = ViT()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98)
    )
    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)
    total = epochs * len(train_loader) // accumulate
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer, lambda step: warmup_cosine(step, total // 10, total)
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    for epoch in range(epochs):
        model.train()
        losses = []
        for images, labels in train_loader:
            with accelerator.accumulate(model):
                loss = criterion(model(images), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                if accelerator.sync_gradients:
                    scheduler.step()
                optimizer.zero_grad()
            losses.append(loss.detach())

        model.eval()
        hits = count = 0
        for images, labels in val_loader:
            with torch.no_grad():
                guesses = model(images).argmax(dim=-1)
            guesses, labels = accelerator.gather_for_metrics((guesses, labels))
            hits += (guesses == labels).sum().item()
            count += len(labels)
        accelerator.print(f"epoch {epoch}: loss {torch.stack(losses).mean():.4f} accuracy {hits / count:.4f}")


if __name__ == "__main__":
    main()
