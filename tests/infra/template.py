"""infra/aws/template.yaml as tests read it."""

from __future__ import annotations

from typing import Any

from cfnlint.decode import decode

from tests.servers.object_store import ObjectStore
from tests.servers.tools import ROOT

FILE = ROOT / "infra" / "aws" / "template.yaml"
Permission = tuple[str, str]
"""An action and the resource that it is allowed on."""


def template() -> dict[str, Any]:
    document, problems = decode(str(FILE))
    assert not problems
    return document


def permissions(role: str) -> list[tuple[str, Any]]:
    """What a role is allowed: each action with each resource as the template has it."""
    [policy] = template()["Resources"][role]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    assert all(statement["Effect"] == "Allow" and len(statement) == 3 for statement in statements)
    return [
        (action, resource)
        for statement in statements
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    ]


def on_store(role: str, store: ObjectStore, prefix: str) -> list[Permission]:
    """What a role is allowed of S3, for a store below a prefix of a bucket instead of the template's whole bucket."""
    bucket = f"arn:aws:s3:::{store.bucket}"
    return [
        (action, bucket if "Fn::GetAtt" in where else where["Fn::Sub"].replace("${Bucket.Arn}", f"{bucket}/{prefix}"))
        for action, where in permissions(role)
        if action.startswith("s3:")
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
