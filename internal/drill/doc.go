// Package drill runs whole sites on this machine, each a server with a log, a topic and read models of its own, has clients write
// at all of them while links are cut and sites are killed, and says what is found afterwards.
//
//	Sites ── site ── Program: tributary serve, with engines of its own or beside it
//	  │        └── cables to every other site: one to its server, one to its brokers
//	  │
//	Run:  shop opens ─ all write ─ one is cut off, all write ─ healed ─ all write (one is killed, and comes back) ─ Report
//
// Sites are real processes, and speak to each other over cables alone, so that a cut holds back all there is between them:
// events, pulls, heartbeats and commands that are sent on. Their own clients are never cut off.
//
// What the report says it has from the APIs of the sites: what was acknowledged is looked for by the ids of commands in all that a
// site's log has, digests are made of the events as they are read, and what was sold is counted from them.
package drill
