"""Keeps accounts in Tributary, made with the published protos alone. Prints what it does, one JSON object a line."""

import json
import sys
import uuid

import grpc
from grpc_status import rpc_status

from tributary.store.v1 import store_pb2 as store
from tributary.store.v1 import store_pb2_grpc


def say(step, **what):
    print(json.dumps({"step": step, **what}), flush=True)


def event(kind, tags=(), **payload):
    return store.NewEvent(type=f"account.{kind}.v1", payload_json=json.dumps(payload), tags=tags)


def conflict_of(error):
    """Returns the store.Conflict that a failed append carries."""
    for detail in rpc_status.from_call(error).details:
        if detail.Is(store.Conflict.DESCRIPTOR):
            conflict = store.Conflict()
            detail.Unpack(conflict)
            return conflict
    raise error


def main(address):
    stub = store_pb2_grpc.EventStoreStub(grpc.insecure_channel(address))
    account, owner = str(uuid.uuid4()), f"owner:{uuid.uuid4()}"
    begin = stub.GetLog(store.GetLogRequest()).durable
    say("log", durable=begin)

    def append(*events, condition=None, **expect):
        stream = store.StreamAppend(category="account", id=account, events=events, **expect)
        return stub.Append(store.AppendRequest(request_id=str(uuid.uuid4()), appends=[stream], condition=condition))

    receipt = append(event("opened", tags=[owner]), no_stream=True)
    say("opened", version=receipt.streams[0].last, position=receipt.position)
    receipt = append(event("paid_in", amount="10.00"), event("paid_in", amount="5.00"), version=1)
    say("paid in", version=receipt.streams[0].last, position=receipt.position)

    # Another program was faster: the version is not 1 any more.
    try:
        append(event("paid_in", amount="1.00"), version=1)
    except grpc.RpcError as error:
        stream = conflict_of(error).streams[0]
        say("conflict", code=error.code().name, stream=stream.id, want=stream.version, got=stream.got)

    # One account an owner: no event with the owner's tag may stand in the log already.
    try:
        append(event("opened", tags=[owner]), condition=store.Condition(query=[store.QueryItem(tags=[owner])]))
    except grpc.RpcError as error:
        condition = conflict_of(error).condition
        say("refused", code=error.code().name, tags=list(condition.query[0].tags), found=condition.found)

    for answer in stub.ReadStream(store.ReadStreamRequest(category="account", id=account)):
        say("read", types=[e.type for e in answer.events], versions=[e.version for e in answer.events])

    # Follows the category from where the log stood at the start, until it is up to date.
    seen = []
    following = stub.Subscribe(store.SubscribeRequest(after=begin, categories=["account"]))
    for answer in following:
        seen += [e.version for e in answer.events if e.stream_id == account]
        if answer.caught_up:
            say("caught up", versions=seen, position=answer.position)
            break
    append(event("closed"), version=3)
    for answer in following:
        seen += [e.version for e in answer.events if e.stream_id == account]
        if len(seen) == 4:
            say("live", versions=seen, last=answer.events[-1].type, position=answer.position)
            break
    following.cancel()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9090")
