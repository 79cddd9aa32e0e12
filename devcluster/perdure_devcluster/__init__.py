"""A real Kubernetes on one Linux machine, for developing and testing Perdure.

Standard library only: it has to run on a bare machine, before anything of
Perdure's own is installed.
"""
