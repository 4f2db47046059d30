package lint

import (
	"fmt"
	"slices"
	"strings"
)

// layer is one row of "Who may import whom": a package and what of ours it may import, as a reader of docs/overview.md
// finds it there. Names are below Module; "x/*" means everything below x, and x itself has to be named beside it.
// Generated code in schemas/gen may be imported by all.
type layer struct {
	pkg string
	may string
	// foreign lists the only foreign modules the package may import, "none" for no module at all; empty leaves it to
	// the drivers' table.
	foreign string
}

const everything = "everything"

// layers is the law; the first row that matches a package holds. Tests may import what they need.
var layers = []layer{
	{pkg: "schemas/*", may: ""},
	{pkg: "testdata/retail", may: "", foreign: "none"},

	{pkg: "eventstore", may: "internal/hlc"},
	{pkg: "eventstore/storetest", may: "eventstore eventstore/memstore internal/hlc"},
	{pkg: "eventstore/keyfile", may: "eventstore eventstore/sealed"},
	{pkg: "eventstore/pebblestore", may: "eventstore eventstore/archive internal/hlc"},
	{pkg: "eventstore/archive/*", may: "eventstore eventstore/archive"},
	{pkg: "eventstore/kafkalog/*", may: "eventstore eventstore/kafkalog internal/hlc"},
	{pkg: "eventstore/*", may: "eventstore internal/hlc"},

	{pkg: "commands", may: "eventstore"},
	{pkg: "commands/schema", may: "eventstore", foreign: "google.golang.org/protobuf"},
	{pkg: "commands/commandtest", may: "commands eventstore eventstore/memstore internal/hlc"},
	{pkg: "commands/*", may: "commands eventstore"},

	{pkg: "projections", may: "eventstore"},
	{pkg: "projections/projectiontest", may: "projections projections/counting projections/internal/* queries eventstore eventstore/memstore internal/hlc"},
	{pkg: "projections/internal/*", may: "projections eventstore"},
	{pkg: "projections/*", may: "projections projections/internal/* queries eventstore"},

	{pkg: "queries", may: "projections eventstore"},

	{pkg: "replication", may: "eventstore internal/hlc internal/wholefile", foreign: "github.com/cespare/xxhash/v2"},
	{pkg: "replication/conflictview", may: "replication eventstore commands projections projections/counting queries"},
	{pkg: "replication/pgsync", may: "replication eventstore"},
	{pkg: "replication/kafkasync", may: "replication eventstore eventstore/kafkalog", foreign: "github.com/segmentio/kafka-go golang.org/x/sync"},
	{pkg: "replication/restsync", may: "replication eventstore", foreign: "none"},
	{pkg: "replication/storesync", may: "replication eventstore", foreign: "none"},
	{pkg: "replication/*", may: "replication eventstore internal/hlc"},

	{pkg: "client", may: "eventstore eventstore/wire"},

	{pkg: "commerce/calendar", may: ""},
	{pkg: "commerce/tag", may: "eventstore"},
	{pkg: "commerce/money", may: "", foreign: "github.com/quagmt/udecimal"},
	{pkg: "commerce/retail", may: "commerce/money", foreign: "github.com/quagmt/udecimal"},
	{pkg: "commerce/retail/importer", may: "commerce/retail commerce/money eventstore"},
	{pkg: "commerce/checkout", may: "commands commands/saga eventstore commerce/order commerce/inventory commerce/payment commerce/returns commerce/money", foreign: "google.golang.org/protobuf"},
	{pkg: "commerce/inventory", may: "commands commands/escrow eventstore commerce/calendar commerce/money", foreign: "google.golang.org/protobuf"},
	{pkg: "commerce/views", may: "projections queries eventstore commerce/*", foreign: "google.golang.org/protobuf"},
	{pkg: "commerce/api", may: "commands commands/saga queries eventstore commerce/*"},
	{pkg: "commerce/*", may: "commands eventstore commerce/calendar commerce/money commerce/tag", foreign: "google.golang.org/protobuf"},

	{pkg: "internal/hlc", may: "", foreign: "none"},
	{pkg: "internal/wholefile", may: "", foreign: "none"},
	{pkg: "internal/lint", may: "", foreign: "none"},
	{pkg: "internal/engine", may: ""},
	{pkg: "internal/cable", may: "", foreign: "github.com/twmb/franz-go"},
	{pkg: "internal/drill", may: "internal/cable internal/engine eventstore commands/escrow commerce/inventory commerce/order commerce/retail commerce/retail/importer"},
	{pkg: "internal/testenv", may: "internal/cable internal/engine"},
	{pkg: "internal/reliability", may: "", foreign: "none"},
	{pkg: "internal/server", may: "commands queries projections replication eventstore eventstore/groups eventstore/wire internal/*"},
	{pkg: "internal/server/*", may: "commands queries projections replication eventstore eventstore/wire internal/*"},
	{pkg: "internal/console", may: "commands queries projections replication eventstore internal/*"},
	{pkg: "internal/bench", may: everything},
	{pkg: "internal/bench/*", may: everything},

	{pkg: "node", may: everything},
	{pkg: "node/*", may: everything},
	{pkg: "cmd/*", may: "node node/* client eventstore internal/drill internal/engine internal/bench commerce/retail commerce/retail/importer testdata/retail"},
	{pkg: "examples/*", may: "eventstore commands projections projections/* queries node client"},
}

// driver is a foreign module, or several that belong together, that only its owners may import: what it connects to is
// then behind one package, and can be exchanged there.
type driver struct {
	modules string
	owners  string
}

// drivers is the second half of the law.
var drivers = []driver{
	{modules: "github.com/cockroachdb/pebble github.com/cockroachdb/pebble/v2", owners: "eventstore/pebblestore"},
	{modules: "github.com/minio/minio-go/v7", owners: "eventstore/archive/s3"},
	{modules: "github.com/segmentio/kafka-go", owners: "eventstore/kafkalog replication/kafkasync internal/bench/peers"},
	{modules: "github.com/redis/go-redis github.com/redis/go-redis/v9", owners: "projections/redisview internal/bench/peers"},
	{modules: "github.com/ClickHouse/clickhouse-go github.com/ClickHouse/clickhouse-go/v2 github.com/ClickHouse/ch-go", owners: "projections/clickview"},
	{modules: "go.etcd.io/etcd github.com/hashicorp/consul/api", owners: "internal/bench/peers"},
	{modules: "github.com/jackc/pgx github.com/jackc/pglogrepl", owners: "replication/pgsync internal/bench/peers"},
	{modules: "github.com/twmb/franz-go github.com/alicebob/miniredis/v2", owners: "eventstore/kafkalog/embedded projections/redisview/embedded internal/cable internal/engine internal/testenv node node/*"},
	{modules: "github.com/alecthomas/kong github.com/vbauerster/mpb/v8", owners: "cmd/*"},
}

// testing names the packages that exist for tests: only tests and each other may import them, and only they may import
// the testing package outside of a _test.go file.
const testingPackages = "eventstore/storetest eventstore/archive/archivetest commands/commandtest projections/projectiontest internal/testenv internal/reliability"

// Imports keeps the tables above.
func Imports(t *Tree) []Finding {
	var findings []Finding
	rowless := map[string]bool{}
	for _, s := range t.Sources {
		if s.Test || s.Generated || s.Dir == "." || within("internal/tools internal/tools/*", s.Dir) {
			continue
		}
		row, ok := layerOf(s.Dir)
		if !ok {
			if !rowless[s.Dir] {
				rowless[s.Dir] = true
				findings = append(findings, Finding{"imports", s.Dir, 0, "no row of internal/lint/layers.go says what this package may import: give it one, or move the code to where it belongs"})
			}
			continue
		}
		for _, imported := range s.Imports() {
			if message := row.objection(s.Dir, imported.Path); message != "" {
				findings = append(findings, Finding{"imports", s.Path, imported.Line, message})
			}
		}
	}
	return findings
}

// layerOf returns the row of a package.
func layerOf(dir string) (layer, bool) {
	i := slices.IndexFunc(layers, func(l layer) bool { return within(l.pkg, dir) })
	if i < 0 {
		return layer{}, false
	}
	return layers[i], true
}

// objection says why the package dir, whose row is l, must not import name; empty when it may.
func (l layer) objection(dir, name string) string {
	ours, first := strings.CutPrefix(name, Module+"/")
	switch {
	case first && within("schemas/*", ours):
		return ""
	case first && within(testingPackages, ours) && !within(testingPackages, dir):
		return fmt.Sprintf("%s is for tests only", ours)
	case first:
		if l.may == everything || within(l.may, ours) {
			return ""
		}
		return fmt.Sprintf("%s must not import %s; of ours it may import: %s", dir, ours, orNothing(l.may))
	case name == "testing" && !within(testingPackages, dir):
		return "testing belongs in _test.go files and in " + testingPackages
	case !strings.Contains(strings.Split(name, "/")[0], "."):
		return "" // the standard library
	}
	for _, d := range drivers {
		if inModule(d.modules, name) && !within(d.owners, dir) {
			return fmt.Sprintf("%s is a driver; only these may import it: %s", name, d.owners)
		}
	}
	if l.foreign != "" && !inModule(l.foreign, name) {
		return fmt.Sprintf("%s must not import %s; foreign modules it may import: %s", dir, name, l.foreign)
	}
	return ""
}

// within reports whether a package is one of the names in a list, or below one that ends in "/*".
func within(list, dir string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(name string) bool {
		above, below := strings.CutSuffix(name, "*")
		return name == dir || (below && strings.HasPrefix(dir, above))
	})
}

// inModule reports whether an import path lies in one of the modules in a list.
func inModule(list, name string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(module string) bool {
		return name == module || strings.HasPrefix(name, module+"/")
	})
}

func orNothing(list string) string {
	if list == "" {
		return "nothing"
	}
	return list
}
