"""BiLSTM tagger on packed sequences of different lengths."""

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

VOCAB_SIZE = 24  # 0 is padding, 1 to 5 are titles, from 15 on names
FIRST_NAME = 15
TAGS = ["O", "B-NAME", "I-NAME", "AFTER-TITLE"]
NUM_TAGS = len(TAGS)
PAD_TOKEN = 0
PAD_TAG = -100


def tag_sentence(tokens):
    tags, previous = [], PAD_TOKEN
    for token in tokens:
        if token >= FIRST_NAME:
            tags.append(2 if previous >= FIRST_NAME else 1)
        else:
            tags.append(3 if 1 <= previous <= 5 else 0)
        previous = token
    return tags


class TaggedSentences(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.samples = []
        for _ in range(count):
            length = int(torch.randint(5, 19, (1,), generator=generator))
            tokens = torch.randint(1, VOCAB_SIZE, (length,), generator=generator)
            self.samples.append((tokens, torch.tensor(tag_sentence(tokens.tolist()))))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def collate(samples):
    tokens, tags = zip(*samples)
    tokens = pad_sequence(list(tokens), batch_first=True, padding_value=PAD_TOKEN)
    tags = pad_sequence(list(tags), batch_first=True, padding_value=PAD_TAG)
    return tokens, tags


class BiLSTMTagger(nn.Module):
    def __init__(self, embedding_dim=24, hidden=32):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, embedding_dim, padding_idx=PAD_TOKEN)
        self.lstm = nn.LSTM(embedding_dim, hidden, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * hidden, NUM_TAGS)

    def forward(self, tokens):
        lengths = (tokens != PAD_TOKEN).sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        output, _ = self.lstm(packed)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=tokens.size(1))
        return self.hidden2tag(output)


class TokenCrossEntropy(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.CrossEntropyLoss(ignore_index=PAD_TAG)

    def forward(self, emissions, tags):
        return self.criterion(emissions.reshape(-1, NUM_TAGS), tags.reshape(-1))


def train_step(model, batch, optimizer, criterion):
    tokens, tags = batch
    model.zero_grad()
    loss = criterion(model(tokens), tags)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(2)
    model = BiLSTMTagger()
    return {
        "model": model,
        "train": DataLoader(TaggedSentences(1000, seed=0), batch_size=32, shuffle=True, collate_fn=collate),
        "val": DataLoader(TaggedSentences(200, seed=1), batch_size=50, collate_fn=collate),
        "loss": TokenCrossEntropy(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=5e-3),
        "step": train_step,
    }
