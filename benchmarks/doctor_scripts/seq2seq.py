import random

import torch
import torch.nn as nn
import torch.optim as optim
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD, SOS, EOS = 0, 1, 2
VOCAB = 12


def make_pairs(count, seed):
    """The target is the source in reverse."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        source = [rng.randrange(3, VOCAB) for _ in range(rng.randint(2, 6))]
        pairs.append((torch.tensor(source + [EOS]), torch.tensor([SOS] + source[::-1] + [EOS])))
    return pairs


def collate_fn(batch):
    src, trg = zip(*batch)
    return pad_sequence(src, padding_value=PAD), pad_sequence(trg, padding_value=PAD)


class Encoder(nn.Module):
    def __init__(self, hid):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 24)
        self.rnn = nn.GRU(24, hid)

    def forward(self, src):
        return self.rnn(self.embedding(src))[1]


class Decoder(nn.Module):
    def __init__(self, hid):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 24)
        self.rnn = nn.GRU(24, hid)
        self.fc_out = nn.Linear(hid, VOCAB)

    def forward(self, input, hidden):
        output, hidden = self.rnn(self.embedding(input.unsqueeze(0)), hidden)
        return self.fc_out(output.squeeze(0)), hidden


class Seq2Seq(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, src, trg, teacher_forcing_ratio=0.7):
        outputs = torch.zeros(trg.shape[0], trg.shape[1], VOCAB)
        hidden = self.encoder(src)
        input = trg[0, :]
        for t in range(1, trg.shape[0]):
            output, hidden = self.decoder(input, hidden)
            outputs[t] = output
            input = trg[t] if random.random() < teacher_forcing_ratio else output.argmax(1)
        return outputs


def train(model, iterator, optimizer, criterion, clip):
    model.train()
    epoch_loss = 0
    for src, trg in iterator:
        optimizer.zero_grad()
        output = model(src, trg)
        loss = criterion(output[1:].view(-1, VOCAB), trg[1:].view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        epoch_loss += loss.item()
    return epoch_loss / len(iterator)


def evaluate(model, iterator, criterion):
    model.eval()
    epoch_loss = 0
    with torch.no_grad():
        for src, trg in iterator:
            output = model(src, trg, 0)
            epoch_loss += criterion(output[1:].view(-1, VOCAB), trg[1:].view(-1)).item()
    return epoch_loss / len(iterator)


random.seed(1)
torch.manual_seed(1)
train_iterator = DataLoader(make_pairs(800, 0), batch_size=32, shuffle=True, collate_fn=collate_fn)
valid_iterator = DataLoader(make_pairs(160, 1), batch_size=32, collate_fn=collate_fn)
model = Seq2Seq(Encoder(64), Decoder(64))
optimizer = optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)
for epoch in range(8):
    train_loss = train(model, train_iterator, optimizer, criterion, 1.0)
    valid_loss = evaluate(model, valid_iterator, criterion)
    print(f"Epoch: {epoch + 1:02} | Train Loss: {train_loss:.3f} | Val. Loss: {valid_loss:.3f}")
