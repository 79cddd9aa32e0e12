"""Temporal workers: the workflow that carries a training job through, and the activities that touch the world."""
