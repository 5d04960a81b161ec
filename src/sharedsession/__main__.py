"""``python -m sharedsession``: the same as the command ``sharedsession``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
