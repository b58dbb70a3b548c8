"""Sequence to sequence with attention: sequences are to be written backwards. Teacher forcing gives way step by step."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

PAD, SOS, EOS, FIRST, SYMBOLS = 0, 1, 2, 3, 8
VOCABULARY = FIRST + SYMBOLS
EMBED, HIDDEN = 32, 64
BATCH, EPOCHS, LR = 64, 24, 3e-3

random.seed(0)
torch.manual_seed(0)
torch.set_num_threads(1)


def make_sequences(count):
    found = set()
    while len(found) < count:
        found.add(tuple(random.randrange(FIRST, VOCABULARY) for _ in range(random.randint(4, 6))))
    found = sorted(found)
    random.shuffle(found)
    return found


def collate(sequences):
    sources = pad_sequence([torch.tensor(s) for s in sequences], batch_first=True, padding_value=PAD)
    targets = pad_sequence(
        [torch.tensor([*reversed(s), EOS]) for s in sequences], batch_first=True, padding_value=PAD
    )
    return sources, torch.tensor([len(s) for s in sequences]), targets


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, EMBED, padding_idx=PAD)
        self.gru = nn.GRU(EMBED, HIDDEN, batch_first=True, bidirectional=True)

    def forward(self, sources, lengths):
        packed = pack_padded_sequence(self.embed(sources), lengths, batch_first=True, enforce_sorted=False)
        states, last = self.gru(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=sources.shape[1])
        return states, torch.cat([last[0], last[1]], 1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, EMBED, padding_idx=PAD)
        self.cell = nn.GRUCell(EMBED + 2 * HIDDEN, 2 * HIDDEN)
        self.query = nn.Linear(2 * HIDDEN, 2 * HIDDEN)
        self.out = nn.Linear(4 * HIDDEN, VOCABULARY)

    def forward(self, token, hidden, states, mask):
        context = self.attend(hidden, states, mask)
        hidden = self.cell(torch.cat([self.embed(token), context], 1), hidden)
        context = self.attend(hidden, states, mask)
        return self.out(torch.cat([hidden, context], 1)), hidden

    def attend(self, hidden, states, mask):
        scores = (states @ self.query(hidden).unsqueeze(2)).squeeze(2) / (2 * HIDDEN) ** 0.5
        weights = scores.masked_fill(~mask, -1e9).softmax(1)
        return (weights.unsqueeze(1) @ states).squeeze(1)


def run(encoder, decoder, sources, lengths, steps, targets=None, teacher=0.0):
    """Logits for each step; the next input is the true token with probability `teacher`, else the predicted one."""
    states, hidden = encoder(sources, lengths)
    mask = sources != PAD
    token = torch.full((len(sources),), SOS)
    outputs = []
    for step in range(steps):
        logits, hidden = decoder(token, hidden, states, mask)
        outputs.append(logits)
        token = logits.argmax(1).detach()
        if targets is not None:
            forced = torch.rand(len(sources)) < teacher
            token = torch.where(forced, targets[:, step], token)
    return torch.stack(outputs, 1)


def train_epoch(encoder, decoder, optimizer, data, teacher):
    encoder.train()
    decoder.train()
    random.shuffle(data)
    total, count = 0.0, 0
    for start in range(0, len(data), BATCH):
        sources, lengths, targets = collate(data[start : start + BATCH])
        logits = run(encoder, decoder, sources, lengths, targets.shape[1], targets, teacher)
        loss = F.cross_entropy(logits.reshape(-1, VOCABULARY), targets.reshape(-1), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*encoder.parameters(), *decoder.parameters()], 1.0)
        optimizer.step()
        tokens = (targets != PAD).sum().item()
        total, count = total + loss.item() * tokens, count + tokens
    return total / count


@torch.no_grad()
def evaluate(encoder, decoder, data):
    """Decodes greedily, without any true token; a sequence is right if all tokens up to its end are."""
    encoder.eval()
    decoder.eval()
    exact, right, tokens = 0, 0, 0
    for start in range(0, len(data), 200):
        sources, lengths, targets = collate(data[start : start + 200])
        predicted = run(encoder, decoder, sources, lengths, targets.shape[1]).argmax(2)
        real = targets != PAD
        hits = predicted == targets
        exact += (hits | ~real).all(1).sum().item()
        right, tokens = right + (hits & real).sum().item(), tokens + real.sum().item()
    return exact / len(data), right / tokens


sequences = make_sequences(4400)
train_data, val_data = sequences[:4000], sequences[4000:]
encoder, decoder = Encoder(), Decoder()
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=LR)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=LR / 20)
for epoch in range(EPOCHS):
    teacher = max(0.5, 1.0 - epoch / EPOCHS)
    loss = train_epoch(encoder, decoder, optimizer, train_data, teacher)
    scheduler.step()
    exact, accuracy = evaluate(encoder, decoder, val_data)
    print(f"epoch {epoch:2d} teacher {teacher:.2f} loss {loss:.4f} val tokens {accuracy:.3f} val sequences {exact:.3f}")
