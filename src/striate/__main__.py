"""`python -m striate` is the same as `striate`."""

import sys

from striate.cli import main

sys.exit(main())
