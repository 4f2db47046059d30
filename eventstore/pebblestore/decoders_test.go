package pebblestore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// hostile changes a few bytes of a valid encoding, cuts it, or repeats a part of it.
func hostile(rng *rand.Rand, valid, into []byte) []byte {
	b := append(into[:0], valid...)
	for range 1 + rng.IntN(4) {
		switch at := rng.IntN(len(b)); rng.IntN(5) {
		case 0:
			b[at] ^= 1 << rng.IntN(8)
		case 1:
			b[at] = byte(rng.Uint32())
		case 2:
			b[at] = 0xff
		case 3:
			b = b[:at+1]
		case 4:
			b = append(b, b[at:min(len(b), at+rng.IntN(64))]...)
		}
	}
	return b
}

// TestDecodersOfHostileBytes feeds every decoder of what the store has on disk with damaged encodings whose checksums are
// right, and wants no panic, no error of another kind, and no more than 4 times the input allocated. The fuzz targets of the
// same decoders search further; it is the part of T25 of docs/reliability.md that counts.
func TestDecodersOfHostileBytes(t *testing.T) {
	executions := 60_000
	if *reliability.Long {
		executions = 10_000_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	sealed := testBlock(1, 12)
	b, err := openBlock(12, sealed)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := b.frame(3)
	if err != nil {
		t.Fatal(err)
	}
	content, _, err := eventstore.FrameContent(frame)
	if err != nil {
		t.Fatal(err)
	}
	var header eventstore.Recorded
	if err := b.decode(&header, 3, frame, 1); err != nil {
		t.Fatal(err)
	}
	slot := appendSlot(nil, 7, mark{log: eventstore.LogID{Site: "sh", Incarnation: 1}})
	noted := notedBlock(1, 12)
	var made, again []byte
	// believe makes a block's version and checksum right, so that all else is looked at.
	believe := func(version byte) {
		n := len(again)
		if n < footerBytes {
			return
		}
		again[n-5] = version
		count, notes := int(binary.BigEndian.Uint32(again[n-9:])), 0
		if version == notedVersion && n >= footerBytes+4 {
			notes = 4 + int(binary.BigEndian.Uint32(again[n-footerBytes-4:]))
		}
		if ends := n - footerBytes - notes - 4*count; count < n && ends >= 0 {
			binary.BigEndian.PutUint32(again[n-4:], crc32.Checksum(again[ends:n-4], castagnoli))
		}
	}
	decoders := []struct {
		name string
		make func()
		read func() error
	}{
		{"frame", func() {
			made = hostile(rng, content, made)
			again = eventstore.AppendFrame(again[:0], &header, made)
		}, func() error {
			_, _, err := eventstore.DecodeFrame(again)
			return err
		}},
		{"block", func() {
			again = hostile(rng, sealed, again)
			believe(blockVersion)
		}, func() error { return readBlock(12, again) }},
		{"block with notes", func() {
			again = hostile(rng, noted, again)
			believe(notedVersion)
		}, func() error { return readBlock(12, again) }},
		{"notes", func() {
			again = hostile(rng, noted[len(noted)-footerBytes-200:len(noted)-footerBytes-4], again)
		}, func() error {
			_, _, _ = readNotes(again, 12)
			return nil
		}},
		{"watermark", func() { again = hostile(rng, slot, again) }, func() error {
			_, _, _ = parseSlot(again)
			return nil
		}},
		{"mark", func() { again = hostile(rng, slot[9:len(slot)-4], again) }, func() error {
			_, _ = parseMark(again)
			return nil
		}},
	}
	result := reliability.Result{Test: "T25", What: "frames, blocks, notes, watermarks and marks, damaged under right checksums", Seed: seed, Extra: map[string]any{}}
	for _, d := range decoders {
		input, allocated := 0, uint64(0)
		var before, after runtime.MemStats
		for range executions / len(decoders) / 1000 {
			for range 1000 { // of each, the last one is measured: to ask for the memory takes long
				d.make()
				if err := d.read(); err != nil && !errors.Is(err, eventstore.ErrCorrupt) {
					result.Violations++
					t.Errorf("%s: %v, want %v: %x", d.name, err, eventstore.ErrCorrupt, again)
				}
				result.Cycles++
			}
			d.make()
			const times = 256 // so many that what others allocate meanwhile does not count
			runtime.ReadMemStats(&before)
			for range times {
				_ = d.read() // was looked at above
			}
			runtime.ReadMemStats(&after)
			input += len(again)
			allocated += (after.TotalAlloc - before.TotalAlloc) / times
			result.Cycles += times
		}
		share := float64(allocated) / float64(input)
		result.Extra[d.name+" allocates"] = float64(int(100*share)) / 100
		if share > 4 {
			result.Violations++
			t.Errorf("%s: %d bytes allocated for %d of input, which is %.1f times as much", d.name, allocated, input, share)
		}
	}
	result.Print(t)
}
