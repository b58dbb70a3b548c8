# -*- coding: utf-8 -*-
"""
Translating dates with a sequence to sequence network and attention
====================================================================
"7 march 21" becomes "2021-03-07". Encoder, attention decoder, teacher forcing.
"""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, TensorDataset

random.seed(0)
torch.manual_seed(0)
PAD_token, SOS_token, EOS_token = 0, 1, 2
MONTHS = "january february march april may june july august september october november december".split()


class Lang:
    def __init__(self, name):
        self.name = name
        self.index2char = {0: "PAD", 1: "SOS", 2: "EOS"}
        self.char2index = {}

    def addSentence(self, sentence):
        for c in sentence:
            if c not in self.char2index:
                self.char2index[c] = len(self.index2char)
                self.index2char[self.char2index[c]] = c

    def encode(self, sentence, length):
        ids = [self.char2index[c] for c in sentence] + [EOS_token]
        return ids + [PAD_token] * (length - len(ids))


def make_pair():
    day, month, year = random.randint(1, 28), random.randint(1, 12), random.randint(10, 29)
    source = f"{day} {MONTHS[month - 1]} {year}"
    return source, f"{day}.{month}.{2000 + year}"


pairs = sorted({make_pair() for _ in range(1600)})
random.shuffle(pairs)
input_lang, output_lang = Lang("words"), Lang("numbers")
for source, target in pairs:
    input_lang.addSentence(source)
    output_lang.addSentence(target)
MAX_IN, MAX_OUT = 20, 14
inputs = torch.tensor([input_lang.encode(s, MAX_IN) for s, _ in pairs])
outputs = torch.tensor([output_lang.encode(t, MAX_OUT) for _, t in pairs])
n_test = 150
train_dataloader = DataLoader(TensorDataset(inputs[n_test:], outputs[n_test:]), batch_size=32, shuffle=True)
test_dataloader = DataLoader(TensorDataset(inputs[:n_test], outputs[:n_test]), batch_size=50)


class EncoderRNN(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.embedding = nn.Embedding(input_size, hidden_size, padding_idx=PAD_token)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)

    def forward(self, input):
        return self.gru(self.embedding(input))


class BahdanauAttention(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.Wa = nn.Linear(hidden_size, hidden_size)
        self.Ua = nn.Linear(hidden_size, hidden_size)
        self.Va = nn.Linear(hidden_size, 1)

    def forward(self, query, keys, mask):
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys))).squeeze(2)
        weights = F.softmax(scores.masked_fill(mask, -1e9), dim=-1).unsqueeze(1)
        return torch.bmm(weights, keys)


class AttnDecoderRNN(nn.Module):
    def __init__(self, hidden_size, output_size):
        super().__init__()
        self.embedding = nn.Embedding(output_size, hidden_size)
        self.attention = BahdanauAttention(hidden_size)
        self.gru = nn.GRU(2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, output_size)

    def forward(self, encoder_outputs, encoder_hidden, mask, target_tensor=None):
        decoder_input = torch.full((encoder_outputs.size(0), 1), SOS_token, dtype=torch.long)
        decoder_hidden, decoder_outputs = encoder_hidden, []
        for i in range(MAX_OUT):
            context = self.attention(decoder_hidden.permute(1, 0, 2), encoder_outputs, mask)
            embedded = self.embedding(decoder_input)
            output, decoder_hidden = self.gru(torch.cat((embedded, context), dim=2), decoder_hidden)
            decoder_outputs.append(self.out(output))
            if target_tensor is not None:
                decoder_input = target_tensor[:, i].unsqueeze(1)  # teacher forcing
            else:
                decoder_input = decoder_outputs[-1].argmax(-1).detach()
        return F.log_softmax(torch.cat(decoder_outputs, dim=1), dim=-1)


def train_epoch(dataloader, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion, teacher_forcing_ratio=0.8):
    total_loss = 0
    for input_tensor, target_tensor in dataloader:
        encoder_optimizer.zero_grad()
        decoder_optimizer.zero_grad()
        encoder_outputs, encoder_hidden = encoder(input_tensor)
        teacher = target_tensor if random.random() < teacher_forcing_ratio else None
        decoder_outputs = decoder(encoder_outputs, encoder_hidden, input_tensor == PAD_token, teacher)
        loss = criterion(decoder_outputs.view(-1, decoder_outputs.size(-1)), target_tensor.view(-1))
        loss.backward()
        encoder_optimizer.step()
        decoder_optimizer.step()
        total_loss += loss.item()
    return total_loss / len(dataloader)


@torch.inference_mode()
def exact_matches(dataloader, encoder, decoder):
    hits = total = 0
    for input_tensor, target_tensor in dataloader:
        decoded = decoder(*encoder(input_tensor), input_tensor == PAD_token).argmax(-1)
        hits += ((decoded == target_tensor) | (target_tensor == PAD_token)).all(dim=1).sum().item()
        total += len(target_tensor)
    return hits / total


hidden_size = 64
encoder = EncoderRNN(len(input_lang.index2char), hidden_size)
decoder = AttnDecoderRNN(hidden_size, len(output_lang.index2char))
encoder_optimizer = optim.Adam(encoder.parameters(), lr=4e-3)
decoder_optimizer = optim.Adam(decoder.parameters(), lr=4e-3)
criterion = nn.NLLLoss(ignore_index=PAD_token)
for epoch in range(1, 10):
    loss = train_epoch(train_dataloader, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion)
    if epoch % 3 == 0:
        print("epoch %d loss %.4f exact %.3f" % (epoch, loss, exact_matches(test_dataloader, encoder, decoder)))
