package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// written returns a file system with a store of n events that was closed, in 10 streams, each second request with an ID.
func written(t *testing.T, n int, o Options) vfs.FS {
	t.Helper()
	return writtenBy(t, n, 1, o)
}

// writtenBy is written with several events in each append.
func writtenBy(t *testing.T, appends, each int, o Options) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	o.FS, o.Logger = fs, quietLog
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range appends {
		id := ""
		if i%2 == 0 {
			id = fmt.Sprint("request-", i)
		}
		if _, err := s.Append(context.Background(), request(id, eventstore.Stream("order", fmt.Sprint(i%10)), eventstore.Any, each)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// tamper opens one of the store's databases and changes it.
func tamper(t *testing.T, fs vfs.FS, name string, change func(db *pebble.DB)) {
	t.Helper()
	o := (&Options{FS: fs, Logger: quietLog}).withDefaults()
	options := o.logOptions(fs, nil)
	if name == "index" {
		options = o.indexOptions(fs, nil)
	}
	db, err := pebble.Open("data/store/"+name, options)
	if err != nil {
		t.Fatal(err)
	}
	change(db)
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, db *pebble.DB, key, value []byte) {
	t.Helper()
	if err := db.Set(key, value, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, db *pebble.DB, key []byte) []byte {
	t.Helper()
	value, closer, err := db.Get(key)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer closer.Close()
	return bytes.Clone(value)
}

// TestVerifyNamesWhatIsDamaged shows S11.
func TestVerifyNamesWhatIsDamaged(t *testing.T) {
	const n = 100
	block := func(t *testing.T, db *pebble.DB, lsn uint64) []byte { return get(t, db, blockKey(lsn)) }
	stream := eventstore.Stream("order", "3")
	runKey := appendRunKey(nil, stream, 1)
	created := term{typeTerm, "default", "test.happened.v1"}
	cases := []struct {
		name, database string
		change         func(t *testing.T, db *pebble.DB)
		want           []string // in one fault
	}{
		{"a byte of a payload", "log", func(t *testing.T, db *pebble.DB) {
			b := block(t, db, 42)
			b[bytes.Index(b, []byte("payload"))]++
			set(t, db, blockKey(42), b)
		}, []string{"event at lsn 42", "checksum"}},
		{"a byte of a footer", "log", func(t *testing.T, db *pebble.DB) {
			b := block(t, db, 42)
			b[len(b)-20]++
			set(t, db, blockKey(42), b)
		}, []string{"lsn 42 to 42", "checksum"}},
		{"a block that was cut short", "log", func(t *testing.T, db *pebble.DB) {
			set(t, db, blockKey(42), block(t, db, 42)[:30])
		}, []string{"lsn 42 to 42", "30 bytes"}},
		{"an event changed with care", "log", func(t *testing.T, db *pebble.DB) {
			b, err := openBlock(42, block(t, db, 42))
			if err != nil {
				t.Fatal(err)
			}
			set(t, db, blockKey(42), resealed(t, b, func(e *eventstore.Recorded) { e.Payload = []byte("PAYLOAD") }))
		}, []string{"from lsn 43", "chain"}},
		{"the last event changed with care", "log", func(t *testing.T, db *pebble.DB) {
			b, err := openBlock(n, block(t, db, n))
			if err != nil {
				t.Fatal(err)
			}
			set(t, db, blockKey(n), resealed(t, b, func(e *eventstore.Recorded) { e.Actor = "somebody else" }))
		}, []string{"lsn 100 is not the one that was written"}},
		{"a block that is gone", "log", func(t *testing.T, db *pebble.DB) {
			if err := db.Delete(blockKey(42), nil); err != nil {
				t.Fatal(err)
			}
		}, []string{"lsn 42 to 42 are missing"}},
		{"a stream's version", "index", func(t *testing.T, db *pebble.DB) {
			lsns, _ := parseRun(nil, get(t, db, runKey))
			set(t, db, runKey, appendRun(nil, lsns[:9]))
		}, []string{"index", "order/3", "up to 9"}},
		{"a version too many", "index", func(t *testing.T, db *pebble.DB) {
			lsns, _ := parseRun(nil, get(t, db, runKey))
			set(t, db, runKey, appendRun(nil, append(lsns, n+1)))
		}, []string{"index", "101 events", "100"}},
		{"a stream's place", "index", func(t *testing.T, db *pebble.DB) {
			lsns, _ := parseRun(nil, get(t, db, runKey))
			lsns[4]++
			set(t, db, runKey, appendRun(nil, lsns))
		}, []string{"index", "order/3, version 5", "lsn 45", "44"}},
		{"a request that is gone", "index", func(t *testing.T, db *pebble.DB) {
			changeRequest(t, db, "request-42", func(places []requestPlace, i int) []requestPlace { return slices.Delete(places, i, i+1) })
		}, []string{"index", "request-42", "lsn 43"}},
		{"a request too many", "index", func(t *testing.T, db *pebble.DB) {
			changeRequest(t, db, "request-42", func(places []requestPlace, i int) []requestPlace { return append(places, places[i]) })
		}, []string{"index", "51 requests", "50"}},
		{"a type that is gone", "index", func(t *testing.T, db *pebble.DB) {
			if err := db.Delete(appendTermKey(nil, created.digest(), 1), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}, []string{"index", "type", created.text, "lsn"}},
		{"a type's place", "index", func(t *testing.T, db *pebble.DB) {
			key := appendTermKey(nil, created.digest(), 1)
			lsns, _ := parseRun(nil, get(t, db, key))
			set(t, db, key, appendRun(nil, lsns[:len(lsns)-1]))
		}, []string{"index", "type", created.text, "lsn"}},
		{"a tenant too many", "index", func(t *testing.T, db *pebble.DB) {
			set(t, db, []byte("uacme"), nil)
		}, []string{"index", "2 tenants", "1"}},
		{"an entry of no kind", "index", func(t *testing.T, db *pebble.DB) {
			set(t, db, []byte("zzz"), []byte("?"))
		}, []string{"index", "zzz"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fs := written(t, n, Options{})
			tamper(t, fs, c.database, func(db *pebble.DB) { c.change(t, db) })
			report := verify(t, openMem(t, fs, Options{}))
			for _, fault := range report.Faults {
				if containsAll(fault, c.want) {
					return
				}
			}
			t.Fatalf("no fault names %q; found are:\n%s", c.want, strings.Join(report.Faults, "\n"))
		})
	}
}

func verify(t *testing.T, s *Store) eventstore.Report {
	t.Helper()
	report, err := s.Verify(context.Background(), nil)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return report
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// resealed returns the block with its first event changed, all checksums right.
func resealed(t *testing.T, b block, change func(*eventstore.Recorded)) []byte {
	t.Helper()
	var w blockWriter
	w.reset(b.first, b.before, b.chain)
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			t.Fatal(err)
		}
		var e eventstore.Recorded
		if err := b.decode(&e, i, frame, 1); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			change(&e)
		}
		w.add(&e, eventstore.AppendContent(nil, &e))
	}
	return w.seal()
}

// A bit of a table that flips is named by Verify, and what else there is can still be read.
func TestVerifyNamesRottenTables(t *testing.T) {
	const n = 2000
	fs := written(t, n, Options{})
	names, err := fs.List("data/store/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			flip(t, fs, "data/store/log/"+name, 0.4)
		}
	}
	s := openMem(t, fs, Options{})
	report := verify(t, s)
	if len(report.Faults) == 0 {
		t.Fatal("a flipped bit in a table of the log went unseen")
	}
	for _, fault := range report.Faults {
		if !strings.Contains(fault, "lsn") {
			t.Errorf("fault does not name a place: %s", fault)
		}
	}
	t.Log(report.Faults)
	if report.Events < n/2 || report.Events == n {
		t.Errorf("verify could read %d events of %d", report.Events, n)
	}
	var last error
	for _, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		last = err
	}
	if !errors.Is(last, eventstore.ErrCorrupt) {
		t.Errorf("reading over the damage: %v, want %v", last, eventstore.ErrCorrupt)
	}
}

// Verify gets over a damaged part of a table wherever it lies, also where the table's own index leads to it for an lsn that
// stands behind it.
func TestVerifyGetsOverAnyRottenPart(t *testing.T) {
	const appends, each = 150, 40 // blocks are kept under their last lsn, so that between two there are many
	for _, share := range []float64{0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9} {
		fs := writtenBy(t, appends, each, Options{})
		names, err := fs.List("data/store/log")
		if err != nil {
			t.Fatal(err)
		}
		tables := 0
		for _, name := range names {
			if strings.HasSuffix(name, ".sst") {
				flip(t, fs, "data/store/log/"+name, share)
				tables++
			}
		}
		if tables == 0 {
			t.Fatal("there is no table to damage")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		report, err := openMem(t, fs, Options{}).Verify(ctx, nil)
		cancel()
		if err != nil {
			t.Fatalf("flipped at %.2f: %v", share, err)
		}
		if len(report.Faults) == 0 || report.Events < appends*each/2 || report.Events == appends*each {
			t.Errorf("flipped at %.2f: %d events of %d were read, faults: %q", share, report.Events, appends*each, report.Faults)
		}
	}
}

// flip flips a bit at a share of a file's length.
func flip(t *testing.T, fs vfs.FS, path string, share float64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	at := int64(share * float64(info.Size()))
	if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	b[0] ^= 1 << rand.IntN(8)
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// A flipped bit in the WAL must never silently end the log (S13). Pebble refuses to open when the damage lies before the last
// 32 KiB of what was synced, and only for a WAL of its newest format: which is why a new database is closed and opened
// once more. What it takes for the end of the log there, the watermark finds.
func TestFlippedBitInTheWALIsNeverSilent(t *testing.T) {
	const n, flips = 600, 60
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs, Options{})
	if got := s.log.FormatMajorVersion(); got != pebble.FormatNewest {
		t.Fatalf("log is of format %d, want the newest, %d", got, pebble.FormatNewest)
	}
	for i := range n {
		if _, err := s.Append(context.Background(), request("", eventstore.Stream("order", fmt.Sprint(i%10)), eventstore.Any, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.watermark.write(mark{s.recent.state(), s.id}); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range flips {
		image := fs.CrashClone(vfs.CrashCloneCfg{})
		wal := newestWAL(t, image)
		lastBlock := 1 - 32<<10/float64(size(t, image, wal))
		share := float64(i) / flips
		flip(t, image, wal, share)
		o := Options{FS: image, Logger: quietLog}
		damaged, err := Open("data/store", &o)
		if err != nil {
			refused++
			if !errors.Is(err, eventstore.ErrCorrupt) {
				t.Errorf("flip at %d/%d: %v, want %v", i, flips, err, eventstore.ErrCorrupt)
			}
			continue
		}
		state, err := damaged.Log(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if share < lastBlock {
			t.Errorf("flip at %d/%d, before the last block of the WAL: opened with %d of %d events", i, flips, state.Durable.LSN, n)
		}
		_, err = damaged.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1))
		if state.Durable.LSN < n && !errors.Is(err, eventstore.ErrReadOnly) {
			t.Errorf("flip at %d/%d: %d of %d events are left, and append says %v", i, flips, state.Durable.LSN, n, err)
		}
		if err := damaged.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused < flips/2 {
		t.Errorf("%d of %d damaged WALs were refused; what did the flips hit?", refused, flips)
	}
}

func size(t *testing.T, fs vfs.FS, path string) int64 {
	t.Helper()
	info, err := fs.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func newestWAL(t *testing.T, fs vfs.FS) string {
	t.Helper()
	names, err := fs.List("data/store/log")
	if err != nil {
		t.Fatal(err)
	}
	newest := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			newest = max(newest, name)
		}
	}
	if newest == "" {
		t.Fatalf("no WAL in %v", names)
	}
	return "data/store/log/" + newest
}

// A log that is shorter than it was takes no writes; what is there can be read.
func TestCutOffWALIsNoticed(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs, Options{})
	for range 50 {
		if _, err := s.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.watermark.write(mark{s.recent.state(), s.id}); err != nil {
		t.Fatal(err)
	}
	image := fs.CrashClone(vfs.CrashCloneCfg{})
	truncate(t, image, newestWAL(t, image))
	short := openMem(t, image, Options{})
	state, err := short.Log(context.Background())
	if err != nil || state.Durable.LSN >= 50 {
		t.Fatalf("the WAL was cut off, and the log is %+v, %v", state, err)
	}
	_, err = short.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1))
	if !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "50") {
		t.Fatalf("append to a log that lost its end: %v, want %v and where it had come to", err, eventstore.ErrReadOnly)
	}
	t.Log(err)
}

// truncate cuts a file off in its middle.
func truncate(t *testing.T, fs vfs.FS, path string) {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	b = bytes.TrimRight(b, "\x00")
	w, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b[:len(b)/2]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// changeRequest changes the entries of the bucket that has a request.
func changeRequest(t *testing.T, db *pebble.DB, id string, change func(places []requestPlace, i int) []requestPlace) {
	t.Helper()
	hash := requestKey{"default", id}.hash()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: appendBucketKey(nil, bucketOf(hash), 0), UpperBound: appendBucketKey(nil, bucketOf(hash)+1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for valid := it.First(); valid; valid = it.Next() {
		key := slices.Clone(it.Key())
		_, end, _ := parseBucketKey(key)
		var places []requestPlace
		for p := range bucketPlaces(bucketOf(hash), end, it.Value()) {
			places = append(places, p)
		}
		i := slices.IndexFunc(places, func(p requestPlace) bool { return p.hash == hash })
		if i < 0 {
			continue
		}
		var value []byte
		for _, p := range change(places, i) {
			value = appendPlace(value, p, end)
		}
		set(t, db, key, value)
		return
	}
	t.Fatalf("the index has no request %q", id)
}

// An index that names another batch for a request gets no wrong receipt out: the log says whose batch it is.
func TestReceiptOfAnotherBatchIsRefused(t *testing.T) {
	for name, lsn := range map[string]uint64{"another request's": 41, "of no request": 42, "at the log's end": 100} {
		t.Run(name, func(t *testing.T) {
			fs := written(t, 100, Options{})
			tamper(t, fs, "index", func(db *pebble.DB) {
				changeRequest(t, db, "request-42", func(places []requestPlace, i int) []requestPlace {
					places[i].lsn = lsn
					return places
				})
			})
			s := openMem(t, fs, Options{})
			if _, _, err := s.Receipt(context.Background(), "", "request-42"); !errors.Is(err, eventstore.ErrCorrupt) {
				t.Errorf("receipt: %v, want %v", err, eventstore.ErrCorrupt)
			}
		})
	}
	s := openMem(t, written(t, 100, Options{}), Options{})
	if r, _, err := s.Receipt(context.Background(), "", "request-42"); err != nil || r.Position.LSN != 43 {
		t.Errorf("receipt of an index as it should be: %+v, %v; want lsn 43", r, err)
	}
}

// Two requests with the same hash are told apart by the log.
func TestRequestsWithTheSameHash(t *testing.T) {
	fs := written(t, 100, Options{})
	tamper(t, fs, "index", func(db *pebble.DB) {
		changeRequest(t, db, "request-42", func(places []requestPlace, i int) []requestPlace {
			return append([]requestPlace{places[i]}, places...)
		})
	})
	s := openMem(t, fs, Options{})
	hash := requestKey{"default", "request-42"}.hash()
	if _, err := s.requestBatch(requestKey{"default", "another"}, hash, 43); !errors.Is(err, errAnotherRequest) {
		t.Errorf("batch of another request with the same hash: %v, want %v", err, errAnotherRequest)
	}
	if batch, err := s.lookRequest(requestKey{"default", "request-42"}, requestKey{"default", "request-42"}.digests()); err != nil || len(batch) != 1 {
		t.Errorf("request that is named twice: %d events, %v; want one", len(batch), err)
	}
}
