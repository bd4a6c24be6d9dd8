"""One writer for each file: a lock that the system gives back when its holder dies."""

import os
from pathlib import Path

from torchbank.errors import BankFileNotFoundError, BankStateError

if os.name == "posix":
    import fcntl
else:
    import msvcrt


class WriterLock:
    """The right to write a file, held until `release` or the end of the process, however it ends.

    The lock is on ``FILE.lock`` beside the file, since the file itself is replaced at every save. It is never
    removed: a process may be waiting to open it.

    Args:
        path: The file.

    Raises:
        BankStateError: Another holder, here or in another process, has it.
        BankFileNotFoundError: The folder does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self.path = Path(os.path.realpath(path))
        beside = self.path.with_name(f"{self.path.name}.lock")
        if not beside.parent.is_dir():
            msg = f"cannot lock {path}: the folder {beside.parent} does not exist; create it first"
            raise BankFileNotFoundError(msg)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            msg = (
                f"{path} is open for writing elsewhere; close it there (gallery.close()), or load it here with "
                "lock=False to read only"
            )
            raise BankStateError(msg) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others write the file."""
        if self._descriptor >= 0:
            # Closing the only descriptor of the open file releases the lock.
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.release()


class Ownership:
    """Which file a gallery may write: none yet, one that it holds the lock of, or none because it only reads.

    Attributes:
        read_only: The file that was read and may not be written.
    """

    def __init__(self) -> None:
        self.read_only: Path | None = None
        self._lock: WriterLock | None = None

    def take(self, path: Path) -> None:
        """Hold the right to write a file, in place of another; nothing changes on an error.

        Raises:
            BankStateError: Another holder has it, or the gallery was read from there without a lock.
            BankFileNotFoundError: The folder does not exist.
        """
        whole = path.resolve()
        if self.read_only == whole:
            msg = (
                f"the gallery was loaded from {path} with lock=False, to read only; load it with lock=True to write it"
            )
            raise BankStateError(msg)
        if self._lock is None or self._lock.path != whole:
            lock = WriterLock(whole)
            self.release()
            self._lock = lock

    def release(self) -> None:
        """Let others write it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _lock(descriptor: int) -> None:
    if os.name == "posix":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyrefly: ignore
