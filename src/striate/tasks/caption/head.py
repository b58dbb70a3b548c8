"""The head of a captioning network: the maps of the network as a grid of cells, and a decoder that attends to them.

Xu et al., "Show, attend and tell: neural image caption generation with visual attention", ICML 2015: each step has soft
attention over the cells, by the words so far, and a recurrent cell that gets the last word and the attended features.
Here the recurrent cell is a GRU (Cho et al. 2014) instead of an LSTM, and the attention's scores are scaled dot
products (Luong et al. 2015, Vaswani et al. 2017) instead of a small network, which takes a hundredth of the memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from striate.data.annotations.captions import LETTERS, word_rows
from striate.models.pyramid import Pyramid, as_pyramid

WIDTH = 256
"""Dimension of a cell, of a word and of the decoder's state."""
CELLS = 14
"""Largest number of cells along the longer side of the grid, as in the paper."""
DROPOUT = 0.4
SHORTER = 0.7
"""Before captions are compared, the log-probability of each is divided by (its words + 1) to this power, since each
word makes a caption less probable (Wu et al., "Google's neural machine translation system", 2016)."""
END, UNKNOWN = 0, 1
"""Numbers of the end of a caption, and of words that are not in the vocabulary; the first word is 2."""
_MIX = (-7046029254386353131, -4658895280553007687, 1609587929392839161)
"""Odd 64-bit factors that hash the bytes of a word to one number."""


class Grid(nn.Module):
    """Cells (N, L, WIDTH) of images (N, C, H, W), line by line: the largest map of at most `CELLS` cells per side, plus
    the coarser maps and an encoding of the position of each cell."""

    def __init__(self, body: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.pyramid: Pyramid = as_pyramid(body, input_shape, CELLS)
        self.lateral = nn.ModuleList(nn.Conv2d(level.channels, WIDTH, 1) for level in self.pyramid.levels)
        self.place = nn.Linear(8, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The cells of a batch."""
        maps = self.pyramid(x)
        cells = self.lateral[0](maps[0])
        for level, part in zip(list(self.lateral)[1:], maps[1:], strict=True):
            cells = cells + functional.interpolate(level(part), cells.shape[2:], mode="nearest")
        return self.norm(cells.flatten(2).transpose(1, 2) + self.place(_places(cells)))  # type: ignore[no-any-return]


def _places(cells: torch.Tensor) -> torch.Tensor:
    """(L, 8) encoding of the position of each cell: sine and cosine of half a period and of a period over height and
    width."""
    sides = [torch.linspace(-1, 1, side, device=cells.device, dtype=cells.dtype) for side in cells.shape[2:]]
    down, right = torch.meshgrid(*sides, indexing="ij")
    turns = [angle * part.flatten() for part in (down, right) for angle in (math.pi / 2, math.pi)]
    return torch.stack([value for turn in turns for value in (turn.sin(), turn.cos())], dim=1)


class DecoderStep(NamedTuple):
    """The decoder after a step: its state (N, R, WIDTH), and the attention (N, R, L) of that step."""

    state: torch.Tensor
    attention: torch.Tensor


class Decoder(nn.Module):
    """Predicts the next words of R captions of each image, from their words so far and the cells of the image."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.count = words + 2
        self.words = nn.Embedding(self.count + 1, WIDTH)  # the last one is the start token
        self.begin = nn.Linear(WIDTH, WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.keys = nn.Linear(WIDTH, WIDTH, bias=False)
        self.cell = nn.GRUCell(2 * WIDTH, WIDTH)
        self.mix = nn.Linear(3 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.bias = nn.Parameter(torch.zeros(self.count))
        nn.init.normal_(self.words.weight, std=WIDTH**-0.5)

    @property
    def start(self) -> int:
        """The number of the start token."""
        return self.count

    def first(self, cells: torch.Tensor) -> torch.Tensor:
        """(N, 1, WIDTH) the state before the first word."""
        return torch.tanh(self.begin(cells.mean(1)))[:, None]

    def step(
        self, state: torch.Tensor, last: torch.Tensor, cells: torch.Tensor, keys: torch.Tensor
    ) -> tuple[DecoderStep, torch.Tensor]:
        """The step after the words `last` (N, R): the new state, and (N, R, WIDTH), the input of `logits`."""
        scores = self.query(state) @ keys.transpose(1, 2) / WIDTH**0.5
        attention = scores.float().softmax(2).to(cells.dtype)
        seen, word = attention @ cells, self.dropout(self.words(last))
        given = torch.cat([word, seen], dim=2)
        new = self.cell(given.flatten(0, 1), state.flatten(0, 1)).view_as(state)
        mixed = self.mix(torch.cat([new, given], dim=2))
        return DecoderStep(new, attention), mixed

    def logits(self, mixed: torch.Tensor) -> torch.Tensor:
        """(…, words + 2) logits from the output of `step`; END and UNKNOWN come first."""
        nearest = functional.linear(self.dropout(torch.tanh(mixed)), self.words.weight[: self.count])
        return (nearest + self.bias).float()


class CaptionNetwork(nn.Module):
    """A network that writes captions of up to `longest` of its `words`.

    For images (N, C, H, W) alone: `{"predicted": (N, longest + 1, LETTERS + 1 + L)}`, a row for each word: its bytes,
    its log-probability and the attention to each cell; after the caption a row of the end, and rows of zeros. The
    caption is the result of a beam search of width `beam`. `tokens` (N, longest + 1) are the numbers of the same words.
    For images and their true captions (N, M, LETTERS): `{"truth": (N, M)}`, the log-probability of each word after the
    true words before it (teacher forcing), 0 for padding; in evaluation, `predicted` too.
    """

    def __init__(
        self, body: nn.Module, input_shape: tuple[int, ...], words: Sequence[str], longest: int, beam: int
    ) -> None:
        super().__init__()
        self.longest, self.beam = longest, beam
        # (M, LETTERS): outputs are then only the log-probabilities of this caption
        self.forced_caption: torch.Tensor | None = None
        self.grid = Grid(body, input_shape)
        self.decoder = Decoder(len(words))
        rows = torch.from_numpy(word_rows(["", "", *words]).copy())
        keys, order = _key(rows[2:]).sort()
        self.letters, self.keys, self.order = (
            nn.Buffer(rows, persistent=False),
            nn.Buffer(keys, persistent=False),
            nn.Buffer(order + 2, persistent=False),
        )

    def forward(self, x: torch.Tensor, targets: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """See the class."""
        cells = self.grid(x)
        if self.forced_caption is not None:
            return {"truth": self.truth(cells, self.forced_caption.expand(len(x), -1, -1))}
        found = {} if targets is None else {"truth": self.truth(cells, targets)}
        if targets is None or not torch.is_grad_enabled():
            found["tokens"], found["predicted"] = self.predict(cells)
        return found

    def numbers(self, rows: torch.Tensor) -> torch.Tensor:
        """(…) numbers of words from their bytes (…, LETTERS): END for an empty row, UNKNOWN for other words."""
        wanted = _key(rows)
        if not len(self.keys):
            return torch.where(wanted == 0, END, UNKNOWN)
        places = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        known = torch.where(self.keys[places] == wanted, self.order[places], UNKNOWN)
        return torch.where((rows == 0).all(-1), END, known)

    def truth(self, cells: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N, M) log-probabilities of true words, for all captions of an image at once."""
        there = targets[..., 0] != -1
        words = torch.where(there, self.numbers(targets), END)
        ends = there & (words == END)
        caption = ends.cumsum(1) - ends.long()
        places = torch.arange(targets.shape[1], device=targets.device).expand_as(words)
        begins = torch.where(ends, places + 1, 0).cummax(1).values.roll(1, 1)
        begins[:, 0] = 0
        position = places - begins
        captions, longest = (int(part[there].max()) + 1 if bool(there.any()) else 1 for part in (caption, position))
        image = torch.arange(len(targets), device=targets.device)[:, None].expand_as(words)
        length = words.new_zeros(len(targets), captions).index_put_(
            (image[there], caption[there]), words.new_ones(()), accumulate=True
        )
        # Long captions come first: steps after the end of short ones are not computed.
        rank = length.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        at = image[there], rank[image[there], caption[there]], position[there]
        table = words.new_zeros(len(targets), captions, longest)
        table[at] = words[there]
        given = torch.cat([torch.full_like(table[..., :1], self.decoder.start), table[..., :-1]], dim=2)
        going = (length[..., None] > torch.arange(longest, device=words.device)).sum(1).amax(0).clamp(min=1).tolist()
        keys, state, mixed = self.decoder.keys(cells), self.decoder.first(cells).expand(-1, captions, -1), []
        for place, some in enumerate(going):
            after, each = self.decoder.step(state[:, :some], given[:, :some, place], cells, keys)
            state = after.state
            mixed.append(functional.pad(each, (0, 0, 0, captions - some)))
        logits = self.decoder.logits(torch.stack(mixed, dim=2)[at])
        found = cells.new_zeros(targets.shape[:2], dtype=torch.float32)
        return found.masked_scatter(there, -functional.cross_entropy(logits, words[there], reduction="none"))

    def predict(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The caption that the beam search finds: (N, longest + 1) numbers of its words, and the same words as (N,
        longest + 1, LETTERS + 1 + L)."""
        count, beam = cells.shape[0], self.beam  # sizes that tracing keeps dynamic
        keys, state = self.decoder.keys(cells), self.decoder.first(cells).expand(-1, beam, -1)
        last = torch.full((count, beam), self.decoder.start, device=cells.device)
        total = cells.new_zeros(count, beam, dtype=torch.float32)
        total[:, 1:] = -torch.inf  # all beams start equal: only the first one expands in the first step
        done = torch.zeros_like(last, dtype=torch.bool)
        length = torch.zeros_like(last)
        steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        stay = torch.full((self.decoder.count,), -torch.inf, device=cells.device)
        stay[END] = 0.0
        for place in range(self.longest + 1):
            after, mixed = self.decoder.step(state, last, cells, keys)
            each = self._allowed(self.decoder.logits(mixed).log_softmax(2), place)
            each = torch.where(done[..., None], stay, each)
            sums = total[..., None] + each
            # Longer captions are compared by the mean over more words; finished captions keep their length.
            words = torch.where(done, length, length + 1)[..., None].float()
            best = (sums / words**SHORTER).flatten(1).topk(beam, dim=1).indices
            parent, word = best // self.decoder.count, best % self.decoder.count
            total = sums.flatten(1).gather(1, best)
            ended = done.gather(1, parent)
            length = length.gather(1, parent) + (~ended).long()
            seen = torch.where(ended[..., None], 0.0, _of(after.attention, parent))
            steps.append((parent, word, each.flatten(1).gather(1, best), seen))
            state, last, done = _of(after.state, parent), word, ended | (word == END)
            if not done.is_meta and not torch.compiler.is_compiling() and bool(done.all()):
                break
        picked = (total / length.clamp(min=1).float() ** SHORTER).argmax(1, keepdim=True)
        each_row = []
        for parent, *row in reversed(steps):  # from the end of the best caption to its beginning
            each_row.append([_of(part, picked)[:, 0] for part in row])
            picked = parent.gather(1, picked)
        each_row.reverse()
        found = [
            torch.cat([self.letters[word].to(torch.uint8).float(), log[:, None], seen.float()], dim=1)
            for word, log, seen in each_row
        ]
        left = self.longest + 1 - len(found)
        tokens = torch.stack([word for word, _, _ in each_row], dim=1)
        return functional.pad(tokens, (0, left)), functional.pad(torch.stack(found, dim=1), (0, 0, 0, left))

    def _allowed(self, logs: torch.Tensor, place: int) -> torch.Tensor:
        """Log-probabilities of the allowed words: never UNKNOWN, no END as the first word, only END as the last."""
        banned = [UNKNOWN, *([END] if place == 0 and self.decoder.count > 2 else [])]
        logs = logs.index_fill(-1, torch.tensor(banned, device=logs.device), -torch.inf)
        if place < self.longest:
            return logs
        return torch.cat([logs[..., :1], torch.full_like(logs[..., 1:], -torch.inf)], dim=-1)


def _of(values: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """(N, K, …) the values (N, R, …) at the positions `which` (N, K)."""
    more = (1,) * (values.ndim - 2)
    return values.gather(1, which.view(*which.shape, *more).expand(*which.shape, *values.shape[2:]))


def _key(rows: torch.Tensor) -> torch.Tensor:
    """(…) a 64-bit hash of each row (…, LETTERS) of bytes, 0 for an empty one; two words collide with a probability of
    1 in 10¹⁹."""
    parts = rows.contiguous().view(torch.int64)
    factors = torch.tensor(_MIX[: LETTERS // 8], device=rows.device)
    mixed = parts * factors
    mixed = mixed ^ (mixed >> 29)
    return (mixed * factors.roll(1)).sum(-1)
