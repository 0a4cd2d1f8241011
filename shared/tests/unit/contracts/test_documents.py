"""The generated documents and the examples: present, fresh, valid, true."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shared.contracts import generate
from shared.contracts.base import Message
from shared.contracts.reading import reader_of, type_name
from shared.contracts.schemas import CONTRACT_VERSION, all_messages, asyncapi, json_schema
from shared.contracts.topics import TOPICS

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples" / "messages").glob("*.json"))
PUBLIC = [topic for topic in TOPICS.values() if topic.public]


def test_the_committed_documents_are_fresh() -> None:
    assert generate.stale(generate.FOLDER) == []


def test_documents_are_deterministic() -> None:
    assert generate.documents() == generate.documents()


def test_the_version_is_that_of_the_package() -> None:
    package = tomllib.loads((ROOT / "shared" / "pyproject.toml").read_text())
    assert package["project"]["version"] == CONTRACT_VERSION


def test_check_says_what_is_stale_and_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--folder", str(tmp_path)]) == 0
    assert generate.main(["--folder", str(tmp_path), "--check"]) == 0
    (tmp_path / "asyncapi.yaml").write_text("{}")
    (tmp_path / "schemas" / "PlaceOrder.json").unlink()
    (tmp_path / "schemas" / "Gone.json").write_text("{}")
    capsys.readouterr()
    assert generate.main(["--folder", str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err
    assert "asyncapi.yaml is stale" in said
    assert "schemas/PlaceOrder.json is missing" in said
    assert "schemas/Gone.json is left over" in said
    assert "python -m shared.contracts.generate" in said
    generate.main(["--folder", str(tmp_path)])
    assert generate.stale(tmp_path) == []


@pytest.mark.parametrize("message", all_messages(), ids=lambda message: message.__name__)
def test_schemas_are_valid(message: type[Message]) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(message))


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(document.get("$ref"), str):
            yield document["$ref"]
        for value in document.values():
            yield from references(value)
    elif isinstance(document, list):
        for value in document:
            yield from references(value)


def test_asyncapi_refers_to_nothing_that_is_missing() -> None:
    document = asyncapi()
    for reference in set(references(document)):
        part: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in part, reference
            part = part[step]


def test_asyncapi_has_every_topic_and_message() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == set(TOPICS)
    for topic in TOPICS.values():
        channel = document["channels"][topic.name]
        if topic.messages:
            assert set(channel["messages"]) == {message.__name__ for message in topic.messages}
        assert channel["bindings"]["kafka"]["partitions"] == topic.partitions
        if not topic.public:
            assert f"{topic.writer}.send.{topic.name}" in document["operations"]


def test_every_public_command_has_an_example() -> None:
    shown = {json.loads(file.read_bytes())["type"] for file in EXAMPLES}
    assert shown == {type_name(message) for topic in PUBLIC for message in topic.messages}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_are_read_and_agree_with_their_schema(file: Path) -> None:
    value = file.read_bytes()
    assert value.count(b"\n") == 1, "one line, as kcat takes it"
    body = json.loads(value)
    assert file.stem.split(".")[0] == body["type"]
    read = [
        message for topic in PUBLIC if isinstance(message := reader_of(topic).read(value), Message)
    ]
    assert len(read) == 1
    jsonschema.Draft202012Validator(json_schema(type(read[0]))).validate(body)
