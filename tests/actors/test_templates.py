"""Settings of pools that are made on demand."""

from __future__ import annotations

import pytest

from pgactor.actors.templates import Template
from pgactor.config.connect import ConnectSettings
from pgactor.config.tables import TemplateTable
from pgactor.errors import ConfigError, PoolError


def filled(part: str, table: TemplateTable) -> tuple[str | None, str | None, str | None]:
    """The dsn, user and database of a pool of the template."""
    made = Template("tenant", table).table_for(part).connecting(ConnectSettings(user="first", host="h"))
    return made.dsn, made.user, made.database


@pytest.mark.parametrize(
    ("dsn", "part", "expected"),
    [
        ("postgresql://h/{database}", "acme", "postgresql://h/acme"),
        ("postgresql://h/{database}", "a/c?me@x%", "postgresql://h/a%2Fc%3Fme%40x%25"),
        ("postgresql://{user}@h/{user}", "ann", "postgresql://ann@h/ann"),
        ("postgresql://{user}@h/{database}", "ann@x.org@acme", "postgresql://ann%40x.org@h/acme"),
        ("postgresql://{user}@h/{database}", "{database}@acme", "postgresql://%7Bdatabase%7D@h/acme"),
        ("host=h dbname={database}", "it's \\", "host=h dbname='it\\'s \\\\'"),
    ],
)
def test_a_name_is_written_into_the_dsn_as_the_dsn_needs_it(dsn: str, part: str, expected: str) -> None:
    assert filled(part, TemplateTable(dsn=dsn)) == (expected, None, None)
    assert filled(part, TemplateTable(connect=ConnectSettings(dsn=dsn))) == (expected, None, None)


def test_an_argument_is_the_name_itself_and_the_rest_is_the_first_pools() -> None:
    table = TemplateTable(connect=ConnectSettings(database="{database}"))
    assert filled("a/c?me", table) == (None, "first", "a/c?me")
    table = TemplateTable(connect=ConnectSettings(database="{database}", user="app_{user}"))
    assert filled("ann@acme", table) == (None, "app_ann", "acme")


@pytest.mark.parametrize(
    ("table", "example"),
    [
        (TemplateTable(dsn="x://{user}"), "tenant/USER"),
        (TemplateTable(dsn="x://{database}"), "tenant/DATABASE"),
        (TemplateTable(dsn="x://{user}", connect=ConnectSettings(database="{database}")), "tenant/USER@DATABASE"),
    ],
)
def test_a_template_tells_how_its_pools_are_asked_for(table: TemplateTable, example: str) -> None:
    template = Template("tenant", table)
    assert template.example == example
    with pytest.raises(PoolError) as caught:
        template.table_for("")
    assert str(caught.value) == (
        f"'tenant/' is no pool of the template 'tenant': {example} is expected, with names of at most 63 bytes"
    )


@pytest.mark.parametrize("part", ["acme", "@acme", "ann@", "a\0@b", "ann@\n", f"ann@{'ü' * 32}"])
def test_a_part_that_is_no_name_is_refused(part: str) -> None:
    with pytest.raises(PoolError, match="is no pool of the template"):
        Template("tenant", TemplateTable(dsn="x://{user}@h/{database}")).table_for(part)


def test_a_template_without_a_place_for_a_name_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"\[templates\.tenant\]: .* is expected to contain \{database\} or \{user\}"
    ):
        Template("tenant", TemplateTable(dsn="postgresql://h/d"))
