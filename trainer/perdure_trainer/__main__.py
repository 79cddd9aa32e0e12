"""`python -m perdure_trainer`."""

import os
import sys

from perdure_api.early_stop import end_on_sigterm
from perdure_api.exit_codes import ExitCode

end_on_sigterm(ExitCode.STOPPED)

from perdure_trainer.main import main  # noqa: E402 - seconds of imports, in which the end may be asked for

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Not sys.exit: it would wait for a save that hangs on a store, and let libraries spend seconds on tidying up.
os._exit(code)
