package queries

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"

	"github.com/tributary-es/tributary/eventstore"
)

// Limits of the number of things in a page.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000
)

// Page is a part of a longer answer.
type Page struct {
	// Offset things are skipped, at most Limit follow.
	Offset, Limit int
	scope         uint32
}

// ParsePage reads the token and the limit that a client sent. The empty token is the first page, limit 0 means
// DefaultPageSize. scope names the query with all its filters: a token of one query is refused by another. Errors match
// eventstore.ErrInvalid.
func ParsePage(scope, token string, limit int) (Page, error) {
	if limit == 0 {
		limit = DefaultPageSize
	}
	if limit < 0 || limit > MaxPageSize {
		return Page{}, fmt.Errorf("%w: page size %d is not between 1 and %d", eventstore.ErrInvalid, limit, MaxPageSize)
	}
	h := fnv.New32a()
	h.Write([]byte(scope))
	p := Page{Limit: limit, scope: h.Sum32()}
	if token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenBytes || raw[0] != tokenVersion ||
		binary.BigEndian.Uint32(raw[tokenBytes-4:]) != crc32.ChecksumIEEE(raw[:tokenBytes-4]) {
		return Page{}, fmt.Errorf("%w: page token %q was not given by this service", eventstore.ErrInvalid, short(token))
	}
	if binary.BigEndian.Uint32(raw[1:]) != p.scope {
		return Page{}, fmt.Errorf("%w: page token is of another query", eventstore.ErrInvalid)
	}
	p.Offset = int(binary.BigEndian.Uint32(raw[5:]))
	return p, nil
}

// A token is: version, hash of the scope, offset, checksum, in base64url without padding. Clients must not look inside.
const (
	tokenVersion = 1
	tokenBytes   = 1 + 4 + 4 + 4
)

// Next returns the token of the page behind this one, of total things in all; empty when this is the last.
func (p Page) Next(total int) string {
	next := p.Offset + p.Limit
	if next >= total || int64(next) > int64(^uint32(0)) {
		return ""
	}
	b := make([]byte, 0, tokenBytes)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint32(b, p.scope)
	b = binary.BigEndian.AppendUint32(b, uint32(next))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

// short cuts what a client sent to what an error can bear.
func short(s string) string {
	if most := 40; len(s) > most {
		return s[:most] + "…"
	}
	return s
}
