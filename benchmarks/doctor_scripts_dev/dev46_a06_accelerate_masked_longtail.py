"""Masked-image pretraining without labels, then fine-tuning on a few labels with a long tail (Accelerate)."""

import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import balanced_accuracy_score
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_unlabeled", type=int, default=1500)
    parser.add_argument("--max_per_class", type=int, default=80)
    parser.add_argument("--imbalance", type=float, default=6.0)
    parser.add_argument("--mask_ratio", type=float, default=0.4)
    parser.add_argument("--pretrain_epochs", type=int, default=6)
    parser.add_argument("--finetune_epochs", type=int, default=14)
    parser.add_argument("--per_device_batch_size", type=int, default=32)
    parser.add_argument("--encoder_lr", type=float, default=5e-4)
    parser.add_argument("--head_lr", type=float, default=3e-3)
    parser.add_argument("--max_grad_norm", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1234)
    return parser.parse_args()


def build_encoder():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GELU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.GELU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.GELU(),
    )  # fmt: skip


class MaskedAutoencoder(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.GELU(), nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1)
        )

    def forward(self, images, mask_ratio):
        patches = torch.rand(len(images), 1, 8, 8, device=images.device) < mask_ratio
        mask = patches.repeat_interleave(2, 2).repeat_interleave(2, 3).float()
        reconstruction = self.decoder(self.encoder(images * (1 - mask)))
        return ((reconstruction - images) ** 2 * mask).sum() / mask.sum()


class Classifier(nn.Module):
    def __init__(self, encoder, num_labels=10):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, num_labels))

    def forward(self, images):
        return self.head(self.encoder(images))


def normalize(images):
    return (images.float() / 255 - 0.25) / 0.32


def long_tail(labels, max_per_class, imbalance):
    """Indices with max_per_class samples of class 0, fewer and fewer of the following ones."""
    chosen = []
    for c in range(10):
        keep = round(max_per_class * imbalance ** (-c / 9))
        chosen.append((labels == c).nonzero().flatten()[:keep])
    return torch.cat(chosen)


def pretrain(args, accelerator, images, path):
    model = MaskedAutoencoder(build_encoder())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(args.pretrain_epochs):
        model.train()
        total = 0.0
        for (batch,) in loader:
            loss = model(batch, args.mask_ratio)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach().item()
        accelerator.print(f"pretrain epoch {epoch}: masked mse {total / len(loader):.4f}")
    torch.save(accelerator.unwrap_model(model).encoder.state_dict(), path)


def evaluate(accelerator, model, loader):
    model.eval()
    predictions, references = [], []
    for images, labels in loader:
        with torch.no_grad():
            outputs = model(images)
        preds, refs = accelerator.gather_for_metrics((outputs.argmax(dim=-1), labels))
        predictions.append(preds)
        references.append(refs)
    return balanced_accuracy_score(torch.cat(references).cpu().numpy(), torch.cat(predictions).cpu().numpy())


def main():
    args = parse_args()
    set_seed(args.seed)
    accelerator = Accelerator(cpu=True)

    images, labels = draw_digits(args.num_unlabeled, seed=20)
    test_images, test_labels = draw_digits(400, seed=21)
    images, test_images = normalize(images), normalize(test_images)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "encoder.pt")
        pretrain(args, accelerator, images, path)
        encoder = build_encoder()
        encoder.load_state_dict(torch.load(path, map_location="cpu"))

    subset = long_tail(labels, args.max_per_class, args.imbalance)
    counts = labels[subset].bincount(minlength=10).float()
    class_weights = counts.sum() / (len(counts) * counts)
    accelerator.print("labels per class:", counts.int().tolist())

    train_dataset = TensorDataset(images[subset], labels[subset])
    train_loader = DataLoader(train_dataset, batch_size=args.per_device_batch_size, shuffle=True)
    eval_loader = DataLoader(TensorDataset(test_images, test_labels), batch_size=100)

    model = Classifier(encoder)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "lr": args.encoder_lr},
            {"params": model.head.parameters(), "lr": args.head_lr},
        ],
        weight_decay=0.01,
    )
    model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)

    for epoch in range(args.finetune_epochs):
        model.train()
        for batch_images, batch_labels in train_loader:
            logits = model(batch_images)
            loss = F.cross_entropy(logits, batch_labels, weight=class_weights.to(logits.device))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        score = evaluate(accelerator, model, eval_loader)
        accelerator.print(f"finetune epoch {epoch}: balanced accuracy {score:.4f}")


if __name__ == "__main__":
    main()
