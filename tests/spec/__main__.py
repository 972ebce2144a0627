"""python -m tests.spec"""

import sys

from tests.spec.run import main

if __name__ == "__main__":
    sys.exit(main())
