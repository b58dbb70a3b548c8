"""Does the review like the dish? A transformer encoder over padded word lists."""
import math
import random
from collections import Counter
from functools import partial

import torch
from torch import nn, Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

PAD, UNK = "<pad>", "<unk>"
GOOD = "tasty fresh crisp lovely superb warm rich delicate".split()
BAD = "stale bland soggy awful burnt cold greasy bitter".split()
FILL = "the soup was and then we had some bread with a view of our table near windows quite late".split()


def make_reviews(count, seed):
    rng = random.Random(seed)
    reviews, labels = [], []
    for _ in range(count):
        label = rng.randint(0, 2)  # 0 bad, 1 mixed, 2 good
        words = rng.choices(FILL, k=rng.randint(4, 26))
        likes = {0: [BAD, BAD], 1: [GOOD, BAD], 2: [GOOD, GOOD]}[label]
        for pool in likes:
            if rng.random() < 0.1:  # "not stale" says what "fresh" says
                said = "not " + rng.choice(BAD if pool is GOOD else GOOD)
            else:
                said = rng.choice(pool)
            words.insert(rng.randrange(len(words) + 1), said)
        reviews.append(" ".join(words))
        labels.append(label)
    return reviews, labels


def build_vocab(texts, min_freq=1):
    counter = Counter(word for line in texts for word in line.split())
    words = [w for w, c in counter.most_common() if c >= min_freq]
    return {w: i for i, w in enumerate([PAD, UNK] + words)}


class ReviewDataset(Dataset):
    def __init__(self, texts, labels, vocab):
        self.items = [([vocab.get(w, vocab[UNK]) for w in t.split()], y) for t, y in zip(texts, labels)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(batch, pad_id):
    ids, labels = zip(*sorted(batch, key=lambda pair: -len(pair[0])))  # longest first
    ids = pad_sequence([torch.tensor(x) for x in ids], batch_first=True, padding_value=pad_id)
    return {"ids": ids, "labels": torch.tensor(labels), "padding": ids == pad_id}


class PositionalEncoding(nn.Module):
    def __init__(self, d_model: int, max_len: int = 64):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2], pe[0, :, 1::2] = torch.sin(position * div_term), torch.cos(position * div_term)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.size(1)]


class Classifier(nn.Module):
    def __init__(self, vocab_size, num_class, d_model=32, nhead=4, layers=2, dropout=0.1, pad_id=0):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.embed = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, 4 * d_model, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.fc = nn.Linear(d_model, num_class)
        nn.init.normal_(self.embed.weight, std=d_model**-0.5)

    def forward(self, ids, padding):
        hidden = self.encoder(self.pos(self.embed(ids) * self.scale), src_key_padding_mask=padding)
        keep = (~padding).unsqueeze(-1).float()
        return self.fc((hidden * keep).sum(1) / keep.sum(1))


def warmup_cosine(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def evaluate(model, loader):
    was_training = model.training
    model.eval()
    correct = count = 0
    with torch.no_grad():
        for batch in loader:
            pred = model(batch["ids"], batch["padding"]).argmax(dim=1)
            correct += (pred == batch["labels"]).sum().item()
            count += batch["labels"].numel()
    model.train(was_training)
    return correct / count


def main(epochs=8, batch_size=32, lr=2e-3):
    torch.manual_seed(5)
    train_texts, train_labels = make_reviews(1000, seed=1)
    valid_texts, valid_labels = make_reviews(300, seed=2)
    vocab = build_vocab(train_texts)
    fold = partial(collate, pad_id=vocab[PAD])
    train_loader = DataLoader(ReviewDataset(train_texts, train_labels, vocab), batch_size, shuffle=True, collate_fn=fold)
    valid_loader = DataLoader(ReviewDataset(valid_texts, valid_labels, vocab), 2 * batch_size, collate_fn=fold)
    model = Classifier(len(vocab), 3, pad_id=vocab[PAD])
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    total = epochs * len(train_loader)
    scheduler = LambdaLR(optimizer, partial(warmup_cosine, warmup=total // 10, total=total))
    for epoch in range(epochs):
        running = 0.0
        for batch in train_loader:
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(batch["ids"], batch["padding"]), batch["labels"])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            running += loss.item()
        print(f"epoch {epoch} loss {running / len(train_loader):.3f} accuracy {evaluate(model, valid_loader):.3f}")


if __name__ == "__main__":
    main()
