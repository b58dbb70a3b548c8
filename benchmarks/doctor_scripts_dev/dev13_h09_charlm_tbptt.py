"""Character language model: GRU with tied embeddings, truncated back-propagation through time, streams in order."""
import math
import sys
import time

import torch
import torch.nn as nn

from toydata import text

STREAMS = 16
BPTT = 24
EMBED = 48
HIDDEN = 96


class Vocabulary:
    def __init__(self, corpus):
        self.symbols = sorted(set(corpus))
        self.index = {s: i for i, s in enumerate(self.symbols)}

    def __len__(self):
        return len(self.symbols)

    def encode(self, string):
        return torch.tensor([self.index[c] for c in string])

    def decode(self, ids):
        return "".join(self.symbols[i] for i in ids)


def batchify(ids, streams):
    length = len(ids) // streams
    return ids[: length * streams].view(streams, length).t().contiguous()  # time x streams


def windows(data, bptt):
    for start in range(0, len(data) - 1, bptt):
        stop = min(start + bptt, len(data) - 1)
        yield data[start:stop], data[start + 1 : stop + 1]


class CharModel(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.embed = nn.Embedding(vocab, EMBED)
        self.drop = nn.Dropout(0.1)
        self.rnn = nn.GRU(EMBED, HIDDEN)
        self.project = nn.Linear(HIDDEN, EMBED)
        self.out = nn.Linear(EMBED, vocab)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.out.weight = self.embed.weight  # tied

    def forward(self, ids, state=None):
        output, state = self.rnn(self.drop(self.embed(ids)), state)
        return self.out(self.project(self.drop(output))), state


def bits_per_char(model, data):
    model.eval()
    total, count, state = 0.0, 0, None
    with torch.no_grad():
        for x, y in windows(data, 64):
            logits, state = model(x, state)
            total += nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
            count += y.numel()
    return total / count / math.log(2)


@torch.no_grad()
def sample(model, vocab, prompt, length, temperature=0.7):
    model.eval()
    ids = vocab.encode(prompt).unsqueeze(1)
    logits, state = model(ids)
    out = []
    for _ in range(length):
        probs = torch.softmax(logits[-1, 0] / temperature, dim=-1)
        token = torch.multinomial(probs, 1)
        out.append(token.item())
        logits, state = model(token.unsqueeze(0), state)
    return prompt + vocab.decode(out)


def main(epochs=12):
    torch.manual_seed(1234)
    corpus = text(16000)
    vocab = Vocabulary(corpus)
    train = batchify(vocab.encode(corpus), STREAMS)
    valid = batchify(vocab.encode(text(3000, seed=1)), 4)

    model = CharModel(len(vocab))
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[7, 10], gamma=0.3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        began, losses, state = time.time(), [], None
        model.train()
        for x, y in windows(train, BPTT):
            if state is not None:
                state = state.detach()  # keep the memory, cut the graph
            logits, state = model(x, state)
            loss = criterion(logits.reshape(-1, len(vocab)), y.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        bpc = bits_per_char(model, valid)
        sys.stdout.write(f"epoch {epoch:2d} | train {sum(losses) / len(losses):.3f} nats | valid {bpc:.3f} bits/char | {time.time() - began:.1f}s\n")
    print(sample(model, vocab, "the ", 120))


if __name__ == "__main__":
    main()
