"""Breaks a running process from outside, where no signal reaches: some of its threads, its listening socket,
its limits. Needs the right to trace it, which the parent of a process has.
"""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_SYS_PIDFD_GETFD = 438

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


def _ptrace(request: int, thread: int) -> None:
    if _LIBC.ptrace(request, thread, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace({request:#x}) of thread {thread}: {os.strerror(number)}")


def threads(pid: int, name: str) -> list[int]:
    """The threads whose name begins so; the kernel keeps 15 characters of a name."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if (task / "comm").read_text().strip().startswith(name[:15]):
                found.append(int(task.name))
    return found


@contextlib.contextmanager
def frozen_threads(pid: int, name: str) -> Iterator[list[int]]:
    """These threads stand still, the others of the process go on."""
    held: list[int] = []
    try:
        for thread in threads(pid, name):
            # One that has been idle for long may end while it is looked at.
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_PTRACE_SEIZE, thread)
                held.append(thread)
                _ptrace(_PTRACE_INTERRUPT, thread)
                os.waitpid(thread, _WALL)
        assert held, f"{pid} has no thread {name}"
        yield held
    finally:
        for thread in held:
            with contextlib.suppress(OSError):
                _ptrace(_PTRACE_DETACH, thread)


def shut_down_listener(pid: int, port: int) -> None:
    """The process keeps its socket, but nobody is connected to it any more."""
    pidfd = os.pidfd_open(pid)
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            if not os.readlink(descriptor).startswith("socket:"):
                continue
            copy = _LIBC.syscall(_SYS_PIDFD_GETFD, pidfd, int(descriptor.name), 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            with socket.socket(fileno=copy) as found:
                listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and found.getsockname()[1] == port:
                    found.shutdown(socket.SHUT_RDWR)
                    return
    finally:
        os.close(pidfd)
    raise AssertionError(f"{pid} does not listen on port {port}")
