"""Semi-supervised node classification with a graph convolutional network, after pygcn."""

import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


def load_data(nodes=400, classes=4, features=16, seed=3):
    """A citation-like graph: nodes of a class are joined more often, their words are noisy."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=g)
    same = labels[:, None] == labels[None, :]
    probability = torch.where(same, 0.045, 0.006)
    upper = torch.triu(torch.rand(nodes, nodes, generator=g) < probability, diagonal=1).float()
    adj = upper + upper.t()
    centers = torch.randn(classes, features, generator=g)
    x = 0.8 * centers[labels] + 1.3 * torch.randn(nodes, features, generator=g)
    order = torch.randperm(nodes, generator=g)
    idx_train, idx_val, idx_test = order[:140], order[140:240], order[240:]
    x = (x - x.mean(0)) / x.std(0)
    return normalize(adj), x, labels, idx_train, idx_val, idx_test


def normalize(adj):
    """D^-1/2 (A + I) D^-1/2"""
    adj = adj + torch.eye(adj.size(0))
    scale = adj.sum(1).rsqrt()
    return scale[:, None] * adj * scale[None, :]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def accuracy(output, labels):
    preds = output.argmax(1)
    return preds.eq(labels).double().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--print-every", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    adj, features, labels, idx_train, idx_val, idx_test = load_data()
    nclass = int(labels.max()) + 1
    model = GCN(nfeat=features.shape[1], nhid=args.hidden, nclass=nclass, dropout=args.dropout)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    def train(epoch):
        model.train()
        optimizer.zero_grad()
        output = model(features, adj)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()
        return loss_train

    @torch.no_grad()
    def evaluate(idx):
        model.eval()
        output = model(features, adj)
        return F.nll_loss(output[idx], labels[idx]).item(), accuracy(output[idx], labels[idx])

    best_val, best_state = float("inf"), None
    t_total = time.time()
    for epoch in range(1, args.epochs + 1):
        loss_train = train(epoch)
        loss_val, acc_val = evaluate(idx_val)
        if loss_val < best_val:
            best_val = loss_val
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
        if epoch % args.print_every == 0:
            print("Epoch: {:04d}".format(epoch), "loss_train: {:.4f}".format(loss_train.item()),
                  "loss_val: {:.4f}".format(loss_val), "acc_val: {:.4f}".format(acc_val))
    print("Optimization Finished! Total time elapsed: {:.2f}s".format(time.time() - t_total))

    model.load_state_dict(best_state)
    loss_test, acc_test = evaluate(idx_test)
    print("Test set results:", "loss= {:.4f}".format(loss_test), "accuracy= {:.4f}".format(acc_test))


if __name__ == "__main__":
    main()
