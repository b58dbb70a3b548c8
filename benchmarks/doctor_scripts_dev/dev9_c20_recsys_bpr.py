"""Matrix factorization with BPR loss, sparse embeddings, negatives resampled each epoch, HR@5 / NDCG@5 on a left-out item."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.utils.data as data

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.015)
parser.add_argument("--batch_size", type=int, default=256)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--top_k", type=int, default=5)
parser.add_argument("--factor_num", type=int, default=12)
parser.add_argument("--num_ng", type=int, default=3)
parser.add_argument("--lamda", type=float, default=1e-2)
args = parser.parse_args([])

rng = np.random.default_rng(0)
USERS, ITEMS = 200, 120
taste, genre = rng.normal(size=(USERS, 4)), rng.normal(size=(ITEMS, 4))
score = taste @ genre.T + 0.5 * rng.gumbel(size=(USERS, ITEMS))
liked = np.argsort(-score, 1)[:, :16]
train_pairs, test_item = [], {}
for u in range(USERS):
    items = rng.permutation(liked[u])
    test_item[u] = int(items[0])
    train_pairs += [(u, int(i)) for i in items[1:]]
seen = set(train_pairs)


class BPRData(data.Dataset):
    def __init__(self, features, num_ng):
        self.features, self.num_ng = features, num_ng
        self.features_fill = []

    def ng_sample(self):
        self.features_fill = []
        for u, i in self.features:
            for _ in range(self.num_ng):
                j = np.random.randint(ITEMS)
                while (u, j) in seen:
                    j = np.random.randint(ITEMS)
                self.features_fill.append([u, i, j])

    def __len__(self):
        return self.num_ng * len(self.features)

    def __getitem__(self, idx):
        return tuple(self.features_fill[idx])


class BPR(nn.Module):
    def __init__(self, user_num, item_num, factor_num):
        super().__init__()
        self.embed_user, self.embed_item = nn.Embedding(user_num, factor_num, sparse=True), nn.Embedding(item_num, factor_num, sparse=True)
        self.bias_item = nn.Embedding(item_num, 1, sparse=True)
        for e in (self.embed_user, self.embed_item):
            nn.init.normal_(e.weight, std=0.1)
        nn.init.zeros_(self.bias_item.weight)

    def forward(self, user, item_i, item_j):
        user, i, j = self.embed_user(user), self.embed_item(item_i), self.embed_item(item_j)
        pi = (user * i).sum(dim=-1) + self.bias_item(item_i)[:, 0]
        pj = (user * j).sum(dim=-1) + self.bias_item(item_j)[:, 0]
        return pi, pj, (user.pow(2) + i.pow(2) + j.pow(2)).sum()


def metrics(model, top_k):
    HR, NDCG = [], []
    gen = np.random.default_rng(5)
    for u, gt in test_item.items():
        cand = [i for i in gen.permutation(ITEMS).tolist() if (u, i) not in seen and i != gt][:50] + [gt]
        with torch.no_grad():
            s, _, _ = model(torch.full((len(cand),), u), torch.tensor(cand), torch.tensor(cand))
        rec = [cand[k] for k in torch.topk(s, top_k).indices.tolist()]
        HR.append(gt in rec)
        NDCG.append(1 / np.log2(rec.index(gt) + 2) if gt in rec else 0)
    return np.mean(HR), np.mean(NDCG)


torch.manual_seed(0)
np.random.seed(0)
train_dataset = BPRData(train_pairs, args.num_ng)
train_loader = data.DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
model = BPR(USERS, ITEMS, args.factor_num)
optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=args.lr)
print("chance", args.top_k / 51, "start", metrics(model, args.top_k))
for epoch in range(args.epochs):
    model.train()
    train_loader.dataset.ng_sample()
    tot, auc = 0.0, 0.0
    for user, item_i, item_j in train_loader:
        model.zero_grad()
        pi, pj, reg = model(user, item_i, item_j)
        loss = -(pi - pj).sigmoid().log().mean() + args.lamda * reg / len(user)
        loss.backward()
        optimizer.step()
        tot += loss.item()
        auc += (pi > pj).float().mean().item()
    model.eval()
    HR, NDCG = metrics(model, args.top_k)
    print(f"epoch {epoch:03d} loss {tot / len(train_loader):.3f} train auc {auc / len(train_loader):.3f} HR: {HR:.3f}\tNDCG: {NDCG:.3f}")
