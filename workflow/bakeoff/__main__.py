"""`python -m bakeoff`: the same as the `bakeoff` command."""

import sys

from bakeoff.cli import main

sys.exit(main())
