"""The layout of keys in the store: the one module that knows it."""

from __future__ import annotations

_WIDTH = 16
_TOP = 10**_WIDTH - 1

IDENTITY = "neve.json"
BUCKETS = "buckets/"
CATALOG = "catalog/"
SCRATCH = "scratch/"
_HINTS = "hints"
_SEGMENTS = "segments/"
_WORK = "work/"
PAST_NUMBERS = "~"
"""Sorts after every number: `folder + PAST_NUMBERS` is past all records of a chain."""


def bucket_chain(bucket: str) -> str:
    return f"{BUCKETS}{bucket}/"


def bucket_record(bucket: str, seq: int) -> str:
    return f"{BUCKETS}{bucket}/{seq:0{_WIDTH}d}"


def catalog_folder(bucket: str) -> str:
    return f"{CATALOG}{bucket}/"


def catalog_chain(bucket: str, index: str) -> str:
    return f"{CATALOG}{bucket}/{index}/"


def catalog_record(bucket: str, index: str, seq: int) -> str:
    return f"{CATALOG}{bucket}/{index}/{seq:0{_WIDTH}d}"


def hint(bucket: str, index: str) -> str:
    return f"{_HINTS}/{bucket}/{index}"


def named_by_hint(key: str) -> tuple[str, str] | None:
    """Bucket and name of the index whose hint has that key, below whatever prefix; None if it is no hint's."""
    *_, folder, bucket, index = ("", "", *key.split("/"))
    return (bucket, index) if folder == _HINTS and bucket and index else None


def data_folder(uid: str) -> str:
    return f"data/{uid}/"


def uid_of(key: str) -> str:
    """The uid of the index that an object, or a folder, of its data belongs to."""
    return key.split("/")[1]


def log_entry(uid: str, number: int) -> str:
    return f"data/{uid}/log/{number:0{_WIDTH}d}"


def log_folder(uid: str) -> str:
    return f"data/{uid}/log/"


def manifest(uid: str, number: int) -> str:
    """Manifest numbers count down, so that the newest is listed first."""
    return f"data/{uid}/manifest/{_TOP - number:0{_WIDTH}d}"


def manifest_folder(uid: str) -> str:
    return f"data/{uid}/manifest/"


def segments_folder(uid: str) -> str:
    return f"data/{uid}/segments/"


def segment_name(planned_on: int, token: str) -> str:
    """A segment's name carries the manifest that its work was planned on."""
    return f"{planned_on:0{_WIDTH}d}-{token}"


def segment_planned_on(name: str) -> int:
    return int(name[:_WIDTH])


def flat_segment(uid: str, name: str) -> str:
    return f"data/{uid}/segments/{name}/flat"


def segment_folder(uid: str, name: str) -> str:
    return f"data/{uid}/segments/{name}/"


def segment_directory(uid: str, name: str) -> str:
    return f"data/{uid}/segments/{name}/directory"


def mask(uid: str, reference: str) -> str:
    return f"data/{uid}/segments/{reference}/mask"


def work_folder(uid: str) -> str:
    """Of jobs that several machines work on, each in a folder that is named as a segment is."""
    return f"data/{uid}/{_WORK}"


def job_folder(uid: str, job: str) -> str:
    return f"data/{uid}/{_WORK}{job}/"


def job_of(key: str) -> str | None:
    """The job that an object belongs to; None for those of no job."""
    parts = key.split("/")
    return parts[3] if len(parts) > 4 and parts[2] + "/" == _WORK else None


def is_sealed(key: str) -> bool:
    """Whether an object is one envelope with a checksum of its own; other files of segments, and of jobs, are not."""
    if job_of(key) is not None:
        return False
    return f"/{_SEGMENTS}" not in key or key.rsplit("/", 1)[-1] in ("flat", "directory", "mask")


def number(key: str) -> int | None:
    """The number at the end of a record's or log entry's key; None where there is none."""
    digits = key.rsplit("/", 1)[-1]
    return int(digits) if len(digits) == _WIDTH and digits.isascii() and digits.isdigit() else None


def manifest_number(key: str) -> int | None:
    down = number(key)
    return None if down is None else _TOP - down
