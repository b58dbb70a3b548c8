"""Opinions of generated sentences: good or bad? Words, a transformer encoder with a padding mask and a masked mean;
`not` turns the next word round."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

GOOD = "good great lovely bright warm clever fresh tender".split()
BAD = "bad awful dull cold clumsy stale boring harsh".split()
PLAIN = "the film was story actors and music scene with quite a its very plot long of ending".split()
VOCABULARY = {word: i for i, word in enumerate(["<pad>", "not", *GOOD, *BAD, *PLAIN])}
PAD = VOCABULARY["<pad>"]


def sentence(rng):
    """Words and label; the sum of opinions is clearly on one side."""
    while True:
        words, score = [], 0
        for _ in range(rng.randint(6, 15)):
            if rng.random() < 0.6:
                words.append(rng.choice(PLAIN))
                continue
            sign = rng.choice((1, -1))
            turned = rng.random() < 0.25
            words += ["not"] * turned + [rng.choice(GOOD if sign > 0 else BAD)]
            score += -sign if turned else sign
        if abs(score) >= 2:
            return tuple(words), int(score > 0)


def corpus(count, rng, known=frozenset()):
    found = {}
    while len(found) < count:
        words, label = sentence(rng)
        if words not in known:
            found[words] = label
    return found


def collate(batch):
    tokens = [torch.tensor([VOCABULARY[word] for word in words]) for words, _ in batch]
    labels = torch.tensor([label for _, label in batch])
    return pad_sequence(tokens, batch_first=True, padding_value=PAD), labels


class SentimentTransformer(nn.Module):
    def __init__(self, words, dim=48, heads=4, depth=2, longest=32, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(words, dim, padding_idx=PAD)
        self.position = nn.Embedding(longest, dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 2)

    def forward(self, tokens):
        padding = tokens == PAD
        x = self.embedding(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.norm(self.encoder(x, src_key_padding_mask=padding))
        real = (~padding).unsqueeze(-1).to(x.dtype)
        return self.out((x * real).sum(1) / real.sum(1))


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss = right = count = 0
    for tokens, labels in loader:
        logits = model(tokens)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(-1) == labels).sum().item()
        count += len(labels)
    return loss / count, right / count


def main():
    torch.manual_seed(6)
    rng = random.Random(6)
    train_set = corpus(6000, rng)
    val_set = corpus(500, rng, known=train_set.keys())
    train_loader = DataLoader(list(train_set.items()), batch_size=64, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(list(val_set.items()), batch_size=125, collate_fn=collate)

    model = SentimentTransformer(len(VOCABULARY))
    epochs = 8
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * len(train_loader), pct_start=0.15)
    for epoch in range(epochs):
        model.train()
        total = torch.zeros(())
        for tokens, labels in train_loader:
            loss = F.cross_entropy(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            scheduler.step()
            total += loss.detach() * len(labels)
        val_loss, val_accuracy = evaluate(model, val_loader)
        print(f"epoch {epoch}: train {total.item() / len(train_set):.4f} val {val_loss:.4f} accuracy {val_accuracy:.4f}")


if __name__ == "__main__":
    main()
