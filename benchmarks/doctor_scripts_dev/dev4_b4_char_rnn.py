# Character-level language model, after pytorch/examples/word_language_model.
import copy
import math

import torch
import torch.nn as nn
from toydata import text

torch.manual_seed(1111)

EMSIZE = 32
NHID = 96
BPTT = 25
LR = 20.0
CLIP = 0.25
EPOCHS = 12
BATCH_SIZE = 16
EVAL_BATCH_SIZE = 8


class Dictionary:
    def __init__(self, corpus):
        self.idx2char = sorted(set(corpus))
        self.char2idx = {ch: i for i, ch in enumerate(self.idx2char)}

    def __len__(self):
        return len(self.idx2char)

    def encode(self, chars):
        return torch.tensor([self.char2idx[ch] for ch in chars], dtype=torch.long)


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid, dropout=0.1):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.GRU(ninp, nhid)
        self.decoder = nn.Linear(nhid, ntoken)
        self.ntoken, self.nhid = ntoken, nhid
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output))
        return decoded.view(-1, self.ntoken), hidden

    def init_hidden(self, bsz):
        return torch.zeros(1, bsz, self.nhid)


def batchify(data, bsz):
    """Cut the text into bsz long pieces that lie side by side as columns."""
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    return data.view(bsz, -1).t().contiguous()


def get_batch(source, i):
    seq_len = min(BPTT, len(source) - 1 - i)
    data = source[i : i + seq_len]
    target = source[i + 1 : i + 1 + seq_len].reshape(-1)
    return data, target


raw = text(24000, seed=3)
corpus = Dictionary(raw)
ids = corpus.encode(raw)
train_data = batchify(ids[:20000], BATCH_SIZE)
val_data = batchify(ids[20000:22000], EVAL_BATCH_SIZE)
test_data = batchify(ids[22000:], EVAL_BATCH_SIZE)

model = RNNModel(len(corpus), EMSIZE, NHID)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=LR)


def evaluate(data_source):
    model.eval()
    total_loss = 0.0
    hidden = model.init_hidden(EVAL_BATCH_SIZE)
    with torch.no_grad():
        for i in range(0, data_source.size(0) - 1, BPTT):
            data, targets = get_batch(data_source, i)
            output, hidden = model(data, hidden)
            total_loss += len(data) * criterion(output, targets).item()
    return total_loss / (len(data_source) - 1)


def train():
    model.train()
    total_loss, batches = 0.0, 0
    hidden = model.init_hidden(BATCH_SIZE)
    for i in range(0, train_data.size(0) - 1, BPTT):
        data, targets = get_batch(train_data, i)
        optimizer.zero_grad()
        hidden = hidden.detach()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        total_loss += loss.item()
        batches += 1
    return total_loss / batches


lr = LR
best_val_loss = None
best_state = None
for epoch in range(1, EPOCHS + 1):
    train_loss = train()
    val_loss = evaluate(val_data)
    print(
        f"| end of epoch {epoch:3d} | lr {lr:6.3f} | train loss {train_loss:5.3f} "
        f"| valid loss {val_loss:5.3f} | valid ppl {math.exp(val_loss):7.3f}"
    )
    if best_val_loss is None or val_loss < best_val_loss:
        best_val_loss = val_loss
        best_state = copy.deepcopy(model.state_dict())
    else:
        # Anneal the learning rate if no improvement has been seen in the validation dataset.
        lr /= 4.0
        for group in optimizer.param_groups:
            group["lr"] = lr

model.load_state_dict(best_state)
test_loss = evaluate(test_data)
print(f"| End of training | test loss {test_loss:5.3f} | test ppl {math.exp(test_loss):7.3f}")

with torch.no_grad():
    hidden = model.init_hidden(1)
    char = corpus.encode("t").view(1, 1)
    out = []
    for _ in range(120):
        logits, hidden = model(char, hidden)
        char = torch.multinomial(logits.softmax(-1), 1).view(1, 1)
        out.append(corpus.idx2char[char.item()])
print("".join(out))
