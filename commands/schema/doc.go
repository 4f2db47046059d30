// Package schema tells whether a program reads recorded events as they were meant.
//
// A Schema is what a program says of the events of one wire name: a protobuf message. Compare holds the schema with which
// events were recorded against the one of a program that is to read them, and names each difference by which it would misread
// them or not see a part of them. Check does that for all schemas of a domain, with the history that its log has of them, and
// says which have to be recorded as new, and which are older than what is recorded.
//
// The package is pure: it reads no log and writes none. Package node does, when it opens a log.
package schema
