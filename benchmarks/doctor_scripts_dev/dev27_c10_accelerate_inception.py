"""Accelerate loop with gradient accumulation; Inception-like branches."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from toydata import Shapes


class ConvBNReLU(nn.Sequential):
    def __init__(self, i, o, k):
        super().__init__(nn.Conv2d(i, o, k, padding=k // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Inception(nn.Module):
    def __init__(self, i, c1, c3r, c3, c5r, c5, pool):
        super().__init__()
        self.b1 = ConvBNReLU(i, c1, 1)
        self.b2 = nn.Sequential(ConvBNReLU(i, c3r, 1), ConvBNReLU(c3r, c3, 3))
        self.b3 = nn.Sequential(ConvBNReLU(i, c5r, 1), ConvBNReLU(c5r, c5, 3), ConvBNReLU(c5, c5, 3))
        self.b4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBNReLU(i, pool, 1))

    def forward(self, x):
        return torch.cat([self.b1(x), self.b2(x), self.b3(x), self.b4(x)], 1)


class MiniGoogLeNet(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        self.stem = ConvBNReLU(3, 24, 3)
        self.inc1 = Inception(24, 8, 12, 16, 4, 8, 8)
        self.inc2 = Inception(40, 16, 16, 24, 8, 12, 12)
        self.inc3 = Inception(64, 16, 16, 32, 8, 16, 16)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(80, num_classes)

    def forward(self, x):
        x = F.max_pool2d(self.inc1(self.stem(x)), 2)
        x = F.max_pool2d(self.inc2(x), 2)
        x = self.inc3(x)
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


def get_dataloaders(batch_size):
    def scale(image):
        return (image - 0.48) / 0.18

    train = DataLoader(Shapes(True, count=1200, transform=scale), shuffle=True, batch_size=batch_size, drop_last=True)
    evaluation = DataLoader(Shapes(False, transform=scale), shuffle=False, batch_size=60)
    return train, evaluation


def training_function(config, args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(config["seed"])
    train_dataloader, eval_dataloader = get_dataloaders(config["batch_size"])
    model = MiniGoogLeNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    updates = config["num_epochs"] * (len(train_dataloader) // args.gradient_accumulation_steps)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates, eta_min=1e-5)
    model, optimizer, train_dataloader, eval_dataloader, scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, scheduler)

    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0.0
        for images, labels in train_dataloader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total_loss += loss.item()

        model.eval()
        accurate = num_elems = 0
        for images, labels in eval_dataloader:
            with torch.no_grad():
                predictions = model(images).argmax(dim=-1)
            predictions, labels = accelerator.gather_for_metrics((predictions, labels))
            accurate += (predictions == labels).sum().item()
            num_elems += labels.shape[0]
        accelerator.print(f"epoch {epoch}: loss {total_loss / len(train_dataloader):.4f} accuracy {100 * accurate / num_elems:.2f}")


def main():
    parser = argparse.ArgumentParser(description="Accelerate example")
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    args = parser.parse_args()
    config = {"lr": 4e-3, "num_epochs": 20, "seed": 42, "batch_size": 24}
    training_function(config, args)


if __name__ == "__main__":
    main()
