"""Topics of texts with an embedding bag (after the text classification tutorial)."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

VOCAB = 200  # 0 is padding; topic k has the words 1 + 20 k to 20 + 20 k, the others belong to all
NUM_TOPICS = 4
EMSIZE = 32
BATCH_SIZE = 32


class Topics(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.texts = []
        self.labels = torch.randint(0, NUM_TOPICS, (count,), generator=generator)
        for label in self.labels.tolist():
            length = int(torch.randint(10, 25, (1,), generator=generator))
            own = 1 + 20 * label + torch.randint(0, 20, (length,), generator=generator)
            common = torch.randint(1, VOCAB, (length,), generator=generator)
            topical = torch.rand(length, generator=generator) < 0.6
            self.texts.append(torch.where(topical, own, common))

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return self.labels[index], self.texts[index]


def collate_batch(batch):
    labels, texts = zip(*batch)
    return pad_sequence(list(texts), batch_first=True, padding_value=0), torch.stack(labels)


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, mode="mean", padding_idx=0)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.embedding.weight.data[0].zero_()
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text):
        return self.fc(self.embedding(text))


def train_step(model, batch, optimizer, criterion):
    text, label = batch
    optimizer.zero_grad()
    predicted_label = model(text)
    loss = criterion(predicted_label, label)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(8)
    model = TextClassificationModel(VOCAB, EMSIZE, NUM_TOPICS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return {
        "model": model,
        "train": DataLoader(Topics(1600, seed=0), batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch),
        "val": DataLoader(Topics(300, seed=1), batch_size=100, collate_fn=collate_batch),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "step": train_step,
    }
