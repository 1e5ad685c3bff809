"""infra/aws/template.yaml: valid, as private as it says, and in step with the handlers, the settings and the guide."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from neve.wire.settings import Settings
from tests.infra.template import FILE, permissions, template
from tests.servers.object_store import ObjectStore
from tests.servers.tools import ROOT

TOOLS = Path(sys.executable).parent
GUIDE = ROOT / "engine" / "docs" / "deploy.md"
ROLES = {"api": "ApiRole", "shard": "ShardRole", "compact": "CompactRole", "collect": "CollectRole"}


class RawResponse(io.BytesIO):
    """The body of a response as botocore reads it."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def functions() -> dict[str, dict]:
    found = template()["Resources"].items()
    return {
        name.removesuffix("Function").lower(): resource["Properties"]
        for name, resource in found
        if resource_type(resource) in ("AWS::Serverless::Function", "AWS::Lambda::Function")
    }


def resource_type(resource: object) -> str:
    return resource["Type"] if isinstance(resource, dict) else ""


def test_cfn_lint_finds_nothing() -> None:
    done = subprocess.run([TOOLS / "cfn-lint", FILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_each_function_has_a_role_logs_and_alarms_of_its_own() -> None:
    assert set(functions()) == set(ROLES)
    assert {name: function["Role"]["Fn::GetAtt"][0] for name, function in functions().items()} == ROLES
    _, watched, resources = template()["Resources"]["Fn::ForEach::Watched"]
    assert watched == list(ROLES)
    assert {name.removeprefix("${Function}") for name in resources} == {"Logs", "Errors", "Throttles", "Duration"}


def test_roles_name_what_they_allow_and_where() -> None:
    """What they allow of S3 is tried in test_permissions.py."""
    for name, role in ROLES.items():
        others = {action: where for action, where in permissions(role) if not action.startswith("s3:")}
        logs = {
            action: {"Fn::GetAtt": [f"{name}Logs", "Arn"]} for action in ("logs:CreateLogStream", "logs:PutLogEvents")
        }
        shards = {"lambda:InvokeFunction": {"Fn::GetAtt": ["ShardFunction", "Arn"]}} if name == "api" else {}
        assert others == logs | shards


def test_the_bucket_is_private_and_loses_nothing() -> None:
    bucket = template()["Resources"]["Bucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["Properties"]["PublicAccessBlockConfiguration"]) == 4
    [rule] = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert set(rule) == {"Id", "Status", "AbortIncompleteMultipartUpload"}


def test_handlers_and_settings_are_those_that_there_are() -> None:
    known = {f"NEVE_{field.name.upper()}" for field in dataclasses.fields(Settings)} | {"NEVE_CACHE"}
    shared = template()["Globals"]["Function"]["Environment"]["Variables"]
    for function in functions().values():
        assert set(shared) | set(function.get("Environment", {}).get("Variables", {})) <= known
        if "Handler" in function:
            module, name = function["Handler"].split(".")
            assert f"def {name}(" in (ROOT / "lambda" / f"{module}.py").read_text()


def test_every_parameter_is_in_the_guide() -> None:
    guide = GUIDE.read_text().partition("### Parameters")[2].partition("###")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", guide, re.M))
    parameters = template()["Parameters"].items()
    assert documented == {
        name: f"`{parameter['Default']}`" if parameter.get("Default") not in (None, "") else "none"
        for name, parameter in parameters
    }


def test_a_client_can_sign_as_iam_wants_it() -> None:
    """As the guide says: IAM takes requests to a function's URL for ones to Lambda."""
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    told: dict = {}
    exec(code.replace("….lambda-url", "abc.lambda-url"), told)
    sent = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request.headers["Authorization"].decode())
        return AWSResponse(request.url, 200, {}, RawResponse(b'{"vectorBuckets": []}'))

    told["s3vectors"].meta.events.register("before-send.s3vectors", answer)
    assert told["s3vectors"].list_vector_buckets()["vectorBuckets"] == []
    assert "/us-east-1/lambda/aws4_request" in sent[0]


def test_the_aws_cli_packages_it(versitygw: ObjectStore, tmp_path: Path) -> None:
    """As the guide says: code goes into a bucket, and the template names it there."""
    (tmp_path / "dist").mkdir()
    with zipfile.ZipFile(tmp_path / "dist" / "query.zip", "w") as file:
        file.writestr("api.py", "")
    source = tmp_path / "infra" / "aws" / "template.yaml"
    source.parent.mkdir(parents=True)
    source.write_bytes(FILE.read_bytes())
    package = ["cloudformation", "package", "--template-file", source, "--s3-bucket", versitygw.bucket]
    where = ["--s3-prefix", "code", "--output-template-file", tmp_path / "packaged.yaml"]
    environment = os.environ | {"AWS_ENDPOINT_URL_S3": versitygw.endpoint}
    done = subprocess.run([TOOLS / "aws", *package, *where], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = [line.strip() for line in (tmp_path / "packaged.yaml").read_text().splitlines() if "CodeUri" in line]
    assert len(code) == 3
    assert len(set(code)) == 1
    assert code[0].startswith(f"CodeUri: s3://{versitygw.bucket}/code/")
    assert "Fn::ForEach::Watched" in (tmp_path / "packaged.yaml").read_text()
