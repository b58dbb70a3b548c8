"""A recommender with two towers, trained with the other items of the batch as negatives, on Accelerate."""

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

USERS, GENRES, PER_GENRE, LIKED = 2000, 24, 20, 17
ITEMS = GENRES * PER_GENRE
BATCH, EPOCHS, TEMPERATURE, TOP = 256, 14, 0.1, 10


def make_interactions(seed=0):
    """Each user likes items of two genres. One liked item per user is held out for validation."""
    rng = np.random.default_rng(seed)
    item_ids = rng.permutation(ITEMS).reshape(GENRES, PER_GENRE)
    popularity = 1 / (np.arange(PER_GENRE) + 6)
    weights = np.concatenate([popularity, popularity])
    weights = weights / weights.sum()
    pairs = []
    seen = torch.zeros(USERS, ITEMS, dtype=torch.bool)
    holdout = torch.zeros(USERS, dtype=torch.long)
    for user in range(USERS):
        genres = rng.choice(GENRES, 2, replace=False)
        liked = rng.choice(item_ids[genres].reshape(-1), LIKED, replace=False, p=weights)
        liked = rng.permutation(liked)
        holdout[user] = int(liked[0])
        seen[user, torch.from_numpy(liked[1:])] = True
        pairs += [(user, int(item)) for item in liked[1:]]
    return torch.tensor(pairs), seen, holdout


def tower(count, width=32):
    embedding = nn.Embedding(count, width)
    nn.init.normal_(embedding.weight, std=0.1)
    return nn.Sequential(embedding, nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width))


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_tower = tower(USERS)
        self.item_tower = tower(ITEMS)

    def embed_users(self, users):
        return F.normalize(self.user_tower(users), dim=-1)

    def embed_items(self, items):
        return F.normalize(self.item_tower(items), dim=-1)

    def forward(self, users, items):
        return self.embed_users(users), self.embed_items(items)


def make_train_step(accelerator, model, optimizer):
    def train_step(users, items):
        optimizer.zero_grad()
        user_vectors, item_vectors = model(users, items)
        logits = user_vectors @ item_vectors.T / TEMPERATURE
        # the same item elsewhere in the batch is no negative
        same = items[None, :] == items[:, None]
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, -1e4)
        loss = F.cross_entropy(logits, torch.arange(len(users), device=logits.device))
        accelerator.backward(loss)
        optimizer.step()
        return loss.item()

    return train_step


def make_evaluation(accelerator, model, seen, holdout):
    @torch.no_grad()
    def evaluation():
        plain = accelerator.unwrap_model(model)
        plain.eval()
        scores = plain.embed_users(torch.arange(USERS)) @ plain.embed_items(torch.arange(ITEMS)).T
        scores = scores.masked_fill(seen, float("-inf"))
        top = scores.topk(TOP, dim=1).indices
        hits = top == holdout[:, None]
        recall = hits.any(dim=1).float().mean().item()
        ranks = 1 / (torch.arange(TOP) + 1.0)
        reciprocal = (hits.float() * ranks).sum(dim=1).mean().item()
        plain.train()
        return recall, reciprocal

    return evaluation


def main():
    torch.set_num_threads(1)
    set_seed(0)
    accelerator = Accelerator(cpu=True)
    pairs, seen, holdout = make_interactions()
    dataset = TensorDataset(pairs[:, 0], pairs[:, 1])
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)

    model = TwoTowers()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    train_step = make_train_step(accelerator, model, optimizer)
    evaluation = make_evaluation(accelerator, model, seen, holdout)
    recall, _ = evaluation()
    accelerator.print(f"untrained: recall@{TOP} {recall:.3f}")
    for epoch in range(1, EPOCHS + 1):
        losses = [train_step(users, items) for users, items in loader]
        recall, reciprocal = evaluation()
        accelerator.print(
            f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.3f}  recall@{TOP} {recall:.3f}  mrr {reciprocal:.3f}"
        )


if __name__ == "__main__":
    main()
