"""Dates as people write them to ISO dates: GRU encoder, attention, GRU decoder, loss without the padding; d2l style."""
import random
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MONTHS = "january february march april may june july august september october november december".split()
PAD, BOS, EOS = 0, 1, 2


class Vocab:
    def __init__(self, lines):
        self.idx_to_token = ["<pad>", "<bos>", "<eos>"] + sorted(set("".join(lines)))
        self.token_to_idx = {token: i for i, token in enumerate(self.idx_to_token)}

    def __len__(self):
        return len(self.idx_to_token)

    def __getitem__(self, chars):
        return [self.token_to_idx[c] for c in chars]


class Dates:
    def __init__(self, num_train=1500, num_val=200, batch_size=48, seed=0):
        rng, pairs = random.Random(seed), {}
        while len(pairs) < num_train + num_val:
            day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1950, 2029)
            name = MONTHS[month - 1]
            written = rng.choice([f"{day} {name} {year}", f"{name} {day}, {year}", f"{day} {name[:3]} {year}"])
            pairs[written] = f"{year}-{month:02d}-{day:02d}"
        self.source, self.target = list(pairs.keys()), list(pairs.values())
        self.src_vocab, self.tgt_vocab = Vocab(self.source), Vocab(self.target)
        self.num_train, self.batch_size = num_train, batch_size
        self.arrays = self.build()

    def build(self):
        src, lens = self.pad([self.src_vocab[s] + [EOS] for s in self.source])
        tgt, _ = self.pad([[BOS] + self.tgt_vocab[t] + [EOS] for t in self.target])
        return src, lens, tgt

    @staticmethod
    def pad(rows):
        lens = torch.tensor([len(r) for r in rows])
        out = torch.full((len(rows), int(lens.max())), PAD)
        for line, row in zip(out, rows):
            line[: len(row)] = torch.tensor(row)
        return out, lens

    def get_dataloader(self, train):
        part = slice(0, self.num_train) if train else slice(self.num_train, None)
        return DataLoader(TensorDataset(*[a[part] for a in self.arrays]), self.batch_size, shuffle=train)


class Encoder(nn.Module):
    def __init__(self, vocab, embed, hidden):
        super().__init__()
        self.embedding = nn.Embedding(vocab, embed, padding_idx=PAD)
        self.rnn = nn.GRU(embed, hidden // 2, batch_first=True, bidirectional=True)

    def forward(self, X, lens):
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(X), lens, batch_first=True, enforce_sorted=False)
        outputs, state = self.rnn(packed)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=X.shape[1])
        return outputs, torch.cat([state[0], state[1]], -1)


class AttentionDecoder(nn.Module):
    def __init__(self, vocab, embed, hidden):
        super().__init__()
        self.embedding = nn.Embedding(vocab, embed)
        self.cell = nn.GRUCell(embed + hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.out = nn.Linear(2 * hidden, vocab)

    def step(self, token, state, memory, keys, mask):
        scores = self.score(torch.tanh(self.query(state).unsqueeze(1) + keys)).squeeze(-1)
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
        state = self.cell(torch.cat([self.embedding(token), context], -1), state)
        return self.out(torch.cat([state, context], -1)), state


class Seq2Seq(nn.Module):
    def __init__(self, data, embed=24, hidden=64):
        super().__init__()
        self.encoder = Encoder(len(data.src_vocab), embed, hidden)
        self.decoder = AttentionDecoder(len(data.tgt_vocab), embed, hidden)

    def forward(self, src, lens, tgt_in):
        memory, state = self.encoder(src, lens)
        keys, outputs = self.decoder.key(memory), []
        for t in range(tgt_in.shape[1]):
            logits, state = self.decoder.step(tgt_in[:, t], state, memory, keys, src != PAD)
            outputs.append(logits)
        return torch.stack(outputs, 1)

    @torch.no_grad()
    def translate(self, src, lens, steps=11):
        memory, state = self.encoder(src, lens)
        keys, token, result = self.decoder.key(memory), torch.full((len(src),), BOS), []
        for _ in range(steps):
            logits, state = self.decoder.step(token, state, memory, keys, src != PAD)
            token = logits.argmax(-1)
            result.append(token)
        return torch.stack(result, 1)


class Trainer:
    def __init__(self, max_epochs, lr, gradient_clip_val):
        self.max_epochs, self.lr, self.clip = max_epochs, lr, gradient_clip_val

    def fit(self, model, data):
        loss_fn = nn.CrossEntropyLoss(ignore_index=PAD)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.93)
        for epoch in range(self.max_epochs):
            model.train()
            total = tokens = 0
            for src, lens, tgt in data.get_dataloader(train=True):
                logits = model(src, lens, tgt[:, :-1])
                loss = loss_fn(logits.flatten(0, 1), tgt[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                optimizer.step()
                count = int((tgt[:, 1:] != PAD).sum())
                total, tokens = total + loss.item() * count, tokens + count
            schedule.step()
            print(f"epoch {epoch + 1}, loss {total / tokens:.4f}, exact on validation {self.exact(model, data):.3f}")

    def exact(self, model, data):
        model.eval()
        hits = [(model.translate(s, n) == t[:, 1:]).all(1) for s, n, t in data.get_dataloader(train=False)]
        return torch.cat(hits).float().mean().item()


torch.manual_seed(0)
data = Dates()
model = Seq2Seq(data)
Trainer(max_epochs=20, lr=5e-3, gradient_clip_val=1.0).fit(model, data)
torch.save(model.state_dict(), tempfile.mkdtemp() + "/seq2seq.params")
