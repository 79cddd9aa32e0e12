"""Evaluations, without Temporal and without models.

suites      a suite as somebody wrote it
scoring     an answer against what is expected of it
statistics  what means tell, and how surely
verdicts    scores, a baseline and a gate into a verdict
"""
