"""`python -m neve` is the program `neve`."""

import sys

from neve.cli import main

if __name__ == "__main__":
    sys.exit(main())
