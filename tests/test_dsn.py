"""Connection strings in both forms, read as libpq reads them."""

from __future__ import annotations

import pytest

from pgactor import dsn
from pgactor.errors import ConfigError

READ = {
    "postgresql://": {},
    "postgres://h": {"host": "h"},
    "postgresql://h:5433/d": {"host": "h", "port": "5433", "dbname": "d"},
    "postgresql://u@h": {"user": "u", "host": "h"},
    "postgresql://u:p@h": {"user": "u", "password": "p", "host": "h"},
    "postgresql://u:@/d": {"user": "u", "dbname": "d"},
    "postgresql://u:a%40b%2Fc%3F@h": {"user": "u", "password": "a@b/c?", "host": "h"},
    "postgresql://u:x:y@h": {"user": "u", "password": "x:y", "host": "h"},
    "postgresql://u:p#x@h/d": {"user": "u", "password": "p#x", "host": "h", "dbname": "d"},
    "postgresql://a,b:5433,c/d": {"host": "a,b,c", "port": ",5433,", "dbname": "d"},
    "postgresql://[::1]:5433/d": {"host": "::1", "port": "5433", "dbname": "d"},
    "postgresql://[::1],h": {"host": "::1,h"},
    "postgresql://%2Ftmp/d": {"host": "/tmp", "dbname": "d"},
    "postgresql:///d?host=/tmp&port=5433": {"host": "/tmp", "port": "5433", "dbname": "d"},
    "postgresql://:5433/d": {"port": "5433", "dbname": "d"},
    "postgresql://h/d?dbname=e": {"host": "h", "dbname": "e"},
    "postgresql://h?database=e": {"host": "h", "dbname": "e"},
    "postgresql://h?options=-c%20jit%3Doff&application_name=a+b": {
        "host": "h",
        "options": "-c jit=off",
        "application_name": "a+b",
    },
    "postgresql://h?connect_timeout=1&connect_timeout=2": {"host": "h", "connect_timeout": "2"},
    "postgresql://h?ssl=true": {"host": "h", "sslmode": "require"},
    "postgresql://h?search_path=s": {"host": "h", "search_path": "s"},
    "postgresql://h?application_name=": {"host": "h", "application_name": ""},
    "postgresql://h?": {"host": "h"},
    "": {},
    "host=h": {"host": "h"},
    "  host = h   port=5433 ": {"host": "h", "port": "5433"},
    "host=a,b port=1,2": {"host": "a,b", "port": "1,2"},
    "password='a b' user=u": {"password": "a b", "user": "u"},
    r"password='it\'s \\ so'": {"password": r"it's \ so"},
    r"password=it\'s\ so user=u": {"password": "it's so", "user": "u"},
    "password='' user=u": {"password": "", "user": "u"},
    "password= user=u": {"password": "user=u"},
    "database=d": {"dbname": "d"},
    "options='-c search_path=a,b -c jit=off'": {"options": "-c search_path=a,b -c jit=off"},
    "password=postgresql://x": {"password": "postgresql://x"},
}
"""What each of them says. An option without a value in front of another takes that one for it, as in libpq."""


@pytest.mark.parametrize("text", READ)
def test_a_connection_string_is_read(text: str) -> None:
    assert dsn.parse(text) == READ[text]


UNREADABLE = {
    "mysql://h/d": "begin with postgresql://",
    "h": "pairs",
    "host": "pairs",
    "=h": "pairs",
    "host=h user": "pairs",
    "host='h": "quotes or backslashes",
    "host='h'x": "quotes or backslashes",
    "host=h\\": "quotes or backslashes",
    "postgresql://[::1": "IPv6",
    "postgresql://[::1]5433": "IPv6",
    "postgresql://h?x": "name=value",
    "postgresql://h?=x": "name=value",
    "postgresql://u:50%@h": "%25",
    "postgresql://u:%zz@h": "%25",
    "postgresql://u:%00@h": "%25",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_connection_string_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=UNREADABLE[text]):
        dsn.parse(text)


SECRET = "s3cr3tWORD"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}%@h",
        f"postgresql://u@[{SECRET}",
        f"postgresql://u:x?{SECRET}@h",
        f"mysql://u:{SECRET}@h",
        f"{SECRET}://h",
        f"u:{SECRET}@h",
        f"password='{SECRET}",
        f"password={SECRET} {SECRET}",
    ],
)
def test_what_is_said_of_it_never_quotes_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dsn.parse(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("text", "parts"), [("a", ["a"]), (" a , b ", ["a", "b"]), (",1", ["", "1"])])
def test_an_option_may_have_several_parts(text: str, parts: list[str]) -> None:
    assert dsn.split(text) == parts
