import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.manual_seed(7)
VOCAB, PAD, MARK = 30, 0, 1


def example():
    length = int(torch.randint(4, 17, ()))
    tokens = torch.randint(2, VOCAB, (length,))
    tags = (tokens + tokens.roll(1) * (torch.arange(length) > 0)) % 5
    return tokens, tags


train_data = [example() for _ in range(1200)]
dev_data = [example() for _ in range(200)]


def collate(rows):
    tokens = pad_sequence([t for t, _ in rows], batch_first=True, padding_value=PAD)
    tags = pad_sequence([y for _, y in rows], batch_first=True)
    lengths = torch.tensor([len(t) for t, _ in rows])
    mask = (torch.arange(tokens.shape[1])[None] < lengths[:, None]).float()
    return tokens, tags, mask


train_loader = DataLoader(train_data, batch_size=24, shuffle=True, collate_fn=collate)
dev_loader = DataLoader(dev_data, batch_size=50, collate_fn=collate)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, 24, padding_idx=PAD)
        self.conv = nn.Conv1d(24, 64, 3, padding=1)
        self.out = nn.Linear(64, 5)

    def forward(self, tokens):
        h = F.relu(self.conv(self.embed(tokens).transpose(1, 2)))
        return self.out(h.transpose(1, 2))


model = Tagger()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for epoch in range(6):
    model.train()
    for tokens, tags, mask in train_loader:
        scores = model(tokens)
        losses = F.cross_entropy(scores.transpose(1, 2), tags, reduction="none")
        loss = (losses * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    right = total = 0
    with torch.no_grad():
        for tokens, tags, mask in dev_loader:
            known = mask.bool()
            right += (model(tokens).argmax(-1) == tags)[known].sum().item()
            total += int(known.sum())
    print(epoch, loss.item(), right / total)
