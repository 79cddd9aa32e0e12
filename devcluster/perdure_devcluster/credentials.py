"""Keys, certificates and tokens: who is who in the cluster.

People and daemons sign in with tokens; certificates are used only where the
API demands them (serving, API server to kubelet, aggregation).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perdure_devcluster import plan
from perdure_devcluster.commands import run
from perdure_devcluster.files import write_atomically

_DAYS = "3650"
_SERVER_NAMES = (
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    f"DNS:kubernetes.default.svc.{plan.CLUSTER_DOMAIN}",
    f"IP:{plan.HOST_ADDRESS}",
    f"IP:{plan.KUBERNETES_SERVICE_ADDRESS}",
)


@dataclass(frozen=True)
class User:
    """Somebody with a token."""

    name: str
    groups: tuple[str, ...] = ()


def users() -> dict[str, User]:
    """Everybody who signs in with a token, by the name of their kubeconfig.

    Kubernetes itself binds roles to those that begin with ``system:``; ``objects``
    binds the others.
    """
    node_names = [node.name for node in plan.plan_nodes(plan.MAX_NODES)]
    return {
        "admin": User("perdure-devcluster-admin", ("system:masters",)),
        "kube-controller-manager": User("system:kube-controller-manager"),
        "kube-scheduler": User("system:kube-scheduler"),
        "kube-proxy": User("system:kube-proxy"),
        "coredns": User("perdure-devcluster-coredns"),
        "volumes": User("perdure-devcluster-volumes"),
        "network-policies": User("perdure-devcluster-network-policies"),
    } | {f"kubelet-{name}": User(f"system:node:{name}", ("system:nodes",)) for name in node_names}


def token_file(tokens: Mapping[str, str], people: Mapping[str, User]) -> str:
    """The API server's --token-auth-file: token,user,uid,"groups" on each line."""
    lines = []
    for key, user in people.items():
        groups = f',"{",".join(user.groups)}"' if user.groups else ""
        lines.append(f"{tokens[key]},{user.name},{user.name}{groups}")
    return "\n".join(lines) + "\n"


def kubeconfig(token: str, authority: bytes, user: str) -> str:
    """A kubeconfig for one user; JSON, which is YAML too."""
    name = "perdure-devcluster"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": plan.API_SERVER,
                        "certificate-authority-data": base64.b64encode(authority).decode(),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user, "namespace": "default"}}],
            "current-context": name,
        },
        indent=2,
    )


@dataclass(frozen=True)
class Credentials:
    """The files in the credentials folder."""

    folder: Path

    def file(self, name: str) -> Path:
        """One of the files."""
        return self.folder / name

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of one of ``users``."""
        return self.folder / f"{user}.kubeconfig"

    def token(self, user: str) -> str:
        """The token of one of ``users``."""
        tokens: dict[str, str] = json.loads(self.file("tokens.json").read_text())
        return tokens[user]


def make_credentials(folder: Path, admin_kubeconfig: Path) -> Credentials:
    """Make what is missing; keys and tokens that are there stay valid."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    credentials = Credentials(folder)
    _authority(folder, "ca", "perdure-devcluster")
    _authority(folder, "front-proxy-ca", "perdure-devcluster-front-proxy")
    _certificate(folder, "ca", "apiserver", "/CN=kube-apiserver", _SERVER_NAMES)
    _certificate(folder, "ca", "apiserver-kubelet", "/O=system:masters/CN=kube-apiserver")
    _certificate(folder, "front-proxy-ca", "front-proxy", "/CN=front-proxy-client")
    _signing_key(credentials.file("service-account.key"))
    _tokens(credentials, users(), admin_kubeconfig)
    return credentials


def _authority(folder: Path, name: str, common_name: str) -> None:
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    _sign(folder, name, ["-subj", f"/CN={common_name}", "-addext", usage])


def _certificate(folder: Path, authority: str, name: str, subject: str, names: tuple[str, ...] = ()) -> None:
    purpose = "serverAuth" if names else "clientAuth"
    extensions = ["basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={purpose}"]
    if names:
        extensions.append(f"subjectAltName={','.join(names)}")
    signer = ["-CA", str(folder / f"{authority}.crt"), "-CAkey", str(folder / f"{authority}.key")]
    flags = [word for extension in extensions for word in ("-addext", extension)]
    _sign(folder, name, ["-subj", subject, *signer, *flags])


def _sign(folder: Path, name: str, options: list[str]) -> None:
    if (folder / f"{name}.crt").exists():
        return
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", _DAYS]
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    run(["openssl", "req", "-x509", *key, *options, *files])


def _signing_key(path: Path) -> None:
    if not path.exists():
        run(["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-out", path])
        path.chmod(0o600)


def _tokens(credentials: Credentials, people: Mapping[str, User], admin: Path) -> None:
    store = credentials.file("tokens.json")
    tokens: dict[str, str] = json.loads(store.read_text()) if store.exists() else {}
    tokens |= {key: secrets.token_hex(24) for key in people if key not in tokens}
    write_atomically(store, json.dumps(tokens, indent=2))
    write_atomically(credentials.file("tokens.csv"), token_file(tokens, people))
    authority = credentials.file("ca.crt").read_bytes()
    for key, user in people.items():
        content = kubeconfig(tokens[key], authority, user.name)
        path = admin if key == "admin" else credentials.kubeconfig(key)
        write_atomically(path, content)
