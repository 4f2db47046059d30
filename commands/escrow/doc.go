// Package escrow keeps the books of units that must not be sold twice, though several sites sell them and none asks another.
//
//	Receive ─► rights of a site ──Hold──► held ──Take──► used
//	             │        ▲                 │
//	           Move       └─────Release─────┘
//	             ▼
//	rights of another site, once it has heard of it
//
// Each unit is the right of one site. A site holds and takes units against its own rights alone, and a move is decided by the
// site that gives: its rights are less at once, those of the other are more when the move arrives there. On its way a right
// is nobody's. So a site's row is written by that site only, and whatever sites have heard of each other, in any order in
// which causes come before effects:
//
//   - no more is used and held than was received (E1);
//   - no site has less than nothing available, as seen from any site (E2).
//
// Books are the state of an aggregate with the resolver commands.Escrow: its Decide compares what is wanted with Available of
// the site that decides, and its Evolve enters what was decided. A Planner says when rights should move.
//
// What is left with a site that cannot be reached stays with it: its rights are not sold elsewhere.
//
// Source of the books: Balegas et al., "Extending Eventually Consistent Cloud Databases for Enforcing Numeric Invariants"
// (bounded counters), 2015; the escrow of O'Neil, 1986.
package escrow
