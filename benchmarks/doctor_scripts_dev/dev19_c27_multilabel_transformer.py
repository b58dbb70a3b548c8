"""Several topics per document: transformer encoder with padding mask, BCE with pos_weight, thresholds set on a third split."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, Dataset

TOPICS, PRIOR = 8, [0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08]
COMMON, OWN, PAD = 60, 12, 0
MAX_LEN = 32


class Documents(Dataset):
    """Each topic of a document adds two or three of its own words, among words that belong to none."""

    def __init__(self, count, seed):
        rng = random.Random(seed)
        self.rows = []
        for _ in range(count):
            labels = [float(rng.random() < p) for p in PRIOR]
            words = [1 + rng.randrange(COMMON) for _ in range(rng.randint(4, 10))]
            for topic, present in enumerate(labels):
                if present:
                    words += [1 + COMMON + topic * OWN + rng.randrange(OWN) for _ in range(rng.randint(2, 3))]
            rng.shuffle(words)
            self.rows.append((torch.tensor(words[:MAX_LEN]), torch.tensor(labels)))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def pad_batch(batch):
    words, labels = zip(*batch)
    return nn.utils.rnn.pad_sequence(words, batch_first=True, padding_value=PAD), torch.stack(labels)


class TopicTransformer(nn.Module):
    def __init__(self, dim=48, heads=4, layers=2):
        super().__init__()
        self.embed = nn.Embedding(1 + COMMON + TOPICS * OWN, dim, padding_idx=PAD)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.1, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.score = nn.Linear(dim, 1)
        self.out = nn.Linear(dim, TOPICS)

    def forward(self, ids):
        empty = ids == PAD
        h = self.encoder(self.embed(ids), src_key_padding_mask=empty)
        weights = self.score(h).squeeze(-1).masked_fill(empty, float("-inf")).softmax(1)  # attention pooling
        return self.out((weights.unsqueeze(-1) * h).sum(1))


def collect(model, loader):
    model.eval()
    with torch.no_grad():
        pairs = [(model(ids), labels) for ids, labels in loader]
    return torch.cat([p for p, _ in pairs]).sigmoid().numpy(), torch.cat([t for _, t in pairs]).numpy()


def best_thresholds(probs, labels):
    grid = [i / 20 for i in range(1, 20)]
    return [max(grid, key=lambda c: f1_score(labels[:, k], probs[:, k] > c, zero_division=0)) for k in range(TOPICS)]


def make_trainer(model, train_loader, optimizer, criterion, scheduler):
    def train_epoch():
        model.train()
        total = 0.0
        for ids, labels in train_loader:
            loss = criterion(model(ids), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(ids)
        return total / len(train_loader.dataset)

    return train_epoch


def main(epochs=16, lr=2e-3):
    torch.manual_seed(0)
    train_set, val_set, test_set = Documents(2600, 0), Documents(500, 1), Documents(500, 2)
    train_loader = DataLoader(train_set, 48, shuffle=True, collate_fn=pad_batch)
    val_loader, test_loader = (DataLoader(d, 250, collate_fn=pad_batch) for d in (val_set, test_set))

    positives = torch.stack([labels for _, labels in train_set.rows]).mean(0)
    pos_weight = ((1 - positives) / positives).sqrt()  # tempered: the full ratio asks too much of rare topics
    model = TopicTransformer()
    with torch.no_grad():
        model.out.bias.copy_(torch.logit(positives))  # begins at the frequencies
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    steps = epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / 60, (steps - s) / (steps - 60)))
    train_epoch = make_trainer(model, train_loader, optimizer, nn.BCEWithLogitsLoss(pos_weight=pos_weight), scheduler)

    for epoch in range(epochs):
        loss = train_epoch()
        probs, labels = collect(model, val_loader)
        print(f"epoch {epoch:2d} loss {loss:.4f} val mAP {average_precision_score(labels, probs, average='macro'):.4f} F1 at 0.5 {f1_score(labels, probs > 0.5, average='macro', zero_division=0):.4f}")

    limits = best_thresholds(*collect(model, val_loader))
    probs, labels = collect(model, test_loader)
    print(f"thresholds {limits}")
    print(f"test: mAP {average_precision_score(labels, probs, average='macro'):.4f}, macro F1 {f1_score(labels, probs > limits, average='macro'):.4f}, subset accuracy {((probs > limits) == labels).all(1).mean():.4f}")


if __name__ == "__main__":
    main()
