import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler
from torch import optim
from torch.utils.data import DataLoader, Dataset


def make_series(length=1600, seed=7):
    """Load of three stations, in kW: a daily and a weekly rhythm, and a disturbance that lasts."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)[:, None]
    daily = np.sin(2 * np.pi * (t / 24 + np.array([0.0, 0.2, 0.5])))
    weekly = np.sin(2 * np.pi * (t / 168 + np.array([0.1, 0.4, 0.7])))
    drift = np.zeros((length, 3))
    for i in range(1, length):
        drift[i] = 0.9 * drift[i - 1] + 0.1 * rng.standard_normal(3)
    mean, swing = np.array([420.0, 310.0, 655.0]), np.array([95.0, 80.0, 140.0])
    return mean + swing * (daily + 0.5 * weekly + drift)


class Dataset_Custom(Dataset):
    def __init__(self, flag, size):
        self.seq_len, self.pred_len = size
        self.set_type = {"train": 0, "val": 1, "test": 2}[flag]
        self.__read_data__()

    def __read_data__(self):
        df_raw = make_series()
        num_train, num_test = int(len(df_raw) * 0.7), int(len(df_raw) * 0.15)
        num_vali = len(df_raw) - num_train - num_test
        border1s = [0, num_train, num_train + num_vali]
        border2s = [num_train, num_train + num_vali, len(df_raw)]
        border1, border2 = border1s[self.set_type], border2s[self.set_type]
        self.scaler = StandardScaler().fit(df_raw[border1s[0] : border2s[0]])
        data = self.scaler.transform(df_raw)
        self.data_x = data[border1:border2].astype(np.float32)
        self.data_y = data[border1:border2].astype(np.float32)

    def __getitem__(self, index):
        s_end = index + self.seq_len
        r_end = s_end + self.pred_len
        return self.data_x[index:s_end], self.data_y[s_end:r_end]

    def __len__(self):
        return len(self.data_x) - self.seq_len - self.pred_len + 1


class ConvBlock(nn.Module):
    def __init__(self, d_model, dilation, dropout):
        super().__init__()
        self.conv = nn.Conv1d(d_model, d_model, 3, padding=dilation, dilation=dilation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return x + self.dropout(torch.relu(self.conv(x)))


class Model(nn.Module):
    def __init__(self, configs):
        super().__init__()
        self.pred_len, self.c_out = configs.pred_len, configs.enc_in
        self.embedding = nn.Conv1d(configs.enc_in, configs.d_model, 3, padding=1)
        self.blocks = nn.ModuleList([ConvBlock(configs.d_model, 2**i, configs.dropout) for i in range(configs.e_layers)])
        self.projection = nn.Linear(configs.d_model * configs.seq_len, configs.pred_len * configs.enc_in)

    def forward(self, x_enc):
        x = self.embedding(x_enc.permute(0, 2, 1))
        for block in self.blocks:
            x = block(x)
        x = self.projection(x.flatten(1))
        return x.view(-1, self.pred_len, self.c_out)  # [B, pred_len, enc_in]


class EarlyStopping:
    def __init__(self, patience=3):
        self.patience, self.counter, self.best_score, self.early_stop = patience, 0, None, False

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best_score is None or score > self.best_score:
            self.best_score, self.counter = score, 0
            self.best_state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
            self.early_stop = self.counter >= self.patience


class Exp_Main:
    def __init__(self, args):
        self.args = args
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.model = Model(args).float().to(self.device)

    def _get_data(self, flag):
        data_set = Dataset_Custom(flag, (self.args.seq_len, self.args.pred_len))
        return DataLoader(data_set, batch_size=self.args.batch_size, shuffle=flag == "train", num_workers=0)

    def vali(self, loader):
        self.model.eval()
        preds, trues = [], []
        with torch.no_grad():
            for batch_x, batch_y in loader:
                preds.append(self.model(batch_x.to(self.device)).cpu())
                trues.append(batch_y)
        error = torch.cat(preds) - torch.cat(trues)
        return error.abs().mean().item(), error.pow(2).mean().item()

    def train(self):
        train_loader, vali_loader = self._get_data("train"), self._get_data("val")
        early_stopping = EarlyStopping(patience=3)
        model_optim = optim.Adam(self.model.parameters(), lr=self.args.learning_rate)
        criterion = nn.MSELoss()
        for epoch in range(self.args.train_epochs):
            train_loss = []
            self.model.train()
            for batch_x, batch_y in train_loader:
                model_optim.zero_grad()
                batch_x, batch_y = batch_x.to(self.device), batch_y.to(self.device)
                outputs = self.model(batch_x)
                loss = criterion(outputs, batch_y)
                train_loss.append(loss.item())
                loss.backward()
                model_optim.step()
            mae, mse = self.vali(vali_loader)
            print(f"Epoch: {epoch + 1} Train {np.mean(train_loss):.4f} Vali mse {mse:.4f} mae {mae:.4f}")
            early_stopping(mse, self.model)
            if early_stopping.early_stop:
                break
            for group in model_optim.param_groups:  # lradj type 1, slower
                group["lr"] = self.args.learning_rate * 0.8 ** (epoch + 1)
        self.model.load_state_dict(early_stopping.best_state)

    def test(self):
        print("test: mae {:.4f} mse {:.4f}".format(*self.vali(self._get_data("test"))))


def main():
    parser = argparse.ArgumentParser(description="Time series forecasting")
    parser.add_argument("--seq_len", type=int, default=48, help="input sequence length")
    parser.add_argument("--pred_len", type=int, default=12, help="prediction sequence length")
    parser.add_argument("--enc_in", type=int, default=3)
    parser.add_argument("--d_model", type=int, default=24)
    parser.add_argument("--e_layers", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.1, help="dropout")
    parser.add_argument("--train_epochs", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(2021)
    exp = Exp_Main(args)
    exp.train()
    exp.test()


if __name__ == "__main__":
    main()
