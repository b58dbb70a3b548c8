"""Masked language model on made-up proteins: 15 % of residues hidden (80/10/10), tied embeddings, fixed masks to validate."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
MASK, LENGTH, MOTIFS, IGNORE = len(RESIDUES), 48, 12, -100


def proteins(count, seed):
    motifs = torch.randint(0, 20, (MOTIFS, 6), generator=torch.Generator().manual_seed(2024))  # shared by all
    g = torch.Generator().manual_seed(seed)
    long = motifs[torch.randint(0, MOTIFS, (count, 9), generator=g)].flatten(1)
    offset = torch.randint(0, 6, (count, 1), generator=g)
    chains = long.gather(1, offset + torch.arange(LENGTH))
    mutated = torch.rand(chains.shape, generator=g) < 0.02
    return torch.where(mutated, torch.randint(0, 20, chains.shape, generator=g), chains)


def corrupt(tokens, generator=None):
    chosen = torch.rand(tokens.shape, generator=generator) < 0.15
    labels = torch.where(chosen, tokens, IGNORE)
    how = torch.rand(tokens.shape, generator=generator)
    anything = torch.randint(0, 20, tokens.shape, generator=generator)
    corrupted = torch.where(chosen & (how < 0.8), MASK, tokens)
    corrupted = torch.where(chosen & (how >= 0.9), anything, corrupted)
    return corrupted, labels


class ProteinEncoder(nn.Module):
    def __init__(self, dim=64, heads=4, layers=2):
        super().__init__()
        self.tokens = nn.Embedding(len(RESIDUES) + 1, dim)
        self.positions = nn.Parameter(torch.zeros(LENGTH, dim))
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        self.norm_in = nn.LayerNorm(dim)
        self.local = nn.Conv1d(dim, dim, 7, padding=3)  # both sides: nothing is predicted from left to right
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.1, activation="gelu",
                                           batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.bias = nn.Parameter(torch.zeros(len(RESIDUES)))

    def forward(self, tokens):
        h = self.norm_in(self.tokens(tokens) + self.positions)
        h = h + F.gelu(self.local(h.transpose(1, 2))).transpose(1, 2)
        h = self.transform(self.encoder(h))
        return h @ self.tokens.weight[: len(RESIDUES)].t() + self.bias  # [MASK] is never an answer


def masked_loss(logits, labels, reduction="mean"):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction=reduction)


def main():
    torch.manual_seed(6)
    train_set, val_tokens = proteins(2000, seed=1), proteins(400, seed=2)
    val_inputs, val_labels = corrupt(val_tokens, torch.Generator().manual_seed(3))
    loader = DataLoader(train_set, batch_size=32, shuffle=True, drop_last=True,
                        collate_fn=lambda rows: corrupt(torch.stack(rows)))

    model = ProteinEncoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    epochs = 12
    total = epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 60) * max(0.05, 1 - step / total))

    for epoch in range(epochs):
        model.train()
        running = 0.0
        for inputs, labels in loader:
            loss = masked_loss(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            running += loss.item()

        model.eval()
        nll = right = 0.0
        with torch.no_grad():
            for inputs, labels in zip(val_inputs.split(100), val_labels.split(100)):
                logits, hidden = model(inputs), labels != IGNORE
                nll += masked_loss(logits, labels, "sum").item()
                right += (logits.argmax(-1) == labels)[hidden].sum().item()
        count = (val_labels != IGNORE).sum().item()
        print(f"epoch {epoch + 1:2d}  train {running / len(loader):.4f}  val perplexity {math.exp(nll / count):.3f}  "
              f"masked accuracy {right / count:.4f}")


if __name__ == "__main__":
    main()
