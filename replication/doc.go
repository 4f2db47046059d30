// Package replication reconciles the logs of several sites that all take writes.
//
// Each site publishes the events that were born there; every other site takes them into its own log (eventstore.Replica),
// in the order in which they happened and never before what they were decided with. Then every site has the same events,
// and what is folded from them in canonical order is the same everywhere. What happened at two sites at once is a conflict:
// found from the events themselves, so that every site has the same ones on record (conflict.go).
//
//	topic of site A ──► link ─┐                                        ┌─► store: Receive
//	heartbeats of A ──► link ─┤► Step(now, random, input) ─► effects ─┼─► Pull, to whoever has what is missing
//	answers to pulls ─► link ─┘        Core: no clock,               ├─► heartbeat, to all
//	store: Received ──────────┘        network, disk, goroutine      └─► alarms, life, when to be woken
//
// The Core is a state machine: the same inputs give the same effects. What carries its messages has no say in what is
// right; so a simulation of several sites, with every fault there is, runs the code that runs in production
// (simulation_test.go), and a seed replays.
//
// What it promises of the logs of others, given a store that keeps the promises of eventstore.Replica:
//   - Events of a log are received in the order of seq, each once, in whole batches (I2, I9).
//   - An event is received after all that its site had when it was decided: its Dep is covered first (I3).
//   - What is missing is noticed within a heartbeat and GapTimer, also at the end of a log, and pulled from whoever has it;
//     who wrote it need not live any more (I5).
//   - What only a topic has, of a site that has lost it, is read from there again (I5).
//   - A log whose content differs from what others have of it is not received any further, and that is said (I2).
//   - A site that finds that it has lost events of its own, by what others know, takes no writes until it has begun another
//     life; its earlier one is then learned from others, as a foreign log (I14).
package replication
