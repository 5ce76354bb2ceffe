"""protocols/: what is generated is what the code says, and the schemas take what they should and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pgactor.messages import PROTOCOL_VERSION
from protocols import cases, forms, generate, meanings

HERE = Path(generate.__file__).parent


def validator(direction: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((HERE / "schema" / f"{direction}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_nothing_has_drifted_from_the_code() -> None:
    assert generate.drifted() == []


def test_generating_twice_gives_the_same() -> None:
    assert generate.generate() == generate.generate()


def test_the_check_names_what_has_drifted_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in HERE.rglob("*.json")}
    monkeypatch.setattr(cases, "FROM_WORKER", cases.FROM_WORKER[1:])
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == (
        "protocols/vectors/from_worker.json has drifted from the code: run python -m protocols.generate\n"
    )
    assert {path: path.read_bytes() for path in HERE.rglob("*.json")} == before


def test_the_check_is_silent_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0
    assert capsys.readouterr() == ("", "")


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--chekc"]) == 2
    assert "--check" in capsys.readouterr().err


def test_a_message_without_a_meaning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(meanings.MESSAGES, "bye")
    with pytest.raises(ValueError, match=r"messages: they differ in \['bye'\]"):
        generate.check_meanings()


def test_each_message_is_described_once_on_the_page() -> None:
    page = (HERE / "README.md").read_text(encoding="utf-8")
    titles = [line.removeprefix("#### ") for line in page.splitlines() if line.startswith("#### ")]
    assert sorted(titles) == sorted([*meanings.MESSAGES, *meanings.STRUCTS])


def test_the_page_refers_to_sections_that_it_has() -> None:
    page = (HERE / "README.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", page, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {int(number) for number in re.findall(r"section (\d+)", page)} <= set(numbers)
    headings = set(re.findall(r"^#{2,4} (?:\d+\. )?(.*)$", page, re.MULTILINE))
    assert set(re.findall(r"see “([^”]+)”", page)) <= headings


def test_a_page_without_its_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected the markers of `version` once"):
        generate.readme("# no markers")


def test_the_page_has_the_version_of_the_messages() -> None:
    assert f"This is version **{PROTOCOL_VERSION}**." in (HERE / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "message",
    [
        "bye",
        [],
        ["explode", 1, 1, None],
        ["fetch", 1, 1],
        ["fetch", "1", 1, None, "select 1"],
        ["fetch", 1, 1, "5", "select 1"],
        ["fetch", 1, 1, None, "select 1", None],
        ["fetch", 1, 1, None, "select 1", [], 0, [1, 2]],
        ["release", None],
        ["done", 1],
        ["prepare", 1, 1, None, "select 1", None],
        ["fetch_cursor", 1, 1, None, 1, 0, [1, 2, 3]],
        ["copy_in", 1, 1, None, "copy_from_table", "t", {}, [1, 2, 3]],
        ["set_codec", 1, 1, None, "json", "pg_catalog", [1, 2, 3], "json"],
        ["listen", 1, 1, None, "orders"],
        ["credit", 1, -1],
        ["chunk", 1],
    ],
    ids=repr,
)
def test_the_schema_refuses(message: Any) -> None:
    assert not validator("from_worker").is_valid(message)


def test_the_schema_takes_more_fields_and_fewer() -> None:
    check = validator("from_worker")
    assert check.is_valid(["fetch", 1, 1, None, "select 1"])
    assert check.is_valid(["release", [1, 2, 3, "new"], "new"])


@pytest.mark.parametrize("direction", ["from_worker", "from_supervisor"])
def test_every_element_of_a_message_has_a_name_and_a_meaning(direction: str) -> None:
    schema = json.loads((HERE / "schema" / f"{direction}.json").read_text(encoding="utf-8"))
    for reference in schema["anyOf"]:
        definition = schema["$defs"][reference["$ref"].removeprefix("#/$defs/")]
        assert definition["description"]
        tag, *fields = definition["prefixItems"]
        assert tag["title"] == "tag"
        assert all(field["title"] and field["description"] for field in fields)


@pytest.mark.parametrize(
    ("hexed", "form"),
    [
        ("c0", None),
        ("cb3ff0000000000000", 1.0),
        ("cb7ff8000000000000", {"$float": "nan"}),
        ("c40100", {"$bytes": "00"}),
        ("d40805", {"$ext": [8, "05"]}),
        ("d6ff00000000", {"$timestamp": "1970-01-01T00:00:00+00:00"}),
        ("81a161920102", {"a": [1, 2]}),
    ],
)
def test_the_json_form_loses_nothing(hexed: str, form: Any) -> None:
    data = bytes.fromhex(hexed)
    assert forms.to_form(data) == form
    assert forms.from_form(json.loads(forms.dump_json(form))) == data


def test_long_json_is_broken_into_lines_and_means_the_same() -> None:
    value = {"a": list(range(100)), "b": {"c": "x" * 200, "d": []}}
    text = forms.dump_json(value)
    assert json.loads(text) == value
    assert text.count("\n") > 100


def test_a_dump_tells_what_each_byte_is() -> None:
    assert forms.dump_msgpack(bytes.fromhex("9281a16101cd1267")).splitlines() == [
        "92" + " " * 48 + "array of 2",
        "81" + " " * 48 + "  map of 1",
        "a1 61" + " " * 45 + "    'a'",
        "01" + " " * 48 + "    1",
        "cd 12 67" + " " * 42 + "  4711",
    ]
    with pytest.raises(ValueError, match="cannot annotate 0xd4"):
        forms.dump_msgpack(bytes.fromhex("d40805"))
