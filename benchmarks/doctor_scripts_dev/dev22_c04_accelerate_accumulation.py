#!/usr/bin/env python
"""Digits with Accelerate: small batches whose gradients are accumulated, rates by optimizer steps."""

import argparse
import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from toydata import Digits


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--micro-batch-size", type=int, default=16)
    parser.add_argument("--accumulation-steps", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup-ratio", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--max-grad-norm", type=float, default=2.0)
    parser.add_argument("--train-count", type=int, default=2560)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image.float() / 255 - self.mean) / self.std


def make_datasets(args):
    train_set = Digits(train=True, count=args.train_count)
    pixels = train_set.data.float() / 255
    transform = Normalize(pixels.mean().item(), pixels.std().item())
    train_set.transform = transform
    return train_set, Digits(train=False, count=320, transform=transform)


class ConvNet(nn.Module):
    def __init__(self, widths=(16, 32, 64), num_classes=10, dropout=0.1):
        super().__init__()
        layers, channels = [], 1
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.GELU(),
                nn.MaxPool2d(2),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * 4, num_classes))

    def forward(self, images, labels=None):
        logits = self.classifier(self.features(images))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def cosine_with_warmup(optimizer, warmup_steps, total_steps):
    def factor(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)


def evaluate(accelerator, model, loader):
    model.eval()
    correct, count, loss_sum = 0, 0, 0.0
    with torch.inference_mode():
        for images, labels in loader:
            outputs = model(images, labels)
            predictions, references = accelerator.gather_for_metrics((outputs["logits"].argmax(-1), labels))
            correct += (predictions == references).sum().item()
            count += references.numel()
            loss_sum += outputs["loss"].item() * len(labels)
    return {"accuracy": correct / count, "loss": loss_sum / count}


def main():
    args = parse_args()
    accelerator = Accelerator(gradient_accumulation_steps=args.accumulation_steps, cpu=True)
    set_seed(args.seed)
    train_set, valid_set = make_datasets(args)
    train_loader = DataLoader(train_set, batch_size=args.micro_batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=64)

    model = ConvNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    updates_per_epoch = math.ceil(len(train_loader) / args.accumulation_steps)
    total_updates = args.epochs * updates_per_epoch
    scheduler = cosine_with_warmup(optimizer, int(args.warmup_ratio * total_updates), total_updates)
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )
    accelerator.print(f"{len(train_loader)} batches and {updates_per_epoch} updates per epoch, {total_updates} in all")

    updates = 0
    for epoch in range(args.epochs):
        model.train()
        running = torch.zeros(())
        for images, labels in train_loader:
            # within this context, step and zero_grad do nothing but at every fourth batch;
            # backward divides the loss by the number of batches
            with accelerator.accumulate(model):
                loss = model(images, labels)["loss"]
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                    updates += 1
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            running += loss.detach()
        metrics = evaluate(accelerator, model, valid_loader)
        accelerator.print(
            f"epoch {epoch + 1:2d} updates {updates:4d} train_loss {running.item() / len(train_loader):.4f} "
            f"eval_loss {metrics['loss']:.4f} eval_accuracy {metrics['accuracy']:.4f} lr {scheduler.get_last_lr()[0]:.2e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
