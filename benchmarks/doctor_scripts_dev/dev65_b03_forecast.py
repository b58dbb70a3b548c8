import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler
from torch import optim
from torch.utils.data import DataLoader, Dataset


def load_series(length=1200, seed=2021):
    """Hourly loads of three stations: a daily and a half-day cycle on a level of its own each, and noise."""
    rng = np.random.RandomState(seed)
    t = np.arange(length)
    columns = []
    for level, scale in ((50.0, 12.0), (120.0, 30.0), (20.0, 6.0)):
        phase = rng.uniform(0, 2 * np.pi, 2)
        slow = np.convolve(rng.randn(length + 23), np.ones(24) / 24, mode="valid")
        cycle = np.sin(2 * np.pi * t / 24 + phase[0]) + 0.5 * np.sin(2 * np.pi * t / 12 + phase[1])
        columns.append(level + scale * (cycle + 0.8 * slow + 0.15 * rng.randn(length)))
    return np.stack(columns, axis=1)


class Dataset_Load(Dataset):
    def __init__(self, flag="train", size=(48, 12)):
        self.seq_len, self.pred_len = size
        self.set_type = {"train": 0, "val": 1, "test": 2}[flag]
        self.__read_data__()

    def __read_data__(self):
        self.scaler = StandardScaler()
        raw = load_series()
        num_train, num_test = int(len(raw) * 0.7), int(len(raw) * 0.15)
        num_vali = len(raw) - num_train - num_test
        border1s = [0, num_train, num_train + num_vali]
        border2s = [num_train, num_train + num_vali, len(raw)]
        border1, border2 = border1s[self.set_type], border2s[self.set_type]
        self.scaler.fit(raw[border1s[0] : border2s[0]])
        data = self.scaler.transform(raw)
        self.data = torch.from_numpy(data).float()
        self.starts = np.arange(border1, border2 - self.seq_len - self.pred_len + 1)

    def __getitem__(self, index):
        s_begin = int(self.starts[index])
        s_end = s_begin + self.seq_len
        return self.data[s_begin:s_end], self.data[s_end : s_end + self.pred_len]

    def __len__(self):
        return len(self.starts)


class Model(nn.Module):
    """Channel-independent MLP from the last seq_len to the next pred_len steps."""

    def __init__(self, configs):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(configs.seq_len, configs.d_model), nn.ReLU(), nn.Dropout(configs.dropout))
        self.projection = nn.Linear(configs.d_model, configs.pred_len)

    def forward(self, x_enc):
        enc_out = self.encoder(x_enc.permute(0, 2, 1))
        return self.projection(enc_out).permute(0, 2, 1)


class EarlyStopping:
    def __init__(self, patience=3, delta=0.0):
        self.patience, self.delta = patience, delta
        self.counter, self.best_score, self.early_stop, self.state = 0, None, False, None

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best_score is None or score > self.best_score + self.delta:
            self.best_score, self.counter = score, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
            print(f"EarlyStopping counter: {self.counter} out of {self.patience}")
            self.early_stop = self.counter >= self.patience


def metric(pred, true):
    mae = np.mean(np.abs(true - pred))
    mse = np.mean((true - pred) ** 2)
    rse = np.sqrt(np.sum((true - pred) ** 2)) / np.sqrt(np.sum((true - true.mean()) ** 2))
    return mae, mse, rse


class Exp_Long_Term_Forecast:
    def __init__(self, args):
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Model(args).float().to(self.device)

    def _get_data(self, flag):
        data_set = Dataset_Load(flag, size=(self.args.seq_len, self.args.pred_len))
        data_loader = DataLoader(data_set, batch_size=self.args.batch_size, shuffle=flag == "train", drop_last=flag == "train")
        return data_loader

    def _predict(self, loader):
        preds, trues = [], []
        self.model.eval()
        with torch.no_grad():
            for batch_x, batch_y in loader:
                preds.append(self.model(batch_x.to(self.device)).cpu().numpy())
                trues.append(batch_y.numpy())
        self.model.train()
        return np.concatenate(preds), np.concatenate(trues)

    def train(self):
        train_loader = self._get_data("train")
        vali_loader = self._get_data("val")
        early_stopping = EarlyStopping(patience=self.args.patience)
        model_optim = optim.Adam(self.model.parameters(), lr=self.args.learning_rate)
        scheduler = optim.lr_scheduler.ExponentialLR(model_optim, gamma=0.9)
        criterion = nn.MSELoss()
        for epoch in range(self.args.train_epochs):
            train_loss, epoch_time = [], time.time()
            self.model.train()
            for i, (batch_x, batch_y) in enumerate(train_loader):
                model_optim.zero_grad()
                outputs = self.model(batch_x.to(self.device))
                loss = criterion(outputs, batch_y.to(self.device))
                train_loss.append(loss.item())
                loss.backward()
                model_optim.step()
            vali_loss = metric(*self._predict(vali_loader))[1]
            print(f"Epoch: {epoch + 1} cost time: {time.time() - epoch_time:.2f} | Train Loss: {np.average(train_loss):.5f} Vali Loss: {vali_loss:.5f}")
            early_stopping(vali_loss, self.model)
            if early_stopping.early_stop:
                break
            scheduler.step()
        self.model.load_state_dict(early_stopping.state)

    def test(self):
        test_loader = self._get_data("test")
        mae, mse, rse = metric(*self._predict(test_loader))
        print(f"mse:{mse:.4f}, mae:{mae:.4f}, rse:{rse:.4f}")


def main():
    parser = argparse.ArgumentParser(description="Time series forecasting")
    parser.add_argument("--seq_len", type=int, default=48, help="input sequence length")
    parser.add_argument("--pred_len", type=int, default=12, help="prediction sequence length")
    parser.add_argument("--d_model", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--train_epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--learning_rate", type=float, default=0.002)
    args = parser.parse_args()
    torch.manual_seed(2021)
    exp = Exp_Long_Term_Forecast(args)
    exp.train()
    exp.test()


if __name__ == "__main__":
    main()
