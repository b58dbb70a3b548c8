"""Character language model. The text is read in order in twenty columns; the state of the LSTM goes on from one piece
to the next and is cut off from its history there (truncated backpropagation through time)."""

import argparse
import math
import time

import torch
import torch.nn as nn

from toydata import text

parser = argparse.ArgumentParser(description="LSTM language model")
parser.add_argument("--emsize", type=int, default=32)
parser.add_argument("--nhid", type=int, default=128)
parser.add_argument("--lr", type=float, default=4e-3)
parser.add_argument("--clip", type=float, default=1.0)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch_size", type=int, default=20)
parser.add_argument("--bptt", type=int, default=35)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=1111)
args = parser.parse_args()
torch.manual_seed(args.seed)


class Dictionary:
    def __init__(self, corpus):
        self.characters = sorted(set(corpus))
        self.index = {character: i for i, character in enumerate(self.characters)}

    def __len__(self):
        return len(self.characters)

    def encode(self, string):
        return torch.tensor([self.index[character] for character in string])

    def decode(self, ids):
        return "".join(self.characters[i] for i in ids)


def batchify(data, columns):
    rows = data.size(0) // columns
    return data[: rows * columns].view(columns, rows).t().contiguous()


def get_batch(source, i):
    length = min(args.bptt, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length].reshape(-1)


def repackage_hidden(hidden):
    return tuple(state.detach() for state in hidden)


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid, dropout):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid)
        self.decoder = nn.Linear(nhid, ntoken)
        self.nhid = nhid

    def forward(self, tokens, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        decoded = self.decoder(self.drop(output))
        return decoded.view(-1, decoded.size(-1)), hidden

    def init_hidden(self, columns):
        return torch.zeros(1, columns, self.nhid), torch.zeros(1, columns, self.nhid)


train_text, valid_text = text(60000, seed=0), text(8000, seed=1)
dictionary = Dictionary(train_text)
train_data = batchify(dictionary.encode(train_text), args.batch_size)
valid_data = batchify(dictionary.encode(valid_text), 10)

model = RNNModel(len(dictionary), args.emsize, args.nhid, args.dropout)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)


def evaluate(source):
    model.eval()
    hidden = model.init_hidden(source.size(1))
    total = tokens = 0
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, args.bptt):
            data, targets = get_batch(source, i)
            output, hidden = model(data, hidden)
            total += criterion(output, targets).item() * targets.numel()
            tokens += targets.numel()
    return total / tokens


def train():
    model.train()
    hidden = model.init_hidden(args.batch_size)
    total, tokens = 0.0, 0
    for i in range(0, train_data.size(0) - 1, args.bptt):
        data, targets = get_batch(train_data, i)
        hidden = repackage_hidden(hidden)
        optimizer.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        total += loss.item() * targets.numel()
        tokens += targets.numel()
    return total / tokens


def generate(start, count):
    model.eval()
    hidden, ids = model.init_hidden(1), dictionary.encode(start).tolist()
    tokens = torch.tensor(ids).unsqueeze(1)
    with torch.no_grad():
        for _ in range(count):
            output, hidden = model(tokens, hidden)
            tokens = torch.multinomial(output[-1].softmax(-1), 1).view(1, 1)
            ids.append(tokens.item())
    return dictionary.decode(ids)


for epoch in range(1, args.epochs + 1):
    started = time.time()
    train_loss = train()
    valid_loss = evaluate(valid_data)
    scheduler.step()
    print(
        f"| epoch {epoch:2d} | {time.time() - started:4.1f} s | train ppl {math.exp(train_loss):6.3f} "
        f"| valid loss {valid_loss:.4f} | valid ppl {math.exp(valid_loss):6.3f}"
    )
print(generate("the ", 150))
