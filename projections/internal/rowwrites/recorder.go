package rowwrites

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// Recorder is a projections.Rows and projections.Recorder that encodes rows as they are inserted. The zero value is ready.
type Recorder struct {
	// Signed: each row has a sign behind its row number.
	Signed bool

	payload Payload
	// inserts has an entry for each row: which table, and how long its rows were before.
	inserts  []insert
	position uint64
	row      uint32
	// err is the first fault of the projection's code, made by the insert with the number faulty.
	err    error
	faulty int
}

type insert struct {
	table int
	begin int
	sign  int // where it is in the table's rows
}

// Payload is the rows of one commit, table by table in the order in which they were first written to.
type Payload []Table

// Table is rows of one table, encoded one after the other.
type Table struct {
	Name string
	// Columns is the number of values of each row, position and row number included.
	Columns int
	Rows    int
	Data    []byte
}

// NewRecorder returns a recorder for the tables of a projection.
func NewRecorder(p *projections.Projection[projections.Rows]) *Recorder {
	return &Recorder{Signed: len(p.Categories) > 0}
}

// Begin says which event the following rows are of.
func (r *Recorder) Begin(at eventstore.Position) { r.position, r.row = at.LSN, 0 }

// Insert is part of projections.Rows.
func (r *Recorder) Insert(table string, values ...any) { r.add(table, 1, values) }

// Retract is part of projections.Rows.
func (r *Recorder) Retract(table string, values ...any) {
	r.add(table, -1, values)
	if !r.Signed {
		r.fault("table %s: a row is taken back, and rows have no sign", table)
	}
}

func (r *Recorder) add(table string, sign int64, values []any) {
	filled := 2
	if r.Signed {
		filled++
	}
	t := r.payload.table(table)
	if t < 0 {
		r.payload = append(r.payload, Table{Name: table, Columns: filled + len(values)})
		t = len(r.payload) - 1
	}
	into := &r.payload[t]
	if into.Columns != filled+len(values) {
		r.fault("table %s: a row of %d values after one of %d", table, len(values), into.Columns-filled)
	}
	begin := len(into.Data)
	into.Data = AppendInt(AppendUint(into.Data, r.position), int64(r.row))
	r.inserts = append(r.inserts, insert{t, begin, len(into.Data)})
	if r.Signed {
		into.Data = AppendInt(into.Data, sign)
	}
	into.Rows++
	r.row++
	for _, v := range values {
		data, err := AppendValue(into.Data, v)
		if err != nil {
			r.fault("table %s: %w", table, err)
		}
		into.Data = data
	}
}

func (r *Recorder) fault(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %w", projections.ErrBadWrite, fmt.Errorf(format, args...))
		r.faulty = len(r.inserts)
	}
}

// Size is part of projections.Sized.
func (r *Recorder) Size() (bytes int) {
	for i := range r.payload {
		bytes += len(r.payload[i].Data)
	}
	return bytes
}

// Mark is part of projections.Recorder.
func (r *Recorder) Mark() int { return len(r.inserts) }

// Undo is part of projections.Recorder.
func (r *Recorder) Undo(mark int) {
	for _, in := range slices.Backward(r.inserts[mark:]) {
		t := &r.payload[in.table]
		t.Data = t.Data[:in.begin]
		t.Rows--
	}
	r.inserts = r.inserts[:mark]
	if r.faulty > mark {
		r.err, r.faulty = nil, 0
	}
}

// Reverse is part of projections.Recorder.
func (r *Recorder) Reverse(mark int) {
	if !r.Signed && len(r.inserts) > mark {
		r.fault("table %s: what was written is taken back, and rows have no sign", r.payload[r.inserts[mark].table].Name)
		return
	}
	for _, in := range r.inserts[mark:] {
		data := r.payload[in.table].Data
		sign, n := binary.Varint(data[in.sign+1:])
		binary.PutVarint(data[in.sign+1:in.sign+1+n], -sign) // 1 and -1 are of one length
	}
}

// Payload returns the rows that were inserted, without the tables that got none. The error matches
// projections.ErrBadWrite. The recorder must not be used afterwards.
func (r *Recorder) Payload() (Payload, error) {
	if r.err != nil {
		return nil, r.err
	}
	return slices.DeleteFunc(r.payload, func(t Table) bool { return t.Rows == 0 }), nil
}

func (p Payload) table(name string) int {
	return slices.IndexFunc(p, func(t Table) bool { return t.Name == name })
}

// With returns the payload with the rows of another behind its own.
func (p Payload) With(other Payload) Payload {
	for _, t := range other {
		if i := p.table(t.Name); i >= 0 && p[i].Columns == t.Columns {
			p[i].Rows += t.Rows
			p[i].Data = append(p[i].Data, t.Data...)
			continue
		}
		p = append(p, t)
	}
	return p
}

// Append appends the payload in a form that ParsePayload reads.
func (p Payload) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(p)))
	for i := range p {
		dst = appendText(dst, p[i].Name)
		dst = binary.AppendUvarint(dst, uint64(p[i].Columns))
		dst = binary.AppendUvarint(dst, uint64(p[i].Rows))
		dst = binary.AppendUvarint(dst, uint64(len(p[i].Data)))
		dst = append(dst, p[i].Data...)
	}
	return dst
}

// ParsePayload reads what Append wrote. The tables share memory with b.
func ParsePayload(b []byte) (Payload, error) {
	r := NewReader(b)
	n := r.uvarint()
	if n > uint64(len(b)) {
		return nil, errDamaged
	}
	p := make(Payload, 0, n)
	for range n {
		t := Table{Name: string(r.text()), Columns: int(r.uvarint()), Rows: int(r.uvarint())}
		t.Data = r.text()
		p = append(p, t)
	}
	if r.err == nil && len(r.b) != 0 {
		r.err = errDamaged
	}
	return p, r.err
}
