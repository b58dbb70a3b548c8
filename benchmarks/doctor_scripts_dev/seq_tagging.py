import random

import torch
import torch.nn as nn
import torch.optim as optim
from torch.nn.utils.rnn import pad_sequence

random.seed(1)
torch.manual_seed(1)
LEXICON = {
    "DET": ["the", "a", "every"], "NN": ["dog", "apple", "book", "cat", "saw"], "V": ["ate", "read", "saw", "liked"],
    "ADJ": ["big", "red", "old"],
}  # fmt: skip
PATTERNS = [["DET", "NN", "V", "DET", "NN"], ["DET", "ADJ", "NN", "V", "DET", "NN"], ["NN", "V", "DET", "ADJ", "NN"],
            ["DET", "ADJ", "NN", "V"]]  # fmt: skip
word_to_ix = {"<pad>": 0}
tag_to_ix = {"<pad>": 0, "DET": 1, "NN": 2, "V": 3, "ADJ": 4}


def make_sentences(n):
    out = []
    for _ in range(n):
        tags = random.choice(PATTERNS) + (random.choice(PATTERNS) if random.random() < 0.5 else [])
        out.append(([random.choice(LEXICON[t]) for t in tags], list(tags)))
    return out


training_data, dev_data = make_sentences(600), make_sentences(120)
for words in LEXICON.values():
    for w in words:
        word_to_ix.setdefault(w, len(word_to_ix))


def collate(batch):
    sents = [torch.tensor([word_to_ix[w] for w in s]) for s, _ in batch]
    tags = [torch.tensor([tag_to_ix[t] for t in ts]) for _, ts in batch]
    return pad_sequence(sents, batch_first=True, padding_value=0), pad_sequence(tags, batch_first=True, padding_value=0)


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim, hidden_dim, vocab_size, tagset_size):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * hidden_dim, tagset_size)

    def forward(self, sentence):
        lstm_out, _ = self.lstm(self.word_embeddings(sentence))
        return self.hidden2tag(lstm_out)


train_loader = torch.utils.data.DataLoader(training_data, batch_size=20, shuffle=True, collate_fn=collate)
dev_loader = torch.utils.data.DataLoader(dev_data, batch_size=40, collate_fn=collate)
model = LSTMTagger(16, 24, len(word_to_ix), len(tag_to_ix))
loss_function = nn.CrossEntropyLoss(ignore_index=0)
optimizer = optim.Adam(model.parameters(), lr=0.01)

for epoch in range(5):
    model.train()
    for sentences, tags in train_loader:
        model.zero_grad()
        tag_scores = model(sentences)
        loss = loss_function(tag_scores.view(-1, len(tag_to_ix)), tags.view(-1))
        loss.backward()
        optimizer.step()
    model.eval()
    right = count = 0
    with torch.no_grad():
        for sentences, tags in dev_loader:
            pred = model(sentences).argmax(-1)
            mask = tags != 0
            right += (pred[mask] == tags[mask]).sum().item()
            count += mask.sum().item()
    print(epoch, loss.item(), right / count)
