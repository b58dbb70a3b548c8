"""Implicit feedback: matrix factorization with BPR (Rendle et al. 2009), sparse gradients, leave-one-out HR@10 and NDCG@10."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

N_USERS, N_ITEMS, DIM = 1200, 400, 16
NUM_NEG_TEST = 99


def simulate(seed=0, per_user=24):
    """Users of mixed tastes pick items by taste and by fame; the last pick of each user is for the test, the one before for validation."""
    rng = np.random.default_rng(seed)
    tastes = rng.dirichlet(0.15 * np.ones(8), N_USERS)
    genres = rng.dirichlet(0.1 * np.ones(8), N_ITEMS)
    fame = rng.normal(0, 0.7, N_ITEMS)
    utility = 9 * tastes @ genres.T + fame
    train, valid, test = [], [], []
    for u in range(N_USERS):
        gumbel = rng.gumbel(size=N_ITEMS)
        picks = np.argsort(-(utility[u] + gumbel))[:per_user]
        rng.shuffle(picks)
        train += [(u, i) for i in picks[:-2]]
        valid.append((u, picks[-2]))
        test.append((u, picks[-1]))
    return np.array(train), np.array(valid), np.array(test), rng


class BPRData(Dataset):
    def __init__(self, pairs, num_ng=4):
        self.pairs, self.num_ng = pairs, num_ng
        self.seen = [set() for _ in range(N_USERS)]
        for u, i in pairs:
            self.seen[u].add(i)
        self.ng_sample()

    def ng_sample(self):
        """New negatives, once an epoch."""
        triples = []
        for u, i in self.pairs:
            for _ in range(self.num_ng):
                j = np.random.randint(N_ITEMS)
                while j in self.seen[u]:
                    j = np.random.randint(N_ITEMS)
                triples.append((u, i, j))
        self.triples = np.array(triples)

    def __len__(self):
        return len(self.triples)

    def __getitem__(self, idx):
        return tuple(self.triples[idx])


class BPR(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_user = nn.Embedding(N_USERS, DIM, sparse=True)
        self.embed_item = nn.Embedding(N_ITEMS, DIM, sparse=True)
        self.bias_item = nn.Embedding(N_ITEMS, 1, sparse=True)
        nn.init.normal_(self.embed_user.weight, std=0.1)
        nn.init.normal_(self.embed_item.weight, std=0.1)
        nn.init.zeros_(self.bias_item.weight)

    def score(self, user, item):
        return (self.embed_user(user) * self.embed_item(item)).sum(-1) + self.bias_item(item).squeeze(-1)

    def forward(self, user, item_i, item_j):
        return self.score(user, item_i), self.score(user, item_j)

    def l2(self, user, item_i, item_j):
        return (self.embed_user(user) ** 2).sum(-1) + (self.embed_item(item_i) ** 2).sum(-1) + (self.embed_item(item_j) ** 2).sum(-1)


def candidates(pairs, interacted, rng):
    """The item picked and 99 that the user never picked at all."""
    rows = []
    for u, i in pairs:
        pool = np.setdiff1d(np.arange(N_ITEMS), list(interacted[u]))
        rows.append(np.concatenate([[i], rng.choice(pool, NUM_NEG_TEST, replace=False)]))
    return torch.as_tensor(pairs[:, 0].copy()), torch.as_tensor(np.stack(rows))


@torch.no_grad()
def metrics(model, users, items, top_k=10):
    scores = model.score(users[:, None].expand_as(items), items)
    rank = (scores[:, 1:] >= scores[:, :1]).sum(1)  # of the picked one; ties count against it
    hit = rank < top_k
    ndcg = torch.where(hit, 1.0 / torch.log2(rank.float() + 2), torch.zeros(()))
    return hit.float().mean().item(), ndcg.mean().item()


if __name__ == "__main__":
    np.random.seed(0)
    torch.manual_seed(0)
    train, valid, test, rng = simulate()
    interacted = [set() for _ in range(N_USERS)]
    for u, i in np.concatenate([train, valid, test]):
        interacted[u].add(i)
    valid_set, test_set = candidates(valid, interacted, rng), candidates(test, interacted, rng)

    dataset = BPRData(train)
    loader = DataLoader(dataset, batch_size=1024, shuffle=True)
    model = BPR()
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=1e-2)
    best_hr, best_state = 0.0, None
    for epoch in range(16):
        model.train()
        dataset.ng_sample()
        total = 0.0
        for user, item_i, item_j in loader:
            model.zero_grad()
            prediction_i, prediction_j = model(user, item_i, item_j)
            loss = -F.logsigmoid(prediction_i - prediction_j).mean() + 8e-3 * model.l2(user, item_i, item_j).mean()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(user)
        model.eval()
        hr, ndcg = metrics(model, *valid_set)
        print(f"epoch {epoch:2d} loss {total / len(dataset):.4f} valid HR@10 {hr:.3f} NDCG@10 {ndcg:.3f}")
        if hr > best_hr:
            best_hr, best_state = hr, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)
    print("test HR@10 {:.3f} NDCG@10 {:.3f} (by chance: 0.100)".format(*metrics(model, *test_set)))
