// Package saga runs long processes over several aggregates: it turns events into commands, and nothing else does.
//
//	log ─► Runner: trigger ─► React (pure) ─► step event in the saga's own stream ─► Bus.Dispatch
//	                             ▲                                                        │
//	                             └──────────── outcome, or a timer that is due ◄──────────┘
//
// A saga is declared as a Definition: which events start or move it, and React, a pure function from a state and an input
// to the next state and actions. Inputs are a trigger, the outcome of a command, a timer. Actions are commands to send,
// timers to set, and the end.
//
// Each input that is reacted to is recorded as one event in the instance's own stream (tenant, Definition.Name, instance
// id), before its actions are carried out. That stream is the saga's whole memory. After a restart its inputs are folded
// through React again, and commands without a recorded outcome are sent again, under the idempotency key that they had
// before ("saga/<name>/<instance>/<key>"): each command has one effect, however often the process ends on the way.
//
// What goes wrong, by the class of the error: a refusal is an input like success and usually leads to compensation; a
// transient error is retried with back-off for ever; anything broken parks the instance, which is shown by Parked and
// goes on after Retry or a restart. The log is the outbox: Outbox shows the commands of open instances and of those that
// ended lately.
//
// # Step events
//
// The wire name is "<name>.step.v1", the payload is JSON:
//
//	{"in": {"kind": "triggered", "stream": "default/order/1", "version": 1, "type": "order.created.v1"},
//	 "at": "2010-12-01T08:26:00Z",
//	 "send": [{"key": "reserve", "topic": "stock.reserve", "note": {"order": "1"}, "compensation": false}],
//	 "set": [{"name": "pay", "due": "2010-12-01T09:26:00Z"}], "cancel": ["pay"], "complete": "shipped"}
//
// in.kind is triggered (a reference, the event itself stays where it is), succeeded (with key and receipt), refused (with
// key, code, reason) or fired (with timer and due). A step that sends compensation is of kind "compensation".
//
// Where a log goes on in another life that had lost steps, and has taken them again before they come back, both stand in the
// stream: those that stand first count, the others do not, and the instance goes on from the last that counts. Whoever runs a saga has
// it wait until what was lost is back (package node does), for an instance that had ended meanwhile is not looked at again, but after
// Runner.Reread.
//
// # Checkpoints
//
// Now and then the runner appends to the stream default/$saga/<name> up to which position every trigger is handled, and
// which instances are open. A restarted runner loads those and subscribes from there. What it sees twice does nothing.
package saga
