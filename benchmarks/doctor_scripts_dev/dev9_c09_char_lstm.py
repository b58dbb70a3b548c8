"""Char-LSTM, stateful with detached hidden state; SGD with manual annealing as in the word language model."""
import math

import torch
import torch.nn as nn

from toydata import text

torch.manual_seed(1111)


class Corpus:
    def __init__(self):
        self.dict = {}
        self.train, self.valid, self.test = self.tok(text(9000, 0)), self.tok(text(2000, 1)), self.tok(text(2000, 2))

    def tok(self, s):
        return torch.tensor([self.dict.setdefault(ch, len(self.dict)) for ch in s])


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    return data.narrow(0, 0, nbatch * bsz).view(bsz, -1).t().contiguous()


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp=32, nhid=96, nlayers=1, dropout=0.1):
        super().__init__()
        self.drop, self.encoder = nn.Dropout(dropout), nn.Embedding(ntoken, ninp)
        self.rnn, self.decoder = nn.LSTM(ninp, nhid, nlayers), nn.Linear(nhid, ntoken)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        self.nhid, self.nlayers, self.ntoken = nhid, nlayers, ntoken

    def forward(self, inp, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(inp)), hidden)
        return nn.functional.log_softmax(self.decoder(self.drop(output)).view(-1, self.ntoken), dim=1), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid)


def repackage_hidden(h):
    return h.detach() if isinstance(h, torch.Tensor) else tuple(repackage_hidden(v) for v in h)


corpus = Corpus()
bptt, eval_bs = 30, 10
train_data, val_data, test_data = batchify(corpus.train, 12), batchify(corpus.valid, eval_bs), batchify(corpus.test, eval_bs)
model = RNNModel(len(corpus.dict))
criterion = nn.NLLLoss()
lr, clip = 4.0, 0.5


def get_batch(source, i):
    seq_len = min(bptt, len(source) - 1 - i)
    return source[i:i + seq_len], source[i + 1:i + 1 + seq_len].reshape(-1)


def evaluate(source):
    model.eval()
    total, hidden = 0., model.init_hidden(eval_bs)
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, bptt):
            data, targets = get_batch(source, i)
            output, hidden = model(data, hidden)
            hidden = repackage_hidden(hidden)
            total += len(data) * criterion(output, targets).item()
    return total / (len(source) - 1)


best_val_loss = None
for epoch in range(1, 11):
    model.train()
    total, n, hidden = 0., 0, model.init_hidden(12)
    for i in range(0, train_data.size(0) - 1, bptt):
        data, targets = get_batch(train_data, i)
        model.zero_grad()
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(p.grad, alpha=-lr)
        total, n = total + loss.item(), n + 1
    val_loss = evaluate(val_data)
    print(f'| end of epoch {epoch:3d} | train {total / n:5.2f} | valid loss {val_loss:5.2f} | valid ppl {math.exp(val_loss):8.2f}')
    if not best_val_loss or val_loss < best_val_loss:
        best_val_loss, best_state = val_loss, {k: v.clone() for k, v in model.state_dict().items()}
    else:
        lr /= 4.0
model.load_state_dict(best_state)
print(f'| End of training | test ppl {math.exp(evaluate(test_data)):8.2f}')
