"""`python -m incontext` is `seggpt`."""

import sys

from incontext.cli import main

sys.exit(main())
