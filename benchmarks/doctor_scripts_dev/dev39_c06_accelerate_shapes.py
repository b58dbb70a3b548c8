#!/usr/bin/env python
"""Image classification of colored shapes with Accelerate, without a Trainer."""
import argparse
import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, random_split
from transformers import get_scheduler

import toydata


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--image_size", type=int, default=24)
    parser.add_argument("--per_device_train_batch_size", type=int, default=50)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=75)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=10)
    parser.add_argument("--num_warmup_steps", type=int, default=10)
    parser.add_argument("--lr_scheduler_type", default="linear")
    parser.add_argument("--max_grad_norm", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=17)
    return parser.parse_args()


def pixel_values(examples):
    return (torch.stack([image for image, _ in examples]) - 0.48) / 0.18


def collate_eval(examples):
    return {"pixel_values": pixel_values(examples), "labels": torch.tensor([label for _, label in examples])}


def collate_train(examples):
    batch = collate_eval(examples)
    mirrored = torch.rand(len(examples)) < 0.5
    images = batch["pixel_values"]
    batch["pixel_values"] = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return batch


def conv(inside, outside):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


class ShapeClassifier(nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.encoder = nn.Sequential(
            conv(3, 16), conv(16, 16), nn.MaxPool2d(2),
            conv(16, 32), conv(32, 32), nn.MaxPool2d(2),
            conv(32, 48),
        )
        self.classifier = nn.Linear(48, num_labels)
        self.loss_function = nn.CrossEntropyLoss()

    def forward(self, pixel_values, labels=None):
        logits = self.classifier(self.encoder(pixel_values).mean(dim=(2, 3)))
        loss = None if labels is None else self.loss_function(logits, labels)
        return {"loss": loss, "logits": logits}


def evaluate(accelerator, model, dataloader):
    model.eval()
    predictions, references = [], []
    for batch in dataloader:
        with torch.no_grad():
            outputs = model(**batch)
        predicted, labels = accelerator.gather_for_metrics((outputs["logits"].argmax(dim=-1), batch["labels"]))
        predictions.append(predicted)
        references.append(labels)
    return (torch.cat(predictions) == torch.cat(references)).float().mean().item()


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    known = toydata.Shapes(train=True, size=args.image_size)
    train_dataset, eval_dataset = random_split(known, [750, 150], generator=torch.Generator().manual_seed(args.seed))
    test_dataset = toydata.Shapes(train=False, size=args.image_size)
    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=collate_train, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader = DataLoader(eval_dataset, collate_fn=collate_eval, batch_size=args.per_device_eval_batch_size)
    test_dataloader = DataLoader(test_dataset, collate_fn=collate_eval, batch_size=args.per_device_eval_batch_size)

    model = ShapeClassifier(len(toydata.NAMES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    steps_per_epoch = math.ceil(len(train_dataset) / args.per_device_train_batch_size)
    lr_scheduler = get_scheduler(
        name=args.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=args.num_warmup_steps,
        num_training_steps=args.num_train_epochs * steps_per_epoch,
    )
    model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler
    )

    completed_steps = 0
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            outputs = model(**batch)
            loss = outputs["loss"]
            total_loss += loss.detach()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            completed_steps += 1
        eval_accuracy = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(
            f"epoch {epoch}: step {completed_steps}, loss {float(total_loss) / len(train_dataloader):.3f}, "
            f"accuracy {eval_accuracy:.3f}"
        )

    accelerator.print(f"test accuracy: {evaluate(accelerator, model, test_dataloader):.3f}")


if __name__ == "__main__":
    main()
