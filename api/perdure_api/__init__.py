"""The contract between every part of Perdure: what users write, what they read, and what pods exchange.

Models, names and pure rules only. Nothing here does I/O and nothing imports another room.
"""
