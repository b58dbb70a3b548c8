"""Time sequence prediction: an LSTM learns to continue noisy sine waves; full-batch LBFGS in double precision."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

from toydata import waves


class Sequence(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, input, future=0):
        states, memory = self.lstm(input.unsqueeze(-1))
        output = self.linear(states)
        outputs = [output.squeeze(-1)]
        last = output[:, -1:]
        for _ in range(future):
            states, memory = self.lstm(last, memory)
            last = self.linear(states)
            outputs.append(last.squeeze(-1))
        return torch.cat(outputs, dim=1)


def load(seed, count):
    signals, labels = waves(count, length=64, seed=seed)
    sines = labels < 2
    return signals[sines, 0].double()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8, help="steps to run")
    parser.add_argument("--horizon", type=int, default=12, help="how far to continue")
    opt = parser.parse_args()

    np.random.seed(0)
    torch.manual_seed(0)

    train_waves, test_waves = load(0, 320), load(1, 120)
    input, target = train_waves[:, :-1], train_waves[:, 1:]
    test_input, test_target = test_waves[:, :-1], test_waves[:, 1:]
    print(f"{len(input)} training sequences, {len(test_input)} for testing")

    seq = Sequence().double()
    criterion = nn.MSELoss()
    optimizer = optim.LBFGS(seq.parameters(), lr=1.0, max_iter=15, history_size=10,
                            line_search_fn="strong_wolfe")

    for i in range(opt.steps):
        seq.train()

        def closure():
            optimizer.zero_grad()
            out = seq(input)
            loss = criterion(out, target)
            loss.backward()
            return loss

        before = optimizer.step(closure)
        seq.eval()
        with torch.no_grad():
            loss = criterion(seq(test_input), test_target)
            persistence = criterion(test_input, test_target)
        print(f"STEP {i}: train loss before {float(before):.4f}  test loss {loss.item():.4f}  "
              f"(last value repeated: {persistence.item():.4f})")

    with torch.no_grad():
        known = test_waves[:, : 64 - opt.horizon]
        continued = seq(known, future=opt.horizon - 1)[:, -opt.horizon:]
        error = criterion(continued, test_waves[:, 64 - opt.horizon:])
    print(f"free-running over {opt.horizon} steps: mean squared error {error.item():.4f}, "
          f"variance of the signal {test_waves.var().item():.4f}")


if __name__ == "__main__":
    main()
