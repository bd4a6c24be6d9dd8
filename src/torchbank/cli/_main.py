"""Verbs of the command `torchbank`, found by name and imported when they run."""

import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module

from torchbank.cli._errors import UsageError, exit_code
from torchbank.training import is_main_process

_VERBS = {
    "train": "train one method on one data set, into a run folder",
    "compare": "train the same setting without and with memory, over seeds and batch sizes",
    "evaluate": "score the encoder of a run folder again",
    "audit": "find wrong labels and near-duplicates in what a memory holds",
    "drift": "tell how stale the memory of a run was, and what that cost",
    "inspect": "tell what a bank file holds",
    "track": "give the objects in videos identities that last",
    "video": "see what a memory of the past adds to an encoder, on labelled videos",
    "demo": "see what a memory buys, in a few minutes on two cores",
}

_HELP = """usage: torchbank VERB [OPTIONS]

Memory banks for PyTorch: train with one, and see what it buys.

verbs:
{verbs}

examples:
  torchbank demo
  torchbank train xbm --data kanji --seed 0 --run runs/kanji
  torchbank train xbm --run runs/kanji --resume
  torchbank train xbm --data folder --root photos --encoder resnet18-small
  torchbank train moco --data cifar10 --root downloads
  torchbank compare xbm --seeds 0 1 2 --batch-sizes 16 64 256
  torchbank evaluate runs/kanji
  torchbank audit runs/kanji
  torchbank drift runs/kanji
  torchbank inspect runs/kanji/bank.safetensors
  torchbank track --video hall.mp4 --detections hall.txt --embeddings hall.npy
  torchbank video --videos films --labels clips.csv --encoder convnet

torchbank VERB --help lists the options of a verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The words after ``torchbank``; those of the process by default.

    Returns:
        The exit code: 0, or 2 after an error of the user, of which one line on stderr tells.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return exit_code(lambda: _run(words))
    except SystemExit as stop:
        # tyro leaves this way after it has printed a help.
        return int(stop.code or 0)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_HELP.format(verbs="\n".join(f"  {verb:<10}{what}" for verb, what in _VERBS.items())))
        return
    verb, *rest = words
    if verb == "--version":
        from torchbank import __version__

        print(__version__)
        return
    if verb not in _VERBS:
        msg = f"unknown verb {verb!r}; expected one of {', '.join(_VERBS)} (see torchbank --help)"
        raise UsageError(msg)
    # Of several processes (torchrun), one speaks; errors are told by whoever has them.
    with nullcontext() if is_main_process() else redirect_stdout(io.StringIO()):
        import_module(f"torchbank.cli._{verb}").run(rest)
