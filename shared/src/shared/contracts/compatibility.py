"""Holds the contracts against the last release: `python -m shared.contracts.compatibility`.

During a deployment version N and N+1 run side by side, upstreams and readers of events aren't
deployed with us at all, and topics hold messages of days ago. What breaks whom depends on who
writes a topic and who reads it:

- written from outside (orders, requests, administration): what was taken must still be taken;
- read outside (events, state): what is sent must be readable by who could read the last release;
- both ends ours (saga commands and replies): both.

A new member of a closed list breaks its readers as well, and so does a new message on a topic of
commands, where an unknown type is a dead letter. Such a change takes two releases: first all
readers learn it, then it is sent. The step in between is entered, with its reason, into
`docs/contracts/released/accepted.json`.

`--release 0.2.0` writes the present contracts as the baseline of that release.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from shared.contracts.generate import FOLDER, render
from shared.contracts.narrowing import (
    changed_defaults,
    document,
    lost_fields,
    narrowings,
)
from shared.contracts.schemas import Schema, all_messages, json_schema
from shared.contracts.topics import OUTSIDE, TOPICS

COMMAND: Final = "python -m shared.contracts.compatibility"
RELEASED: Final = FOLDER / "released"
_VERSION: Final = re.compile(r"v(\d+)\.(\d+)\.(\d+)\Z")

Contracts = dict[str, Any]
"""`topics`: name -> kind, key, partitions, writtenOutside, readOutside, messages (type -> name of
its schema). `schemas`: name -> JSON Schema."""


def present() -> Contracts:
    """The contracts as this code has them. Dead letters have no contract of their own."""
    return {
        "topics": {
            name: {
                "kind": topic.kind,
                "key": topic.key,
                "partitions": topic.partitions,
                "writtenOutside": topic.public,
                "readOutside": OUTSIDE in topic.readers,
                "messages": {
                    json_schema(message)["properties"]["type"]["const"]: message.__name__
                    for message in topic.messages
                },
            }
            for name, topic in TOPICS.items()
            if topic.kind != "dead_letters"
        },
        "schemas": {message.__name__: json_schema(message) for message in all_messages()},
    }


def breaking_changes(before: Contracts, now: Contracts) -> list[str]:
    """One sentence for each change that breaks a writer or reader of the version before."""
    problems: list[str] = []
    for name, topic in before["topics"].items():
        new = now["topics"].get(name)
        if new is None:
            problems.append(f"{name}: the topic is gone")
        else:
            problems.extend(f"{name}: {p}" for p in _topic_changes(topic, new))
            problems.extend(f"{name} {p}" for p in _message_changes(topic, new, before, now))
    return sorted(set(problems))


def _topic_changes(topic: Schema, new: Schema) -> list[str]:
    problems = [
        f"{attribute} was {topic[attribute]}, is {new[attribute]}: messages of one key would part"
        for attribute in ("key", "partitions")
        if topic[attribute] != new[attribute]
    ]
    problems.extend(
        f"{type_} is gone" for type_ in topic["messages"] if type_ not in new["messages"]
    )
    if topic["kind"] == "commands" and not topic["writtenOutside"]:
        problems.extend(
            f"{type_} is new: readers of the version before make it a dead letter"
            for type_ in new["messages"]
            if type_ not in topic["messages"]
        )
    return problems


def _message_changes(topic: Schema, new: Schema, before: Contracts, now: Contracts) -> list[str]:
    problems: list[str] = []
    for type_, schema_name in topic["messages"].items():
        if type_ not in new["messages"]:
            continue
        old_schema = document(before["schemas"][schema_name])
        new_schema = document(now["schemas"][new["messages"][type_]])
        findings = lost_fields(old_schema, new_schema)
        findings += changed_defaults(old_schema, new_schema)
        if not topic["readOutside"]:
            findings += [
                f"{p} (sent by the last release)" for p in narrowings(old_schema, new_schema)
            ]
        if not topic["writtenOutside"]:
            findings += [
                f"{p} (read by the last release)" for p in narrowings(new_schema, old_schema)
            ]
        problems.extend(f"{type_}: {finding}" for finding in findings)
    return problems


def last_release(folder: Path) -> tuple[str, Contracts] | None:
    """Version and contracts of the highest baseline, None where there is none."""
    versions = {
        tuple(int(part) for part in match.groups()): file
        for file in folder.glob("v*.json")
        if (match := _VERSION.match(file.stem))
    }
    if not versions:
        return None
    file = versions[max(versions)]
    contracts: Contracts = json.loads(file.read_text(encoding="utf-8"))
    return file.stem, contracts


def accepted(folder: Path) -> dict[str, str]:
    """Problem -> why it is accepted until the next release."""
    file = folder / "accepted.json"
    if not file.exists():
        return {}
    reasons: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return reasons


def check(folder: Path) -> list[str]:
    """What stands in the way of a release, one line each; nothing where all is well."""
    release = last_release(folder)
    if release is None:
        return [f"no baseline in {folder}; write one with '{COMMAND} --release VERSION'"]
    version, before = release
    problems = breaking_changes(before, present())
    reasons = accepted(folder)
    findings = [f"breaks {version}: {problem}" for problem in problems if problem not in reasons]
    findings += [f"accepted.json: not found: {p}" for p in reasons if p not in problems]
    return findings


def write_release(folder: Path, version: str) -> Path:
    """Writes the present contracts as a baseline. Raises `FileExistsError` for an old version."""
    file = folder / f"v{version}.json"
    if not _VERSION.match(file.stem):
        raise ValueError(f"{version!r} is no version such as 0.2.0")
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as baseline:
        baseline.write(render(present()))
    return file


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Finds breaking changes.")
    parser.add_argument("--release", metavar="VERSION", help="write the baseline of a release")
    parser.add_argument("--folder", type=Path, default=RELEASED)
    options = parser.parse_args(arguments)
    if options.release:
        sys.stdout.write(f"{write_release(options.folder, options.release)}\n")
        return 0
    findings = check(options.folder)
    for finding in findings:
        sys.stderr.write(f"{finding}\n")
    if findings:
        sys.stderr.write(
            "Keep what was there and add beside it, or take two releases: readers first, then"
            " writers; see docs/contracts/README.md.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
