"""Opening books: new, existing, foreign, older, newer."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from books_world import ANCHOR, World, deposit, file_in, sound
from sqlalchemy import Connection, text

from lnstore.books import BooksUnusable, SqlBooks, database
from lnstore.books.migrations import HEAD
from lnstore.books.migrations.upgrade import configuration, upgrade
from lnstore.books.schema import metadata

SCHEMA_1 = Path(database.__file__).parent / "migrations" / "versions" / "schema_0001.sql"


def schema_of(path: Path) -> dict[str, str]:
    """What SQLite keeps of each table, index and trigger, whitespace apart."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")").strip() for name, sql in rows}


async def test_books_are_made_for_their_owner_only_with_every_write_synced(tmp_path: Path) -> None:
    path = file_in(tmp_path)
    async with SqlBooks.open(path) as books:
        await World(books).opened()
        for file in tmp_path.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file

        def pragmas(connection: Connection) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names]

        assert await books._database.writer.write(pragmas) == ["wal", 2, 1]


async def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    async with SqlBooks.open(f"sqlite:///{file_in(tmp_path)}") as books:
        world = World(books)
        account = await world.opened()
        account = await world.pay(deposit(account, 5, ANCHOR))
    async with SqlBooks.open(str(file_in(tmp_path))) as books:
        assert await books.accounts() == [account]
        assert await books.pay_index() == 1


@pytest.mark.parametrize("content", [b"this is a text and no database, " * 40, b"\x00" * 8192])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = file_in(tmp_path)
    path.write_bytes(content)
    with pytest.raises(BooksUnusable, match="not a database"):
        async with SqlBooks.open(path):
            pass
    assert path.read_bytes() == content


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = file_in(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(BooksUnusable, match="not a node's books"):
        async with SqlBooks.open(path):
            pass


@pytest.mark.parametrize("where", ["postgresql://localhost/books", "sqlite://"])
async def test_only_sqlite_files_are_taken(where: str) -> None:
    with pytest.raises(BooksUnusable, match="SQLite file"):
        async with SqlBooks.open(where):
            pass


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BooksUnusable, match="cannot be opened"):
        async with SqlBooks.open(tmp_path / "missing" / "books.db"):
            pass


async def test_books_of_a_newer_program_are_refused(tmp_path: Path) -> None:
    path = file_in(tmp_path)
    async with SqlBooks.open(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(BooksUnusable, match="newer lnstore"):
        async with SqlBooks.open(path):
            pass


def test_opening_books_at_the_newest_schema_does_not_import_alembic(tmp_path: Path) -> None:
    program = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from lnstore.books import SqlBooks\n"
        "async def main():\n"
        "    async with SqlBooks.open(Path(sys.argv[1])) as books:\n"
        "        await books.accounts()\n"
        "trio.run(main)\n"
        "assert 'alembic' not in sys.modules\n"
    )
    for _made_then_opened in range(2):
        subprocess.run([sys.executable, "-c", program, str(file_in(tmp_path))], check=True, timeout=60)


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == HEAD


async def test_books_of_schema_1_migrate_to_what_new_books_are(tmp_path: Path) -> None:
    """And what was in them is still there: an account, its deposit, the pay index."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    connection = sqlite3.connect(old)
    connection.executescript(SCHEMA_1.read_text())
    connection.executescript(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));"
        "INSERT INTO alembic_version VALUES ('0001');"
        "UPDATE pay_cursor SET pay_index = 3;"
        "INSERT INTO ledger_accounts VALUES (1, 'lightning'), (2, 'deposit:' || printf('%064d', 0));"
        "INSERT INTO holders (account_id, free, blocked) VALUES (zeroblob(32), 0, 0);"
        "INSERT INTO accounts (account, account_id, superseded, deposit, agreement, opened_at, state, anchor_at,"
        " period_seconds, grace_seconds, price_msat_per_gib_month, egress_msat_per_gib, capacity_bytes, used_bytes,"
        " shares, paid_until_at, token_index, growth_index, deposit_index, ingress_bytes, egress_bytes,"
        " ingress_msat_per_gib, agreed_period, look_at)"
        " VALUES (1, zeroblob(32), 0, 2, x'00', 10, 0, 10, 100, 50, 1, 1, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 110);"
        "INSERT INTO postings VALUES (1, 10, 'deposit', 1, 2, 77, 'label');"
    )
    connection.close()
    async with SqlBooks.open(old) as books, SqlBooks.open(new):
        (account,) = await books.accounts()
        assert (account.deposit_msat, account.deposit_index, account.anchor_at) == (77, 1, 10)
        assert await books.pay_index() == 3
        await sound(books)
    assert schema_of(old) == schema_of(new)


def test_every_migration_from_nothing_gives_what_new_books_are(tmp_path: Path) -> None:
    migrated, made = tmp_path / "migrated.db", tmp_path / "made.db"
    engine = database._engine(database._url(migrated), "BEGIN IMMEDIATE", connections=1)
    with engine.connect() as connection:
        upgrade(connection, migrated)
    engine.dispose()
    database.Database(made).close()
    assert schema_of(migrated) == schema_of(made)
    assert set(metadata.tables) | {"alembic_version"} <= set(schema_of(made))


def test_a_crash_while_books_are_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, cursor and version appear together or not at all, so that the next start begins anew."""
    monkeypatch.setattr(database, "_VERSION_TABLE", "CREATE TABLE alembic_version (")
    with pytest.raises(Exception, match=r"syntax error|incomplete input"):
        database.Database(file_in(tmp_path))
    monkeypatch.undo()
    database.Database(file_in(tmp_path)).close()
