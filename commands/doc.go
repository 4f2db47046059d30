// Package commands decides: it turns commands into events.
//
//	Bus.Dispatch ─► middleware ─► handler: load (fold the stream), Decide (pure), Append ─► Receipt
//	                                  ▲                                              │
//	                                  └──────────────── retry on conflict ───────────┘
//
// An aggregate is a pure pair of functions, Decide and Evolve, declared once as an Aggregate value and registered with a
// Bus. Commands are plain structs; the Bus finds the aggregate by the command's type, so callers need neither type
// arguments nor casts. Several commands dispatched together are decided one after the other, each on what the ones
// before it decided, and appended atomically: all of them or none.
//
// Package saga runs long processes over several aggregates; package commandtest tests aggregates with Given, When, Then.
package commands
