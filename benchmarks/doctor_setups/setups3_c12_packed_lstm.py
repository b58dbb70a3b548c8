"""Which language is it? Sequences of several lengths, packed for a bidirectional LSTM."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

PAD = 0
CFG = {"letters": 20, "languages": 4, "embed": 24, "hidden": 32, "batch_size": 50, "lr": 5e-3, "clip": 1.0}


class Words(Dataset):
    """Each language follows letters by others in its own way (a Markov chain)."""

    def __init__(self, count, seed, shortest=6, longest=28):
        letters, languages = CFG["letters"], CFG["languages"]
        chains = (2.5 * torch.randn(languages, letters, letters, generator=torch.Generator().manual_seed(99))).softmax(-1)
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, languages, (count,), generator=generator)
        self.lengths = torch.randint(shortest, longest + 1, (count,), generator=generator)
        current = torch.randint(0, letters, (count,), generator=generator)
        columns = [current]
        for _ in range(longest - 1):
            current = torch.multinomial(chains[self.labels, current], 1, generator=generator).squeeze(1)
            columns.append(current)
        self.tokens = torch.stack(columns, dim=1) + 1  # 0 is for padding

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.tokens[index, : int(self.lengths[index])], int(self.labels[index])


def collate(batch):
    sequences, labels = zip(*batch)
    return pad_sequence(sequences, batch_first=True, padding_value=PAD), torch.tensor(labels)


class LanguageLSTM(nn.Module):
    def __init__(self, letters, languages, embed, hidden):
        super().__init__()
        self.embedding = nn.Embedding(letters + 1, embed, padding_idx=PAD)
        self.lstm = nn.LSTM(embed, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, languages)

    def forward(self, tokens):
        lengths = (tokens != PAD).sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.out(torch.cat([h[-2], h[-1]], dim=1))


def step(model, batch, optimizer, loss):
    tokens, labels = batch
    optimizer.zero_grad()
    value = loss(model(tokens), labels)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CFG["clip"])
    optimizer.step()
    return value.detach()


def train_loader(dataset):
    return DataLoader(dataset, batch_size=CFG["batch_size"], shuffle=True, collate_fn=collate)


def setup():
    torch.manual_seed(11)
    train_set, val_set = Words(1600, seed=12), Words(400, seed=13)
    model = LanguageLSTM(CFG["letters"], CFG["languages"], CFG["embed"], CFG["hidden"])
    return {
        "model": model,
        "train": train_loader(train_set),
        "val": DataLoader(val_set, batch_size=100, collate_fn=collate),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=CFG["lr"]),
        "step": step,
    }
