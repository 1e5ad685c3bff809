"""`neve serve` as a process: readiness, unmodified boto3 against it, workers, TLS, refusals, and a clean end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from neve.wire.server import _listen
from neve.wire.settings import Settings
from tests.unit.wire_service import KEY


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "neve", "serve", *arguments]


class Server:
    """A running server and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        self.line = line
        self.url = line.split()[3]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit status and standard error after that signal."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def client(self, **options: Any) -> Any:
        return boto3.client(
            "s3vectors",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=options.pop("id", KEY.id),
            aws_secret_access_key=options.pop("secret", KEY.secret),
            config=Config(retries={"total_max_attempts": 1}),
            **options,
        )


def test_answers_do_not_wait_for_acknowledgements(tmp_path: Path) -> None:
    """asyncio turns Nagle's algorithm off only for sockets whose protocol is named."""
    with _listen(Settings(f"file://{tmp_path}", port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@contextmanager
def serving(store: Path, *arguments: str) -> Iterator[Server]:
    process = subprocess.Popen(
        command("--store", f"file://{store}", "--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        yield Server(process, line.rstrip("\n"))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "neve.toml"
    path.write_text(f'[[keys]]\nid = "{KEY.id}"\nsecret = "{KEY.secret}"\n')
    path.chmod(0o600)
    return path


def round_trip(client: Any) -> None:
    client.create_vector_bucket(vectorBucketName="library")
    client.create_index(
        vectorBucketName="library", indexName="books", dataType="float32", dimension=2, distanceMetric="cosine"
    )
    address = {"vectorBucketName": "library", "indexName": "books"}
    client.put_vectors(**address, vectors=[{"key": "k", "data": {"float32": [1, 0]}, "metadata": {"é": 1}}])
    found = client.get_vectors(**address, keys=["k"], returnData=True, returnMetadata=True)["vectors"]
    assert found == [{"key": "k", "data": {"float32": [1.0, 0.0]}, "metadata": {"é": 1}}]


def test_a_server_with_keys(tmp_path: Path, settings_file: Path) -> None:
    with serving(tmp_path / "store", "--settings", str(settings_file), "--access-log") as server:
        port = server.url.rpartition(":")[2]
        assert server.line == f"neve listening on http://127.0.0.1:{port} (store file://{tmp_path}/store)"
        client = server.client()
        round_trip(client)
        arn = client.get_index(vectorBucketName="library", indexName="books")["index"]["indexArn"]
        client.tag_resource(resourceArn=arn, tags={"a b/c": "1", "k": "é"})
        client.untag_resource(resourceArn=arn, tagKeys=["k", "none"])
        assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"a b/c": "1"}
        based = boto3.client(
            "s3vectors",
            endpoint_url=server.url + "/a/base",
            region_name="eu-west-1",
            aws_access_key_id=KEY.id,
            aws_secret_access_key=KEY.secret,
            aws_session_token="ignored",
        )
        assert len(based.list_vector_buckets()["vectorBuckets"]) == 1
        assert presigned(client, "list_tags_for_resource", {"resourceArn": arn}, "GET") == {"tags": {"a b/c": "1"}}
        assert len(presigned(client, "list_vector_buckets", {}, "POST")["vectorBuckets"]) == 1
        for options, code in (
            ({"id": "AKIDUNKNOWN"}, "UnrecognizedClientException"),
            ({"secret": "wrong"}, "InvalidSignatureException"),
        ):
            with pytest.raises(ClientError) as caught:
                server.client(**options).list_vector_buckets()
            assert caught.value.response["Error"]["Code"] == code
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        status, errors = server.stop()
        assert status == 0
        entries = [json.loads(line) for line in errors.splitlines()]
        assert [entry["operation"] for entry in entries[:3]] == ["CreateVectorBucket", "CreateIndex", "PutVectors"]
        always = {"time", "request", "operation", "status", "ms"} | {"waves", "requests", "hedges"}
        always |= {"bytesRead", "bytesWritten"}
        assert all(always <= set(entry) <= always | {"error", "index", "plan"} for entry in entries)


def presigned(client: Any, operation: str, members: dict[str, object], method: str) -> Any:
    url = client.generate_presigned_url(operation, members, ExpiresIn=60)
    headers = {"content-type": "application/json"} if method == "POST" else {}
    request = urllib.request.Request(url, method=method, headers=headers, data=b"" if method == "POST" else None)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def test_a_body_too_large_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        for _ in range(2):
            connection.request("POST", "/PutVectors", b"x" * 20_971_521)
            response = connection.getresponse()
            assert response.status == 400
            assert json.load(response) == {"message": "Request body exceeds max allowed size"}
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        connection.close()
        assert server.stop() == (0, "")


def test_workers_share_one_port_and_end_with_their_parent(tmp_path: Path, settings_file: Path) -> None:
    arguments = ("--settings", str(settings_file), "--workers", "2")
    with serving(tmp_path / "store", *arguments) as server:
        round_trip(server.client())
        children = children_of(server.process.pid)
        assert len(children) >= 2
        for child in children:
            assert KEY.secret not in Path(f"/proc/{child}/cmdline").read_text()
            assert KEY.secret not in Path(f"/proc/{child}/environ").read_text()
        assert server.stop(signal.SIGINT) == (0, "")
        assert ended(children)
    with serving(tmp_path / "store", *arguments) as server:
        assert len(server.client().list_vector_buckets()["vectorBuckets"]) == 1
        children = children_of(server.process.pid)
        server.process.kill()
        server.process.wait()
        assert ended(children)


def children_of(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def ended(processes: list[int]) -> bool:
    """Whether they all end within a moment, with the interpreter's own trackers of what they shared."""
    deadline = time.monotonic() + 20
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, processes))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_under_way_is_finished(tmp_path: Path) -> None:
    """A request whose body is still arriving when the server is told to stop is answered."""
    with serving(tmp_path / "store") as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /ListVectorBuckets HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{")
            time.sleep(0.2)
            threading.Timer(0.5, connection.sendall, (b"}",)).start()
            status, errors = server.stop()
            assert (status, errors) == (0, "")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subject = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *request.split(), *subject, *files], check=True, capture_output=True)
    with serving(tmp_path / "store", "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert server.client(verify=str(certificate)).list_vector_buckets()["vectorBuckets"] == []
        context = ssl.create_default_context()
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(server.url + "/healthz", context=context)
        assert server.stop()[0] == 0


def refused(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_without_keys_only_this_machine(tmp_path: Path) -> None:
    store = f"file://{tmp_path}/store"
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert "without keys anyone may call" in refused("--store", store, "--host", host, "--port", "0")
    with serving(tmp_path / "store", "--host", "localhost") as server:
        assert server.client(id="any", secret="thing").list_vector_buckets()["vectorBuckets"] == []


def test_with_keys_any_address(tmp_path: Path, settings_file: Path) -> None:
    # bound but never connected to: 0.0.0.0 is this machine's every address
    with serving(tmp_path / "store", "--settings", str(settings_file), "--host", "0.0.0.0") as server:
        assert server.line.startswith("neve listening on http://0.0.0.0:")


def test_refusals_are_one_line(tmp_path: Path, settings_file: Path) -> None:
    assert "store is not set" in refused(NEVE_STORE="")
    assert "not a store URL" in refused("--store", "ftp://x", "--port", "0")
    assert "--port must be a number" in refused("--store", "memory://", "--port", "x")
    settings_file.chmod(0o644)
    message = refused("--store", "memory://", "--settings", str(settings_file))
    assert f"chmod 600 {settings_file}" in message
    assert KEY.secret not in message
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in refused("--store", "memory://", "--port", port)
    missing = ("--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.pem")
    assert "cannot use tls_cert /nonexistent.pem" in refused("--store", "memory://", "--port", "0", *missing)
