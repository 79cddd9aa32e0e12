"""What all trainers are told alike."""

from __future__ import annotations

LENGTH = 512
DOCUMENTS_PER_STEP = 4
ROWS_PER_STEP = 1
"""About as many tokens as in so many documents."""
RANK, ALPHA, RATE = 8, 16, 5e-4
SEED = 1
WARM_UP = 1
"""Steps that do not count."""
