package pebblestore

import (
	"bytes"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"pgregory.net/rapid"
)

// What Pebble demands of a split. pebble.CheckComparer also demands that keys can lose their first bytes, which serves
// tables that are shared between databases.
func TestIndexKeysArePrefixAndSuffix(t *testing.T) {
	name := rapid.StringMatching(`[a-z\xff]{0,3}`)
	key := rapid.Custom(func(t *rapid.T) []byte {
		stream := eventstore.StreamID{Tenant: name.Draw(t, "tenant"), Category: name.Draw(t, "category"), ID: name.Draw(t, "id")}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return appendStreamKey(nil, stream)
		case 1:
			return appendBucketKey(nil, uint16(rapid.IntRange(0, requestBuckets-1).Draw(t, "bucket")), rapid.Uint64().Draw(t, "end"))
		case 2:
			return metaKey
		case 3:
			return append([]byte{tenantPrefix}, stream.Tenant...)
		case 4:
			return appendTermKey(nil, term{tagTerm, stream.Tenant, stream.ID}.digest(), rapid.Uint64().Draw(t, "lsn"))
		default:
			return appendRunKey(nil, stream, rapid.Uint64().Draw(t, "version"))
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		prefixA, prefixB := a[:splitIndexKey(a)], b[:splitIndexKey(b)]
		if n := splitIndexKey(prefixA); n != len(prefixA) {
			t.Errorf("prefix %q has a prefix of %d bytes", prefixA, n)
		}
		if (a[0] == runPrefix || a[0] == termPrefix) && len(a)-len(prefixA) != 8 && len(a) != len(prefixA) {
			t.Errorf("suffix of %q has %d bytes, want 8", a, len(a)-len(prefixA))
		}
		if c := bytes.Compare(prefixA, prefixB); c != 0 && bytes.Compare(a, b) != c {
			t.Errorf("%q and %q are ordered otherwise than their prefixes", a, b)
		}
	})
}

func TestSplitOfWhatIsNoKey(t *testing.T) {
	for _, key := range []string{"", "s", "sa", "sa\x00b", "sa\x00b\x00c", "x\x00\x00\x00\x00"} {
		if n := splitIndexKey([]byte(key)); n != len(key) {
			t.Errorf("prefix of %q has %d bytes, want all %d", key, n, len(key))
		}
	}
}
