"""A job of `benchmarks.jobs` that counts its calls in a file, or fails."""

from pathlib import Path


def work(settings):
    calls = Path(settings["calls"])
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    if settings["value"] < 0:
        raise ValueError("a negative value")
    return {"square": settings["value"] ** 2}
