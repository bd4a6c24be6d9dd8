#!/usr/bin/env bash
# Test and time torchbank on a CUDA machine where nothing can be installed: one command, under 9 minutes.
# Writes benchmarks/results/DEVICE.json, and a copy to $OUT if that is set.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH=src PYTHONUNBUFFERED=1
LIMIT=${LIMIT:-520} DEVICE=${DEVICE:-cuda} CASES=${CASES:-$DEVICE}
tests=0
if python3 -c "import pytest" 2>/dev/null; then
    # Most of the time goes into compiling kernels, one at a time in each process.
    workers=$(python3 -c "import xdist" 2>/dev/null && echo "-n 6")
    # The project's options ask for plugins that may be missing here, so none of them is taken.
    # shellcheck disable=SC2086
    timeout 180 python3 -m pytest -q $workers -p no:cacheprovider -c /dev/null --rootdir=. \
        -o pythonpath=tests -o markers="gpu plain" -m gpu tests/reads tests/losses tests/banks
    tests=$?
    [ $tests -eq 5 ] && tests=0  # no test is marked yet
else
    echo "pytest is not here: tests skipped"
fi
left=$((LIMIT - SECONDS))
file=${FILE:-$(mktemp -d)/gpu.json}
timeout "$left" python3 -m benchmarks --device "$DEVICE" --list "$CASES" --budget $((left - 45)) --case-seconds 4 --out "$file"
bench=$?
if [ -f "$file" ]; then
    name=$(python3 -m benchmarks.table --name "$file")
    target=${TARGET:-benchmarks/results}
    mkdir -p "$target" && cp "$file" "$target/$name" && echo "written: $target/$name"
    [ -n "${OUT:-}" ] && cp "$file" "$OUT/$name"
fi
[ $tests -eq 0 ] && [ $bench -eq 0 ]
