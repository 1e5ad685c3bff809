"""Settings: what wins over what, what is refused, and that no secret ever shows."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from neve.store.tiers import Tiers, parse_size
from neve.wire.settings import Settings, SettingsInvalid, load
from neve.wire.sigv4 import AccessKey

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY="
WHOLE = f"""
store = "file:///data"
host = "0.0.0.0"
port = 8080
workers = 2
region = "eu-west-1"
account = "123456789012"
regions = ["eu-west-1", "us-east-1"]
limits = "wide"
tls_cert = "cert.pem"
tls_key = "key.pem"
memory = "512MiB"
disk = "/var/cache/neve"
disk_size = 1073741824
compact = false
access_log = true
log = "json"
metrics = "[::1]:9464"
[[keys]]
id = "AKIDEXAMPLE"
secret = "{SECRET}"
name = "tester"
[[keys]]
id = "AKIDOTHER"
secret = "other"
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str | bytes, mode: int = 0o600) -> str:
        path = tmp_path / "neve.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return str(path)

    return _write


def test_defaults() -> None:
    assert load(None, {}, {"store": "memory://"}) == Settings(
        store="memory://",
        host="127.0.0.1",
        port=7070,
        workers=1,
        region="us-east-1",
        account="000000000000",
        regions=(),
        limits="aws",
        tls_cert="",
        tls_key="",
        memory=1 << 30,
        disk="",
        disk_size=10 << 30,
        compact=True,
        access_log=False,
        log="text",
        metrics="",
        keys=(),
    )


def test_tiers_are_as_the_settings_say() -> None:
    assert load(None, {}, {"store": "memory://", "memory": "1MiB"}).tiers == Tiers(1 << 20, "", 10 << 30)


def test_every_key_of_a_file(write) -> None:
    assert load(write(WHOLE), {}, {}) == Settings(
        store="file:///data",
        host="0.0.0.0",
        port=8080,
        workers=2,
        region="eu-west-1",
        account="123456789012",
        regions=("eu-west-1", "us-east-1"),
        limits="wide",
        tls_cert="cert.pem",
        tls_key="key.pem",
        memory=512 << 20,
        disk="/var/cache/neve",
        disk_size=1 << 30,
        compact=False,
        access_log=True,
        log="json",
        metrics="[::1]:9464",
        keys=(AccessKey("AKIDEXAMPLE", SECRET, "tester"), AccessKey("AKIDOTHER", "other")),
    )


def test_environment_over_file_and_flags_over_both(write) -> None:
    path = write('store = "memory://"\nport = 1\nregion = "eu-west-1"\naccount = "111111111111"')
    environment = {"NEVE_SETTINGS": path, "NEVE_PORT": "2", "NEVE_REGION": "eu-west-2", "NEVE_DATA": "of the tests"}
    merged = load(None, environment, {"port": "3", "host": None})
    assert (merged.account, merged.region, merged.port, merged.host) == ("111111111111", "eu-west-2", 3, "127.0.0.1")


def test_everything_may_come_from_the_environment() -> None:
    environment = {
        "NEVE_STORE": "memory://",
        "NEVE_REGIONS": "eu-west-1, us-east-1",
        "NEVE_ACCESS_LOG": "true",
        "NEVE_MEMORY": "1.5GiB",
        "NEVE_COMPACT": "0",
        "NEVE_KEYS": f"AKIDEXAMPLE:{SECRET}:tester,AKIDOTHER:other",
    }
    merged = load(None, environment, {})
    assert merged.regions == ("eu-west-1", "us-east-1")
    assert merged.access_log is True
    assert (merged.memory, merged.compact) == (3 << 29, False)
    assert merged.keys == (AccessKey("AKIDEXAMPLE", SECRET, "tester"), AccessKey("AKIDOTHER", "other"))


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9464", ("::1", 9464)), ("metrics.local:1", ("metrics.local", 1))],
)
def test_the_address_of_metrics(text: str, address: tuple[str, int]) -> None:
    assert load(None, {"NEVE_METRICS": text}, {"store": "memory://"}).metrics_address == address


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_with_secrets_that_others_can_reach_is_refused(write, mode: int) -> None:
    path = write(WHOLE, mode)
    with pytest.raises(SettingsInvalid, match=f"chmod 600 {path}"):
        load(path, {}, {})


def test_a_file_without_secrets_may_be_read_by_all(write) -> None:
    assert load(write('store = "memory://"', 0o644), {}, {}).store == "memory://"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('stoer = "memory://"', "unknown setting 'stoer'"),
        ('store = "memory://"\nport = "80"', "port in .* must be a number"),
        ('store = "memory://"\nport = true', "port in .* must be a number"),
        ('store = "memory://"\naccess_log = 1', "access_log in .* must be true or false"),
        ('store = "memory://"\nregions = "eu-west-1"', "regions in .* must be a list of strings"),
        ('store = "memory://"\nregions = [1]', "regions in .* must be a list of strings"),
        ("store = 1", "store in .* must be a string"),
        ('store = "memory://"\nport = 65536', "port must be between 0 and 65535"),
        ('store = "memory://"\nworkers = 0', "workers must be between 1 and 256"),
        ('store = "memory://"\nworkers = 2', "store in memory"),
        ('store = "memory://"\nregion = "EU"', "region must be"),
        ('store = "memory://"\naccount = "1"', "account must be twelve digits"),
        ('store = "memory://"\nlog = "xml"', "log must be one of text, json, not 'xml'"),
        ('store = "memory://"\nlog = true', "log in .* must be a string"),
        ('store = "memory://"\nmetrics = "9464"', "metrics must be ADDRESS:PORT, such as 127.0.0.1:9464, not '9464'"),
        ('store = "memory://"\nmetrics = "::1:9464"', "metrics must be ADDRESS:PORT"),
        ('store = "memory://"\nmetrics = "localhost:65536"', "metrics must be ADDRESS:PORT with a port up to 65535"),
        ('store = "memory://"\nlimits = "none"', "limits must be one of aws, wide"),
        ('store = "memory://"\ntls_key = "k"', "given together"),
        ('store = "memory://"\nmemory = "much"', "memory in .* must be a size such as 512MiB or 2GiB, not 'much'"),
        ('store = "memory://"\nmemory = true', "memory in .* must be a size such as"),
        ('store = "memory://"\nmemory = 1048575', "memory must be at least 1MiB, not 1048575 bytes"),
        ('store = "memory://"\ndisk_size = "63MiB"', "disk_size must be at least 64MiB"),
        ('store = "memory://"\ncompact = 1', "compact in .* must be true or false"),
        ("", "store is not set"),
        ("keys = 1", "keys in .* must be tables"),
        ("keys = [1]", "key 1 in .* must have the strings"),
        ('[[keys]]\nid = "a"', "key 1 in .* must have id and secret"),
        ('[[keys]]\nid = "a"\nsecret = "b"\nstore = "x"', "unknown setting 'store' of key 1"),
        ('store = "memory://"\n[[keys]]\nid = "a b"\nsecret = "b"', "the id of key 1 must be"),
        ('store = "memory://"\n' + 2 * '[[keys]]\nid = "a"\nsecret = "b"\n', "the id of key 2 is given more than once"),
        ("store", "is not TOML: it does not parse"),
        (b"\xff", "is not TOML: it does not parse"),
    ],
)
def test_what_is_refused(write, text: str | bytes, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        load(write(text), {}, {})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("NEVE_PORT", "x", "NEVE_PORT must be a number"),
        ("NEVE_PORT", "-1", "NEVE_PORT must be a number"),
        ("NEVE_ACCESS_LOG", "yes", "NEVE_ACCESS_LOG must be true or false"),
        ("NEVE_DISK_SIZE", "10GB", "NEVE_DISK_SIZE must be a size such as 512MiB or 2GiB, not '10GB'"),
        ("NEVE_KEYS", "only-an-id", "key 1 in NEVE_KEYS must have id and secret"),
        ("NEVE_SETTINGS", "/nonexistent/neve.toml", "cannot read the settings file /nonexistent/neve.toml"),
    ],
)
def test_what_is_refused_of_the_environment(name: str, text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        load(None, {"NEVE_STORE": "memory://", name: text}, {})


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 1 << 20), ("1KiB", 1 << 10), (" 2 GiB ", 2 << 30), ("0.5MiB", 1 << 19), ("3TiB", 3 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "1gib", "1G", "-1", "1e3", "1,5MiB", "1.MiB", "١MiB", "1" * 16])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as"):
        parse_size(text)


def test_a_bad_flag_is_named_as_it_was_given() -> None:
    with pytest.raises(SettingsInvalid, match="--port must be a number"):
        load(None, {}, {"store": "memory://", "port": "x"})
    with pytest.raises(SettingsInvalid, match="--disk-size must be a size"):
        load(None, {}, {"store": "memory://", "disk_size": "x"})


@pytest.mark.parametrize(
    "text",
    [
        f'[[keys]]\nid = "a"\nsecret = "{SECRET}"\n secret',
        f'[[keys]]\nid = "a"\nsecret = {SECRET}',
        f'[[keys]]\nid = "a"\nsecret = "{SECRET}"\n[[keys]]\nid = "{SECRET}"\nsecret = "b"',
        f'store = "memory://"\n[[keys]]\nid = "{SECRET}"\nsecret = "b"',
    ],
)
def test_no_error_shows_a_secret(write, text: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(write(text), {}, {})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_repr_shows_a_secret_and_workers_get_them_all_the_same(write) -> None:
    loaded = load(write(WHOLE), {}, {})
    assert SECRET not in repr(loaded)
    assert pickle.loads(pickle.dumps(loaded)) == loaded
