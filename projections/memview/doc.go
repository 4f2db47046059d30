// Package memview keeps read models in memory. A Keys is a projections.Sink and answers reads as redisview does, with the
// same digest for the same content; a Rows keeps tables.
//
// It is what verify folds the log into to compare the real read models with, and what tests use in place of a server.
// Nothing is kept when the process ends.
package memview
