#!/usr/bin/env python
# coding: utf-8

# # Sentiment analysis with an LSTM
# Course exercise 5: predict from the words of a review whether its writer liked the film.

# In[1]:
import random
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

SEED = 1234
random.seed(SEED)
torch.manual_seed(SEED)

# ## 1. The reviews
# There are no downloads in class, so a generator writes them.

# In[2]:
GOOD = "great wonderful superb brilliant moving charming funny excellent gripping lovely fresh clever touching delightful".split()
BAD = "awful boring terrible dull weak tedious clumsy stupid lifeless poor stale bland annoying dreadful".split()
PARTS = "plot acting script music cast story camera ending dialogue pace director film scenery humor sound hero".split()
FILLER = "really quite rather truly somewhat very so a_bit honestly simply just almost".split()
CONTEXT = "yesterday we watched it with friends at home in the old cinema after dinner on sunday my brother told me to go".split()


def write_review(positive):
    words = random.sample(CONTEXT, random.randint(2, 6))
    for _ in range(random.randint(2, 4)):
        negated = random.random() < 0.35
        adjective = random.choice(GOOD if positive != negated else BAD)
        words += ["the", random.choice(PARTS), "was"] + (["not"] if negated else [])
        words += random.sample(FILLER, random.randint(0, 2)) + [adjective, "."]
    return " ".join(words)


def read_split(count):
    """First all positive reviews, then all negative ones, as the folders pos/ and neg/ hold them."""
    texts = [write_review(True) for _ in range(count // 2)] + [write_review(False) for _ in range(count // 2)]
    return texts, [1] * (count // 2) + [0] * (count // 2)


train_texts, train_labels = read_split(3000)
val_texts, val_labels = read_split(600)
print(train_texts[0])

# ## 2. Vocabulary and loaders

# In[3]:
PAD, UNK = 0, 1


def tokenize(text):
    return text.lower().split()


def build_vocab(texts, min_freq=2):
    counter = Counter(word for text in texts for word in tokenize(text))
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for word, freq in counter.most_common():
        if freq >= min_freq:
            vocab[word] = len(vocab)
    return vocab


class ReviewDataset(Dataset):
    def __init__(self, texts, labels, vocab):
        self.tokens = [torch.tensor([vocab.get(w, UNK) for w in tokenize(text)]) for text in texts]
        self.labels = torch.tensor(labels, dtype=torch.float)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return self.tokens[i], self.labels[i]


def collate_batch(batch):
    tokens, labels = zip(*batch)
    lengths = torch.tensor([len(t) for t in tokens])
    return pad_sequence(tokens, batch_first=True, padding_value=PAD), lengths, torch.stack(labels)


vocab = build_vocab(train_texts)
train_set = ReviewDataset(train_texts, train_labels, vocab)
val_set = ReviewDataset(val_texts, val_labels, vocab)
train_loader = DataLoader(train_set, batch_size=50, shuffle=True, collate_fn=collate_batch)
val_loader = DataLoader(val_set, batch_size=100, shuffle=False, collate_fn=collate_batch)
print("vocabulary:", len(vocab))

# ## 3. The network

# In[4]:
class SentimentLSTM(nn.Module):
    def __init__(self, vocab_size, embedding_dim=32, hidden_dim=48):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(2 * hidden_dim, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, tokens, lengths):
        embedded = self.embedding(tokens)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        hidden = torch.cat([hidden[-2], hidden[-1]], dim=1)
        return self.sigmoid(self.fc(self.dropout(hidden))).squeeze(1)


net = SentimentLSTM(len(vocab))
criterion = nn.BCELoss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.003)

# ## 4. Training

# In[5]:
epochs, clip = 8, 5
history = {"train_loss": [], "val_loss": [], "val_acc": []}
for epoch in range(1, epochs + 1):
    net.train()
    train_loss = 0.0
    for tokens, lengths, labels in train_loader:
        optimizer.zero_grad()
        output = net(tokens, lengths)
        loss = criterion(output, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        train_loss += loss.item() * len(labels)

    net.eval()
    val_loss, correct = 0.0, 0
    with torch.no_grad():
        for tokens, lengths, labels in val_loader:
            prob = net(tokens, lengths)
            val_loss += criterion(prob, labels).item() * len(labels)
            correct += ((prob > 0.5).float() == labels).sum().item()
    history["train_loss"].append(train_loss / len(train_set))
    history["val_loss"].append(val_loss / len(val_set))
    history["val_acc"].append(correct / len(val_set))
    print(f"Epoch {epoch}/{epochs}  loss {history['train_loss'][-1]:.4f}  val loss {history['val_loss'][-1]:.4f}  val acc {history['val_acc'][-1]:.4f}")

# In[6]:
def predict(text):
    net.eval()
    tokens = torch.tensor([[vocab.get(w, UNK) for w in tokenize(text)]])
    with torch.no_grad():
        return net(tokens, torch.tensor([tokens.size(1)])).item()


print("the film was not great . the pace was dull .", predict("the film was not great . the pace was dull ."))
