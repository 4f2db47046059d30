package drill

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// Conflicts says what happened at several sites at once.
type Conflicts struct {
	Total int `json:"total"`
	// By counts them by category, kind, resolver and verdict.
	By []ConflictCount `json:"by"`
	// Digest is that of the records of each site, without who wrote them and when; Equal says that all are the same.
	Digest map[string]string `json:"digest"`
	Equal  bool              `json:"equal"`
}

// ConflictCount counts conflicts that are alike.
type ConflictCount struct {
	Category string `json:"category"`
	Kind     string `json:"kind"`
	Resolver string `json:"resolver"`
	Verdict  string `json:"verdict"`
	Count    int    `json:"count"`
}

// Conflicts reads the records of all sites.
func (s *Sites) Conflicts(ctx context.Context) (Conflicts, error) {
	c := Conflicts{Digest: map[string]string{}, Equal: true}
	for i, one := range s.all {
		records, err := one.conflicts(ctx)
		if err != nil {
			return c, err
		}
		digest := sha256.New()
		counts := map[ConflictCount]int{}
		for _, k := range records {
			counts[ConflictCount{Category: k.GetCategory(), Kind: k.GetKind(), Resolver: k.GetResolver(), Verdict: k.GetVerdict()}]++
			k.SeenAt, k.SeenBy = "", ""
			body, err := proto.MarshalOptions{Deterministic: true}.Marshal(k)
			if err != nil {
				return c, fmt.Errorf("conflict %s: %w", k.GetId(), err)
			}
			fmt.Fprintf(digest, "%d ", len(body))
			digest.Write(body)
		}
		c.Digest[one.Name] = hex.EncodeToString(digest.Sum(nil))
		c.Equal = c.Equal && c.Digest[one.Name] == c.Digest[s.all[0].Name]
		if i > 0 {
			continue
		}
		c.Total = len(records)
		for alike, n := range counts {
			alike.Count = n
			c.By = append(c.By, alike)
		}
		slices.SortFunc(c.By, func(a, b ConflictCount) int {
			return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Resolver, b.Resolver), cmp.Compare(a.Verdict, b.Verdict))
		})
	}
	return c, nil
}

// conflicts returns all records of a site, by id.
func (s *Site) conflicts(ctx context.Context) (records []*sitesv1.Conflict, err error) {
	client := sitesv1.NewConflictsClient(s.conn)
	for request := (&sitesv1.ListConflictsRequest{Limit: 1000}); ; {
		page, err := client.ListConflicts(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list the conflicts of site %s: %w", s.Name, err)
		}
		records = append(records, page.GetConflicts()...)
		if request.Page = page.GetNextPage(); request.GetPage() == "" {
			break
		}
	}
	slices.SortFunc(records, func(a, b *sitesv1.Conflict) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return records, nil
}
