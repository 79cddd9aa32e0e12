"""`python -m perdure_scaler`."""

import sys

from perdure_api.early_stop import end_on_sigterm
from perdure_api.exit_codes import ExitCode

end_on_sigterm(ExitCode.OK)

from perdure_scaler.main import main  # noqa: E402 - a second of imports, in which the end may be asked for

sys.exit(main())
