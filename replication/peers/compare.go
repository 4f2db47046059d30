package peers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// DigestLog implements sitesv1.SitesServer.
func (s *Service) DigestLog(ctx context.Context, r *sitesv1.DigestLogRequest) (*sitesv1.DigestLogResponse, error) {
	if err := s.named(r.GetSite()); err != nil {
		return nil, err
	}
	spans, err := s.Site.Digests(ctx, logOf(r.GetLog()), r.GetAfter(), r.GetThrough(), r.GetEvery())
	if err != nil {
		return nil, err
	}
	out := &sitesv1.DigestLogResponse{}
	for i := range spans {
		out.Spans = append(out.Spans, &sitesv1.Span{After: spans[i].After, Through: spans[i].Through, Digest: spans[i].Sum[:], Problem: spans[i].Err, Dropped: spans[i].Dropped})
	}
	return out, nil
}

// CompareLog implements sitesv1.SitesServer.
func (s *Service) CompareLog(ctx context.Context, r *sitesv1.CompareLogRequest) (*sitesv1.CompareLogResponse, error) {
	through, deviations, err := s.comparePart(ctx, r.GetSite(), r.GetLog(), r.GetAfter(), false)
	return &sitesv1.CompareLogResponse{Through: through, Deviations: deviations}, err
}

// RepairLog implements sitesv1.SitesServer.
func (s *Service) RepairLog(ctx context.Context, r *sitesv1.RepairLogRequest) (*sitesv1.RepairLogResponse, error) {
	through, deviations, err := s.comparePart(ctx, r.GetSite(), r.GetLog(), r.GetAfter(), true)
	return &sitesv1.RepairLogResponse{Through: through, Deviations: deviations}, err
}

// comparePart compares a part of a log, by its name, with another site.
func (s *Service) comparePart(ctx context.Context, site, name string, after uint64, repair bool) (through uint64, out []*sitesv1.Deviation, err error) {
	if s.Site == nil {
		return 0, nil, fmt.Errorf("%w: site %s replicates with no other, so there is none to compare with", eventstore.ErrUnsupported, s.Name)
	}
	if name == "" {
		err = fmt.Errorf("%w: log is empty: name a log, such as shard-00@%s/1, as GET /v1/sites lists them", eventstore.ErrInvalid, s.Name)
	}
	if site == "" {
		err = errors.Join(err, fmt.Errorf("%w: site is empty: name the other site", eventstore.ErrInvalid))
	}
	if err != nil {
		return 0, nil, err
	}
	log, err := s.logNamed(ctx, name)
	if err != nil {
		return 0, nil, err
	}
	through, findings, err := s.Comparer.Part(ctx, site, log, after, replication.MaxDigests, repair)
	for i := range findings {
		out = append(out, deviation(&findings[i]))
	}
	return through, out, err
}

// logNamed returns the log of a name, such as shard-00@sh/1.
func (s *Service) logNamed(ctx context.Context, name string) (eventstore.LogID, error) {
	o, err := s.Site.Overview(ctx)
	if err != nil {
		return eventstore.LogID{}, err
	}
	if o.Log.String() == name {
		return o.Log, nil
	}
	for _, l := range o.Logs {
		if l.Log.String() == name {
			return l.Log, nil
		}
	}
	return eventstore.LogID{}, fmt.Errorf("%w: log %q is not held here; GET /v1/sites lists those that are", eventstore.ErrNotFound, name)
}

func deviation(f *replication.Finding) *sitesv1.Deviation {
	return &sitesv1.Deviation{First: f.First, Last: f.Last, Problem: f.Problem, Repaired: f.Repaired, Left: f.Left}
}

// storeComparison says how the comparisons of stores go; nil before the first.
func storeComparison(c replication.ComparerState) *sitesv1.StoreComparison {
	if c.Begun.IsZero() {
		return nil
	}
	out := &sitesv1.StoreComparison{Running: c.Running, BegunAt: timestamppb.New(c.Begun), Events: c.Events, Bytes: c.Bytes, Away: c.Away, Repaired: c.Repaired, Error: c.Err}
	if !c.Ended.IsZero() {
		out.EndedAt = timestamppb.New(c.Ended)
	}
	for i := range c.Findings {
		f := &c.Findings[i]
		out.Findings = append(out.Findings, &sitesv1.StoreFinding{Site: f.Site, Log: f.Log.String(), Deviation: deviation(f)})
	}
	return out
}

// compareTimeout bounds how long other sites may take to tell a chain.
const compareTimeout = 10 * time.Second

// CompareSites implements sitesv1.SitesServer.
func (s *Service) CompareSites(ctx context.Context, _ *sitesv1.CompareSitesRequest) (*sitesv1.CompareSitesResponse, error) {
	out := &sitesv1.CompareSitesResponse{Site: s.Name, Equal: true}
	if s.Site == nil {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	all, err := s.Site.Compare(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		c := &all[i]
		row := &sitesv1.Comparison{
			Log: c.Log.String(), Site: c.Site, Here: c.Here, There: c.There, Away: c.Away,
			ChainHere: hex.EncodeToString(c.ChainHere[:]), ChainThere: hex.EncodeToString(c.ChainThere[:]),
		}
		switch {
		case c.Err != nil:
			row.Problem = c.Err.Error()
		case !c.Equal() && c.Away == "":
			row.Problem = "the two have other events, or in another order"
		case c.Dropped:
			row.ChainHere, row.ChainThere = "", ""
		}
		out.Equal = out.GetEqual() && row.GetProblem() == "" && row.GetAway() == "" && c.Here == c.There
		out.Comparisons = append(out.Comparisons, row)
	}
	return out, nil
}

// DigestModels implements sitesv1.SitesServer.
func (s *Service) DigestModels(ctx context.Context, r *sitesv1.DigestModelsRequest) (*sitesv1.DigestModelsResponse, error) {
	if err := s.named(r.GetSite()); err != nil {
		return nil, err
	}
	at, err := headsOf(r.GetAt())
	if err != nil {
		return nil, err
	}
	digests, err := s.Models.ModelDigests(ctx, at)
	if err != nil {
		return nil, err
	}
	out := &sitesv1.DigestModelsResponse{At: headMessages(digests.At)}
	for _, d := range digests.Models {
		out.Models = append(out.Models, &sitesv1.ModelDigest{Model: d.Model, Part: d.Part, Digest: d.Digest, Count: d.Count, Problem: d.Err})
	}
	return out, nil
}

// CompareModels implements sitesv1.SitesServer.
func (s *Service) CompareModels(ctx context.Context, _ *sitesv1.CompareModelsRequest) (*sitesv1.CompareModelsResponse, error) {
	out := &sitesv1.CompareModelsResponse{Site: s.Name, Equal: true}
	if s.Site == nil {
		return out, nil
	}
	all, err := s.Site.CompareModels(ctx, s.Models)
	if err != nil {
		return nil, err
	}
	for i := range all {
		c := &all[i]
		out.Equal = out.GetEqual() && c.Problem == "" && c.Away == ""
		out.Comparisons = append(out.Comparisons, &sitesv1.ModelComparison{
			Site: c.Site, Model: c.Model, Part: c.Part, Here: c.Here, There: c.There, Problem: c.Problem, Away: c.Away,
		})
	}
	return out, nil
}
