# %% [markdown]
# # Forces between beads
# Beads under a microscope hang together by springs. A graph network learns the acceleration of every bead from where
# the beads are, how stiff the springs are, and how heavy and how fast each bead is.

# %%
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

torch.manual_seed(11)
torch.set_num_threads(1)

EPOCHS = 25
BATCH = 32
WIDTH = 64


# %% The data: lengths in micrometers, accelerations in meters per second squared
def make_graph(rng):
    count = int(rng.integers(4, 10))
    position = rng.uniform(-1.5, 1.5, (count, 2))
    velocity = rng.normal(0, 1, (count, 2))
    mass = rng.uniform(0.5, 2.0, (count, 1))
    pairs = [(i, j) for i in range(count) for j in range(i) if rng.random() < 0.5]
    if not pairs:
        pairs = [(1, 0)]
    one_way = np.array(pairs)
    stiffness = rng.uniform(0.5, 2.0, len(pairs))
    source = np.concatenate([one_way[:, 0], one_way[:, 1]])
    goal = np.concatenate([one_way[:, 1], one_way[:, 0]])
    stiffness = np.concatenate([stiffness, stiffness])

    away = position[source] - position[goal]
    distance = np.linalg.norm(away, axis=1) + 1e-6
    pull = (stiffness * (distance - 1) / distance)[:, None] * away
    force = -0.5 * velocity
    np.add.at(force, goal, pull)
    return {
        "nodes": torch.tensor(np.hstack([velocity, mass]), dtype=torch.float32),
        "edges": torch.tensor(np.stack([source, goal])),
        "edge_features": torch.tensor(np.column_stack([away, distance, stiffness]), dtype=torch.float32),
        "acceleration": torch.tensor(1e-6 * force / mass, dtype=torch.float32),
    }


rng = np.random.default_rng(0)
train_graphs = [make_graph(rng) for _ in range(3000)]
valid_graphs = [make_graph(rng) for _ in range(500)]


# %% One large graph out of many small ones
def collate(graphs):
    edges, offset = [], 0
    for graph in graphs:
        edges.append(graph["edges"] + offset)
        offset += len(graph["nodes"])
    batch = {key: torch.cat([graph[key] for graph in graphs]) for key in ("nodes", "edge_features", "acceleration")}
    batch["edges"] = torch.cat(edges, dim=1)
    return batch


train_loader = DataLoader(train_graphs, batch_size=BATCH, shuffle=True, collate_fn=collate)
valid_loader = DataLoader(valid_graphs, batch_size=100, collate_fn=collate)

# %% Scales, from the training graphs
everything = collate(train_graphs)
NODE_MEAN, NODE_STD = everything["nodes"].mean(0), everything["nodes"].std(0)
EDGE_MEAN, EDGE_STD = everything["edge_features"].mean(0), everything["edge_features"].std(0)
ACC_STD = everything["acceleration"].std()
print(f"{len(everything['nodes'])} beads, {everything['edges'].shape[1] // 2} springs, accelerations about {ACC_STD:.2e}")


# %% The network
def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, outputs))


class Interaction(nn.Module):
    """Messages along all springs, added up at the beads where they arrive."""

    def __init__(self):
        super().__init__()
        self.message = mlp(2 * WIDTH + 4, WIDTH)
        self.update = mlp(2 * WIDTH, WIDTH)

    def forward(self, hidden, edges, edge_features):
        source, goal = edges
        messages = self.message(torch.cat([hidden[source], hidden[goal], edge_features], dim=1))
        arrived = torch.zeros_like(hidden).index_add(0, goal, messages)
        return hidden + self.update(torch.cat([hidden, arrived], dim=1))


class BeadNet(nn.Module):
    def __init__(self, rounds=2):
        super().__init__()
        self.encoder = nn.Linear(3, WIDTH)
        self.rounds = nn.ModuleList([Interaction() for _ in range(rounds)])
        self.decoder = mlp(WIDTH, 2)

    def forward(self, batch):
        hidden = self.encoder((batch["nodes"] - NODE_MEAN) / NODE_STD)
        edge_features = (batch["edge_features"] - EDGE_MEAN) / EDGE_STD
        for interaction in self.rounds:
            hidden = interaction(hidden, batch["edges"], edge_features)
        return self.decoder(hidden)


# %% Training; an average of the weights that follows them is what is evaluated
model = BeadNet()
averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(train_loader))


@torch.no_grad()
def r_squared(network, loader):
    network.eval()
    outputs, goals = [], []
    for batch in loader:
        outputs.append(network(batch) * ACC_STD)
        goals.append(batch["acceleration"])
    outputs, goals = torch.cat(outputs).double(), torch.cat(goals).double()
    return 1 - ((outputs - goals) ** 2).sum().item() / ((goals - goals.mean(0)) ** 2).sum().item()


for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for batch in train_loader:
        loss = nn.functional.mse_loss(model(batch), batch["acceleration"] / ACC_STD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        averaged.update_parameters(model)
        total += loss.item()
    print(f"epoch {epoch + 1:2d}  loss {total / len(train_loader):.4f}  valid R2 {r_squared(averaged, valid_loader):.4f}", flush=True)

# %%
print(f"final R2 {r_squared(averaged, valid_loader):.4f}")
