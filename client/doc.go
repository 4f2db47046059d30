// Package client is the Go client of the store API: a *Client is an eventstore.Store whose log is kept by a server, so that
// commands.Load, commands.NewBus and projections work with it as they do with a store of their own.
//
//	Append ─► queue ─► one AppendSession, many in flight ─► server
//	              ▲            │ broken
//	              └── again ◄──┘ with the same request ids
//
// It promises: an append is recorded once at most, however often the connection breaks on the way, because each has a
// request id (one is made where the caller gives none) and is sent again under it. Appends of one stream are done in the
// order in which they were called. A subscription goes on after a broken connection where it was, without a gap and
// without a duplicate. Errors are those of package eventstore, *eventstore.ConflictError among them.
//
// Consume makes it a member of a consumer group, which joins again when its connection breaks.
//
// It does not retry what a server refuses, nor read a second time what a read has yielded before its connection broke:
// that read ends with eventstore.ErrUnavailable, and is taken up after the last event that came.
//
// examples/accounts is a program in a module of its own that uses it; docs/api.md says how to get the package into another.
package client
