"""Communities in a graph (APPNP): all nodes in each pass, labels of a few, edges left out at random."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(23)
torch.set_num_threads(1)
NODES, KINDS = 1000, 4


def make_graph(seed=0):
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, KINDS, (NODES,), generator=generator)
    chance = torch.where(kind[:, None] == kind[None, :], 0.035, 0.004)
    edges = (torch.rand(NODES, NODES, generator=generator) < chance).triu(1)
    direction = torch.randn(KINDS, 20, generator=generator)
    features = 0.5 * direction[kind] + torch.randn(NODES, 20, generator=generator)
    return features, kind, edges.nonzero()


def normalized(edges):
    """D^-1/2 (A + I) D^-1/2"""
    adjacency = torch.eye(NODES)
    adjacency[edges[:, 0], edges[:, 1]] = 1.0
    adjacency[edges[:, 1], edges[:, 0]] = 1.0
    scale = adjacency.sum(1).rsqrt()
    return scale[:, None] * adjacency * scale[None, :]


class PageRankNet(nn.Module):
    """An MLP for each node, whose logits then wander over the graph and come back with probability alpha."""

    def __init__(self, inputs, width=32, rounds=5, alpha=0.15):
        super().__init__()
        self.mlp = nn.Sequential(nn.Dropout(0.3), nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, KINDS))
        self.rounds, self.alpha = rounds, alpha

    def forward(self, features, adjacency):
        own = self.mlp(features)
        logits = own
        for _ in range(self.rounds):
            logits = (1 - self.alpha) * adjacency @ logits + self.alpha * own
        return logits


features, kind, edges = make_graph()
features = (features - features.mean(0)) / features.std(0)
order = torch.randperm(NODES)
train, valid, test = order[:160], order[160:460], order[460:]
whole = normalized(edges)

model = PageRankNet(features.shape[1])
optimizer = torch.optim.Adam(
    [
        {"params": model.mlp[1].parameters(), "weight_decay": 5e-3},
        {"params": model.mlp[4].parameters(), "weight_decay": 0.0},
    ],
    lr=0.01,
)


def correct(rows):
    model.eval()
    with torch.no_grad():
        return (model(features, whole)[rows].argmax(1) == kind[rows]).float().mean().item()


best, best_state = 0.0, None
for step in range(1, 801):
    model.train()
    keep = torch.rand(len(edges)) > 0.2
    logits = model(features, normalized(edges[keep]))
    loss = F.cross_entropy(logits[train], kind[train])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        current = correct(valid)
        if current >= best:
            best = current
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        print(f"step {step} loss {loss.item():.4f} train {correct(train):.3f} valid {current:.3f}")

model.load_state_dict(best_state)
print(f"best valid {best:.3f}; test nodes, never used for a choice: {correct(test):.3f}")
