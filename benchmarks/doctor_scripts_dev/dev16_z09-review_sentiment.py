"""Sentiment of short reviews with a small transformer encoder, trained from scratch."""
import math
import random
import re
from collections import Counter

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD, UNK = 0, 1
MAX_LEN = 24
D_MODEL, HEADS, LAYERS = 32, 4, 2
EPOCHS, BATCH, LR = 10, 50, 3e-3

GOOD = "good great lovely tasty friendly cozy excellent fresh charming superb".split()
BAD = "bad awful rude stale noisy dirty terrible bland cold gloomy".split()
NOUNS = "food service waiter room soup place music price terrace dessert".split()
OPENERS = ["", "we went there on monday and", "honestly", "as a regular guest i find", "my friends say", "this time"]
CLOSERS = ["", "as far as i can tell", "this summer", "to tell the truth", "in the evening", "all in all"]


def write_review(positive, rng):
    negated = rng.random() < 0.4
    word = rng.choice(GOOD if positive != negated else BAD)
    verb = "was not" if negated else rng.choice(["was", "was really", "was quite"])
    return f"{rng.choice(OPENERS)} the {rng.choice(NOUNS)} {verb} {word} {rng.choice(CLOSERS)} .".strip()


def read_folder(count, seed):
    """Like the folders pos/ and neg/ of the usual archives."""
    rng = random.Random(seed)
    texts, labels = [], []
    for name, label in (("pos", 1), ("neg", 0)):
        for _ in range(count // 2):
            texts.append(write_review(name == "pos", rng))
            labels.append(label)
    return texts, labels


def tokenize(text):
    return re.findall(r"[a-z]+|[.,!?]", text.lower())


class Vocab:
    def __init__(self, texts, min_freq=2):
        counts = Counter(token for text in texts for token in tokenize(text))
        words = [w for w, n in counts.most_common() if n >= min_freq]
        self.index = {w: i for i, w in enumerate(["<pad>", "<unk>"] + words)}

    def __len__(self):
        return len(self.index)

    def encode(self, text):
        ids = [self.index.get(t, UNK) for t in tokenize(text)][:MAX_LEN]
        return ids + [PAD] * (MAX_LEN - len(ids))


class Reviews(Dataset):
    def __init__(self, texts, labels, vocab):
        self.ids = torch.tensor([vocab.encode(t) for t in texts])
        self.labels = torch.tensor(labels, dtype=torch.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.ids[i], self.labels[i]


class SentimentEncoder(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, D_MODEL, padding_idx=PAD)
        self.position = nn.Parameter(torch.randn(MAX_LEN, D_MODEL) * 0.02)
        layer = nn.TransformerEncoderLayer(D_MODEL, HEADS, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.classify = nn.Linear(D_MODEL, 1)

    def forward(self, ids):
        padding = ids == PAD
        x = self.embed(ids) * math.sqrt(D_MODEL) + self.position
        x = self.encoder(x, src_key_padding_mask=padding)
        keep = (ids != PAD).unsqueeze(-1).float()
        x = (x * keep).sum(1) / keep.sum(1)
        return self.classify(x).squeeze(-1)


def evaluate(model, loader, criterion):
    model.eval()
    loss_sum = right = n = 0
    with torch.no_grad():
        for ids, labels in loader:
            scores = model(ids)
            loss_sum += criterion(scores, labels).item() * len(labels)
            predicted = (scores > 0).float()
            right += (predicted == labels).sum().item()
            n += len(labels)
    return loss_sum / n, right / n


if __name__ == "__main__":
    torch.manual_seed(5)
    train_texts, train_labels = read_folder(1600, seed=1)
    test_texts, test_labels = read_folder(400, seed=2)
    vocab = Vocab(train_texts)
    print(len(vocab), "words;", train_texts[0], "/", train_texts[-1])
    train_data = Reviews(train_texts, train_labels, vocab)
    test_data = Reviews(test_texts, test_labels, vocab)
    train_loader = DataLoader(train_data, batch_size=BATCH, shuffle=True)
    test_loader = DataLoader(test_data, batch_size=200)

    model = SentimentEncoder(len(vocab))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    total = EPOCHS * len(train_loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min((i + 1) / 20, (total - i) / total))

    for epoch in range(1, EPOCHS + 1):
        model.train()
        running = 0.0
        for ids, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(ids), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            running += loss.item()
        test_loss, test_acc = evaluate(model, test_loader, criterion)
        print(f"{epoch:2d}/{EPOCHS}  train {running / len(train_loader):.3f}  test {test_loss:.3f}  accuracy {test_acc:.1%}")
