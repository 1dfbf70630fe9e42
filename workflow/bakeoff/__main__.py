"""`python -m bakeoff`: the same as the `bakeoff` command."""

from __future__ import annotations

import sys

from bakeoff.cli import main

sys.exit(main())
