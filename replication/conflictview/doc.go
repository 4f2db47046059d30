// Package conflictview keeps the conflicts between sites as read models: in Redis for who looks one up, in ClickHouse for who
// counts them.
//
//	log ─► projection: is the event concurrent with others of its stream? ─► its stream, up to here ─► conflicts ─► outcomes ─► records
//	                                                                                  replication.Conflicts   commands.Bus.Judge
//
// A record is a function of the stream's events up to a place in the log. As more events come, those of other sites that were
// late, a record may come to name more of them, or end differently; the latest holds. Where one branch of a stream counts, an
// event may change what came of conflicts before it, too: with each that is concurrent with others, or settles, all records of
// the stream are written anew. Sites that hold the same events have the same records, but for Position and SeenBy, which say when
// and where one was written last.
//
// Streams in conflict are held, so that an event that comes costs itself and the records that it changes: it is judged behind what was
// judged, or, where it stands before some of that, with the stream folded again. Where one branch counts, all of the stream is judged
// with each such event. Streams that nobody wrote at once are neither read nor held.
package conflictview
