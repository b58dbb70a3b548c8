"""House prices with a spread for each: the network gives a mean and a log variance."""
import tempfile

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import houses


def load_frame():
    features, price = houses(count=1300, seed=8)
    frame = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(features.shape[1])])
    frame["price"] = price.numpy()
    return frame


class FrameDataset(Dataset):
    def __init__(self, frame, center, scale):
        self.x = torch.tensor(frame.drop(columns="price").to_numpy(), dtype=torch.float32)
        self.y = (torch.tensor(frame["price"].to_numpy(), dtype=torch.float32) - center) / scale

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.y[i]}


class SpreadNet(nn.Module):
    def __init__(self, n_features, hidden=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )
        self.out = nn.Linear(hidden, 2)
        # all begin with a variance of 1, that of the targets
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, labels=None):
        out = self.out(self.body(x))
        mean, log_var = out[:, 0], out[:, 1].clamp(-7, 4)
        result = {}
        if labels is not None:
            nll = 0.5 * (log_var + (labels - mean) ** 2 * torch.exp(-log_var))
            result["loss"] = nll.mean()
        result["logits"] = torch.stack([mean, log_var], dim=1)
        return result


def main():
    set_seed(17)
    frame = load_frame()
    train, rest = train_test_split(frame, test_size=500, random_state=0)
    valid, test = train_test_split(rest, test_size=300, random_state=0)
    center, scale = float(train["price"].mean()), float(train["price"].std())
    train_set, valid_set, test_set = [FrameDataset(f, center, scale) for f in (train, valid, test)]

    def compute_metrics(prediction):
        mean, log_var = prediction.predictions[:, 0], prediction.predictions[:, 1]
        price, truth = mean * scale + center, prediction.label_ids * scale + center
        deviation = np.exp(0.5 * log_var) * scale
        return {
            "mae": mean_absolute_error(truth, price),
            "r2": r2_score(truth, price),
            "within_2_deviations": float((np.abs(truth - price) < 2 * deviation).mean()),
        }

    model = SpreadNet(n_features=train_set.x.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=40,
            per_device_train_batch_size=40,
            per_device_eval_batch_size=100,
            learning_rate=4e-3,
            weight_decay=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=40,
            max_grad_norm=2.0,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=17,
        )
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=train_set,
            eval_dataset=valid_set,
            compute_metrics=compute_metrics,
        )
        print("before:", trainer.evaluate())
        trainer.train()
        print("valid:", trainer.evaluate())
        print("test:", trainer.evaluate(test_set, metric_key_prefix="test"))


if __name__ == "__main__":
    main()
