# A digit recognizer from bare tensors: embedding-free MLP with one batch norm, manual loop, lr decay.
import random

import torch
import torch.nn.functional as F

from toydata import draw_digits

# ---------------------------------------------------------------- hyperparameters
n_hidden = 96        # neurons of the hidden layers
batch_size = 32
max_steps = 2200
base_lr = 0.1
seed = 2147483647
# ----------------------------------------------------------------

random.seed(42)
g = torch.Generator().manual_seed(seed)  # for reproducibility


def build_dataset(n=2000):
    images, labels = draw_digits(n, seed=5, shift=1)
    X = images.float().view(n, -1) / 255.0
    X = (X - X.mean()) / X.std()
    return X, labels


X, Y = build_dataset()
order = list(range(len(X)))
random.shuffle(order)
order = torch.tensor(order)
X, Y = X[order], Y[order]
n1, n2 = int(0.8 * len(X)), int(0.9 * len(X))
Xtr, Ytr = X[:n1], Y[:n1]
Xdev, Ydev = X[n1:n2], Y[n1:n2]
Xte, Yte = X[n2:], Y[n2:]
print("train", tuple(Xtr.shape), "dev", tuple(Xdev.shape), "test", tuple(Xte.shape))

# MLP
n_in = X.shape[1]
W1 = torch.randn((n_in, n_hidden), generator=g) * (5 / 3) / n_in**0.5
W2 = torch.randn((n_hidden, n_hidden), generator=g) * (5 / 3) / n_hidden**0.5
b2 = torch.randn(n_hidden, generator=g) * 0.01
W3 = torch.randn((n_hidden, 10), generator=g) * 0.01
b3 = torch.randn(10, generator=g) * 0

# batch norm parameters of the first layer
bngain = torch.ones((1, n_hidden))
bnbias = torch.zeros((1, n_hidden))
bnmean_running = torch.zeros((1, n_hidden))
bnstd_running = torch.ones((1, n_hidden))

parameters = [W1, W2, b2, W3, b3, bngain, bnbias]
print(sum(p.nelement() for p in parameters), "parameters in total")
for p in parameters:
    p.requires_grad = True


def hidden(x, mean, std):
    h = torch.tanh(bngain * (x @ W1 - mean) / std + bnbias)
    return torch.tanh(h @ W2 + b2)


@torch.no_grad()
def split_loss(split):
    x, y = {"train": (Xtr, Ytr), "val": (Xdev, Ydev), "test": (Xte, Yte)}[split]
    logits = hidden(x, bnmean_running, bnstd_running) @ W3 + b3
    loss = F.cross_entropy(logits, y)
    accuracy = (logits.argmax(1) == y).float().mean()
    print(f"{split:5s} loss {loss.item():.4f} accuracy {accuracy.item():.4f}")
    return loss.item()


lossi = []
for i in range(max_steps):
    # minibatch construct
    ix = torch.randint(0, Xtr.shape[0], (batch_size,), generator=g)
    Xb, Yb = Xtr[ix], Ytr[ix]

    # forward pass
    hpreact = Xb @ W1
    bnmeani = hpreact.mean(0, keepdim=True)
    bnstdi = hpreact.std(0, keepdim=True) + 1e-5
    with torch.no_grad():
        bnmean_running = 0.99 * bnmean_running + 0.01 * bnmeani
        bnstd_running = 0.99 * bnstd_running + 0.01 * bnstdi
    logits = hidden(Xb, bnmeani, bnstdi) @ W3 + b3
    loss = F.cross_entropy(logits, Yb)

    # backward pass
    for p in parameters:
        p.grad = None
    loss.backward()

    # update
    lr = base_lr if i < max_steps * 0.7 else base_lr / 10
    for p in parameters:
        p.data += -lr * p.grad

    # track stats
    lossi.append(loss.log10().item())
    if i % 200 == 0:
        print(f"{i:7d}/{max_steps:7d}: {loss.item():.4f}")
    if i % 1000 == 999:
        split_loss("val")

print("mean log10 loss of the last steps", sum(lossi[-100:]) / 100)
split_loss("train")
split_loss("val")
split_loss("test")
