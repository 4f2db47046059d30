package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/internal/wholefile"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/peers"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// wordsFile keeps, in the data folder, what the site has told others that it is bound by (replication.Words).
const wordsFile = "sites.json"

// lastWords returns what the site has told others; known is false where it never has.
func lastWords(path string) (w replication.Words, known bool, err error) {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, false, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &w)
	}
	if err != nil {
		return w, false, fmt.Errorf("read what other sites were told: %w; mend or remove %s", err, path)
	}
	return w, true, nil
}

// openRegistrar reads who takes part, and what was agreed on. It comes before anything is served.
func (n *Node) openRegistrar(ctx context.Context) error {
	path := n.path(wordsFile)
	words, _, err := lastWords(path)
	if err != nil {
		return err
	}
	o := replication.RegistrarOptions{
		Site: n.config.Site, Fence: n.cells.fence, Store: n.store, Heads: n.local.Heads, Homed: n.config.Homed, Resolvers: resolversOf(n.bus),
		Words: words, NewID: uuid.NewString, Changed: n.sites.meet, Logger: n.log,
		Keep: func(w replication.Words) error {
			if !n.cells.wanted || n.config.Look {
				return nil // there is nobody to tell
			}
			body, err := json.Marshal(w)
			if err != nil {
				return err
			}
			return wholefile.Write(path, append(body, '\n'))
		},
	}
	for _, p := range n.config.Peers {
		o.Given = append(o.Given, p.Site)
	}
	if n.cells.registrar, err = replication.NewRegistrar(ctx, o); err != nil {
		return err
	}
	n.sites.registrar.Store(n.cells.registrar)
	n.sites.service.Registrar, n.sites.service.Leaving = n.cells.registrar, n.cells.leaving.now
	if n.cells.registrar.Roster().Epoch > 0 {
		return n.cells.begin(ctx)
	}
	return nil
}

// resolversOf says how the conflicts of each category are resolved, as sites compare it.
func resolversOf(bus *commands.Bus) (out []string) {
	for category, kind := range bus.Resolvers() {
		out = append(out, category+"="+string(kind))
	}
	return out
}

// membersOn returns the sites that take part by what is on record in a store, but for one of them, where it is known how to find
// them; and those that have left.
func membersOn(ctx context.Context, store eventstore.Reader, self string) (found []Peer, left []string, err error) {
	var events []eventstore.Recorded
	for e, err := range store.Read(ctx, replication.RosterStream(), 1) {
		if errors.Is(err, eventstore.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the roster: %w", err)
		}
		events = append(events, e)
	}
	roster, err := replication.FoldRoster(events)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range roster.Members {
		if m.Site != self && m.GRPC != "" {
			found = append(found, Peer(m))
		}
	}
	return found, roster.Left, nil
}

// recall adds the sites that are on record to those that were named, which go before, and leaves out those that have left.
func (n *Node) recall(ctx context.Context) error {
	found, left, err := membersOn(ctx, n.local, n.config.Site)
	if err != nil {
		return err
	}
	for _, p := range found {
		if !slices.ContainsFunc(n.config.Peers, func(q Peer) bool { return q.Site == p.Site }) && len(n.config.Peers) > 0 {
			n.config.Peers = append(n.config.Peers, p)
		}
	}
	n.config.Peers = slices.DeleteFunc(n.config.Peers, func(p Peer) bool { return slices.Contains(left, p.Site) })
	return nil
}

// joinOthers has a site of the system put this one on record, and learns from it who the others are.
func (n *Node) joinOthers(ctx context.Context) error {
	if n.config.Join == "" || len(n.config.Peers) > 0 {
		return nil
	}
	if err := n.refuseHomedEarly(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	at, err := peers.Dial(n.config.Site, n.config.Join)
	if err != nil {
		return fmt.Errorf("--join %s: %w", n.config.Join, err)
	}
	defer func() { _ = at.Close() }() // the answer is there, or the error that counts
	self := &sitesv1.Member{Site: n.config.Site, Grpc: n.config.GRPC, Kafka: strings.Join(n.kafka.options.Brokers, ",")}
	roster, err := at.Join(ctx, self)
	if status.Code(err) == codes.Unimplemented {
		return fmt.Errorf("%w: --join %s: what answers there lets nobody in: name the gRPC address of a site (its --grpc); if it is one, its program is an earlier one: upgrade it first, or have all sites name each other (--peer)",
			eventstore.ErrUnsupported, n.config.Join)
	}
	if err != nil {
		return fmt.Errorf("--join %s: %w", n.config.Join, err)
	}
	for _, m := range roster.GetMembers() {
		if m.GetSite() == n.config.Site {
			continue
		}
		if m.GetGrpc() == "" || m.GetKafka() == "" {
			return fmt.Errorf("%w: --join %s: it is not known there where site %s is found; name all sites with --peer", eventstore.ErrInvalid, n.config.Join, m.GetSite())
		}
		n.config.Peers = append(n.config.Peers, Peer{m.GetSite(), m.GetGrpc(), m.GetKafka()})
	}
	if n.config.Homed == nil {
		n.config.Homed = roster.GetHomed()
	}
	return nil
}

// joinTimeout bounds how long a site may take to be put on record.
const joinTimeout = 10 * time.Second

// validateJoin says what is wrong with the site that is asked to be let in.
func (c *Config) validateJoin(fault func(format string, args ...any)) {
	if c.Join == "" {
		return
	}
	if err := hostPort(c.Join); err != nil {
		fault("--join %s: %v", c.Join, err)
	}
	if strings.HasSuffix(c.GRPC, ":0") {
		fault("--join: the other sites have to find this one: name the port of its server (--grpc HOST:PORT)")
	}
	if c.Kafka == Off {
		fault("--join: other sites are reached over Kafka, which is switched off (--kafka)")
	}
	if c.Kafka == Embedded && c.KafkaPort == 0 {
		fault("--join: the other sites have to find this one's topic: name a port for it (--kafka-port)")
	}
}

// dial returns how a site is reached.
func (p *sitesPart) dial(other Peer) (*kafkalog.Link, *peers.Peer, error) {
	addrs, err := brokers(other.Kafka)
	if err != nil {
		return nil, nil, fmt.Errorf("site %s: %w", other.Site, err)
	}
	link, err := kafkalog.NewLink(kafkalog.Options{Brokers: addrs, Topic: kafkalog.TopicOf(other.Site), Logger: p.log})
	if err != nil {
		return nil, nil, fmt.Errorf("site %s: %w", other.Site, err)
	}
	peer, err := peers.Dial(p.name, other.GRPC)
	if err != nil {
		return nil, nil, fmt.Errorf("site %s: %w", other.Site, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = append(p.closing, peer)
	p.known[other.Site] = joinedPeer{other, peer}
	return link, peer, nil
}

// joinedPeer is another site, and where it is found.
type joinedPeer struct {
	Peer
	peer *peers.Peer
}

// others returns the sites that this one replicates with, in the order of their names.
func (p *sitesPart) others() (out []joinedPeer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.known {
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b joinedPeer) int { return strings.Compare(a.Site, b.Site) })
	return out
}

// other returns a site that this one replicates with.
func (p *sitesPart) other(site string) (joinedPeer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j, ok := p.known[site]
	return j, ok
}

// names returns the names of the other sites.
func (p *sitesPart) names() (out []string) {
	for _, j := range p.others() {
		out = append(out, j.Site)
	}
	return out
}

// meet replicates with the sites that are on record from now on, and no more with those that have left.
func (p *sitesPart) meet(ctx context.Context, r replication.Roster) error {
	if err := p.readOnly.follow(r.Has(p.name), slices.Contains(r.Left, p.name)); err != nil {
		return err
	}
	if p.site == nil {
		return nil
	}
	if err := p.takePart(ctx, func() replication.Roster { return r }); err != nil {
		return err
	}
	for _, m := range r.Members {
		last, known := p.other(m.Site)
		if m.Site == p.name || m.GRPC == "" || known && (p.given[m.Site] || last.Peer == Peer(m)) {
			continue
		}
		link, peer, err := p.dial(Peer(m))
		if err != nil {
			return err
		}
		if err := p.site.With(ctx, m.Site, link, peer); err != nil {
			return err
		}
		if known {
			p.hangUp(last)
		}
		p.log.Info("a site takes part from now on", "site", m.Site, "grpc", m.GRPC, "kafka", m.Kafka)
	}
	for _, site := range r.Left {
		last, known := p.other(site)
		if !known {
			continue
		}
		if err := p.site.Without(ctx, site); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.known, site)
		p.mu.Unlock()
		p.hangUp(last)
		p.log.Info("a site takes part no more", "site", site)
	}
	return nil
}

// takePart tells the site who takes part by a roster, and whether they take over from each other by themselves. One that an operator has
// read-only takes over nothing; a full disk shows when a takeover is to be recorded, and is not asked for here.
func (p *sitesPart) takePart(ctx context.Context, on func() replication.Roster) error {
	p.telling.Lock()
	defer p.telling.Unlock()
	r := on()
	if r.Epoch == 0 {
		return nil
	}
	m := replication.Members{Auto: p.auto && len(r.Homed) > 0, Takes: p.readOnly.reason() == ""}
	for _, member := range r.Members {
		m.Sites = append(m.Sites, member.Site)
	}
	return p.site.TakePart(ctx, m)
}

// hangUp ends the connection to a site that nothing is asked of any more there; its topic is left by whoever followed it.
func (p *sitesPart) hangUp(other joinedPeer) {
	p.mu.Lock()
	p.closing = slices.DeleteFunc(p.closing, func(peer *peers.Peer) bool { return peer == other.peer })
	p.mu.Unlock()
	if err := other.peer.Close(); err != nil {
		p.log.Warn("the connection to a site that is asked no more is not ended", "site", other.Site, "error", err)
	}
}

// members implements the service Members.
type members struct {
	sitesv1.UnimplementedMembersServer
	n *Node
}

// GetRoster says who takes part.
func (m members) GetRoster(context.Context, *sitesv1.GetRosterRequest) (*sitesv1.Roster, error) {
	return m.rosterMessage(m.n.cells.registrar.Roster()), nil
}

// rosterMessage says who takes part, and where those are found that this site was given.
func (m members) rosterMessage(r replication.Roster) *sitesv1.Roster {
	out := &sitesv1.Roster{Cluster: r.Cluster, Founders: r.Founders, Homed: r.Homed, Left: r.Left}
	for _, member := range r.Members {
		// What is on record counts, unless the site was started with something else; it may be newer than what is replicated with.
		if other, known := m.n.sites.other(member.Site); known && (m.n.sites.given[member.Site] || member.GRPC == "") {
			member = replication.Member(other.Peer)
		}
		if member.Site == m.n.config.Site {
			member.GRPC, member.Kafka = m.n.GRPCAddr(), strings.Join(m.n.kafka.options.Brokers, ",")
		}
		out.Members = append(out.Members, &sitesv1.Member{Site: member.Site, Grpc: member.GRPC, Kafka: member.Kafka})
	}
	return out
}

// JoinSite has another site take part.
func (m members) JoinSite(ctx context.Context, r *sitesv1.JoinSiteRequest) (*sitesv1.Roster, error) {
	joins := replication.Member{Site: r.GetMember().GetSite(), GRPC: r.GetMember().GetGrpc(), Kafka: r.GetMember().GetKafka()}
	if joins.Site == "" {
		return nil, fmt.Errorf("%w: the name of the site that joins is missing (member.site)", eventstore.ErrInvalid)
	}
	if m.n.sites.site == nil {
		return nil, fmt.Errorf("%w: site %s runs alone: start it again with --peer %s=%s,%s, and the new one with --peer",
			eventstore.ErrUnsupported, m.n.config.Site, joins.Site, joins.GRPC, joins.Kafka)
	}
	if err := hostPort(joins.GRPC); err != nil {
		return nil, fmt.Errorf("%w: address of the server of site %s: %w", eventstore.ErrInvalid, joins.Site, err)
	}
	if _, err := brokers(joins.Kafka); err != nil {
		return nil, fmt.Errorf("%w: brokers of site %s: %w", eventstore.ErrInvalid, joins.Site, err)
	}
	if other, known := m.n.sites.other(joins.Site); known && m.n.sites.given[joins.Site] && other.Peer != Peer(joins) {
		return nil, fmt.Errorf("%w: site %s was given here as %s,%s (--peer)", eventstore.ErrInvalid, joins.Site, other.GRPC, other.Kafka)
	}
	for _, other := range m.rosterMessage(m.n.cells.registrar.Roster()).GetMembers() {
		if other.GetSite() != joins.Site && other.GetGrpc() == joins.GRPC {
			return nil, fmt.Errorf("%w: %s is the address of site %s: name that of the server of site %s", eventstore.ErrInvalid, joins.GRPC, other.GetSite(), joins.Site)
		}
	}
	roster, err := m.n.cells.registrar.Join(ctx, joins)
	if err != nil {
		return nil, err
	}
	return m.rosterMessage(roster), nil
}

// SetReadOnly has the site take no writes, or take them again.
func (m members) SetReadOnly(ctx context.Context, r *sitesv1.SetReadOnlyRequest) (*sitesv1.SetReadOnlyResponse, error) {
	if r.GetReason() == "" && slices.Contains(m.n.cells.registrar.Roster().Left, m.n.config.Site) {
		return nil, fmt.Errorf("%w: site %s has left, others receive no more of it: have it join again first (tributary sites join, asked at another site)", eventstore.ErrInvalid, m.n.config.Site)
	}
	if r.GetReason() != "" {
		if err := checkReason(r.GetReason(), "say why the site takes no writes"); err != nil {
			return nil, err
		}
	}
	if err := m.n.sites.readOnly.set(r.GetReason()); err != nil {
		return nil, err
	}
	if r.GetReason() == "" {
		m.n.cells.leaving.over() // it stays
	}
	if m.n.sites.site != nil {
		if err := m.n.sites.takePart(ctx, m.n.cells.registrar.Roster); err != nil {
			return nil, err
		}
	}
	m.n.log.Warn("an operator has said whether the site takes writes", "reason against it", r.GetReason())
	return &sitesv1.SetReadOnlyResponse{}, nil
}
