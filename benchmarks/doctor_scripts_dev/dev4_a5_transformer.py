"""Which department a customer's message is for: a small transformer encoder on padded word sequences."""

import math
import random
from collections import Counter

import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

PAD, UNK = 0, 1
COUNTS = {"billing": 480, "delivery": 300, "technical": 150, "legal": 70}
TOPICS = {
    "billing": "invoice charge refund payment card price discount".split(),
    "delivery": "parcel courier address late box arrived tracking".split(),
    "technical": "screen crash update login error battery cable".split(),
    "legal": "contract privacy consent terms clause lawyer deletion".split(),
}
FILLER = "i my the a was is not and to for please about it with you again today still order last week".split()


def make_messages(scale, seed):
    """Every message holds one or two words of another department as well, after the word `not`."""
    rng = random.Random(seed)
    texts, labels = [], []
    for name, count in COUNTS.items():
        for _ in range(int(count * scale)):
            words = [rng.choice(FILLER) for _ in range(rng.randint(4, 16))]
            for _ in range(rng.randint(1, 2)):
                words.insert(rng.randint(0, len(words)), rng.choice(TOPICS[name]))
            other = rng.choice([t for t in TOPICS if t != name])
            if rng.random() < 0.8:
                at = rng.randint(0, len(words))
                words[at:at] = ["not", rng.choice(TOPICS[other])]
            texts.append(" ".join(words))
            labels.append(name)
    return texts, labels


def build_vocab(texts):
    counter = Counter(word for text in texts for word in text.split())
    return {word: i + 2 for i, (word, _) in enumerate(counter.most_common())}


def encode(texts, labels, vocab, classes):
    return [
        (torch.tensor([vocab.get(word, UNK) for word in text.split()]), classes.index(label))
        for text, label in zip(texts, labels)
    ]


def collate_fn(batch):
    sequences = [sequence for sequence, _ in batch]
    labels = torch.tensor([label for _, label in batch])
    return pad_sequence(sequences, batch_first=True, padding_value=PAD), labels


class TextTransformer(nn.Module):
    def __init__(self, vocab_size, num_classes, d_model=48, nhead=4, layers=2, max_len=64, dropout=0.1):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, d_model, padding_idx=PAD)
        self.position = nn.Parameter(torch.randn(1, max_len, d_model) * 0.02)
        layer = nn.TransformerEncoderLayer(d_model, nhead, 96, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, tokens):
        padding = tokens == PAD
        x = self.embed(tokens) + self.position[:, : tokens.size(1)]
        x = self.encoder(x, src_key_padding_mask=padding)
        keep = (~padding).unsqueeze(-1)
        pooled = (x * keep).sum(1) / keep.sum(1)
        return self.head(pooled)


def warmup_cosine(warmup, total):
    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return factor


def evaluate(model, loader):
    model.eval()
    preds, golds = [], []
    with torch.no_grad():
        for tokens, labels in loader:
            preds += model(tokens).argmax(-1).tolist()
            golds += labels.tolist()
    accuracy = sum(p == g for p, g in zip(preds, golds)) / len(golds)
    return accuracy, f1_score(golds, preds, average="macro")


def main():
    torch.manual_seed(0)
    train_texts, train_labels = make_messages(1.0, seed=0)
    val_texts, val_labels = make_messages(0.3, seed=1)
    classes = sorted(set(train_labels))
    vocab = build_vocab(train_texts)
    train_set = encode(train_texts, train_labels, vocab, classes)
    val_set = encode(val_texts, val_labels, vocab, classes)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=collate_fn)
    val_loader = DataLoader(val_set, batch_size=64, collate_fn=collate_fn)

    counts = torch.tensor([train_labels.count(name) for name in classes], dtype=torch.float)
    weights = counts.sum() / (len(classes) * counts)
    criterion = nn.CrossEntropyLoss(weight=weights)

    model = TextTransformer(len(vocab) + 2, len(classes))
    epochs, lr = 8, 2e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    total_steps = epochs * len(train_loader)
    scheduler = LambdaLR(optimizer, warmup_cosine(total_steps // 10, total_steps))

    for epoch in range(epochs):
        model.train()
        losses = []
        for tokens, labels in train_loader:
            logits = model(tokens)
            loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        accuracy, macro_f1 = evaluate(model, val_loader)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f} val acc {accuracy:.3f} macro F1 {macro_f1:.3f}")


if __name__ == "__main__":
    main()
