// Package projections folds the log into read models.
//
//	Source (the store, or Kafka) ─► Runner: order and density checked, chunks ─► Sink: model + cursor in one atomic step
//
// A Projection is a pure fold: it is told an event and writes to a Keys or a Rows writer, never reading. The writer
// belongs to a Sink (redisview, clickview, memview), which keeps what was written together with the cursor, so that each
// event counts exactly once, whatever crashes.
//
// A Runner keeps one sink up to date: it fills a model where there is none, or one of another log or version, goes on for
// ever when source or sink fail, notices a model that is lost, and stops, saying why, when the log has a hole. Rebuild
// makes a model anew while the old one goes on answering; Replay makes one as of a position, to compare or to look back.
// An event that cannot be applied parks its stream, see Parking.
//
// What fires once for an event, such as a notification or a step of a saga, is no projection: models are folded again at
// any time. Sinks of one's own pass the suite of projectiontest.
package projections
