"""Records in SQL: the newest of each name, a limited number for each account. They outlive a lapse."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.database import Database
from lnstore.books.rows import account_key, no_account
from lnstore.books.schema import records
from lnstore.books.strangers import is_stranger
from lnstore.ports import BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.terms import Record

RECORDS_PER_ACCOUNT = 256
RECORDS_OF_STRANGER = 4
"""Of an account that never paid: its records go with it."""


class SqlRecords:
    """ports.RecordBooks."""

    _database: Database

    async def put_record(self, record: Record, encoded: bytes) -> None:  # MB-R26, MB-R27
        """Store it; BooksRefused(RECORD_STALE) when a newer or other one of the same sequence is there.

        Also refused: NO_ACCOUNT, and CAPACITY_EXCEEDED for more than RECORDS_PER_ACCOUNT names (RECORDS_OF_STRANGER).
        """
        await self._database.writer.write(lambda connection: _put(connection, record, encoded))

    async def get_record(self, account_id: AccountId, name: bytes) -> bytes | None:
        """The signed record."""
        query = select(records.c.encoded).where(records.c.account_id == account_id, records.c.name == name)
        return await self._database.read(lambda connection: connection.execute(query).scalar())


def _put(connection: Connection, record: Record, encoded: bytes) -> None:
    account = account_key(connection, record.account_id)
    if account is None:
        raise no_account()
    of_account = records.c.account_id == record.account_id
    old = connection.execute(select(records).where(of_account, records.c.name == record.name)).one_or_none()
    if old is not None:
        if (old.sequence, old.encoded) == (record.sequence, encoded):
            return
        if old.sequence >= record.sequence:
            raise BooksRefused(
                ErrorCode.RECORD_STALE, f"the record of sequence {old.sequence} is kept, not this {record.sequence}"
            )
    else:
        most = RECORDS_OF_STRANGER if is_stranger(connection, account) else RECORDS_PER_ACCOUNT
        if connection.execute(select(func.count()).where(of_account)).scalar_one() >= most:
            raise BooksRefused(
                ErrorCode.CAPACITY_EXCEEDED,
                f"an account has at most {RECORDS_PER_ACCOUNT} records, {RECORDS_OF_STRANGER} before it paid anything",
            )
    new = {"sequence": record.sequence, "encoded": encoded}
    connection.execute(
        insert(records)
        .values(account_id=record.account_id, name=record.name, **new)
        .on_conflict_do_update(index_elements=["account_id", "name"], set_=new)
    )
