"""Digits with Accelerate: gradients of two batches make a step, a second classifier halfway helps in training."""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

EPOCHS = 14
AUX_WEIGHT = 0.3


class DeeplySupervised(nn.Module):
    """Gives (logits, auxiliary logits) in training and logits alone otherwise, as GoogLeNet does."""

    def __init__(self, classes=10):
        super().__init__()
        self.lower = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.upper = nn.Sequential(
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(128, classes),
        )
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * 4 * 4, classes))

    def forward(self, images):
        middle = self.lower(images)
        logits = self.upper(middle)
        if self.training:
            return logits, self.aux(middle)
        return logits


def get_loaders(batch_size):
    def to_input(image):
        return (image.float() / 255 - 0.15) / 0.28

    train = Digits(train=True, count=3200, transform=to_input)
    val = Digits(train=False, count=500, transform=to_input)
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True),
        DataLoader(val, batch_size=125, shuffle=False),
    )


def main():
    set_seed(11)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    train_loader, val_loader = get_loaders(batch_size=32)
    model = DeeplySupervised()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    updates = EPOCHS * math.ceil(len(train_loader) / accelerator.gradient_accumulation_steps)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    criterion = nn.CrossEntropyLoss()

    for epoch in range(EPOCHS):
        model.train()
        total = torch.zeros(())
        for images, labels in train_loader:
            # accelerate divides the loss and leaves out steps between
            with accelerator.accumulate(model):
                logits, aux_logits = model(images)
                loss = criterion(logits, labels) + AUX_WEIGHT * criterion(aux_logits, labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.detach()

        model.eval()
        correct = count = 0
        for images, labels in val_loader:
            with torch.no_grad():
                predictions = model(images).argmax(dim=-1)
            predictions, labels = accelerator.gather_for_metrics((predictions, labels))
            correct += (predictions == labels).sum().item()
            count += labels.shape[0]
        accelerator.print(f"epoch {epoch}: loss {total.item() / len(train_loader):.4f}, accuracy {correct / count:.4f}")


if __name__ == "__main__":
    main()
