"""A small service behind the wire: remembers calls, answers or raises what a test gave it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from neve.api.options import CallOptions
from neve.api.results import Nothing, Result
from neve.query.explain import Explain
from neve.runtime import Instant, Signal
from neve.wire.application import Application
from neve.wire.message import Request, Response
from neve.wire.served import Watcher
from neve.wire.sigv4 import AccessKey, Verifier, sign

NOW_S = 1_800_000_000.0
KEY = AccessKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "tester")
BODY_BYTES_MAX = 20_971_520


class StillRuntime:
    """Time stands still; tokens count up."""

    def __init__(self) -> None:
        self._tokens = 0

    def now(self) -> Instant:
        return Instant(NOW_S, 1.0)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the wire never sleeps")

    def uniform(self, low: float, high: float) -> float:
        raise AssertionError("the wire throws no dice")

    def token(self) -> str:
        self._tokens += 1
        return f"{self._tokens:032x}"

    def signal(self) -> Signal:
        raise AssertionError("the wire waits for nobody")

    def spawn(self, task: Callable[[], None]) -> None:
        raise AssertionError("the wire leaves nothing behind")

    def beside(self, task: Callable[[], object], work: Callable[[], None]) -> object:
        raise AssertionError("the wire waits for nobody")


class FakeService:
    """Answers every call with `answer`, or raises it."""

    def __init__(self, answer: Result | Exception | None = None) -> None:
        self.answer = Nothing() if answer is None else answer
        self.calls: list[tuple[str, dict[str, object], CallOptions]] = []

    def call(
        self, operation: str, members: Mapping[str, object], options: CallOptions, explain: Explain | None = None
    ) -> Result:
        self.calls.append((operation, dict(members), options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def application(
    service: FakeService, *, keys: tuple[AccessKey, ...] = (), watchers: Sequence[Watcher] = ()
) -> Application:
    runtime = StillRuntime()
    verifier = Verifier(keys, lambda: runtime.now().wall_s) if keys else None
    return Application(service, runtime, verifier, body_bytes_max=BODY_BYTES_MAX, watchers=watchers)


def post(path: str, body: bytes = b"{}", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", path, headers={"host": "h", "content-type": "application/json", **named}, body=body)


def ask(request: Request, answer: Result | Exception | None = None, *, signed: bool = False) -> Response:
    """The response of an application over a service with that answer, with or without keys."""
    if signed:
        return application(FakeService(answer), keys=(KEY,))(sign(request, KEY, "us-east-1", NOW_S))
    return application(FakeService(answer))(request)
