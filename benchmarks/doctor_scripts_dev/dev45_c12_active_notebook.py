# Homework 6: active learning. Which digits should we pay to have labelled?

# In[1]
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import toydata

torch.manual_seed(0)
rng = np.random.default_rng(0)

# In[2]  data: a pool whose labels we pretend not to know, and a test set
pool_images, pool_labels = toydata.draw_digits(1200, seed=0)
test_images, test_labels = toydata.draw_digits(400, seed=1)
pool_x = pool_images.float() / 255
test_x = test_images.float() / 255
mu, sigma = pool_x.mean(), pool_x.std()
pool_x = (pool_x - mu) / sigma
test_x = (test_x - mu) / sigma
print(pool_x.shape, test_x.shape)

# In[3]  settings
START, ADD, ROUNDS = 120, 100, 5
STEPS, BATCH = 160, 40


# In[4]  network
class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 3, padding=1)
        self.c2 = nn.Conv2d(16, 32, 3, padding=1)
        self.drop = nn.Dropout(0.25)
        self.out = nn.Linear(32 * 16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        return self.out(self.drop(x.flatten(1)))


# In[5]  training on what is labelled so far
def fit(net, x, y):
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=5e-3, total_steps=STEPS)
    net.train()
    history = []
    order = torch.randperm(len(x))
    for step in range(STEPS):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(x))])
        batch, order = order[:BATCH], order[BATCH:]
        loss = F.cross_entropy(net(x[batch]), y[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        history.append(loss.item())
    return np.mean(history[-20:])


# In[6]  scores
@torch.no_grad()
def entropy(net, x):
    net.eval()
    p = net(x).softmax(dim=1)
    return -(p * p.clamp(min=1e-12).log()).sum(dim=1)


@torch.no_grad()
def accuracy(net, x, y):
    net.eval()
    return (net(x).argmax(dim=1) == y).float().mean().item()


# In[7]  label, train, ask, repeat
known = torch.zeros(len(pool_x), dtype=torch.bool)
known[rng.choice(len(pool_x), START, replace=False)] = True
net = SmallCNN()
results = []
for round_ in range(ROUNDS):
    net = SmallCNN()
    last_loss = fit(net, pool_x[known], pool_labels[known])
    acc = accuracy(net, test_x, test_labels)
    results.append((int(known.sum()), acc))
    print(f"round {round_}: {results[-1][0]} labels, loss {last_loss:.4f}, test accuracy {acc:.3f}")
    if round_ < ROUNDS - 1:
        unsure = entropy(net, pool_x)
        unsure[known] = -1.0
        ask = unsure.topk(ADD).indices
        known[ask] = True

# In[8]  the same number of labels, drawn at random
chosen = torch.from_numpy(rng.choice(len(pool_x), results[-1][0], replace=False))
baseline = SmallCNN()
fit(baseline, pool_x[chosen], pool_labels[chosen])
print(f"random choice: {len(chosen)} labels, test accuracy {accuracy(baseline, test_x, test_labels):.3f}")
for count, acc in results:
    print(f"{count:5d}  {'#' * int(40 * acc)} {acc:.3f}")
