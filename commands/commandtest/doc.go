// Package commandtest tests aggregates and deciders: given events, when a command, then events or a refusal.
//
//	commandtest.For(t, order.Aggregate).
//		Given(order.Created{...}).
//		When(order.Ship{ID: "1"}).
//		Then(order.Shipped{})
//
// What becomes of events that several sites decide at once is tested with At, Apart and Together:
//
//	commandtest.For(t, order.Aggregate).
//		At("bj").Given(created, confirmed).
//		Apart().
//		At("bj").When(order.Cancel{ID: "1"}).Then(order.Cancelled{}).
//		At("sh").When(order.Ship{ID: "1"}).Then(order.Shipped{}).
//		Together().
//		Void(order.Shipped{}).
//		State(order.State{Status: order.Cancelled})
//
// Beside what a test says, each scenario checks what every aggregate and decider owes its bus, with no store and no bus involved:
//   - every event, given or decided, comes back from the codec as it went in, and is one that a store would take;
//   - Decide and Widen change neither the state nor the command, and decide the same twice;
//   - Evolve accepts every decided event, does not change it, and comes to the same state twice;
//   - the ids of streams are valid, and so are tags and queries.
//
// Values are compared with go-cmp, unexported fields included, protobuf messages by their content, empty and nil slices
// and maps as equal.
package commandtest
