"""Intent of short utterances with an LSTM over packed sequences."""

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

PAD, FIRST_FILLER, VOCAB, CLASSES = 0, 10, 30, 3
args = {"bucketing": False, "batch_size": 32, "lr": 3e-3, "emb": 32, "hidden": 48}


class Utterances(Dataset):
    """Fillers, and two cues of the class (tokens 1-3, 4-6 or 7-9) at places drawn by chance."""

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.items = []
        for _ in range(count):
            label = int(torch.randint(0, CLASSES, (1,), generator=g))
            length = int(torch.randint(5, 19, (1,), generator=g))
            tokens = torch.randint(FIRST_FILLER, VOCAB, (length,), generator=g)
            places = torch.randperm(length, generator=g)[:2]
            tokens[places] = 1 + 3 * label + torch.randint(0, 3, (2,), generator=g)
            self.items.append((tokens, label))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class BucketBatchSampler(Sampler):
    """Batches of about the same length, so that little is padded; pools and batches are shuffled."""

    def __init__(self, lengths, batch_size, pool=8):
        self.lengths, self.batch_size, self.pool = lengths, batch_size, pool * batch_size

    def __len__(self):
        return (len(self.lengths) + self.batch_size - 1) // self.batch_size

    def __iter__(self):
        order = torch.randperm(len(self.lengths)).tolist()
        batches = []
        for start in range(0, len(order), self.pool):
            pool = sorted(order[start : start + self.pool], key=lambda i: self.lengths[i])
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        for i in torch.randperm(len(batches)).tolist():
            yield batches[i]


def collate(batch):
    tokens, labels = zip(*batch)
    return pad_sequence(tokens, batch_first=True, padding_value=PAD), torch.tensor(labels)


class IntentLSTM(nn.Module):
    def __init__(self, emb, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, emb, padding_idx=PAD)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(hidden, CLASSES))

    def forward(self, tokens):
        lengths = (tokens != PAD).sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return self.classifier(hidden[-1])


def setup():
    torch.manual_seed(0)
    train, val = Utterances(1200, seed=0), Utterances(300, seed=1)
    if args["bucketing"]:
        sampler = BucketBatchSampler([len(tokens) for tokens, _ in train.items], args["batch_size"])
        loader = DataLoader(train, batch_sampler=sampler, collate_fn=collate)
    else:
        loader = DataLoader(train, batch_size=args["batch_size"], shuffle=True, collate_fn=collate)
    model = IntentLSTM(args["emb"], args["hidden"])
    return {
        "model": model,
        "train": loader,
        "val": DataLoader(val, batch_size=100, collate_fn=collate),
        "optimizer": torch.optim.Adam(model.parameters(), lr=args["lr"]),
    }
