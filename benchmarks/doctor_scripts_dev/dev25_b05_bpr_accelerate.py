"""Recommendation from implicit feedback: matrix factorization with the BPR loss, run by Accelerate."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

N_USERS, N_GENRES, PER_GENRE = 1000, 30, 10
N_ITEMS = N_GENRES * PER_GENRE


def simulate(seed=0):
    """What each user watched, in order of time. Users like three genres."""
    rng = random.Random(seed)
    histories = []
    for _ in range(N_USERS):
        genres = rng.sample(range(N_GENRES), 3)
        liked = [genre * PER_GENRE + i for genre in genres for i in range(PER_GENRE)]
        chosen = rng.sample(liked, 20)
        by_chance = rng.sample([item for item in range(N_ITEMS) if item not in liked], 2)
        first = chosen[:-1] + by_chance
        rng.shuffle(first)
        histories.append(first + chosen[-1:])
    return histories


class Triplets(Dataset):
    """(user, item that the user watched, item that the user did not watch)"""

    def __init__(self, known):
        self.known = [set(items) for items in known]
        self.pairs = [(user, item) for user, items in enumerate(known) for item in items]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        user, positive = self.pairs[index]
        negative = random.randrange(N_ITEMS)
        while negative in self.known[user]:
            negative = random.randrange(N_ITEMS)
        return user, positive, negative


class BPRMF(nn.Module):
    def __init__(self, n_users, n_items, dim=32):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, dim)
        self.item_factors = nn.Embedding(n_items, dim)
        self.item_bias = nn.Embedding(n_items, 1)
        nn.init.normal_(self.user_factors.weight, std=0.1)
        nn.init.normal_(self.item_factors.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, user, item):
        product = (self.user_factors(user) * self.item_factors(item)).sum(dim=1)
        return product + self.item_bias(item).squeeze(1)

    def penalty(self, user, *items):
        squares = self.user_factors(user).pow(2).sum(1)
        for item in items:
            squares = squares + self.item_factors(item).pow(2).sum(1)
        return squares.mean()

    def all_scores(self):
        return self.user_factors.weight @ self.item_factors.weight.T + self.item_bias.weight.T


@torch.no_grad()
def evaluate(model, known, held_out, k=10):
    """Hit rate and NDCG of the held-out item among all items that are new to the user."""
    model.eval()
    scores = model.all_scores().clone()
    for user, items in enumerate(known):
        scores[user, items] = float("-inf")
    wanted = scores.gather(1, held_out.unsqueeze(1))
    rank = (scores > wanted).sum(dim=1)
    hit = (rank < k).float()
    ndcg = hit / torch.log2(rank.float() + 2)
    return hit.mean().item(), ndcg.mean().item()


def main(epochs=35, batch_size=128, lr=3e-3, l2=1e-3):
    set_seed(11)
    accelerator = Accelerator(cpu=True)
    histories = simulate()
    known = [items[:-1] for items in histories]
    held_out = torch.tensor([items[-1] for items in histories])

    loader = DataLoader(Triplets(known), batch_size=batch_size, shuffle=True)
    model = BPRMF(N_USERS, N_ITEMS)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for user, positive, negative in loader:
            better = model(user, positive)
            worse = model(user, negative)
            loss = -F.logsigmoid(better - worse).mean()
            loss = loss + l2 * model.penalty(user, positive, negative)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            total += loss.item()
        hit_rate, ndcg = evaluate(accelerator.unwrap_model(model), known, held_out)
        accelerator.print(f"epoch {epoch + 1:2d} loss {total / len(loader):.4f} HR@10 {hit_rate:.3f} NDCG@10 {ndcg:.3f}")


if __name__ == "__main__":
    main()
