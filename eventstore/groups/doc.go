// Package groups hands the events of a log out to the members of named groups: each event to one member at a time, at
// least once, in order per stream.
//
//	log ─► reader ─► window ─► lanes, one a stream ─► Member.Next ─► Delivery.Ack, Nack or Park
//	                   │                                                 │
//	                   └─ cursor, settled events above it, parked ◄──────┘
//	                                   │
//	                                   └─► checkpoint, an event in the stream default/$group/<name>
//
// What a group promises:
//   - INVARIANT: an event is out with one member at a time, and no event is passed over.
//   - INVARIANT: an event of a stream is handed out only when the one before it, of those that the group's filter lets
//     through, is settled: acknowledged, skipped, or parked where the group passes over. Other streams go on meanwhile.
//   - What a member has not settled when its lease ends, or when it leaves, goes to others, in the same order.
//   - What was settled and checkpointed is not handed out again. What was settled since the last checkpoint may be, after
//     a crash: at most Options.CheckpointEvents events, or those of Options.CheckpointEvery. Member.Flush writes a
//     checkpoint and waits for it.
//   - An event that fails Settings.MaxTries times is parked with its reason. It holds its own stream up, or is passed
//     over, as the group's settings say, until an operator retries or skips it. When Options.MaxParked are parked already,
//     it is tried on and on instead.
//
// What it does not: deliver exactly once (a member that dies between its work and its acknowledgement has it done twice;
// the position of the event is what to tell that by), keep the order between streams, keep counts of tries over a restart.
//
// The state of a group stands in the log that it reads, so it lives wherever the log lives on, a restore included: what a
// checkpoint says are lsns below its own, and those stand for the same events in every life of the log. Streams of
// categories that begin with $ are Tributary's own and no group gets them.
//
// A group that has members runs two goroutines, one that reads the log and one that keeps leases and checkpoints; both end
// some seconds after its last member has left. A slow member holds back its group and nobody else: the reader waits while
// the window is full. All methods are safe for concurrent use.
package groups
