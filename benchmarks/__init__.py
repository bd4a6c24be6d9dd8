"""What torchbank costs beside its peers: `python -m benchmarks` (or `make bench`)."""
