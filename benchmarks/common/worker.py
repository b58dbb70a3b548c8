"""One contender in a process of its own: python worker.py FILE FUNCTION OPTIONS, commanded over standard input."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType


def main() -> None:
    """Run the function of the file with a gate. What libraries print goes to standard error; answers alone go out."""
    file, function, options = sys.argv[1:4]
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    sys.path[0] = str(Path(__file__).parent.parent)  # as for a script in benchmarks/
    from common.gate import Gate

    try:
        contender = getattr(loaded(Path(file)), function)
        contender(Gate(sys.stdin, replies), **json.loads(options))
        raise RuntimeError("the contender returned instead of waiting for its next turn")
    except ModuleNotFoundError as error:
        answer = {"missing": f"{error.name} is not installed"}
    except SystemExit:
        return
    except BaseException as error:
        traceback.print_exc()
        answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def loaded(file: Path) -> ModuleType:
    """The workload's file as a module that others find by its name: what it defines can be pickled."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
