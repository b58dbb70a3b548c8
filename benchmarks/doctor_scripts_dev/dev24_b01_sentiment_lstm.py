"""Sentiment of short restaurant reviews with an LSTM."""

import argparse
import random
from collections import Counter

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, UNK = 0, 1
GOOD = "good great tasty lovely fresh friendly perfect amazing cozy delicious cheap quick".split()
BAD = "bad awful bland dirty stale rude terrible horrible noisy disgusting expensive slow".split()
THINGS = "food service soup pizza waiter dessert music place table wine menu staff".split()
OPENINGS = ["we came here on friday .", "my second visit .", "honestly ,", "booked for two ."]
CLOSINGS = [". that is all", ". now you know", ". just my opinion", ". ask my wife"]


def opinion(rng, positive):
    negated = rng.random() < 0.4
    words = ["the", rng.choice(THINGS), rng.choice(["was", "is", "seemed"])]
    if negated:
        words.append(rng.choice(["not", "never"]))
    if rng.random() < 0.4:
        words.append(rng.choice(["very", "really", "so", "that"]))
    words.append(rng.choice(GOOD if positive != negated else BAD))
    return words


def write_review(rng, positive):
    words = []
    if rng.random() < 0.5:
        words += rng.choice(OPENINGS).split()
    if rng.random() < 0.3:
        words += ["although"] + opinion(rng, not positive) + [","]
    for i in range(rng.randint(1, 3)):
        if i > 0:
            words.append("and")
        words += opinion(rng, positive)
    if rng.random() < 0.5:
        words += rng.choice(CLOSINGS).split()
    return " ".join(words)


def load_reviews(count, seed):
    """As they lie in the folders: pos/ first, then neg/."""
    rng = random.Random(seed)
    reviews = [(write_review(rng, True), 1) for _ in range(count // 2)]
    reviews += [(write_review(rng, False), 0) for _ in range(count // 2)]
    return reviews


def build_vocab(reviews):
    counts = Counter(word for text, _ in reviews for word in text.split())
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for word, _ in counts.most_common():
        vocab[word] = len(vocab)
    return vocab


class ReviewDataset(Dataset):
    def __init__(self, reviews, vocab):
        self.tokens = [torch.tensor([vocab.get(word, UNK) for word in text.split()]) for text, _ in reviews]
        self.labels = [float(label) for _, label in reviews]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.tokens[index], self.labels[index]


def collate(samples):
    tokens, labels = zip(*samples)
    return pad_sequence(tokens, batch_first=True, padding_value=PAD), torch.tensor(labels)


class SentimentLSTM(nn.Module):
    def __init__(self, vocab_size, embed_dim, hidden_dim, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.lstm = nn.LSTM(embed_dim, hidden_dim, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_dim, 1)

    def forward(self, tokens):
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))
        mask = (tokens != PAD).unsqueeze(-1).float()
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return self.fc(self.dropout(pooled)).squeeze(1)


def train(model, loader, criterion, optimizer, clip):
    model.train()
    total, count = 0.0, 0
    for tokens, labels in loader:
        optimizer.zero_grad()
        logits = model(tokens)
        loss = criterion(logits, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count


@torch.no_grad()
def evaluate(model, loader, criterion):
    model.eval()
    total, correct, count = 0.0, 0, 0
    for tokens, labels in loader:
        logits = model(tokens)
        total += criterion(logits, labels).item() * len(labels)
        predicted = (logits > 0).float()
        correct += (predicted == labels).sum().item()
        count += len(labels)
    return total / count, correct / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--embed-dim", type=int, default=48)
    parser.add_argument("--hidden-dim", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    train_reviews = load_reviews(4000, seed=1)
    known = {text for text, _ in train_reviews}
    val_reviews = [review for review in load_reviews(800, seed=2) if review[0] not in known]
    vocab = build_vocab(train_reviews)
    train_set = ReviewDataset(train_reviews, vocab)
    val_set = ReviewDataset(val_reviews, vocab)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, batch_size=100, collate_fn=collate)

    model = SentimentLSTM(len(vocab), args.embed_dim, args.hidden_dim, args.dropout)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, train_loader, criterion, optimizer, args.clip)
        val_loss, val_accuracy = evaluate(model, val_loader, criterion)
        print(f"epoch {epoch:2d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}  val accuracy {val_accuracy:.3f}")


if __name__ == "__main__":
    main()
