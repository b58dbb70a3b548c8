"""Word-level language model with an LSTM on a generated corpus."""
import argparse
import math
import os
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn

parser = argparse.ArgumentParser(description="RNN/LSTM word language model")
parser.add_argument("--emsize", type=int, default=64)
parser.add_argument("--nhid", type=int, default=96)
parser.add_argument("--nlayers", type=int, default=1)
parser.add_argument("--lr", type=float, default=5.0, help="initial learning rate")
parser.add_argument("--clip", type=float, default=0.25, help="gradient clipping")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch_size", type=int, default=20)
parser.add_argument("--bptt", type=int, default=20, help="sequence length")
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=1111)
parser.add_argument("--log-interval", type=int, default=50)
parser.add_argument("--save", type=str, default=os.path.join(tempfile.gettempdir(), "word_lm.pt"))
args = parser.parse_args()

torch.manual_seed(args.seed)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Corpus:
    """Sentences from a small grammar in which the verb agrees with the subject."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        nouns = [f"noun{i}" for i in range(16)]
        verbs = [f"verb{i}" for i in range(16)]
        adjectives = [f"adj{i}" for i in range(8)]
        words = ["<eos>", "the", "some", "and"] + nouns + [n + "s" for n in nouns]
        words += verbs + [v + "s" for v in verbs] + adjectives
        self.word2idx = {w: i for i, w in enumerate(words)}
        self.likes = {n: rng.choice(verbs, 3, replace=False) for n in nouns}
        self.objects = {v: rng.choice(nouns, 3, replace=False) for v in verbs}
        self.nouns, self.adjectives, self.rng = nouns, adjectives, rng
        self.train = self.tokenize(5000)
        self.valid = self.tokenize(600)
        self.test = self.tokenize(600)

    def sentence(self):
        noun = self.rng.choice(self.nouns)
        plural = self.rng.random() < 0.5
        words = ["some" if plural else "the"]
        if self.rng.random() < 0.5:
            words.append(self.rng.choice(self.adjectives))
        words.append(noun + "s" if plural else noun)
        verb = self.rng.choice(self.likes[noun])
        words.append(verb if plural else verb + "s")
        words += ["the", self.rng.choice(self.objects[verb]), "<eos>"]
        return words

    def tokenize(self, n):
        ids = [self.word2idx[w] for _ in range(n) for w in self.sentence()]
        return torch.tensor(ids, dtype=torch.long)


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    return data.view(bsz, -1).t().contiguous().to(device)


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid, nlayers, dropout):
        super().__init__()
        self.ntoken = ntoken
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers)
        self.decoder = nn.Linear(nhid, ntoken)
        self.nhid, self.nlayers = nhid, nlayers
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output))
        return decoded.view(-1, self.ntoken), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return (weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid))


def repackage_hidden(h):
    return tuple(v.detach() for v in h)


def get_batch(source, i):
    seq_len = min(args.bptt, len(source) - 1 - i)
    data = source[i:i + seq_len]
    target = source[i + 1:i + 1 + seq_len].view(-1)
    return data, target


def evaluate(model, data_source, criterion, bsz):
    model.eval()
    total_loss = 0.0
    hidden = model.init_hidden(bsz)
    with torch.no_grad():
        for i in range(0, data_source.size(0) - 1, args.bptt):
            data, targets = get_batch(data_source, i)
            output, hidden = model(data, hidden)
            total_loss += len(data) * criterion(output, targets).item()
    return total_loss / (len(data_source) - 1)


def train(model, train_data, criterion, lr, epoch):
    model.train()
    total_loss, start_time = 0.0, time.time()
    hidden = model.init_hidden(args.batch_size)
    for batch, i in enumerate(range(0, train_data.size(0) - 1, args.bptt)):
        data, targets = get_batch(train_data, i)
        model.zero_grad()
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(p.grad, alpha=-lr)
        total_loss += loss.item()
        if batch % args.log_interval == 0 and batch > 0:
            cur = total_loss / args.log_interval
            print(f"| epoch {epoch} | {batch} batches | lr {lr:.2f} | loss {cur:.2f} | {time.time() - start_time:.1f}s")
            total_loss = 0.0


def main():
    corpus = Corpus()
    eval_bsz = 10
    train_data = batchify(corpus.train, args.batch_size)
    val_data = batchify(corpus.valid, eval_bsz)
    test_data = batchify(corpus.test, eval_bsz)
    model = RNNModel(len(corpus.word2idx), args.emsize, args.nhid, args.nlayers, args.dropout).to(device)
    criterion = nn.CrossEntropyLoss()
    lr, best_val_loss = args.lr, None
    for epoch in range(1, args.epochs + 1):
        train(model, train_data, criterion, lr, epoch)
        val_loss = evaluate(model, val_data, criterion, eval_bsz)
        print(f"| end of epoch {epoch} | valid loss {val_loss:.3f} | valid ppl {math.exp(min(val_loss, 20)):.2f}")
        if best_val_loss is None or val_loss < best_val_loss:
            torch.save(model.state_dict(), args.save)
            best_val_loss = val_loss
        else:
            lr /= 4.0
    model.load_state_dict(torch.load(args.save))
    test_loss = evaluate(model, test_data, criterion, eval_bsz)
    print(f"| End of training | test loss {test_loss:.3f} | test ppl {math.exp(min(test_loss, 20)):.2f}")


if __name__ == "__main__":
    main()
