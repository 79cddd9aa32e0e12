"""``python3 -m perdure_devcluster``."""

from __future__ import annotations

import sys

from perdure_devcluster.cli import main

sys.exit(main(sys.argv[1:]))
