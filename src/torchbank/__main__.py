"""`python -m torchbank` is the command `torchbank`."""

import sys

from torchbank.cli import main

sys.exit(main())
