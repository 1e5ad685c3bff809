"""A handler of lambda/ as Lambda runs it: in a process of its own, by the real runtime interface client."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from neve.testing.lambda_runtime import Invocation, LambdaRuntime
from tests.golden.record import event_of
from tests.golden.record_events import with_iam
from tests.servers.process import ServerProcess
from tests.servers.tools import ROOT

HANDLERS = ROOT / "lambda"
ALONE = ("-S", "-P")
"""Options of Python for nothing of this environment, nor of the folder it runs in."""
URL = "https://abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws"


class FunctionProcess(ServerProcess):
    """One execution environment; leaving the context ends it. It takes events from its runtime, one by one.

    `options` are those of Python, `path` its PYTHONPATH.
    """

    def __init__(
        self,
        handler: str,
        runtime: LambdaRuntime,
        environment: Mapping[str, str],
        *,
        options: Sequence[str] = (),
        path: Sequence[Path] = (HANDLERS,),
    ) -> None:
        module = f"{handler}.handler"
        where = {**runtime.environment, "PYTHONPATH": os.pathsep.join(map(str, path))}
        super().__init__([sys.executable, *options, "-m", "awslambdaric", module], {**where, **environment})
        self.runtime = runtime

    def call(self, operation: str, members: Mapping[str, object], *, seconds: float = 30.0) -> tuple[int, Any]:
        """Status and document of an operation, asked for by an event of a URL that has authenticated the caller."""
        return answer_of(self.invoke(url_event(operation, members), seconds=seconds))

    def invoke(self, event: object, *, seconds: float = 30.0) -> Any:
        """What the function answers to an event; raises FunctionError, and RuntimeError when the process ends."""
        return self.answered(self.runtime.hand_in(event, seconds=seconds))

    def answered(self, invocation: Invocation) -> Any:
        """What the function answers to an event that was handed in; raises as `invoke`."""
        self.until(lambda: invocation.answer.done() or None)
        return invocation.result()


@contextmanager
def function(handler: str, environment: Mapping[str, str], **options: Any) -> Iterator[FunctionProcess]:
    """A handler with a runtime of its own."""
    with LambdaRuntime() as runtime, FunctionProcess(handler, runtime, environment, **options) as process:
        yield process


def client_alone(folder: Path) -> Path:
    """A folder that is given the runtime interface client and no more, as Lambda's own Python has it."""
    for name in ("awslambdaric", "simplejson", "snapshot_restore_py", "runtime_client"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        (folder / place.name).symlink_to(place)
    return folder


def url_event(operation: str, members: Mapping[str, object]) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    return with_iam(event_of("POST", f"{URL}/{operation}", headers, json.dumps(members).encode()))


def answer_of(told: Mapping[str, Any]) -> tuple[int, Any]:
    body = base64.b64decode(told["body"]) if told["isBase64Encoded"] else told["body"]
    return told["statusCode"], json.loads(body)
