#!/usr/bin/env python
"""Classify signals with a sparse mixture of experts, trained with Accelerate."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class SparseMoE(nn.Module):
    """Top-k routing; `aux_loss` is small where all experts get the same share of the samples."""

    def __init__(self, dim, hidden, num_experts=4, top_k=2):
        super().__init__()
        self.experts = nn.ModuleList([Expert(dim, hidden) for _ in range(num_experts)])
        self.router = nn.Linear(dim, num_experts, bias=False)
        self.num_experts, self.top_k = num_experts, top_k

    def forward(self, x):
        probs = self.router(x).softmax(dim=-1)
        top_probs, top_idx = probs.topk(self.top_k, dim=-1)
        top_probs = top_probs / top_probs.sum(dim=-1, keepdim=True)
        gates = torch.zeros_like(probs).scatter(1, top_idx, top_probs)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        mixed = (gates.unsqueeze(-1) * outputs).sum(dim=1)
        share = (gates > 0).float().mean(dim=0) / self.top_k
        aux_loss = self.num_experts * (share * probs.mean(dim=0)).sum()
        return mixed, aux_loss


class WaveClassifier(nn.Module):
    def __init__(self, num_labels=4, dim=64):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(1, 24, 7, stride=2, padding=3, bias=False), nn.BatchNorm1d(24), nn.ReLU(),
            nn.Conv1d(24, 48, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Conv1d(48, dim, 7, padding=3, bias=False), nn.BatchNorm1d(dim), nn.ReLU(),
        )
        self.norm = nn.LayerNorm(dim)
        self.moe = SparseMoE(dim, 2 * dim)
        self.classifier = nn.Linear(dim, num_labels)

    def forward(self, signals):
        hidden = self.stem(signals).mean(dim=-1)
        mixed, aux_loss = self.moe(self.norm(hidden))
        logits = self.classifier(hidden + mixed)
        return logits, aux_loss


def get_dataloaders(batch_size):
    train_dataset = TensorDataset(*waves(900, seed=0))
    eval_dataset = TensorDataset(*waves(300, seed=1))
    train_dataloader = DataLoader(train_dataset, shuffle=True, batch_size=batch_size)
    eval_dataloader = DataLoader(eval_dataset, shuffle=False, batch_size=64)
    return train_dataloader, eval_dataloader


def training_function(args):
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)
    train_dataloader, eval_dataloader = get_dataloaders(args.batch_size)
    model = WaveClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.num_epochs, steps_per_epoch=len(train_dataloader)
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(args.num_epochs):
        model.train()
        total_loss = torch.zeros(())
        for signals, labels in train_dataloader:
            logits, aux_loss = model(signals)
            loss = F.cross_entropy(logits, labels) + args.aux_weight * aux_loss
            total_loss += loss.detach()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

        model.eval()
        hits, count = 0, 0
        for signals, labels in eval_dataloader:
            with torch.no_grad():
                logits, _ = model(signals)
            predictions, references = accelerator.gather_for_metrics((logits.argmax(dim=-1), labels))
            hits += (predictions == references).sum().item()
            count += len(references)
        mean_loss = total_loss.item() / len(train_dataloader)
        accelerator.print(f"epoch {epoch}: loss {mean_loss:.4f}, eval accuracy {hits / count:.4f}")


def main():
    parser = argparse.ArgumentParser(description="Mixture of experts on waves.")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--batch_size", type=int, default=30)
    parser.add_argument("--num_epochs", type=int, default=12)
    parser.add_argument("--aux_weight", type=float, default=0.01)
    parser.add_argument("--max_grad_norm", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=42)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
