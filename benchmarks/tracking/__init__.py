"""What a memory of identities adds to a tracker: `python -m benchmarks.tracking`."""
