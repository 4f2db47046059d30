// Package projectiontest is the conformance suite of projections.Sink. Every sink passes it: memview, redisview and
// clickview.
//
// The suite brings its own projections and events. It asks for a Storage, a place of its own for the sink of one
// projection, and makes sinks over it as new processes would.
package projectiontest
