"""Runs commands in forks of one process that has lnstore imported, so that not each pays for its imports.

Such a fork is a process of its own, with the arguments, environment, directory and streams of its caller; only a
list of processes shows the server's arguments. What is about signals, another locale or the start of the program itself
runs real processes: COMMAND of cli_world.

As a program it serves at the socket that its argument names, until its standard input ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

STREAMS = 3
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
NOT_PRELOADED = ("lnstore.__main__", "lnstore.books.migrations.")

# --- who asks ---------------------------------------------------------------------------------------------------------

SHIM = """\
#!{python} -IS
import array, os, sys, _socket
variables = [name + "=" + value for name, value in os.environ.items()]
request = "\\0".join([os.getcwd(), str(len(sys.argv) - 1), *sys.argv[1:], *variables])
asked = _socket.socket(_socket.AF_UNIX)
asked.connect({path!r})
streams = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
asked.sendall(os.fsencode(request)[asked.sendmsg([os.fsencode(request)], [streams]) :])
asked.shutdown(_socket.SHUT_WR)
answers = b""
while said := asked.recv(100):
    answers += said
os._exit(int(answers.split()[1]) % 256)
"""
"""`lnstore` for shell scripts; it imports next to nothing, and does not wait for its interpreter's end."""


@cache
def _serving() -> Path:
    """The socket of this process's own server, which is started at first use."""
    directory = Path(tempfile.mkdtemp(prefix="lnf-", dir="/tmp"))  # Unix sockets need a short path
    path = directory / "socket"
    process = subprocess.Popen(
        [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )

    def end() -> None:
        process.communicate()
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(end)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return path


def write_shim(file: Path) -> None:
    """An executable that has the server run the command, with its own arguments, environment, directory and streams."""
    file.write_text(SHIM.format(python=sys.executable, path=str(_serving())))
    file.chmod(0o755)


def run_forked(
    words: list[str], stdin: bytes, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[bytes]:
    """One command to its end, as `subprocess.run` does it."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    request = os.fsencode("\0".join([str(Path.cwd()), str(len(words)), *words, *variables]))
    # Files take what is said, as nobody reads it while the command runs.
    with (
        socket.socket(socket.AF_UNIX) as asked,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        asked.settimeout(timeout)
        asked.connect(str(_serving()))
        reading, writing = os.pipe()
        try:
            sent = socket.send_fds(asked, [request], [reading, output.fileno(), errors.fileno()])
        finally:
            os.close(reading)
        feeder = threading.Thread(target=_feed, args=(writing, stdin))
        feeder.start()
        asked.sendall(request[sent:])
        asked.shutdown(socket.SHUT_WR)
        with asked.makefile("rb") as answers:
            process = int(answers.readline())
            try:
                code = int(answers.readline())
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired(words, timeout) from None
            finally:
                feeder.join()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, output.read(), errors.read())


def _feed(writing: int, content: bytes) -> None:
    with open(writing, "wb", buffering=0) as pipe:
        try:
            while content:
                content = content[pipe.write(content) :]
        except BrokenPipeError:
            return  # the command ended without reading all


# --- the server -------------------------------------------------------------------------------------------------------


def _preload() -> None:
    import lnstore  # noqa: PLC0415 - who asks needs none of it

    for module in pkgutil.walk_packages(lnstore.__path__, "lnstore."):
        if not module.name.startswith(NOT_PRELOADED):
            importlib.import_module(module.name)
    assert threading.active_count() == 1, "a fork of a process with threads is not a faithful process"
    gc.collect()
    gc.freeze()  # so that no fork writes to, and thereby copies, what all share


def _serve(path: str) -> None:
    """Returns in each fork that is to be a command; at the end of standard input it exits."""
    _preload()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)  # noqa: T201 - for who started this
        keepers: set[int] = set()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            keepers = {keeper for keeper in keepers if os.waitpid(keeper, os.WNOHANG)[0] == 0}
            if sys.stdin in ready:
                sys.exit()
            asked, _ = listener.accept()
            with asked:
                keeper = os.fork()
                if keeper == 0:
                    listener.close()
                    _keep(asked)
                    return
                keepers.add(keeper)


def _keep(asked: socket.socket) -> None:
    """Fork the command, in which this returns, tell its number, and with which code it ended."""
    request, streams, _, _ = socket.recv_fds(asked, 1 << 20, STREAMS)
    while more := asked.recv(1 << 20):
        request += more
    process = os.fork()
    if process == 0:
        asked.close()
        _become(os.fsdecode(request).split("\0"), streams)
        return
    for stream in (*streams, 0, 1, 2):
        os.close(stream)
    asked.sendall(b"%d\n" % process)
    _, status = os.waitpid(process, 0)
    asked.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(request: list[str], streams: list[int]) -> None:
    """Take the caller's directory, arguments, environment and streams."""
    directory, count, *rest = request
    os.chdir(directory)
    sys.argv = ["lnstore", *rest[: int(count)]]
    os.environ.clear()
    for name, _, value in (variable.partition("=") for variable in rest[int(count) :]):
        os.environ[name] = value
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it is the process's own
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _end(code: object) -> None:
    """End like the interpreter, but do not take all modules apart, which would copy the memory that forks share."""
    if not isinstance(code, int):
        return
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter says what it always does
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
    from lnstore.cli import main

    try:
        main()
    except SystemExit as ended:
        _end(ended.code)
        raise
