"""Character-level language model with a GRU, after pytorch/examples word_language_model."""

from types import SimpleNamespace

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import text

args = SimpleNamespace(emsize=32, nhid=96, nlayers=1, lr=0.7, momentum=0.9, clip=0.25, batch_size=20, bptt=48, dropout=0.05, seed=1111)

class Dictionary:
    def __init__(self):
        self.char2idx = {}
        self.idx2char = []

    def add(self, char):
        if char not in self.char2idx:
            self.idx2char.append(char)
            self.char2idx[char] = len(self.idx2char) - 1
        return self.char2idx[char]

    def __len__(self):
        return len(self.idx2char)

class Corpus:
    def __init__(self):
        self.dictionary = Dictionary()
        self.train = self.tokenize(text(40000, seed=3))
        self.valid = self.tokenize(text(8000, seed=4))

    def tokenize(self, string):
        return torch.tensor([self.dictionary.add(char) for char in string], dtype=torch.long)

def get_windows(source, bptt, stride):
    """Rows of bptt characters, and the same shifted by one as targets."""
    starts = range(0, len(source) - bptt - 1, stride)
    data = torch.stack([source[i : i + bptt] for i in starts])
    target = torch.stack([source[i + 1 : i + 1 + bptt] for i in starts])
    return TensorDataset(data, target)

def repackage_hidden(h):
    """Wraps hidden states in new Tensors, to detach them from their history."""
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)

class RNNModel(nn.Module):
    """Container module with an encoder, a recurrent module, and a decoder."""

    def __init__(self, ntoken, ninp, nhid, nlayers, dropout=0.5):
        super().__init__()
        self.ntoken, self.nhid, self.nlayers = ntoken, nhid, nlayers
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.GRU(ninp, nhid, nlayers, batch_first=True)
        self.decoder = nn.Linear(nhid, ntoken)
        self.init_weights()

    def init_weights(self):
        initrange = 0.1
        nn.init.uniform_(self.encoder.weight, -0.5, 0.5)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -initrange, initrange)

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(self.nlayers, bsz, self.nhid)

    def forward(self, input):
        emb = self.drop(self.encoder(input))
        # every row is a window of its own, so the state begins at zero
        hidden = repackage_hidden(self.init_hidden(input.size(0)))
        output, hidden = self.rnn(emb, hidden)
        output = self.drop(output)
        decoded = self.decoder(output)
        return decoded

criterion = nn.CrossEntropyLoss()

def lm_criterion(output, target):
    ntokens = output.size(-1)
    return criterion(output.reshape(-1, ntokens), target.reshape(-1))

def train_step(model, batch, optimizer, loss_function):
    model.train()
    data, targets = batch
    optimizer.zero_grad()
    output = model(data)
    loss = loss_function(output, targets)
    loss.backward()
    # `clip_grad_norm` helps prevent the exploding gradient problem in RNNs / LSTMs.
    torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    optimizer.step()
    return loss

def setup():
    torch.manual_seed(args.seed)
    corpus = Corpus()
    train_data = get_windows(corpus.train, args.bptt, stride=args.bptt)
    val_data = get_windows(corpus.valid, args.bptt, stride=args.bptt)
    model = RNNModel(len(corpus.dictionary), args.emsize, args.nhid, args.nlayers, args.dropout)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    return {
        "model": model,
        "train": DataLoader(train_data, batch_size=args.batch_size, shuffle=True),
        "val": DataLoader(val_data, batch_size=args.batch_size),
        "loss": lm_criterion,
        "optimizer": optimizer,
        "step": train_step,
    }
