import math

import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(4)
images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 8 - 1, torch.tensor(labels))
train_set, valid_set = random_split(data, [1497, 300])
train_dl = DataLoader(train_set, batch_size=50, shuffle=True, drop_last=True)
valid_dl = DataLoader(valid_set, batch_size=100)


class Classifier(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x))


def objective(logits, targets):
    logp = logits - logits.logsumexp(dim=1, keepdim=True)
    return -logp.gather(1, targets.unsqueeze(1)).mean()


def fit(net, opt, epochs):
    for epoch in range(epochs):
        net.train()
        running = 0.0
        for xb, yb in train_dl:
            logits = net(xb)
            loss = objective(logits, yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            running += loss.item() / len(train_dl)
        net.eval()
        hits = 0
        with torch.no_grad():
            for xb, yb in valid_dl:
                hits += (net(xb).argmax(1) == yb).sum().item()
        print(f"{epoch}: {running:.4f} (chance {math.log(10):.4f}), valid accuracy {hits / len(valid_set):.3f}")


net = Classifier()
fit(net, optim.SGD(net.parameters(), lr=0.1, momentum=0.9), 8)
