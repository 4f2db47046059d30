// Package counting says what of a stream counts, so that read models are corrected after conflicts between sites.
//
//	event ─► did it know all of its stream before it? ─yes─► it counts behind them
//	                          └no─► the stream up to it ─► with the event, and without ─► resolver ─► what counted, what counts
//
// What it says of an event is a function of the log up to the event, however often and in whatever order it is asked: a model
// that is made anew comes to the same, and an event that was parked is corrected when it is tried again. Its memory of streams
// only spares it reading them.
//
// What it costs: nothing where a log has no events of other logs; there, an event that did not know all of its stream costs
// reading and judging the stream, up to MaxEvents. Categories of which all events count, such as stock in escrow, are read only
// where the order matters.
package counting
