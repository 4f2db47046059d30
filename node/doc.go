// Package node puts Tributary together: the one package that imports everything.
//
//	Open: data folder, store, engines, read models, sagas, listeners ─► Run: serve until the context ends ─► Close
//
// A node is one shard at one site. Kafka, Redis and ClickHouse are each either embedded (in process, or a supervised
// child, with their data in the node's folder) or a server by address; each is switched on its own. The store is always
// the node's own. When Kafka, Redis or ClickHouse are down, commands go on; what follows the log catches up later.
//
// The main program and the end-to-end tests start the same Node.
package node
