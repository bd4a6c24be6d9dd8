"""A new file for the rows of a bank, mapped into memory."""

import errno
import mmap
import os
import shutil
from pathlib import Path

from torchbank.errors import BankFileError, BankFileExistsError, BankFileNotFoundError

# What a file system answers that cannot reserve blocks.
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def create_mapped(path: Path, size: int) -> mmap.mmap:
    """Create a file of ``size`` zero bytes that only its owner may read, and map it, shared and writable.

    Its blocks are reserved, so that a full disk is an error here and not a signal that ends the process at a later
    write. Where the file system cannot reserve, the file is sparse.

    Args:
        path: A name that is not taken, not even by a link, in a folder that exists.
        size: In bytes, more than 0.

    Raises:
        BankFileNotFoundError: The folder does not exist.
        BankFileExistsError: The name is taken.
        BankFileError: There is no space for the file, or it may not be created.
    """
    descriptor = _open_new(path)
    try:
        _reserve(descriptor, path, size)
        return mmap.mmap(descriptor, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _open_new(path: Path) -> int:
    if not path.parent.is_dir():
        msg = f"cannot keep a bank in {path}: the folder {path.parent} does not exist; create it first"
        raise BankFileNotFoundError(msg)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    except FileExistsError as error:
        msg = (
            f"{path} exists, and a bank takes a new file for its rows; name another, or delete it if no bank is using "
            "it. It is not read again: what bank.save wrote is opened by torchbank.load(saved, storage=new_path)"
        )
        raise BankFileExistsError(msg) from error
    except OSError as error:
        msg = f"cannot create {path} for the rows of a bank ({error.strerror}); name a file in a folder of your own"
        raise BankFileError(msg) from error


def _reserve(descriptor: int, path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    msg = (
        f"a bank in {path} takes {size / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; make room, or take a "
        "smaller capacity or row dtype"
    )
    if size > free:
        raise BankFileError(msg)
    try:
        if not hasattr(os, "posix_fallocate"):
            os.ftruncate(descriptor, size)
            return
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            msg = f"{msg} ({error.strerror})"
            raise BankFileError(msg) from error
        os.ftruncate(descriptor, size)
