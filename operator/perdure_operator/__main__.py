"""`python -m perdure_operator`."""

import sys

from perdure_operator.main import main

sys.exit(main())
