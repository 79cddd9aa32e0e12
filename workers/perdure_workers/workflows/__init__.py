"""Temporal workflows: deterministic, no I/O; what happens in the world happens in activities."""
