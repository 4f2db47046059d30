package queries_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/queries"
)

func TestPagesFollowEachOtherToTheEnd(t *testing.T) {
	const scope, total = "orders of 17850", 25
	token, seen := "", 0
	for range 10 {
		p, err := queries.ParsePage(scope, token, 10)
		if err != nil {
			t.Fatal(err)
		}
		if p.Offset != seen {
			t.Fatalf("page begins at %d, want %d", p.Offset, seen)
		}
		seen += min(p.Limit, total-p.Offset)
		if token = p.Next(total); token == "" {
			break
		}
	}
	if seen != total {
		t.Errorf("the pages hold %d things, want %d", seen, total)
	}
}

func TestPageTokensAreValidated(t *testing.T) {
	p, err := queries.ParsePage("a", "", 0)
	if err != nil || p.Limit != queries.DefaultPageSize || p.Offset != 0 {
		t.Fatalf("first page is %+v, %v", p, err)
	}
	good := p.Next(1000)
	if _, err := queries.ParsePage("a", good, 5); err != nil {
		t.Fatalf("a token that was given is refused: %v", err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	for i := range raw {
		raw[i] ^= 1
		if _, err := queries.ParsePage("a", base64.RawURLEncoding.EncodeToString(raw), 5); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("a token with byte %d changed: %v, want ErrInvalid", i, err)
		}
		raw[i] ^= 1
	}
	for name, call := range map[string]func() (queries.Page, error){
		"of another query": func() (queries.Page, error) { return queries.ParsePage("b", good, 5) },
		"nonsense":         func() (queries.Page, error) { return queries.ParsePage("a", "%%%", 5) },
		"cut short":        func() (queries.Page, error) { return queries.ParsePage("a", good[:8], 5) },
		"with more behind": func() (queries.Page, error) { return queries.ParsePage("a", good+"AAAA", 5) },
		"limit too large":  func() (queries.Page, error) { return queries.ParsePage("a", "", queries.MaxPageSize+1) },
		"limit below zero": func() (queries.Page, error) { return queries.ParsePage("a", "", -1) },
	} {
		if _, err := call(); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func FuzzParsePage(f *testing.F) {
	p, _ := queries.ParsePage("a", "", 10)
	f.Add("a", p.Next(100), 10)
	f.Add("", "", 0)
	f.Fuzz(func(t *testing.T, scope, token string, limit int) {
		p, err := queries.ParsePage(scope, token, limit)
		if err == nil && (p.Offset < 0 || p.Limit < 1 || p.Limit > queries.MaxPageSize) {
			t.Errorf("accepted a page of %d from %d", p.Limit, p.Offset)
		}
	})
}
