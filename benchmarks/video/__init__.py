"""What a temporal memory adds to a model that sees seconds: `python -m benchmarks.video`."""
