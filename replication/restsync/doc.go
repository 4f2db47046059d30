// Package restsync brings over what happens at a program that can be asked for its changes over HTTP: for sources that nothing
// else can be had of. It is a replication.Syncer that polls.
//
// The program answers
//
//	GET URL?since=NANOSECONDS&limit=N[&after=TOKEN]
//
// with JSON, the changes from that Unix time on, in the order in which they happened:
//
//	{"changes": [{"key": "order-17", "at": 1772600767891000000, "data": {"status": "paid"}, "deleted": false}, …], "next": "TOKEN"}
//
// A next that is not empty says that there are more, and is sent back as after. A change may be given again, and again under
// the same ID (ID is made of all that it says): an Apply that does what has an ID once does every change once.
package restsync
