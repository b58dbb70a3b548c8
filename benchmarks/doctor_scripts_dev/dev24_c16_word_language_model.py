# coding: utf-8
import argparse
import copy
import math
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser(description="Word level LSTM language model")
parser.add_argument("--nhid", type=int, default=96, help="size of word embeddings and number of hidden units")
parser.add_argument("--lr", type=float, default=3e-3, help="initial learning rate")
parser.add_argument("--clip", type=float, default=1.0, help="gradient clipping")
parser.add_argument("--epochs", type=int, default=10, help="upper epoch limit")
parser.add_argument("--batch-size", type=int, default=20, metavar="N", help="batch size")
parser.add_argument("--bptt", type=int, default=30, help="sequence length")
parser.add_argument("--dropout", type=float, default=0.2, help="dropout applied to layers (0 = no dropout)")
parser.add_argument("--seed", type=int, default=1111, help="random seed")
parser.add_argument("--log-interval", type=int, default=50, metavar="N", help="report interval")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


###############################################################################
# Data: sentences in which each word has a few words that like to follow it
###############################################################################
class Corpus:
    def __init__(self, vocab_size=200, branches=6, seed=0):
        self.rng = random.Random(seed)
        syllables = ["ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu"]
        words = [a + b + c for a in syllables for b in syllables for c in syllables]
        self.idx2word = self.rng.sample(words, vocab_size)
        self.word2idx = {w: i for i, w in enumerate(self.idx2word)}
        self.followers = {w: self.rng.sample(self.idx2word, branches) for w in self.idx2word}
        self.weights = [2.0 ** -i for i in range(branches)]
        self.train = self.tokenize(self.write(60000))
        self.valid = self.tokenize(self.write(6000))
        self.test = self.tokenize(self.write(6000))

    def write(self, length):
        text = [self.rng.choice(self.idx2word)]
        while len(text) < length:
            text.append(self.rng.choices(self.followers[text[-1]], self.weights)[0])
        return " ".join(text)

    def tokenize(self, text):
        return torch.tensor([self.word2idx[word] for word in text.split()], dtype=torch.long)


def batchify(data, bsz):
    # columns are continuous pieces of the text, side by side
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    return data.view(bsz, -1).t().contiguous().to(device)


corpus = Corpus()
eval_batch_size = 10
train_data = batchify(corpus.train, args.batch_size)
val_data = batchify(corpus.valid, eval_batch_size)
test_data = batchify(corpus.test, eval_batch_size)
ntokens = len(corpus.idx2word)


###############################################################################
# Model
###############################################################################
class RNNModel(nn.Module):
    def __init__(self, ntoken, nhid, dropout):
        super().__init__()
        self.ntoken = ntoken
        self.nhid = nhid
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, nhid)
        self.rnn = nn.LSTM(nhid, nhid)
        self.decoder = nn.Linear(nhid, ntoken)
        self.decoder.weight = self.encoder.weight  # tied
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output))
        return F.log_softmax(decoded.view(-1, self.ntoken), dim=1), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(1, bsz, self.nhid), weight.new_zeros(1, bsz, self.nhid)


model = RNNModel(ntokens, args.nhid, args.dropout).to(device)
criterion = nn.NLLLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)


###############################################################################
# Training
###############################################################################
def repackage_hidden(h):
    """Wraps hidden states in new tensors, to detach them from their history."""
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def get_batch(source, i):
    seq_len = min(args.bptt, len(source) - 1 - i)
    data = source[i:i + seq_len]
    target = source[i + 1:i + 1 + seq_len].reshape(-1)
    return data, target


def evaluate(data_source):
    model.eval()
    total_loss = 0.0
    hidden = model.init_hidden(eval_batch_size)
    with torch.no_grad():
        for i in range(0, data_source.size(0) - 1, args.bptt):
            data, targets = get_batch(data_source, i)
            output, hidden = model(data, hidden)
            hidden = repackage_hidden(hidden)
            total_loss += len(data) * criterion(output, targets).item()
    return total_loss / (len(data_source) - 1)


def train(epoch):
    model.train()
    total_loss = 0.0
    start_time = time.time()
    hidden = model.init_hidden(args.batch_size)
    for batch, i in enumerate(range(0, train_data.size(0) - 1, args.bptt)):
        data, targets = get_batch(train_data, i)
        model.zero_grad()
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()

        total_loss += loss.item()
        if (batch + 1) % args.log_interval == 0:
            cur_loss = total_loss / args.log_interval
            elapsed = time.time() - start_time
            print("| epoch {:3d} | {:5d}/{:5d} batches | ms/batch {:5.2f} | loss {:5.2f} | ppl {:8.2f}".format(
                epoch, batch + 1, len(train_data) // args.bptt, elapsed * 1000 / args.log_interval,
                cur_loss, math.exp(cur_loss)))
            total_loss = 0.0
            start_time = time.time()


best_val_loss, best_state = None, None
for epoch in range(1, args.epochs + 1):
    train(epoch)
    val_loss = evaluate(val_data)
    print("-" * 70)
    print("| end of epoch {:3d} | valid loss {:5.3f} | valid ppl {:8.3f}".format(epoch, val_loss, math.exp(val_loss)))
    print("-" * 70)
    if best_val_loss is None or val_loss < best_val_loss:
        best_val_loss = val_loss
        best_state = copy.deepcopy(model.state_dict())
    else:
        # Anneal the learning rate if no improvement has been seen in the validation dataset.
        for group in optimizer.param_groups:
            group["lr"] /= 4.0

model.load_state_dict(best_state)
test_loss = evaluate(test_data)
print("| End of training | test loss {:5.3f} | test ppl {:8.3f}".format(test_loss, math.exp(test_loss)))
