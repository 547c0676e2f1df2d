"""``python -m latentree``."""

import sys

from latentree.cli import main

sys.exit(main())
