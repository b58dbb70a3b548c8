import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset


class TripletDigits(Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y
        self.idx = {int(c): torch.where(y == c)[0] for c in y.unique()}

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        label = int(self.y[i])
        pos = self.idx[label][torch.randint(len(self.idx[label]), ())]
        other = (label + int(torch.randint(1, 10, ()))) % 10
        neg = self.idx[other][torch.randint(len(self.idx[other]), ())]
        return {"anchor": self.X[i], "positive": self.X[pos], "negative": self.X[neg]}


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(64, 64), nn.PReLU(), nn.Linear(64, 16))

    def get_embedding(self, x):
        return F.normalize(self.fc(x), p=2, dim=-1)

    def forward(self, x):
        return self.get_embedding(x)


def triplet_loss(anchor, positive, negative, margin=0.3):
    d_pos = (anchor - positive).pow(2).sum(1)
    d_neg = (anchor - negative).pow(2).sum(1)
    return F.relu(d_pos - d_neg + margin).mean()


X, y = load_digits(return_X_y=True)
X = torch.tensor((X - X.mean()) / X.std()).float()
y = torch.tensor(y)
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.3, random_state=0)
torch.manual_seed(0)
model = EmbeddingNet()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
dl = DataLoader(TripletDigits(Xtr, ytr), batch_size=64, shuffle=True)
for ep in range(8):
    model.train()
    for batch in dl:
        a = model(batch["anchor"])
        p = model(batch["positive"])
        n = model(batch["negative"])
        loss = triplet_loss(a, p, n)
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        e = model(Xte)
        d = torch.cdist(e, model(Xtr))
        print(ep, loss.item(), "1-NN", (ytr[d.argmin(1)] == yte).float().mean().item())
