// Package commandtest tests aggregates: given events, when a command, then events or a refusal.
//
//	commandtest.For(t, order.Aggregate).
//		Given(order.Created{...}).
//		When(order.Ship{ID: "1"}).
//		Then(order.Shipped{})
//
// Beside what a test says, each scenario checks what every aggregate owes its bus, with no store and no bus involved:
//   - every event, given or decided, comes back from the codec as it went in, and is one that a store would take;
//   - Decide changes neither the state nor the command, and decides the same twice;
//   - Evolve accepts every decided event, does not change it, and comes to the same state twice;
//   - the command's stream id is valid, and so are the tags.
//
// Values are compared with go-cmp, unexported fields included, protobuf messages by their content, empty and nil slices
// and maps as equal.
package commandtest
