"""`python -m striate.doctor script.py -- ARGS`: runs a training script, and diagnoses what it trains."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from striate.errors import StriateError, UsageError, pasted
from striate.wording import filled, listed, ordinal


def main(words: Sequence[str]) -> int:
    """Exit code 0; 1 where an error was found; 2 where the script cannot be diagnosed; 130 after an interrupt."""
    own, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(prog="python -m striate.doctor", description=__doc__)
    parser.add_argument("script", type=Path, help="a training script, which is run; its own arguments follow after --")
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit of the examination, in seconds")
    parser.add_argument("--training", type=int, default=1, help="which of several training loops to examine, from 1")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    given = parser.parse_args(list(own))
    try:
        if not 0 < given.seconds <= 3600:
            raise UsageError("--seconds", f"{given.seconds:g}", "more than 0, and 3600 at most", "--seconds 30")
        if given.training < 1:
            raise UsageError("--training", f"{given.training}", "1 or more", "--training 2")
        from striate.doctor.diagnosis import diagnosis_text
        from striate.doctor.script.run_script import diagnose_script

        found = diagnose_script(given.script, arguments, seconds=given.seconds, training=given.training)
    except KeyboardInterrupt:
        return 130
    except StriateError as error:
        if given.json:
            print(json.dumps({"error": error.to_json()}))
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        width = min(shutil.get_terminal_size((80, 24)).columns, 100)
        print(f"{filled(found.subject, width)}\n\n{diagnosis_text(found.diagnosis, width)}")
        if found.elsewhere and given.training == 1:
            print("\n" + filled(_elsewhere(found.elsewhere, found.trainings + 1, given.script), width))
    return 1 if found.diagnosis.counts()["error"] else 0


def _elsewhere(places: Sequence[str], number: int, script: Path) -> str:
    before = "the first" if number == 2 else "the ones before"
    return (
        f"{script.name} also trains elsewhere, which was not examined: {listed([*places])}. When this one is in "
        f"order, striate doctor {pasted(script)} --training {number} examines the {ordinal(number)} training, after "
        f"running {before} to the end; likewise {number + 1} and more."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
