package eventstore

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Position is a place in a shard's own log. The zero Position is before the first entry.
//
// Positions of different incarnations are of different lives of the log: a reader whose cursor names another
// incarnation, or a place beyond the head, must start again from the beginning; it must never go on.
type Position struct {
	Incarnation uint32
	LSN         uint64
}

// IsZero reports whether p is before the first entry.
func (p Position) IsZero() bool { return p.LSN == 0 }

// Compare orders positions by incarnation, then by lsn.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Incarnation, q.Incarnation), cmp.Compare(p.LSN, q.LSN))
}

// Check returns ErrWrongIncarnation unless p is a place to go on from in the log whose head is given: the zero position, or
// one of the same incarnation that is not beyond the head.
func (p Position) Check(head Position) error {
	if p.IsZero() || p.Incarnation == head.Incarnation && p.LSN <= head.LSN {
		return nil
	}
	return fmt.Errorf("position %s, the log's head is %s: %w", p, head, ErrWrongIncarnation)
}

// String returns "incarnation-lsn", the token that clients carry from a receipt to a query.
func (p Position) String() string {
	return strconv.FormatUint(uint64(p.Incarnation), 10) + "-" + strconv.FormatUint(p.LSN, 10)
}

// ParsePosition reads what Position.String writes.
func ParsePosition(token string) (Position, error) {
	inc, lsn, ok := strings.Cut(token, "-")
	i, err1 := strconv.ParseUint(inc, 10, 32)
	l, err2 := strconv.ParseUint(lsn, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Position{}, invalidf("position %q is not of the form incarnation-lsn, such as 1-42", token)
	}
	return Position{Incarnation: uint32(i), LSN: l}, nil
}

// LogID names one log: one life of one shard at one site.
type LogID struct {
	Site        string
	Incarnation uint32
	Shard       uint16
}

// Compare gives logs a total order: by site, shard, incarnation.
func (l LogID) Compare(m LogID) int {
	return cmp.Or(cmp.Compare(l.Site, m.Site), cmp.Compare(l.Shard, m.Shard), cmp.Compare(l.Incarnation, m.Incarnation))
}

// String returns "shard-01@site/incarnation".
func (l LogID) String() string {
	return fmt.Sprintf("shard-%02d@%s/%d", l.Shard, l.Site, l.Incarnation)
}

// ValidateSite says what is wrong with the name of a site: 1 to 16 characters of a-z, 0-9 and '-'.
func ValidateSite(site string) error {
	if len(site) > 16 {
		return invalidf("site %q is longer than 16 characters", site)
	}
	return validateName("site", site)
}

// Dot is the identity of an event, the same everywhere. Seq is dense from 1 within its log and given only to events
// that were born there.
type Dot struct {
	Log LogID
	Seq uint64
}

// String returns "shard-01@site/incarnation/seq".
func (d Dot) String() string { return d.Log.String() + "/" + strconv.FormatUint(d.Seq, 10) }

// ParseDot reads what Dot.String writes.
func ParseDot(text string) (Dot, error) {
	shard, rest, ok1 := strings.Cut(strings.TrimPrefix(text, "shard-"), "@")
	site, rest, ok2 := strings.Cut(rest, "/")
	incarnation, seq, ok3 := strings.Cut(rest, "/")
	n, err1 := strconv.ParseUint(shard, 10, 16)
	i, err2 := strconv.ParseUint(incarnation, 10, 32)
	s, err3 := strconv.ParseUint(seq, 10, 64)
	d := Dot{LogID{Site: site, Incarnation: uint32(i), Shard: uint16(n)}, s}
	if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil || err3 != nil || ValidateSite(site) != nil || d.String() != text {
		return Dot{}, invalidf("%q does not name an event, as shard-00@site/1/42 does", text)
	}
	return d, nil
}

// Vector says, for each of several logs, up to which seq something is known. It is sorted by log and names each once.
type Vector []Dot

// At returns how much of log the vector covers; 0 is nothing.
func (v Vector) At(log LogID) uint64 {
	for _, d := range v {
		if d.Log == log {
			return d.Seq
		}
	}
	return 0
}

// With returns the vector that also covers d. v itself is left as it was.
func (v Vector) With(d Dot) Vector {
	i, found := slices.BinarySearchFunc(v, d, func(a, b Dot) int { return a.Log.Compare(b.Log) })
	if !found {
		return slices.Insert(slices.Clone(v), i, d)
	}
	if v[i].Seq >= d.Seq {
		return v
	}
	out := slices.Clone(v)
	out[i].Seq = d.Seq
	return out
}

// String returns the dots, separated by commas: the session token that clients carry from an answer to a read at another site.
func (v Vector) String() string {
	texts := make([]string, len(v))
	for i, d := range v {
		texts[i] = d.String()
	}
	return strings.Join(texts, ",")
}

// ParseVector reads what Vector.String writes. Several such texts, with a comma between them, are all that they cover together.
func ParseVector(text string) (Vector, error) {
	var v Vector
	for part := range strings.SplitSeq(text, ",") {
		d, err := ParseDot(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		v = v.With(d)
	}
	return v, nil
}
