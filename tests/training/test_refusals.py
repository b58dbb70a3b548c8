"""What cannot be trained as decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from short_runs import asked_for

from striate.data.config import DataConfig
from striate.errors import ConfigError, TrainingError
from striate.training.config import Config
from striate.training.prepare import prepare, read_data
from striate.training.request import merge_request

NORMALIZED = "conv(4,3) bn relu fc(10)"


@pytest.mark.parametrize(
    ("fields", "where", "remedy"),
    [
        ({"batch": 1}, "batch", {"batch": 16}),
        ({"batch": 8, "execution__micro_batch": 1}, "execution.micro_batch", {"batch": 8, "execution__micro_batch": 2}),
    ],
)
def test_one_sample_has_no_variance_and_the_remedy_is_of_the_field_that_says_one(
    fields: dict[str, int], where: str, remedy: dict[str, int]
) -> None:
    with pytest.raises(TrainingError, match="batch normalization") as caught:
        prepare(asked_for(model__name=NORMALIZED, **fields))
    assert caught.value.where == where
    prepare(asked_for(model__name=NORMALIZED, **remedy))
    assert caught.value.remedy == " ".join(
        f"--{name.replace('__', '.')} {value}" for name, value in remedy.items() if value != fields.get(name)
    )
    prepare(asked_for(model__name="conv(4,3) relu fc(10)", **fields))


def test_a_folder_of_packs_is_refused_where_no_pack_can_be_used(same_photos: Path) -> None:
    images = DataConfig(source=str(same_photos), packs="packs")
    for data in (replace(images, store="stream"), DataConfig(source="iris", packs="packs")):
        with pytest.raises(ConfigError, match=r"leave out --data\.packs") as caught:
            read_data(Config(data=data))
        assert caught.value.where == "data.packs"
    for store in ("auto", "pack", "memory"):
        read_data(Config(data=replace(images, store=store)))
    assert any(
        "read from the pack" in note for note in read_data(Config(data=replace(images, store="memory")))[1].notes
    )


def test_a_stream_that_was_decided_is_no_wish_and_another_folder_opens_the_question_again(same_photos: Path) -> None:
    data = DataConfig(source=str(same_photos), packs="full", store="stream")
    decided = Config(data=data, decided=("data.store",))
    assert read_data(decided)[1].store == "stream"
    assert merge_request(decided, fields={"data.packs": "roomy"}).data.store == "auto"
