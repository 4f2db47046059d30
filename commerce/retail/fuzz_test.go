package retail

import (
	"errors"
	"slices"
	"testing"
)

// FuzzRead: whatever the bytes, they are refused with InputErrors that name the
// file, or they give a set whose plan is sound, the same each time.
func FuzzRead(f *testing.F) {
	f.Add([]byte(header + goodLine))
	f.Add([]byte("\ufeff" + header + "C1,A,\"a \"\"b\"\",\nc\",-1,2010-12-01 08:26:00,0.001,,\r\n\r\n2,a,,0,2010-12-01 08:26:00,0,17850,EIRE\n"))
	f.Add([]byte(header + "A1,B,Adjust bad debt,1,2010-12-01 08:26:00,-11062.06,,\n"))
	f.Add([]byte(header + "1,A,\"open,6,2010-12-01 08:26:00,2.55,,France\n"))
	f.Add([]byte(gzipped(f, header+goodLine)))
	f.Add([]byte(gzipped(f, header+goodLine)[:40]))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ReadSources(t.Context(), content("f", string(data)))
		if err != nil {
			for _, e := range inputErrors(t, err) {
				if e.File != "f" || e.Problem == "" || e.Line < 0 || errors.Is(e, errMore) {
					t.Fatalf("%#v", e)
				}
			}
			return
		}
		if set.Len() == 0 {
			t.Fatal("an accepted file has no lines")
		}
		checkPlan(t, set)
		if again := read(t, string(data)); !slices.Equal(described(set), described(again)) {
			t.Fatal("the same bytes give two plans")
		}
	})
}
