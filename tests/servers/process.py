"""Server processes of ours: started on a free loopback port, awaited, ended by their own process id."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """One running program with its output kept; leaving the context ends it.

    With `own_group` a Ctrl-C at the terminal is not its concern, but that of who started it.
    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str], *, own_group: bool = False
    ) -> None:
        self._output = TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            process_group=0 if own_group else None,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> str:
        """Everything printed so far, both streams."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors="replace")

    def until(self, ready: Callable[[], T | None], timeout_s: float = 60.0) -> T:
        """The first answer of `ready` that is not None; RuntimeError when the process ends or time is up first."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (answer := ready()) is not None:
                return answer
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._process.args} ended with {self._process.returncode}:\n{self.output()}")
            time.sleep(0.02)
        raise RuntimeError(f"{self._process.args} is not ready after {timeout_s:g} s:\n{self.output()}")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, timeout_s: float | None = None) -> int:
        """Exit status, once the process has ended by itself; raises TimeoutExpired."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL: no last words, nothing flushed."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """SIGTERM, and SIGKILL if it is still there after 40 s, more than any of these servers grants itself."""
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._output.close()
