"""Sequences of tokens of various lengths, by the rule that they follow: an LSTM over packed sequences."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD = 0
TOKENS = 12
STEPS = (1, -1, 5)  # one class for each rule: next token = token + step, around the clock


class RuleSequences(Dataset):
    def __init__(self, count, seed, min_length=6, max_length=20, noise=0.1):
        generator = torch.Generator().manual_seed(seed)
        self.sequences, self.labels = [], []
        for _ in range(count):
            label = int(torch.randint(0, len(STEPS), (1,), generator=generator))
            length = int(torch.randint(min_length, max_length + 1, (1,), generator=generator))
            start = int(torch.randint(0, TOKENS, (1,), generator=generator))
            tokens = (start + STEPS[label] * torch.arange(length)) % TOKENS
            wrong = torch.rand(length, generator=generator) < noise
            tokens[wrong] = torch.randint(0, TOKENS, (int(wrong.sum()),), generator=generator)
            self.sequences.append(tokens + 1)
            self.labels.append(label)

    def __len__(self):
        return len(self.sequences)

    def __getitem__(self, index):
        return self.sequences[index], self.labels[index]


def collate(batch):
    sequences, labels = zip(*batch)
    return pad_sequence(list(sequences), batch_first=True, padding_value=PAD), torch.tensor(labels)


class LSTMClassifier(nn.Module):
    def __init__(self, vocab_size=TOKENS + 1, embedding_dim=16, hidden_dim=32, num_classes=len(STEPS)):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, tokens):
        lengths = (tokens != PAD).sum(dim=1).clamp(min=1)
        embedded = self.embedding(tokens)
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        last = hidden[-1]
        return self.fc(last)


def train_step(model, batch, optimizer, loss):
    tokens, labels = batch
    model.train()
    optimizer.zero_grad()
    value = loss(model(tokens), labels)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    return value


def setup():
    torch.manual_seed(10)
    model = LSTMClassifier()
    train_set = RuleSequences(1200, seed=0)
    val_set = RuleSequences(300, seed=1)
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=collate),
        "val": DataLoader(val_set, batch_size=100, collate_fn=collate),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=5e-3),
        "step": train_step,
    }
