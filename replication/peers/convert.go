package peers

import (
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

func logMessage(l eventstore.LogID) *sitesv1.Log {
	return &sitesv1.Log{Site: l.Site, Incarnation: l.Incarnation, Shard: uint32(l.Shard)}
}

func logOf(m *sitesv1.Log) eventstore.LogID {
	return eventstore.LogID{Site: m.GetSite(), Incarnation: m.GetIncarnation(), Shard: uint16(m.GetShard())}
}

func hashOf(b []byte) (h eventstore.Hash, err error) {
	if len(b) != len(h) {
		return h, fmt.Errorf("%w: a hash of %d bytes", eventstore.ErrInvalid, len(b))
	}
	copy(h[:], b)
	return h, nil
}

func heartbeatMessage(h *replication.Heartbeat) *sitesv1.Heartbeat {
	m := &sitesv1.Heartbeat{Site: h.Site, Log: logMessage(h.Log), Wall: timestamppb.New(h.Wall), Terms: termsMessage(h.Terms), Partial: h.Partial, Sent: h.Sent, Jump: durationpb.New(h.Jump), Grants: h.Grants, Read: h.Read}
	for _, e := range h.Echoes {
		m.Echoes = append(m.Echoes, &sitesv1.Echo{Site: e.Site, Sent: e.Sent, After: durationpb.New(e.After)})
	}
	m.Heads = headMessages(h.Heads)
	return m
}

func headMessages(heads []eventstore.LogHead) (out []*sitesv1.Head) {
	for _, h := range heads {
		out = append(out, &sitesv1.Head{Log: logMessage(h.Log), Seq: h.Seq, Hlc: uint64(h.HLC), Chain: h.Chain[:]})
	}
	return out
}

func headsOf(heads []*sitesv1.Head) (out []eventstore.LogHead, err error) {
	for _, h := range heads {
		chain, err := hashOf(h.GetChain())
		if err != nil {
			return nil, err
		}
		out = append(out, eventstore.LogHead{Log: logOf(h.GetLog()), Seq: h.GetSeq(), HLC: hlc.Timestamp(h.GetHlc()), Chain: chain})
	}
	return out, nil
}

// heartbeatOf returns a heartbeat that has come from its site just now.
func heartbeatOf(m *sitesv1.Heartbeat) (h replication.Heartbeat, err error) {
	h = replication.Heartbeat{Site: m.GetSite(), Log: logOf(m.GetLog()), Wall: m.GetWall().AsTime(), Terms: termsOf(m.GetTerms()), Direct: true, Partial: m.GetPartial(), Sent: m.GetSent(), Jump: m.GetJump().AsDuration(), Grants: m.GetGrants(), Read: m.GetRead()}
	for _, e := range m.GetEchoes() {
		h.Echoes = append(h.Echoes, replication.Echo{Site: e.GetSite(), Sent: e.GetSent(), After: e.GetAfter().AsDuration()})
	}
	if h.Log.Site != h.Site {
		return h, fmt.Errorf("%w: a heartbeat of site %q names log %s", eventstore.ErrInvalid, h.Site, h.Log)
	}
	if h.Heads, err = headsOf(m.GetHeads()); err != nil {
		return h, fmt.Errorf("heartbeat of site %q: %w", h.Site, err)
	}
	return h, nil
}

// LeaseMessage says under which lease a site writes what is homed.
func LeaseMessage(l replication.LeaseStatus) *sitesv1.Lease {
	m := &sitesv1.Lease{Bound: l.Bound, LeftSeconds: l.Left.Seconds(), Acknowledged: l.Acknowledged, Members: uint32(l.Members), Manual: l.Manual}
	for _, w := range l.Withheld {
		m.Withheld = append(m.Withheld, &sitesv1.Withheld{Site: w.Site, Why: w.Why})
	}
	return m
}

func takeoverMessages(takeovers []replication.Takeover) (out []*sitesv1.Takeover) {
	for _, t := range takeovers {
		out = append(out, &sitesv1.Takeover{Site: t.Site, Taker: t.Taker, Reason: t.Reason, At: timestamppb.New(t.At)})
	}
	return out
}

func termsMessage(t *replication.Terms) *sitesv1.Terms {
	if t == nil {
		return nil
	}
	m := &sitesv1.Terms{Format: t.Format, Cluster: t.Cluster, Epoch: t.Epoch, Founders: t.Founders, Homed: t.Homed, Resolvers: t.Resolvers, SinceLog: logMessage(t.Since.Log), Since: t.Since.Seq, Bound: t.Bound, Roster: t.Roster, RosterDigest: t.RosterDigest}
	for _, d := range t.Cells {
		m.Cells = append(m.Cells, &sitesv1.CellsDigest{Epochs: d.Epochs, Homes: d.Homes, Changes: d.Changes})
	}
	return m
}

func termsOf(m *sitesv1.Terms) *replication.Terms {
	if m == nil {
		return nil
	}
	t := &replication.Terms{
		Format: m.GetFormat(), Cluster: m.GetCluster(), Epoch: m.GetEpoch(), Founders: m.GetFounders(), Homed: m.GetHomed(), Resolvers: m.GetResolvers(),
		Since: eventstore.Dot{Log: logOf(m.GetSinceLog()), Seq: m.GetSince()}, Bound: m.GetBound(), Roster: m.GetRoster(), RosterDigest: m.GetRosterDigest(),
	}
	for _, d := range m.GetCells() {
		t.Cells = append(t.Cells, replication.CellsDigest{Epochs: d.GetEpochs(), Homes: d.GetHomes(), Changes: d.GetChanges()})
	}
	return t
}
