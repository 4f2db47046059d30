// Package wire turns the values of package eventstore into the messages of tributary.store.v1 and back, for the server of
// the store API and for its client, so that the two directions stand side by side.
//
// Decode… functions check only what the message itself can get wrong (a text that is no position, an expectation that is
// set to false); what a store checks is left to it. Their errors match eventstore.ErrInvalid. Events travel in one of two
// forms: as RecordedEvent, which any language reads, and as Frames, the log's canonical encoding, which is all of an event
// and costs the least.
package wire
