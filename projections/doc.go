// Package projections folds the log into read models.
//
//	Source (the store, or Kafka) ─► Runner: order and density checked, chunks ─► Sink: model + cursor in one atomic step
//
// A Projection is a pure fold: it is told an event and writes to a Keys or a Rows writer, never reading. The writer
// belongs to a Sink (redisview, clickview, memview), which keeps what was written together with the cursor, so that each
// event counts exactly once, whatever crashes.
package projections
