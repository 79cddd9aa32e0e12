"""The local image registry: is it there, what is in it, and pushing a tiny image."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import tarfile
import urllib.parse
from pathlib import Path

from perdure_devcluster import plan
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.waiting import answers_ok

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def answers() -> bool:
    """Whether the registry is up."""
    return answers_ok(plan.HOST_ADDRESS, plan.REGISTRY_PORT, "/v2/")


def has(repository: str, tag: str) -> bool:
    """Whether an image is there."""
    status, _, _ = _request("HEAD", f"/v2/{repository}/manifests/{tag}", {"Accept": _MANIFEST})
    return status == http.HTTPStatus.OK


def push_program(repository: str, tag: str, program: Path) -> None:
    """Push an image that holds nothing but one static program, which it runs as nobody."""
    layer = _layer(program)
    platform = {"architecture": _architecture(), "os": "linux"}
    config = json.dumps(
        {
            **platform,
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _push_blob(repository, config, _CONFIG),
        "layers": [_push_blob(repository, layer, _LAYER)],
    }
    _put_manifest(repository, tag, json.dumps(manifest).encode())


def copy(repository: str, tag: str, target: str) -> None:
    """Give an image a second repository; its layers are shared, not copied."""
    status, _, body = _request("GET", f"/v2/{repository}/manifests/{tag}", {"Accept": _MANIFEST})
    if status != http.HTTPStatus.OK:
        message = f"found no image {repository}:{tag} in the registry, expected it just pushed"
        raise DevclusterError(message)
    manifest = json.loads(body)
    for blob in (manifest["config"], *manifest["layers"]):
        query = urllib.parse.urlencode({"mount": blob["digest"], "from": repository})
        _expect(http.HTTPStatus.CREATED, "POST", f"/v2/{target}/blobs/uploads/?{query}")
    _put_manifest(target, tag, body)


def _put_manifest(repository: str, tag: str, manifest: bytes) -> None:
    path = f"/v2/{repository}/manifests/{tag}"
    _expect(http.HTTPStatus.CREATED, "PUT", path, {"Content-Type": _MANIFEST}, manifest)


def _layer(program: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(program.name)
        entry.mode = 0o755
        entry.size = program.stat().st_size
        with program.open("rb") as content:
            archive.addfile(entry, content)
    return buffer.getvalue()


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _push_blob(repository: str, content: bytes, media_type: str) -> dict[str, object]:
    digest = _digest(content)
    headers = _expect(http.HTTPStatus.ACCEPTED, "POST", f"/v2/{repository}/blobs/uploads/")
    location = urllib.parse.urlsplit(headers["Location"])
    query = f"{location.query}&" if location.query else ""
    _expect(
        http.HTTPStatus.CREATED,
        "PUT",
        f"{location.path}?{query}digest={urllib.parse.quote(digest)}",
        {"Content-Type": "application/octet-stream"},
        content,
    )
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _expect(
    wanted: http.HTTPStatus,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> dict[str, str]:
    status, answer_headers, answer = _request(method, path, headers, body)
    if status != wanted:
        message = (
            f"the image registry answered {method} {path} with {status}, expected {wanted.value}:"
            f" {answer.decode(errors='replace')[:300]} (see `devcluster logs registry`)"
        )
        raise DevclusterError(message)
    return answer_headers


def _request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(plan.HOST_ADDRESS, plan.REGISTRY_PORT, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()
