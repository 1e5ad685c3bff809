"""The whole stack as plain processes, until Ctrl-C: MinIO, a server, compaction, collection.

It is what infra/local/compose.yaml runs as containers. What to export for a client is printed on standard output.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.minio import command, minio
from tests.servers.neve import NeveServer
from tests.servers.object_store import REGION, Credentials
from tests.servers.process import ServerProcess, free_port
from tests.servers.tools import Unavailable

LOOK_S = 0.5
COLLECT_S = 3600.0


class Stack:
    """The processes, each in a group of its own, so that a Ctrl-C ends them in the reverse order of their start."""

    def __init__(self, data: Path, port: int, minio_port: int, processes: ExitStack) -> None:
        store_user, self.client = Credentials.random(), Credentials.random()
        objects = data / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        run_minio = command(objects, minio_port)
        self.store = processes.enter_context(minio(run_minio, minio_port, store_user, own_group=True))
        own = {"NEVE_STORE": self.store.url(), "NEVE_CACHE": str(data / "cache")}
        self._environment = store_user.environment() | own
        self._processes = processes
        self.compaction = self._neve("compact", "--watch")
        serving = self._environment | {"NEVE_KEYS": f"{self.client.access_key}:{self.client.secret_key}:stack"}
        options = ["--port", str(port), "--no-compact", "--disk", str(data / "cache" / "blocks")]
        self.server = processes.enter_context(
            NeveServer(self.store.url(), *options, environment=serving, own_group=True)
        )

    def watch(self) -> None:
        """Collect at once and every hour; raises RuntimeError when one of the others has ended."""
        collect_at, collection = time.monotonic(), None
        while True:
            time.sleep(LOOK_S)
            for process in (self.server, self.compaction):
                if process.ended:
                    raise RuntimeError(f"process {process.pid} has ended:\n{process.output()}")
            if collection is not None and collection.ended:
                print(collection.output(), end="", file=sys.stderr, flush=True)
                collection = None
            if time.monotonic() > collect_at:
                collect_at, collection = time.monotonic() + COLLECT_S, self._neve("collect")

    def _neve(self, *arguments: str) -> ServerProcess:
        program = [sys.executable, "-m", "neve", *arguments]
        return self._processes.enter_context(ServerProcess(program, self._environment, own_group=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/stack", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder for everything; default: one that is deleted at the end")
    parser.add_argument("--port", type=int, default=7070, help="port of the server on 127.0.0.1 (7070; 0: a free one)")
    parser.add_argument("--minio-port", type=int, default=free_port(), help="port of MinIO; default: a free one")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("NEVE_") and name != "NEVE_CACHE"]:
        del os.environ[name]  # the stack is told what it needs, and nothing of the machine's own settings
    with TemporaryDirectory(prefix="neve-stack-") as temporary:
        data = (chosen.data or Path(temporary)).absolute()
        try:
            with ExitStack() as processes:
                stack = Stack(data, chosen.port, chosen.minio_port, processes)
                print(f"export AWS_ENDPOINT_URL_S3VECTORS={stack.server.url}")
                print(f"export AWS_ACCESS_KEY_ID={stack.client.access_key}")
                print(f"export AWS_SECRET_ACCESS_KEY={stack.client.secret_key}")
                print(f"export AWS_DEFAULT_REGION={REGION}", flush=True)
                print(
                    f"The stack runs in process {os.getpid()} until Ctrl-C, data in {data}.\n"
                    "With these exported any AWS SDK finds it, as `aws s3vectors list-vector-buckets` does.",
                    file=sys.stderr,
                    flush=True,
                )
                stack.watch()
        except KeyboardInterrupt:
            print("the stack has ended", file=sys.stderr)
        except (Unavailable, RuntimeError) as error:
            raise SystemExit(f"scripts/stack: {error}") from None


if __name__ == "__main__":
    main()
