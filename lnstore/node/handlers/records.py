"""put_record and get_record: small signed mutable values."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import GetRecord, GetRecordReply, PutRecord, PutRecordReply
from lnstore_protocol.terms import Record


async def put_record(request: RequestContext, message: PutRecord) -> PutRecordReply:  # MB-R25
    """Store a record of the asking account."""
    await request.account()
    record = Record.decode(message.record)
    if record.account_id != request.account_id:
        raise Refusal(ErrorCode.BAD_SIGNATURE, "the record is another account's")
    await request.node.books.put_record(record, message.record)
    return PutRecordReply()


async def get_record(request: RequestContext, message: GetRecord) -> GetRecordReply:  # MB-R28
    """Any account's record by name: records are read by whoever knows whose they are."""
    record = await request.node.books.get_record(message.account_id, message.name)
    if record is None:
        raise Refusal(ErrorCode.RECORD_UNKNOWN, "there is no such record here")
    return GetRecordReply(record=record)
