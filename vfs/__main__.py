"""`python -m vfs`."""

import sys

from vfs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
