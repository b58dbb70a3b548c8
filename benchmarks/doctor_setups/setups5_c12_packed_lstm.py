"""Classification of token sequences of different lengths: an LSTM over packed sequences."""

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, VOCAB = 0, 30
MOTIFS = [(2, 7, 11), (3, 8, 12), (4, 9, 13), (5, 10, 14)]


class MotifSequences(Dataset):
    """Random tokens, in which the motif of the class stands two or three times."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)

        def draw(low, high):
            return int(torch.randint(low, high, (1,), generator=generator))

        self.samples = []
        for _ in range(count):
            label = draw(0, len(MOTIFS))
            tokens = []
            for _ in range(draw(2, 4)):
                for _ in range(draw(1, 5)):
                    tokens.append(draw(1, VOCAB))
                tokens.extend(MOTIFS[label])
            for _ in range(draw(0, 3)):
                tokens.append(draw(1, VOCAB))
            self.samples.append((torch.tensor(tokens), label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def collate(batch):
    sequences, labels = zip(*batch)
    return pad_sequence(sequences, batch_first=True, padding_value=PAD), torch.tensor(labels)


class SequenceClassifier(nn.Module):
    def __init__(self, vocab=VOCAB, emb=24, hidden=48, classes=len(MOTIFS), bidirectional=False):
        super().__init__()
        self.bidirectional = bidirectional
        self.embedding = nn.Embedding(vocab, emb, padding_idx=PAD)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(hidden * (2 if bidirectional else 1), classes)

    def forward(self, tokens):
        lengths = (tokens != PAD).sum(dim=1).cpu()
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        if self.bidirectional:
            last = torch.cat([hidden[-2], hidden[-1]], dim=1)
        else:
            last = hidden[-1]
        return self.fc(self.dropout(last))


def train_step(model, batch, optimizer, criterion):
    tokens, labels = batch
    optimizer.zero_grad()
    loss = criterion(model(tokens), labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(11)
    train = DataLoader(MotifSequences(1400, seed=0), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(MotifSequences(300, seed=1), batch_size=100, collate_fn=collate)
    model = SequenceClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "step": train_step,
    }
