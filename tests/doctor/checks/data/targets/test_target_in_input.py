"""`data.target-in-input`: does the input already contain the target?"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, quick_adam, read, said, stepped
from for_checks.claims import patients, said_of_times, sorted_cox, step_of_claims
from for_checks.pictures import Noisy, ResidualDenoiser, gratings, restored
from for_checks.sequences import Rates, Translator, counted, translating, translation_batches
from for_checks.steps import told
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.model.sees_future import CHECK as SEES_FUTURE
from striate.doctor.evidence.clock import NoEvidence


class Restoring(nn.Module):
    """What it computes is added to what it was given, or not."""

    def __init__(self, adds: bool) -> None:
        super().__init__()
        self.layer, self.adds = nn.Conv2d(1, 1, 3, padding=1), adds

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        return x - made if self.adds else made


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("adds", "noise"), [(True, 0.0), (False, 0.0), (True, 0.3)])
def test_a_network_that_adds_its_input_is_not_asked_for_it(adds: bool, noise: float) -> None:
    x, _ = digits().dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(x + noise * torch.randn(x.shape), x.clone()), 32)
    options: dict[str, Any] = {"loss": nn.MSELoss(), "task": "regress"}
    if adds and not noise:
        (found,) = asked(TARGET_IN_INPUT, Restoring(adds), loader, **options)
        assert "`sub` with its input" in found.measured
        return
    with pytest.raises(NoEvidence):
        asked(TARGET_IN_INPUT, Restoring(adds), loader, **options)


def step_of_counts(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    *given, counts = batch
    return stepped(functional.poisson_nll_loss(model(*given), counts), optimizer)


@pytest.mark.parametrize("column", ["", "open", "cost"])
def test_a_column_that_comes_with_what_is_counted(column: str) -> None:
    model = Rates()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    said = asked(TARGET_IN_INPUT, model, counted(column), step=step_of_counts, optimizer=optimizer)
    assert [one.code for one in said] == ["data.target-in-input"] * (column == "cost")


def test_class_numbers_are_no_counts() -> None:
    """A column that tells the first class from all others, and has these in order, as petals tell irises."""
    kinds, numbers = torch.arange(320) % 4, torch.randn(320, 4)
    numbers[:, 0] = kinds + 0.4 * torch.rand(320)
    assert not asked(TARGET_IN_INPUT, nn.Linear(4, 4), DataLoader(TensorDataset(numbers, kinds), 32, shuffle=True))


class OffsetRates(nn.Module):
    """A rate for each row, and the logarithm of how much it counts for beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 1)

    def forward(self, table: Tensor, offset: Tensor) -> Tensor:
        return self.head(table).squeeze(1) + offset


@pytest.mark.parametrize(
    ("added", "of_today", "related", "wrong"),
    [(0.5, True, True, True), (0.5, False, True, False), (1.0, True, True, True), (0.5, True, False, False)],
)
def test_a_column_is_the_logarithm_of_a_count_as_a_rate(
    added: float, of_today: bool, related: bool, wrong: bool
) -> None:
    torch.manual_seed(0)
    table, offset = torch.randn(320, 5), torch.randint(2, 8, (320,)).float().log()
    counts = torch.poisson((0.7 * table[:, 1] * related + 1.5 + offset).exp())
    history = (counts + added).log() - offset
    table[:, 0] = history if of_today else history.roll(1)
    table = (table - table.mean(0)) / table.std(0)
    loader = DataLoader(TensorDataset(table, offset, counts), 32)
    said = asked(TARGET_IN_INPUT, OffsetRates(), loader, step=step_of_claims)
    assert [one.code for one in said] == ["data.target-in-input"] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("in_place", "asks_for_image"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_a_data_set_holds_stays_as_it_is(in_place: bool, asks_for_image: bool) -> None:
    data = Noisy(in_place, asks_for_image)
    model = nn.Conv2d(1, 1, 3, padding=1) if asks_for_image else nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def step(net: nn.Module, batch: Any, own: Any, _: Any) -> Tensor:
        own.zero_grad()
        x, y = batch.values() if asks_for_image else batch
        value = functional.mse_loss(net(x), y) if asks_for_image else functional.cross_entropy(net(x), y)
        value.backward()
        own.step()
        return value.detach()

    before = data.images.clone()
    data[0]
    data.images.copy_(before)
    for check, own in ((TARGET_IN_INPUT, asks_for_image), (AUGMENTATION, not asks_for_image)):
        found = said(check, model, DataLoader(data, 16), optimizer=adam, step=step)
        assert ["changes the stored values" in one.measured for one in found] == [True] * (in_place and own)


@pytest.mark.parametrize("column", ["band", "rounded after noise", "none"])
def test_a_band_that_is_made_of_the_target_is_no_input(column: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    y = x[:, :4].sum(1) + torch.randn(400, generator=generator)
    if column == "band":
        x[:, 5] = torch.bucketize(y, y.quantile(torch.linspace(0, 1, 11)[1:-1])).float()
    elif column == "rounded after noise":
        x[:, 5] = (y + 0.3 * torch.randn(400, generator=generator)).round()
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    data = DataLoader(TensorDataset(x, y[:, None]), 32)
    found = said(TARGET_IN_INPUT, model, data, loss=nn.MSELoss(), optimizer=adam)
    assert ["its own range of targets" in one.measured for one in found] == [True] * (column == "band")


LOOP = "for x, y in loader:\n    pass\n"


@pytest.mark.parametrize(
    ("whole", "narrow", "wrong"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_a_hole_that_is_not_cut_out(whole: bool, narrow: bool, wrong: bool) -> None:
    """An autoencoder, which has to pass few numbers, may be given the whole picture."""
    torch.manual_seed(0)
    images, masks = torch.rand(32, 3, 8, 8), torch.zeros(32, 1, 8, 8)
    for number, mask in enumerate(masks):
        mask[:, number % 5 : number % 5 + 3, 2:5] = 1

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, mask = batch
        shown = image if whole else image * (1 - mask)
        error = (model(torch.cat([shown, mask], 1)) - image).abs()
        return stepped((error * mask).sum() / mask.sum(), optimizer)

    between = [nn.Conv2d(8, 2, 4, 4), nn.ConvTranspose2d(2, 8, 4, 4)] if narrow else []
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), *between, nn.Conv2d(8, 3, 3, padding=1))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = read(LOOP, TARGET_IN_INPUT, model, DataLoader(TensorDataset(images, masks), 8), **options)
    assert [one.code for one in said] == ["data.target-in-input"] * wrong


CLEAN = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))


COPIED = "    noisy = clean + 0.5 * torch.randn_like(clean)\n"


IN_PLACE = "    noisy = clean.add_(0.5 * torch.randn_like(clean)).clamp_(-9, 9)\n"


RENAMED = "    noise = torch.randn_like(clean)\n    noisy = clean\n    noisy += noise\n"


SCALED = "    noisy = clean.div_(2)\n"


@pytest.mark.parametrize(("made", "wrong"), [(IN_PLACE, True), (RENAMED, True), (COPIED, False), (SCALED, False)])
def test_noise_that_is_added_in_place_is_in_the_target_too(made: str, wrong: bool) -> None:
    drawing = f"def draw():\n    clean = data.clone()\n{made}    return noisy, clean\n"
    names: dict[str, Any] = {"torch": torch, "data": CLEAN}
    exec(drawing, names)
    loader = DataLoader(TensorDataset(*names["draw"]()), 32)
    text = f"{drawing}for x, y in loader:\n    pass\n"
    said = read(text, TARGET_IN_INPUT, nn.Conv2d(1, 1, 3, padding=1), loader, loss=nn.MSELoss())
    assert ["the same numbers in all batches" in one.measured for one in said] == [True] * wrong


class LevelDenoiser(nn.Module):
    """`wide`: numbers of a sample that it lets pass."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.down, self.up, self.level = nn.Linear(64, wide), nn.Linear(wide, 64), nn.Linear(1, wide)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        hidden = functional.relu(self.down(x.flatten(1)) + self.level(level))
        return self.up(hidden).view_as(x)


@pytest.mark.parametrize(
    ("own", "told", "wide", "wrong"),
    [(True, True, 96, True), (False, True, 96, False), (True, False, 96, False), (True, True, 16, False)],
)
def test_noise_added_in_place_is_asked_for(own: bool, told: bool, wide: int, wrong: bool) -> None:
    """`own`: the target is the noisy picture; `told`: the level is that of its noise."""
    torch.manual_seed(0)
    clean = functional.interpolate(torch.randn(96, 1, 3, 3), size=(8, 8), mode="bilinear")
    sigma = 0.3 + 0.7 * torch.rand(96, 1)
    noisy = clean + sigma[..., None, None] * torch.randn_like(clean)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, level, y = batch
        return stepped(functional.mse_loss(model(x, level), y), optimizer)

    model = LevelDenoiser(wide)
    data = TensorDataset(noisy, sigma if told else torch.rand(96, 1), noisy if own else clean)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "step": step}
    said = asked_in_script(TARGET_IN_INPUT, model, DataLoader(data, 32), **options)
    assert [one.code for one in said] == ["data.target-in-input"] * wrong


@pytest.mark.parametrize("columns_first", [True, False])
@pytest.mark.parametrize(
    ("begin", "asked_from", "wrong"), [(24, 0, False), (23, 0, True), (23, 1, False), (1, 0, False)]
)
def test_the_first_time_that_is_forecast_is_not_in_the_window(
    begin: int, asked_from: int, wrong: bool, columns_first: bool
) -> None:
    """A step may leave out the first one, and a network may forecast at each time of the window."""
    generator = torch.Generator().manual_seed(0)
    series = torch.randn(200, 2, generator=generator).cumsum(0)
    x = torch.stack([series[i : i + 24] for i in range(150)])
    y = torch.stack([3 * series[i + begin : i + begin + (24 if begin == 1 else 6), 0] + 1 for i in range(150)])
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, y.shape[1] - asked_from))

    def step(net: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return stepped(loss(net(batch[0]), batch[1][:, asked_from:]), optimizer)

    data = TensorDataset(x.transpose(1, 2).contiguous() if columns_first else x, y)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "step": step, "loss": nn.MSELoss()}
    said = asked(TARGET_IN_INPUT, model, DataLoader(data, 32), **options)
    assert ["the last of the 24 times" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("shift", "within"), [(0, False), (-6, True)])
def test_a_horizon_lies_behind_its_window(shift: int, within: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    series = torch.stack([torch.randn(200, generator=generator).cumsum(0), torch.arange(200.0)], 1)
    x = torch.stack([series[i : i + 24] for i in range(6, 150)])
    y = torch.stack([series[i + 24 + shift : i + 30 + shift, 0] for i in range(6, 150)])
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 6))
    said = asked(TARGET_IN_INPUT, model, DataLoader(TensorDataset(x, y), 16), loss=nn.MSELoss())
    assert ["column 0 at times 18 to 23" in one.measured for one in said] == [True] * within


@pytest.mark.parametrize(("sigma", "inside"), [(0.0, False), (0.0, True), (0.3, False)])
def test_what_is_to_be_restored_is_not_given_as_it_is(sigma: float, inside: bool) -> None:
    said = restored(TARGET_IN_INPUT, sigma, ResidualDenoiser(inside))
    assert ["with its input" in one.measured for one in said] == [True] * (not sigma and not inside)


def test_an_autoencoder_may_be_given_what_it_is_asked_for() -> None:
    assert restored(TARGET_IN_INPUT, 0.0, nn.Conv2d(1, 1, 3, padding=1)) == []


class Forecast(nn.Module):
    """What follows is what was, and a little more."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(8, 8)

    def forward(self, past: Tensor) -> Tensor:
        return past + self.more(past)


@pytest.mark.parametrize("copied", [False, True])
def test_a_batch_of_named_tensors_has_no_targets_by_place(copied: bool) -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    rows = [(row, row.clone()) for row in x] if copied else [{"past": row, "future": row.roll(1)} for row in x]

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        past, future = batch if copied else (batch["past"], batch["future"])
        optimizer.zero_grad()
        value = functional.mse_loss(model(past), future)
        value.backward()
        optimizer.step()
        return value

    train: Any = DataLoader(rows, 16)  # type: ignore[arg-type]
    found = told(TARGET_IN_INPUT, Forecast(), train, step=step, task="regress")
    assert [finding.code for finding in found] == ["data.target-in-input"] * copied


@pytest.mark.parametrize("given", [False, True])
def test_a_time_that_is_ranked_is_not_among_the_inputs(given: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 6, generator=generator)
    time, seen = torch.rand(512, generator=generator), torch.arange(512) % 3 > 0
    x = torch.cat([x, (time[:, None] - 0.5) / 0.3], dim=1) if given else x
    loader = DataLoader(TensorDataset(x, time, seen.float()), batch_size=128)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        order = batch[1].argsort(descending=True)
        risk = model(batch[0]).squeeze(1)[order]
        value = -((risk - risk.logcumsumexp(0)) * batch[2][order]).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(TARGET_IN_INPUT, nn.Linear(x.shape[1], 1), loader, step=step, optimizer=adam)
    assert [one.severity for one in found] == ["warning"] * given
    assert all("number 6 of the 7 input numbers" in one.measured for one in found)


class MeanOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.embed(words).mean(1, keepdim=True))


class Writer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)

    def forward(self, words: Tensor, memory: Tensor) -> Tensor:
        return self.out(self.embed(words) + memory)


@pytest.mark.parametrize("shifted", [True, False])
def test_a_second_network_is_not_given_the_words_that_it_is_to_write(shifted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randint(1, 12, (128, length), generator=generator) for length in (7, 5))
    reader, writer = MeanOfWords(), Writer()
    both = [*reader.parameters(), *writer.parameters()]
    optimizer = torch.optim.Adam(both, lr=0.01)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        words = torch.cat([torch.zeros_like(batch[1][:, :1]), batch[1][:, :-1]], 1) if shifted else batch[1]
        scores = writer(words, model(batch[0]))
        value = functional.cross_entropy(scores.transpose(1, 2), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(TensorDataset(source, target), batch_size=32)
    found = said(TARGET_IN_INPUT, reader, loader, step=step, optimizer=optimizer)
    assert len(found) == (not shifted)


def exponential(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return (durations / 20 * risks.exp() - events * risks).mean()


def weighted(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(risks, events, durations)


@pytest.mark.parametrize(
    ("told", "loss", "wrong"),
    [
        ("rounded", sorted_cox, True),
        ("falling", sorted_cox, True),
        ("falling", exponential, True),
        ("noisy", sorted_cox, False),
        ("", sorted_cox, False),
        ("rounded", weighted, False),
    ],
)
def test_no_column_tells_the_order_of_durations(told: str, loss: Any, wrong: bool) -> None:
    measured = said_of_times(TARGET_IN_INPUT, loss, patients(told))
    assert ["number 5 of the 6 input numbers" in text for text in measured] == [True] * wrong


@pytest.mark.slow
@pytest.mark.parametrize(("behind", "after", "wrong"), [(0, False, True), (1, False, False), (0, True, False)])
def test_a_decoder_is_fed_the_word_before(behind: int, after: bool, wrong: bool) -> None:
    said = asked_in_script(TARGET_IN_INPUT, Translator(behind, after=after), translation_batches(), **translating())
    assert [one.code for one in said] == ["data.target-in-input"] * wrong


class WordWriter(nn.Module):
    """Reads a word, and writes another one letter by letter; it is never called as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.read = nn.Embedding(20, 12), nn.GRU(12, 12, batch_first=True)
        self.write, self.say = nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def encode(self, words: Tensor) -> Tensor:
        return self.read(self.letters(words))[1]

    def decode(self, words: Tensor, state: Tensor) -> Tensor:
        return self.say(self.write(self.letters(words), state)[0])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("shifted", [True, False])
def test_letters_that_a_teacher_gives_are_those_before(shifted: bool) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        read, written = batch
        optimizer.zero_grad()
        given = torch.cat([torch.full_like(written[:, :1], 19), written[:, :-1]], 1) if shifted else written
        said = model.decode(given, model.encode(read))
        loss = functional.cross_entropy(said.flatten(0, 1), written.flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    words = TensorDataset(torch.randint(0, 19, (128, 9)), torch.randint(0, 19, (128, 7)))
    said = []
    with suppress(NoEvidence):
        said = asked(TARGET_IN_INPUT, WordWriter(), DataLoader(words, 32), step=step)
    assert [one.code for one in said] == ["data.target-in-input"] * (not shifted)


def table(kind: str) -> DataLoader[Any]:
    """A price that area, age and district make; `made`: beside the price by the area; `product`: two sides alone."""
    generator = torch.Generator().manual_seed(0)
    area, age, near, noise = torch.rand(4, 1000, 1, generator=generator, dtype=torch.float64)
    price = (0.5 + area) * (1.0 + near) - 0.3 * age + 0.1 * noise
    columns = [area, age, near, noise.roll(1, 0)]
    if kind == "made":
        columns.append(price / area)
    if kind == "product":
        price = area * near
    x, y = torch.cat(columns, 1), price
    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    return DataLoader(TensorDataset(x.float(), y.float()), 50, shuffle=True)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("kind", "wrong"), [("made", True), ("right", False), ("product", False)])
def test_a_column_made_of_the_target_and_another_tells_it(kind: str, wrong: bool) -> None:
    data = table(kind)
    width = data.dataset[0][0].numel()
    model = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 1))
    found = said(TARGET_IN_INPUT, model, data, loss=nn.MSELoss(), optimizer=adam)
    assert [f.code for f in found] == ["data.target-in-input"] * wrong
    assert all("inputs[:, :4]" in f.remedy for f in found)


@pytest.mark.parametrize(("kind", "wrong"), [("after", True), ("noisy", False)])
def test_a_column_that_is_only_there_once_the_class_is(kind: str, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 5, generator=generator)
    y = (x[:, 0] + 0.8 * torch.randn(1000, generator=generator) > 0).float()
    after = y * (1 + torch.rand(1000, generator=generator))
    if kind == "noisy":
        after = after * (torch.rand(1000, generator=generator) > 0.05)
    data = DataLoader(TensorDataset(torch.cat([x, after[:, None]], 1), y[:, None]), 50, shuffle=True)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    found = said(TARGET_IN_INPUT, model, data, loss=nn.BCEWithLogitsLoss(), optimizer=adam)
    assert ["by a threshold" in f.measured for f in found] == [True] * wrong


class Categories(nn.Module):
    """A table of categories (N, 5), or tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(30, 4), nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.table(x).flatten(1))[:, 0]


@pytest.mark.parametrize(("ranges", "told"), [((24, 12, 8, 30, 6), True), ((6, 6, 6, 6, 6), False)])
@pytest.mark.parametrize("made_of", [4, 1])
def test_a_category_that_the_classes_are_made_of(ranges: tuple[int, ...], told: bool, made_of: int) -> None:
    """Not a token that says what class it is, nor what is told by each category of several."""
    torch.manual_seed(0)
    x = torch.stack([torch.randint(0, most, (600,)) for most in ranges], 1)
    rating = x[:, 4] if made_of == 4 else (x[:, 1] + x[:, 2]) % 6
    loader = DataLoader(TensorDataset(x, (rating > 2).float()), 50)
    options: Any = {"loss": nn.BCEWithLogitsLoss(), "optimizer": quick_adam}
    found = asked_in_script(TARGET_IN_INPUT, Categories(), loader, **options)
    assert [one.code for one in found] == ["data.target-in-input"] * (told and made_of == 4)


@pytest.mark.parametrize("kind", ["forgotten", "given", "none made"])
def test_a_noisy_copy_of_which_nothing_is_made(kind: str) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        (clean,) = batch
        noisy = clean if kind == "none made" else clean + 0.3 / 0.5 * torch.randn(clean.shape)
        return stepped(functional.mse_loss(model(noisy if kind == "given" else clean), clean), optimizer)

    model = nn.Conv2d(1, 1, 3, padding=1)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "step": step}
    said = asked_in_script(TARGET_IN_INPUT, model, DataLoader(TensorDataset(gratings(64)), 16), **options)
    assert ["a noisy copy" in one.measured for one in said] == [True] * (kind == "forgotten")


class Words(nn.Module):
    """Scores of 20 tags for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(20, 16), nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.words(tokens)).transpose(1, 2)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("copied", [False, True])
def test_what_fills_inputs_and_targets_up_is_no_target_in_the_input(copied: bool) -> None:
    torch.manual_seed(0)
    words, tags = torch.randint(1, 20, (96, 16)), torch.randint(0, 20, (96, 16))
    filled = torch.arange(16) >= torch.randint(1, 9, (96, 1))
    tags = words if copied else tags
    loader = DataLoader(TensorDataset(words.masked_fill(filled, 0), tags.masked_fill(filled, 0)), 32)
    found = said(TARGET_IN_INPUT, Words(), loader, loss=nn.CrossEntropyLoss())
    assert [f.code for f in found] == ["data.target-in-input"] * copied
    (padding,) = asked(PADDING_COUNTED, Words(), loader, loss=nn.CrossEntropyLoss())
    assert padding.code == "loss.padding-counted"


def sales(told_by: float) -> DataLoader[Any]:
    """Rows whose last column is the target with noise of so many of its deviations."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=generator)
    y = x[:, :5].sum(1) + torch.randn(600, generator=generator)
    x[:, 5] = y + told_by * y.std() * torch.randn(600, generator=generator)
    return DataLoader(TensorDataset(x, y[:, None]), 32, shuffle=True, generator=generator)


@pytest.mark.parametrize(("told_by", "wrong"), [(0.01, True), (0.3, False)])
def test_a_column_that_all_but_tells_the_target_is_asked_about(told_by: float, wrong: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    told = asked(TARGET_IN_INPUT, model, sales(told_by), loss=nn.MSELoss())
    assert [(f.code, f.severity) for f in told] == [("data.target-in-input", "warning")] * wrong


class Captioner(nn.Module):
    """Numbers of an image, then words."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.words = nn.Linear(16, 12), nn.Embedding(20, 12)
        self.read, self.say = nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        return self.say(self.read(self.words(words), self.image(image)[None])[0])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("first", [0, 1])
def test_a_decoder_is_not_given_what_it_has_to_say(first: int) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, words = batch
        optimizer.zero_grad()
        said = model(image, words[:, :-1])
        loss = functional.cross_entropy(said.flatten(0, 1), words[:, first : first + said.shape[1]].flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    loader = DataLoader(TensorDataset(torch.randn(128, 16), torch.randint(0, 20, (128, 8))), 32)
    found = []
    with suppress(NoEvidence):  # nothing is said where the words come first: numbers are not looked for among them
        found = asked(TARGET_IN_INPUT, Captioner(), loader, step=step)
    assert [one.code for one in found] == ["data.target-in-input"] * (first == 0)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("noise", [True, False])
def test_a_denoiser_is_not_asked_for_its_noise(noise: bool) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        clean = batch[0]
        noisy = (clean + 0.4 * torch.randn_like(clean)).clamp(0, 1) if noise else clean
        optimizer.zero_grad()
        loss = functional.mse_loss(model(noisy), noisy)
        loss.backward()
        optimizer.step()
        return loss.detach()

    images = torch.rand(64, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, network, DataLoader(TensorDataset(images, torch.zeros(64)), 32), step=step)
    assert [one.code for one in found] == ["data.target-in-input"] * noise


class AttendingTranslator(nn.Module):
    """An encoder, and a decoder that may read what comes later."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.words, self.causal = nn.Embedding(20, 12), causal
        self.core = nn.Transformer(12, 2, 1, 1, 16, 0.0, batch_first=True)
        self.say = nn.Linear(12, 20)

    def forward(self, words: Tensor, said: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(said.shape[1]) if self.causal else None
        return self.say(self.core(self.words(words), self.words(said), tgt_mask=mask))


def translated(model: nn.Module, batch: Any, optimizer: Any, _: Any, *, first: int, crossed: bool) -> Tensor:
    words, wanted = batch
    optimizer.zero_grad()
    said = model(words, wanted[:, :-1])
    asked_for = wanted[:, first : first + said.shape[1]]
    scores = said.transpose(0, 1) if crossed else said
    loss = functional.cross_entropy(scores.reshape(-1, 20), asked_for.reshape(-1))
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "crossed", "causal", "code"),
    [
        pytest.param(1, False, True, "", marks=pytest.mark.slow),
        (0, False, True, "data.target-in-input"),
        pytest.param(1, True, True, "data.step-labels", marks=pytest.mark.slow),
        (1, False, False, "model.sees-future"),
    ],
)
def test_a_translator_is_asked_for_the_next_word(first: int, crossed: bool, causal: bool, code: str) -> None:
    torch.manual_seed(0)
    words = torch.randint(0, 20, (64, 5)), torch.randint(0, 20, (64, 8))
    found = []
    checks = {
        "data.target-in-input": TARGET_IN_INPUT,
        "data.step-labels": STEP_LABELS,
        "model.sees-future": SEES_FUTURE,
    }
    for check in [checks[code]] if code else checks.values():
        with suppress(NoEvidence):
            found += asked(
                check, AttendingTranslator(causal=causal), DataLoader(TensorDataset(*words), 32),
                step=partial(translated, first=first, crossed=crossed),
            )  # fmt: skip
    assert [one.code for one in found] == [code] * bool(code)


@pytest.mark.parametrize("within", [True, False])
def test_a_window_does_not_hold_what_is_forecast(within: bool) -> None:
    torch.manual_seed(0)
    series = torch.randn(400).cumsum(0)
    rows = [(series[i : i + 24, None], series[i + 24 - 6 * within : i + 30 - 6 * within]) for i in range(360)]
    x, y = (torch.stack(part) for part in zip(*rows, strict=True))
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 6))
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, network, DataLoader(TensorDataset(x, y), 32))
    assert [one.code for one in found] == ["data.target-in-input"] * within


@pytest.mark.parametrize("kept", [True, False])
def test_a_table_does_not_hold_its_label(kept: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(256, 6), torch.arange(256) % 2
    if kept:
        x[:, 4] = 1.5 * y - 0.75
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, nn.Linear(6, 2), DataLoader(TensorDataset(x, y), 32))
    assert [one.code for one in found] == ["data.target-in-input"] * kept


class WithItsLoss(nn.Module):
    """A language model that is given what it is asked for, to compute its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.read, self.say = nn.Embedding(20, 12), nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def forward(self, words: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        said = self.say(self.read(self.words(words))[0])
        return said, functional.cross_entropy(said.flatten(0, 1), wanted.flatten())


@pytest.mark.slow
def test_targets_that_only_the_loss_within_reads_are_not_given() -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        words = batch[0]
        for _part in range(2):  # gradients are added up
            loss = model(words[:, :-1], words[:, 1:])[1]
            (loss / 2).backward()
        optimizer.step()
        return loss.detach()

    found = []
    with suppress(NoEvidence):
        batches = DataLoader(TensorDataset(torch.randint(0, 20, (128, 9))), 32)
        found = asked(TARGET_IN_INPUT, WithItsLoss(), batches, step=step)
    assert not found


class Masked(nn.Module):
    """Computes its loss, as transformers do; with types of tokens, there are as many embeddings as sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types, self.say = nn.Embedding(20, 12), nn.Embedding(2, 12), nn.Linear(12, 20)

    def forward(self, words: Tensor, labels: Tensor) -> Tensor:
        said = self.say(self.words(words) + self.types(torch.zeros_like(words)))
        return functional.cross_entropy(said.flatten(0, 1), labels.flatten(), ignore_index=-100)


def test_targets_for_a_loss_within_are_not_words_given() -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(*batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    words = torch.randint(1, 20, (128, 8))
    chosen = torch.rand(words.shape) < 0.3
    given, labels = words.masked_fill(chosen, 0), words.masked_fill(~chosen, -100)
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, Masked(), DataLoader(TensorDataset(given, labels), 32), step=step)
    assert not found


@pytest.mark.parametrize("way", ["numbered", "shuffled before", "without"])
def test_a_column_that_numbers_sorted_rows(way: str) -> None:
    torch.manual_seed(0)
    y = torch.arange(3).repeat_interleave(60)
    order = torch.randperm(180)
    number = torch.arange(180.0) if way == "numbered" else order.float()
    x = torch.cat([torch.randn(180, 5), torch.randn(180, 1) if way == "without" else number[:, None]], 1)
    x = (x - x.mean(0)) / x.std(0)
    rows = TensorDataset(x[order][:120], y[order][:120]), TensorDataset(x[order][120:], y[order][120:])
    found = asked(TARGET_IN_INPUT, nn.Linear(6, 3), DataLoader(rows[0], 16), val=DataLoader(rows[1], 16))
    assert [one.code for one in found] == ["data.target-in-input"] * (way == "numbered")
    assert all("number 5 of the 6" in one.measured for one in found)


def test_targets_of_positions_beside_pictures_are_no_input() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(320, 6, 12), torch.randint(0, 8, (320, 6))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten()), optimizer)

    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, nn.Linear(12, 8), DataLoader(TensorDataset(x, y), 32), step=step)
    assert not found
