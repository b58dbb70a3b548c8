"""`python -m striate` is the same as `striate`."""

import sys

from striate.cli import program

sys.exit(program())
