// Command peers does the same work on Tributary and on the stores that a team would otherwise take, one after the other
// on the same disk, and prints a table and one JSON object a row.
//
// Every server is a process of its own on loopback, with its data in a folder of its own, and acknowledges an append only
// when it is on disk: that is the durability class of all rows. Every append says what version its stream must stand at,
// in the way the server has for it; peer.go says which way that is. A peer that the machine lacks is left out with the
// line that gets it.
//
//	go run . -duration 5s                     every peer, every work
//	go run . -peers tributary,redis -works append-64,load
//
// It is a module of its own, so that the servers it embeds (NATS, etcd) stay out of the product's dependencies.
package main
