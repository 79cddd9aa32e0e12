"""`python -m perdure_trainer`."""

import os
import sys

from perdure_trainer.main import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Not sys.exit: it would wait for a save that hangs on a store, and let libraries spend seconds on tidying up.
os._exit(code)
