"""The ways to serve: several workers, TLS, keys."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError, SSLError

from tests.clients.test_walkthrough import WALKTHROUGH
from tests.conftest import StartNeve
from tests.servers.neve import NeveServer
from tests.servers.tools import Unavailable, program


def test_workers(start_neve: StartNeve, tmp_path: Path) -> None:
    """Two processes behind one port: every answer is right whoever gives it, and both are gone at the end."""
    server = start_neve(tmp_path.as_uri(), "--workers", "2")
    client = server.client()
    index = {"vectorBucketName": "shared", "indexName": "between"}
    client.create_vector_bucket(vectorBucketName="shared")
    client.create_index(**index, dataType="float32", dimension=2, distanceMetric="euclidean")

    def write_and_read(number: int) -> list[str]:
        vector = {"float32": [float(number), 1.0]}
        client.put_vectors(**index, vectors=[{"key": str(number), "data": vector}])
        found = client.query_vectors(**index, queryVector=vector, topK=1)["vectors"]
        return [hit["key"] for hit in found]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(write_and_read, range(200)))
    assert answers == [[str(number)] for number in range(200)]

    server.end()
    address = urlsplit(server.url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    try:
        openssl = program("openssl", "which makes the certificate of the TLS test")
    except Unavailable as error:
        pytest.skip(str(error))
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=neve test", "-addext", "subjectAltName=IP:127.0.0.1"]
    written = ["-out", files[0], "-keyout", files[1]]
    subprocess.run([openssl, "req", "-x509", *kind, *names, *written], check=True, capture_output=True)
    return files


def test_tls(start_neve: StartNeve, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    trusted, key = certificate
    server = start_neve((tmp_path / "store").as_uri(), "--tls-cert", str(trusted), "--tls-key", str(key))
    assert server.url.startswith("https://127.0.0.1:")
    trusting = os.environ | {"AWS_CA_BUNDLE": str(trusted)}
    walked = subprocess.run([sys.executable, WALKTHROUGH, server.url], env=trusting, capture_output=True, text=True)
    assert walked.returncode == 0, walked.stdout + walked.stderr
    with pytest.raises(SSLError):
        server.client().list_vector_buckets()


@pytest.mark.parametrize(
    ("access_key", "code"), [("AKIDUNKNOWN", "UnrecognizedClientException"), (None, "InvalidSignatureException")]
)
def test_wrong_keys(neve_server: NeveServer, access_key: str | None, code: str) -> None:
    known = os.environ["AWS_ACCESS_KEY_ID"]
    client = neve_server.client(aws_access_key_id=access_key or known, aws_secret_access_key="wrong")
    with pytest.raises(ClientError) as caught:
        client.create_vector_bucket(vectorBucketName=f"b-{uuid.uuid4()}")
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
