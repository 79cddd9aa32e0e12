"""What training pods tell: received, checked, kept, and written to the status."""
