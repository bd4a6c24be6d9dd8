"""The real command line, and a folder of images for it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import command_line_server
import pytest
from photo_folder import write_images


@pytest.fixture(scope="session")
def torchbank():
    """``torchbank("train", "xbm")`` runs that command line and tells code, out and err."""
    command = [sys.executable, "-W", "error", command_line_server.__file__]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:

        def run(*words: str | Path) -> SimpleNamespace:
            server.stdin.write(json.dumps([str(word) for word in words]) + "\n")
            server.stdin.flush()
            return SimpleNamespace(**json.loads(server.stdout.readline()))

        yield run
        server.stdin.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "photos", classes=10)
