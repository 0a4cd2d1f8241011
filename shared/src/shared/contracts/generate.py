"""Writes the contracts as documents: `python -m shared.contracts.generate [--check]`.

`docs/contracts/schemas/` takes one JSON Schema a message, `docs/contracts/asyncapi.yaml` all
topics (JSON, which is YAML, too). With `--check` nothing is written, and the exit code is 1 where
a document is stale, missing or left over.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from shared.contracts.schemas import all_messages, asyncapi, json_schema

FOLDER: Final = Path(__file__).parents[4] / "docs" / "contracts"
COMMAND: Final = "python -m shared.contracts.generate"


def render(document: dict[str, Any]) -> str:
    """As it lies in the file: equal documents give equal text."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def documents() -> dict[str, str]:
    """Path below the folder -> text."""
    texts = {
        f"schemas/{message.__name__}.json": render(json_schema(message))
        for message in all_messages()
    }
    texts["asyncapi.yaml"] = render(asyncapi())
    return texts


def stale(folder: Path) -> list[str]:
    """Paths below the folder that differ from the code, each with how."""
    texts = documents()
    findings = []
    for path, text in texts.items():
        file = folder / path
        if not file.exists():
            findings.append(f"{path} is missing")
        elif file.read_text(encoding="utf-8") != text:
            findings.append(f"{path} is stale")
    findings.extend(f"{path} is left over" for path in _left_over(folder, texts))
    return findings


def write(folder: Path) -> None:
    """Writes every document and removes schemas of messages that are gone."""
    texts = documents()
    for path in _left_over(folder, texts):
        (folder / path).unlink()
    for path, text in texts.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _left_over(folder: Path, texts: dict[str, str]) -> list[str]:
    found = sorted((folder / "schemas").glob("*.json"))
    return [path for file in found if (path := f"schemas/{file.name}") not in texts]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Writes docs/contracts/.")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.folder)
        sys.stdout.write(f"{len(documents())} documents in {options.folder}\n")
        return 0
    findings = stale(options.folder)
    for finding in findings:
        sys.stderr.write(f"{finding}\n")
    if findings:
        sys.stderr.write(f"Run '{COMMAND}' and commit docs/contracts/.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
