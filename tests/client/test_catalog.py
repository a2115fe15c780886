"""The catalog keeps nodes, files and acknowledged shares, and nobody rewrites its ledger."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnstore.client.catalog import Catalog, CatalogError, ShareEntry, SourceState
from lnstore.client.schema import STEPS, statements
from lnstore_protocol.ids import LightningId, NodeAddress, NodeId, ShareId

SOURCE = SourceState(path=b"/data/report", size=5, mtime_ns=1, ctime_ns=2)


def node_id(number: int) -> NodeId:
    return NodeId(bytes([number]) * 32)


def share(number: int, file_id: int, *, node: int = 1) -> ShareEntry:
    return ShareEntry(
        node_id=node_id(node),
        share_id=ShareId(bytes([number]) * 32),
        file_id=file_id,
        segment=0,
        number=number,
        size_bytes=10,
        token_end=24,
    )


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        yield catalog


def begin(catalog: Catalog, name: str = "report", source: SourceState | None = SOURCE) -> int:
    return catalog.begin_file(name=name, file_key=b"k" * 32, needed=3, total=5, happy=4, source=source, now=100).file_id


def shape(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    db.close()
    return rows


def test_a_catalog_of_schema_1_becomes_the_newest_one_and_keeps_its_rows(tmp_path: Path) -> None:
    """Migrating from the first schema gives the very schema a fresh catalog has."""
    old = tmp_path / "old.db"
    db = sqlite3.connect(old)
    for statement in statements(STEPS[0]):
        db.execute(statement)
    db.execute("PRAGMA user_version = 1")
    db.execute(
        "INSERT INTO files (name, file_key, needed, total, happy, created_at) VALUES ('kept', ?, 1, 1, 1, 7)",
        (b"k" * 32,),
    )
    db.commit()
    db.close()
    with Catalog.open(old) as migrated, Catalog.open(tmp_path / "fresh.db"):
        assert [f.name for f in migrated.files()] == ["kept"]
        assert migrated.rows("PRAGMA user_version") == [(len(STEPS),)]
    assert shape(old) == shape(tmp_path / "fresh.db")


def test_a_catalog_of_a_newer_version_is_refused_with_advice(tmp_path: Path) -> None:
    Catalog.open(tmp_path / "c.db").close()
    db = sqlite3.connect(tmp_path / "c.db")
    db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    db.close()
    with pytest.raises(CatalogError, match="update lnstore"):
        Catalog.open(tmp_path / "c.db")


def test_what_is_no_database_is_refused_without_touching_it(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(CatalogError, match="cannot be used"):
        Catalog.open(path)
    assert path.read_bytes() == b"not a database at all" * 100


def test_only_the_owner_can_read_the_catalog_and_its_log(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.db") as catalog:
        begin(catalog)
        modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {0o600}


def test_a_second_opening_in_the_process_takes_nothing_from_the_first(tmp_path: Path) -> None:
    """Its locks stay: no other process believes to be the last one and takes the log away with all that follows."""
    path = tmp_path / "catalog.db"
    program = (
        "import contextlib, sqlite3, sys\n"
        "with contextlib.closing(sqlite3.connect(sys.argv[1])) as db:\n"
        "    print(db.execute('SELECT name FROM files').fetchall())"
    )

    def seen_by_another_process() -> str:
        command = [sys.executable, "-c", program, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with Catalog.open(path) as first:
        begin(first, "before")
        Catalog.open(path).close()
        assert seen_by_another_process() == "[('before',)]\n"
        begin(first, "report", None)
        assert seen_by_another_process() == "[('before',), ('report',)]\n"


def test_postings_can_be_neither_changed_nor_deleted(catalog: Catalog) -> None:
    """The ledger is append-only even for code that tries otherwise."""
    with catalog.transaction() as db:
        db.execute(
            "INSERT INTO postings (at, kind, debit, credit, amount_msat, reference) VALUES (1,'r','a','b',5,'x')"
        )
    for sql in ("UPDATE postings SET amount_msat = 6", "DELETE FROM postings"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), catalog.transaction() as db:
            db.execute(sql)
    assert catalog.rows("SELECT amount_msat FROM postings") == [(5,)]


def test_a_transaction_that_raises_leaves_nothing(catalog: Catalog) -> None:
    def twice() -> None:
        with catalog.transaction():
            begin(catalog)
            begin(catalog)  # the name is taken

    with pytest.raises(CatalogError):
        twice()
    assert catalog.files() == []


def test_a_node_is_found_by_petname_address_or_the_beginning_of_its_id(catalog: Catalog) -> None:
    address = NodeAddress(node_id(0xAB), "127.0.0.1", 7460)
    catalog.add_node(address, petname="attic", lightning_id=LightningId(b"\2" * 33), added_at=1)
    catalog.add_node(NodeAddress(node_id(0xCD), "::1", 1), petname="cellar", lightning_id=None, added_at=2)
    assert {catalog.find_node(t).petname for t in ("attic", str(address), "abab")} == {"attic"}
    with pytest.raises(CatalogError, match="known nodes: attic, cellar"):
        catalog.find_node("barn")


def test_a_prefix_that_fits_two_nodes_is_refused(catalog: Catalog) -> None:
    catalog.add_node(NodeAddress(NodeId(b"\xaa" * 31 + b"\1"), "h", 1), petname="x", lightning_id=None, added_at=1)
    catalog.add_node(NodeAddress(NodeId(b"\xaa" * 31 + b"\2"), "h", 2), petname="y", lightning_id=None, added_at=2)
    with pytest.raises(CatalogError, match="x, y"):
        catalog.find_node("aaaaaaaa")


def test_a_node_added_again_gets_the_new_address_and_keeps_the_rest(catalog: Catalog) -> None:
    catalog.add_node(NodeAddress(node_id(1), "a", 1), petname="x", lightning_id=LightningId(b"\2" * 33), added_at=1)
    catalog.set_agreement(node_id(1), terms=b"t", agreement=b"a")
    catalog.set_agreement(node_id(1), terms=b"t2", agreement=None)
    catalog.add_node(NodeAddress(node_id(1), "b", 2), petname="x", lightning_id=None, added_at=9)
    node = catalog.node(node_id(1))
    assert (node.address.host, node.terms, node.agreement, node.added_at) == ("b", b"t2", b"a", 1)
    assert node.lightning_id == b"\2" * 33


def test_two_nodes_cannot_share_a_petname(catalog: Catalog) -> None:
    catalog.add_node(NodeAddress(node_id(1), "a", 1), petname="x", lightning_id=None, added_at=1)
    with pytest.raises(CatalogError, match="already called"):
        catalog.add_node(NodeAddress(node_id(2), "b", 1), petname="x", lightning_id=None, added_at=1)


def test_only_the_unchanged_source_continues_an_upload(catalog: Catalog) -> None:
    """Any change of size, times, name or coding means a fresh key: a key never meets two contents."""
    file_id = begin(catalog)
    found = catalog.interrupted(SOURCE, name="report", needed=3, total=5)
    assert found is not None
    assert found.file_id == file_id
    changed = SourceState(path=SOURCE.path, size=5, mtime_ns=1, ctime_ns=3)
    assert catalog.interrupted(changed, name="report", needed=3, total=5) is None
    assert catalog.interrupted(SOURCE, name="report", needed=3, total=6) is None
    assert catalog.interrupted(SOURCE, name="other", needed=3, total=5) is None


def test_a_complete_or_spoilt_upload_is_not_continued(catalog: Catalog) -> None:
    catalog.complete_file(begin(catalog), manifest_id=ShareId(b"m" * 32), file_bytes=5)
    catalog.not_resumable(begin(catalog, "other"))
    assert catalog.interrupted(SOURCE, name="report", needed=3, total=5) is None
    assert catalog.interrupted(SOURCE, name="other", needed=3, total=5) is None
    assert [(f.name, f.complete) for f in catalog.files()] == [("other", False), ("report", True)]


def test_a_name_is_used_once(catalog: Catalog) -> None:
    begin(catalog)
    with pytest.raises(CatalogError, match="another name"):
        begin(catalog)


def test_removing_a_file_names_only_the_shares_no_other_file_needs(catalog: Catalog) -> None:
    """A share that two files have in common stays at its node until the second one goes."""
    first, second = begin(catalog), begin(catalog, "second", None)
    catalog.add_shares([share(1, first), share(2, first), share(2, second), share(3, second, node=2)])
    catalog.add_shares([share(1, first)])
    assert catalog.share_ids_at(node_id(1)) == b"\1" * 32 + b"\2" * 32
    assert len(catalog.shares_at(node_id(1))) == 3
    assert catalog.remove_file(first) == {node_id(1): [b"\1" * 32]}
    assert [s.number for s in catalog.shares_of(second)] == [2, 3]
    assert catalog.remove_file(second) == {node_id(1): [b"\2" * 32], node_id(2): [b"\3" * 32]}
    assert catalog.rows("SELECT * FROM uploads") == []
