"""The reference pages, made from the models.

`python -m perdure_api.reference [--check]` writes (or compares) docs/reference/.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Final

from perdure_api.conditions import ConditionType, Phase, Reason
from perdure_api.crd import ROOT, custom_resource_definition
from perdure_api.exit_codes import ExitCode
from perdure_api.pod import GRACE_SECONDS, PROGRESS_FILE, Env

FOLDER: Final = ROOT / "docs" / "reference"
_HEADER: Final = "<!-- Made from api/perdure_api by `make generate`. Do not edit. -->\n"


def pages() -> dict[Path, str]:
    """Every page with its text."""
    return {FOLDER / "trainingjob.md": trainingjob_page(), FOLDER / "pod.md": pod_page()}


def trainingjob_page() -> str:
    """Spec, status, conditions and reasons of a TrainingJob."""
    version = custom_resource_definition()["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    return "\n".join(
        [
            _HEADER,
            "# TrainingJob\n",
            (
                "`apiVersion: perdure.dev/v1alpha1`, `kind: TrainingJob`, short name `tj`. The same text is in "
                "`kubectl explain trainingjob.spec`.\n"
            ),
            "## spec\n",
            *_table(schema["spec"]),
            "\nRules:\n",
            *(
                f"- {rule['message']}"
                for rule in schema["spec"]["x-kubernetes-validations"]
                if "cannot" not in rule["message"]
            ),
            "- everything but `ttlSecondsAfterFinished` is immutable",
            "\n## status\n",
            *_table(schema["status"]),
            "\n## Conditions\n",
            *_enum_table(ConditionType),
            "\n## Phases\n",
            "For people; programs read conditions. " + ", ".join(f"`{phase}`" for phase in Phase) + ".",
            "\n## Reasons\n",
            "Of conditions, attempts and Events: one word has one meaning.\n",
            *_enum_table(Reason),
            "",
        ]
    )


def pod_page() -> str:
    """What a training container is given, and how it says why it ended."""
    return "\n".join(
        [
            _HEADER,
            "# The training container\n",
            "Any container can be a trainer: set `trainer.command`. All of this is there for it to use or not.\n",
            "## Environment\n",
            *_enum_table(Env),
            "\n## Exit codes\n",
            (
                "0 is success. An exit code that is not listed counts as a failure and is tried again. "
                "[How a run ends](endings.md) has the sentences of the built-in trainer.\n"
            ),
            *_enum_table(ExitCode),
            (
                f"\nA container that is to end gets SIGTERM, and SIGKILL {GRACE_SECONDS} s later. Stacks that Python's "
                "`faulthandler` then writes to `/dev/termination-log` (`faulthandler.register(signal.SIGTERM, "
                'file=open("/dev/termination-log", "w"), chain=True)`) say where an attempt hung.\n'
            ),
            "\n## Progress\n",
            (
                f"Reports go to `{Env.PROGRESS_URL}` as JSON, in the form of Kubeflow's KEP-2779. The built-in trainer "
                f"also keeps the newest one in a file, `{PROGRESS_FILE}`, which is replaced as a whole each time: read "
                f"it whenever you like. It lies in the attempt's folder where the output is a mounted volume "
                f"(`file://`), else in `{Env.SCRATCH}` below `journal/`. Beside it, `tensorboard/` holds an event file "
                "with loss, learning rate, gradient norm and tokens per second of at most 10,000 steps (some 2 MB), "
                "and the held-out metrics before and after. In an object store that folder stands in the attempt's as "
                "soon as the attempt has ended, well or not, unless it was killed.\n"
            ),
            (
                'The answer is JSON. With `{"command": "checkpoint", "id": "…", "reason": "…"}` in it somebody wants a '
                "checkpoint now; the same `id` comes with every answer, and is one request. Whoever has saved says so "
                "in the next report: "
                '`{"perdure": {"step": 120, "checkpoint": {"uri": "…", "step": 120}, "notices": [{"reason": '
                '"CheckpointSaved", "message": "…"}]}}`; the message becomes an Event. To take no notice of an answer '
                "is fine.\n"
            ),
            "## Last words\n",
            (
                "What the container writes to `/dev/termination-log` (at most 4096 bytes) becomes the message of its "
                'attempt: plain text, or JSON such as `{"message": "…", "step": 120, "fromStep": 100}`.'
            ),
            "",
        ]
    )


def _table(schema: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for path, node, required in _fields(schema, ""):
        default = "required" if required else f"`{_plain(node['default'])}`" if "default" in node else ""
        yield f"| `{path}` | {_type(node)} | {default} | {_cell(node.get('description', ''))} |"


def _fields(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    required = set(schema.get("required", []))
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, node, name in required
        if node.get("type") == "object":
            yield from _fields(node, f"{path}.")
        elif node.get("type") == "array":
            yield from _fields(node["items"], f"{path}[].")


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return str(node.get("type", ""))


def _enum_table(enum: type[Enum]) -> Iterator[str]:
    documented = _member_docs(enum)
    yield f"| {'code' if issubclass(enum, IntEnum) else 'name'} | meaning |"
    yield "|---|---|"
    for member in enum:
        shown = str(int(member.value)) if issubclass(enum, IntEnum) else str(member.value)
        yield f"| `{shown}` | {_cell(documented.get(member.name, ''))} |"


def _member_docs(enum: type[Enum]) -> dict[str, str]:
    """The string below each member; Python throws it away, the source keeps it."""
    pattern = r'^    (\w+) = [^\n]+\n    """(.*?)"""'
    found = re.findall(pattern, inspect.getsource(enum), re.MULTILINE | re.DOTALL)
    return dict(found)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value in ([], {}) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Writes the pages; with --check only says which are stale.

    Returns:
        The exit status: 1 when a page is stale.
    """
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what the models say; run `make generate`\n")
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
