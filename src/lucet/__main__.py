"""`python -m lucet` is the command `lucet`."""

from __future__ import annotations

import sys

from lucet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
