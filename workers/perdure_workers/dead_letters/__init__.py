"""The list of dead letters: what failed for good comes on it, what was done after all leaves it.

histories    what Temporal tells of a run that failed
due          what becomes of an entry, as a pure function
keeper       looks, over and over, and does it
"""
