"""Neural collaborative filtering (NeuMF) on implicit feedback, leave-one-out evaluation with HR and NDCG."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
import torch.utils.data as data


def load_all(user_num=100, item_num=48, groups=4, per_user=7, test_neg=30, seed=0):
    """Users like items of their own group. The last item of each user is kept for the test, with unseen items."""
    rng = np.random.default_rng(seed)
    item_group = rng.permutation(np.arange(item_num) % groups)
    train_data, train_mat, test_data = [], set(), []
    for u in range(user_num):
        liked = np.flatnonzero(item_group == rng.integers(groups))
        chosen = [int(i) for i in rng.choice(liked, per_user, replace=False)]
        for i in chosen[:-1]:
            train_data.append([u, i])
            train_mat.add((u, i))
        others = np.setdiff1d(np.arange(item_num), chosen)
        negatives = rng.choice(others, test_neg, replace=False)
        test_data.append([u, chosen[-1], 1])
        test_data.extend([u, int(i), 0] for i in negatives)
    return train_data, test_data, user_num, item_num, train_mat


class NCFData(data.Dataset):
    def __init__(self, features, num_item, train_mat=None, num_ng=0, is_training=False):
        super().__init__()
        self.features_ps = features
        self.num_item, self.train_mat = num_item, train_mat
        self.num_ng, self.is_training = num_ng, is_training
        self.labels = [] if is_training else [label for _, _, label in features]

    def ng_sample(self):
        self.features_ng = []
        for u, _ in self.features_ps:
            for _ in range(self.num_ng):
                j = np.random.randint(self.num_item)
                while (u, j) in self.train_mat:
                    j = np.random.randint(self.num_item)
                self.features_ng.append([u, j])
        labels_ps = [1] * len(self.features_ps)
        labels_ng = [0] * len(self.features_ng)
        self.features_fill = self.features_ps + self.features_ng
        self.labels_fill = labels_ps + labels_ng

    def __len__(self):
        return (self.num_ng + 1) * len(self.features_ps) if self.is_training else len(self.features_ps)

    def __getitem__(self, idx):
        features = self.features_fill if self.is_training else self.features_ps
        labels = self.labels_fill if self.is_training else self.labels
        return features[idx][0], features[idx][1], labels[idx]


class NCF(nn.Module):
    def __init__(self, user_num, item_num, factor_num, num_layers, dropout):
        super().__init__()
        mlp_dim = factor_num * (2 ** (num_layers - 1))
        self.embed_user_GMF = nn.Embedding(user_num, factor_num)
        self.embed_item_GMF = nn.Embedding(item_num, factor_num)
        self.embed_user_MLP = nn.Embedding(user_num, mlp_dim)
        self.embed_item_MLP = nn.Embedding(item_num, mlp_dim)
        modules = []
        for i in range(num_layers):
            input_size = factor_num * (2 ** (num_layers - i))
            modules += [nn.Dropout(p=dropout), nn.Linear(input_size, input_size // 2), nn.ReLU()]
        self.MLP_layers = nn.Sequential(*modules)
        self.predict_layer = nn.Linear(factor_num * 2, 1)
        self._init_weight_()

    def _init_weight_(self):
        for m in self.modules():
            if isinstance(m, nn.Embedding):
                nn.init.normal_(m.weight, std=0.1)
            elif isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, user, item):
        output_GMF = self.embed_user_GMF(user) * self.embed_item_GMF(item)
        interaction = torch.cat((self.embed_user_MLP(user), self.embed_item_MLP(item)), -1)
        output_MLP = self.MLP_layers(interaction)
        concat = torch.cat((output_GMF, output_MLP), -1)
        prediction = self.predict_layer(concat)
        return prediction.view(-1)


def hit(gt_item, pred_items):
    return 1 if gt_item in pred_items else 0


def ndcg(gt_item, pred_items):
    if gt_item in pred_items:
        return np.reciprocal(np.log2(pred_items.index(gt_item) + 2))
    return 0


@torch.no_grad()
def metrics(model, test_loader, top_k):
    model.eval()
    HR, NDCG = [], []
    for user, item, _ in test_loader:  # one user a batch, the held-out item first
        predictions = model(user, item)
        _, indices = torch.topk(predictions, top_k)
        recommends = torch.take(item, indices).tolist()
        gt_item = item[0].item()
        HR.append(hit(gt_item, recommends))
        NDCG.append(ndcg(gt_item, recommends))
    return np.mean(HR), np.mean(NDCG)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate")
    parser.add_argument("--dropout", type=float, default=0.1, help="dropout rate")
    parser.add_argument("--batch_size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--top_k", type=int, default=5)
    parser.add_argument("--factor_num", type=int, default=8, help="predictive factors")
    parser.add_argument("--num_layers", type=int, default=2, help="layers of the MLP")
    parser.add_argument("--num_ng", type=int, default=2, help="negatives for each positive")
    parser.add_argument("--test_num_ng", type=int, default=30, help="negatives of the test")
    args = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)
    train_data, test_data, user_num, item_num, train_mat = load_all(test_neg=args.test_num_ng)
    train_dataset = NCFData(train_data, item_num, train_mat, args.num_ng, True)
    test_dataset = NCFData(test_data, item_num, train_mat, 0, False)
    train_dataset.ng_sample()
    train_loader = data.DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True, num_workers=0)
    test_loader = data.DataLoader(test_dataset, batch_size=args.test_num_ng + 1, shuffle=False, num_workers=0)
    model = NCF(user_num, item_num, args.factor_num, args.num_layers, args.dropout)
    loss_function = nn.BCEWithLogitsLoss()
    embed_params = [p for n, p in model.named_parameters() if n.startswith("embed")]
    dense_params = [p for n, p in model.named_parameters() if not n.startswith("embed")]
    optimizer = optim.Adam([{"params": embed_params}, {"params": dense_params, "weight_decay": 1e-5}], lr=args.lr)

    for epoch in range(args.epochs):
        model.train()
        train_loader.dataset.ng_sample()
        running = 0.0
        for user, item, label in train_loader:
            label = label.float()
            optimizer.zero_grad()
            prediction = model(user, item)
            loss = loss_function(prediction, label)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(label)
        HR, NDCG = metrics(model, test_loader, args.top_k)
        print(f"epoch {epoch:03d} loss {running / len(train_dataset):.3f} HR {HR:.3f} NDCG {NDCG:.3f}")


if __name__ == "__main__":
    main()
