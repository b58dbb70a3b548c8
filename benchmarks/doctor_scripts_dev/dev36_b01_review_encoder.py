"""Sentiment of short film reviews: a small transformer encoder, trained with Accelerate."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

PAD, UNK, CLS, MAX_LEN = 0, 1, 2, 32
GOOD = "great lovely superb funny moving clever charming brilliant".split()
BAD = "dull awful boring clumsy tedious lazy painful flat".split()
FILLER = "the film plot actor scene music was and with this it story camera ending script very".split()


def write_review(rng, mood):
    while True:
        words, score = [], 0
        for _ in range(int(rng.integers(7, 16))):
            if rng.random() < 0.45:
                praise = bool(rng.random() < (0.8 if mood else 0.2))
                negated = bool(rng.random() < 0.1)
                if negated:
                    words.append("not")
                words.append(str(rng.choice(GOOD if praise != negated else BAD)))
                score += 1 if praise else -1
            else:
                words.append(str(rng.choice(FILLER)))
        if (score > 0 and mood == 1) or (score < 0 and mood == 0):
            return " ".join(words)


def load_reviews(count, seed):
    rng = np.random.default_rng(seed)
    labels = [int(rng.integers(0, 2)) for _ in range(count)]
    return [write_review(rng, label) for label in labels], labels


def build_vocab(texts):
    words = sorted({word for text in texts for word in text.split()})
    return {"<pad>": PAD, "<unk>": UNK, "<cls>": CLS, **{word: i + 3 for i, word in enumerate(words)}}


def encode(texts, labels, vocab):
    rows = torch.full((len(texts), MAX_LEN), PAD)
    for row, text in zip(rows, texts):
        ids = ([CLS] + [vocab.get(word, UNK) for word in text.split()])[:MAX_LEN]
        row[: len(ids)] = torch.tensor(ids)
    return TensorDataset(rows, torch.tensor(labels))


class EncoderBlock(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.Dropout(dropout))

    def forward(self, x, mask):
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        mixed = mixed.transpose(1, 2).reshape(batch, length, dim)
        x = x + F.dropout(self.out(mixed), self.dropout, self.training)
        return x + self.mlp(self.norm2(x))


class SentimentEncoder(nn.Module):
    def __init__(self, vocab_size, dim=64, heads=4, depth=2, classes=2, dropout=0.1):
        super().__init__()
        self.word = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.position = nn.Embedding(MAX_LEN, dim)
        nn.init.normal_(self.position.weight, std=0.1)
        self.blocks = nn.ModuleList([EncoderBlock(dim, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, classes)

    def forward(self, ids):
        x = self.word(ids) + self.position(torch.arange(ids.size(1), device=ids.device))
        mask = ids != PAD
        for block in self.blocks:
            x = block(x, mask)
        return self.classifier(self.norm(x)[:, 0])


@torch.no_grad()
def evaluate(accelerator, model, loader):
    model.eval()
    predictions, references = [], []
    for ids, labels in loader:
        predicted, expected = accelerator.gather_for_metrics((model(ids).argmax(dim=-1), labels))
        predictions.append(predicted.cpu())
        references.append(expected.cpu())
    predictions, references = torch.cat(predictions).numpy(), torch.cat(references).numpy()
    return {"accuracy": accuracy_score(references, predictions), "f1": f1_score(references, predictions)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    texts, labels = load_reviews(1600, args.seed)
    train_texts, rest_texts, train_labels, rest_labels = train_test_split(
        texts, labels, test_size=0.3, stratify=labels, random_state=args.seed
    )
    val_texts, test_texts, val_labels, test_labels = train_test_split(
        rest_texts, rest_labels, test_size=0.5, stratify=rest_labels, random_state=args.seed
    )
    vocab = build_vocab(train_texts)
    train_loader = DataLoader(encode(train_texts, train_labels, vocab), batch_size=32, shuffle=True)
    val_loader = DataLoader(encode(val_texts, val_labels, vocab), batch_size=64)
    test_loader = DataLoader(encode(test_texts, test_labels, vocab), batch_size=64)

    model = SentimentEncoder(len(vocab))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    total, warmup = args.epochs * len(train_loader), len(train_loader)
    scheduler = LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (total - step) / (total - warmup)))
    model, optimizer, train_loader, val_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, test_loader, scheduler
    )

    best_f1, best_state = -1.0, None
    for epoch in range(args.epochs):
        model.train()
        total_loss = torch.zeros(())
        for ids, labels in train_loader:
            loss = criterion(model(ids), labels)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach()
        metrics = evaluate(accelerator, model, val_loader)
        accelerator.print(f"epoch {epoch}: loss {total_loss.item() / len(train_loader):.4f}, validation {metrics}")
        if metrics["f1"] > best_f1:
            best_f1 = metrics["f1"]
            best_state = {k: v.clone() for k, v in accelerator.unwrap_model(model).state_dict().items()}

    accelerator.unwrap_model(model).load_state_dict(best_state)
    accelerator.print("test", evaluate(accelerator, model, test_loader))


if __name__ == "__main__":
    main()
