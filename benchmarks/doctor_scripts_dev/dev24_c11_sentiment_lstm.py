"""Sentiment of reviews with a bidirectional LSTM over packed sequences."""

import random
import time
from collections import Counter

import torch
import torch.nn as nn
import torch.optim as optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

SEED = 1234
random.seed(SEED)
torch.manual_seed(SEED)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

POSITIVE = """good great excellent wonderful superb lovely brilliant amazing charming moving funny clever
    delightful gripping beautiful perfect""".split()
NEGATIVE = """bad awful terrible dull boring weak poor horrible silly slow clumsy stupid
    dreadful tedious ugly lame""".split()
FILLER = """the a this that movie film plot story actor actress scene music camera director script ending start
    was is were had with and or but of in on at for from by about after before while then also just some many
    people city house night day train war love family friend dialogue costume sequel minutes hour part role
    they he she it we i you""".split()


def make_reviews(count, seed):
    rng = random.Random(seed)
    reviews = []
    while len(reviews) < count:
        score, pieces = 0, []
        for _ in range(rng.randint(1, 3)):
            polarity = rng.choice([-1, 1])
            negated = rng.random() < 0.3
            word = rng.choice(POSITIVE if polarity > 0 else NEGATIVE)
            pieces.append(["not", word] if negated else [word])
            score += -polarity if negated else polarity
        if score == 0:
            continue
        pieces += [[rng.choice(FILLER)] for _ in range(rng.randint(8, 18))]
        rng.shuffle(pieces)
        tokens = [token for piece in pieces for token in piece]
        reviews.append((" ".join(tokens), int(score > 0)))
    return reviews


class Vocab:
    PAD, UNK = 0, 1

    def __init__(self, texts, min_freq=2):
        counter = Counter(token for text in texts for token in text.split())
        self.itos = ["<pad>", "<unk>"] + sorted(t for t, c in counter.items() if c >= min_freq)
        self.stoi = {t: i for i, t in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, text):
        return [self.stoi.get(token, self.UNK) for token in text.split()]


class ReviewDataset(Dataset):
    def __init__(self, reviews, vocab):
        self.items = [(torch.tensor(vocab.encode(text)), label) for text, label in reviews]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(batch):
    texts, labels = zip(*batch)
    lengths = torch.tensor([len(t) for t in texts])
    padded = pad_sequence(texts, batch_first=True, padding_value=Vocab.PAD)
    return padded, lengths, torch.tensor(labels, dtype=torch.float)


class LSTMClassifier(nn.Module):
    def __init__(self, vocab_size, embedding_dim=48, hidden_dim=48, dropout=0.3):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=Vocab.PAD)
        self.rnn = nn.LSTM(embedding_dim, hidden_dim, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(hidden_dim * 2, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text, lengths):
        embedded = self.dropout(self.embedding(text))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.rnn(packed)
        hidden = self.dropout(torch.cat((hidden[-2], hidden[-1]), dim=1))
        return self.fc(hidden).squeeze(1)


def count_correct(logits, labels):
    rounded = torch.round(torch.sigmoid(logits))
    return (rounded == labels).sum().item()


def train(model, iterator, optimizer, criterion):
    epoch_loss, epoch_correct, n = 0.0, 0, 0
    model.train()
    for text, lengths, labels in iterator:
        text, labels = text.to(device), labels.to(device)
        optimizer.zero_grad()
        predictions = model(text, lengths)
        loss = criterion(predictions, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        epoch_loss += loss.item() * len(labels)
        epoch_correct += count_correct(predictions, labels)
        n += len(labels)
    return epoch_loss / n, epoch_correct / n


def evaluate(model, iterator, criterion):
    epoch_loss, epoch_correct, n = 0.0, 0, 0
    model.eval()
    with torch.no_grad():
        for text, lengths, labels in iterator:
            text, labels = text.to(device), labels.to(device)
            predictions = model(text, lengths)
            loss = criterion(predictions, labels)
            epoch_loss += loss.item() * len(labels)
            epoch_correct += count_correct(predictions, labels)
            n += len(labels)
    return epoch_loss / n, epoch_correct / n


reviews = make_reviews(5200, SEED)
train_reviews, valid_reviews, test_reviews = reviews[:4000], reviews[4000:4600], reviews[4600:]
vocab = Vocab([text for text, _ in train_reviews])
print(f"{len(vocab)} words; example: {train_reviews[0]}")

train_iterator = DataLoader(ReviewDataset(train_reviews, vocab), batch_size=64, shuffle=True, collate_fn=collate)
valid_iterator = DataLoader(ReviewDataset(valid_reviews, vocab), batch_size=128, collate_fn=collate)
test_iterator = DataLoader(ReviewDataset(test_reviews, vocab), batch_size=128, collate_fn=collate)

model = LSTMClassifier(len(vocab)).to(device)
optimizer = optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.BCEWithLogitsLoss().to(device)
print(f"The model has {sum(p.numel() for p in model.parameters() if p.requires_grad):,} trainable parameters")

N_EPOCHS = 15
for epoch in range(N_EPOCHS):
    start = time.time()
    train_loss, train_acc = train(model, train_iterator, optimizer, criterion)
    valid_loss, valid_acc = evaluate(model, valid_iterator, criterion)
    print(f"Epoch: {epoch + 1:02} | Time: {time.time() - start:.1f}s")
    print(f"\tTrain Loss: {train_loss:.3f} | Train Acc: {train_acc * 100:.2f}%")
    print(f"\t Val. Loss: {valid_loss:.3f} |  Val. Acc: {valid_acc * 100:.2f}%")

test_loss, test_acc = evaluate(model, test_iterator, criterion)
print(f"Test Loss: {test_loss:.3f} | Test Acc: {test_acc * 100:.2f}%")
