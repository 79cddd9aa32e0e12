"""Without the libraries of the extra `documents` there is nothing to test here."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("pypdf") and find_spec("lancedb") else ["test_*.py"]
