package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Which sites take part, and what they have agreed on, is on record in one stream of this category.
const RosterCategory = "$sites"

// The types of events in that stream. Their payload is JSON.
const (
	// RosterFounded: some sites have begun a system together. Who may write a cell that nobody has moved is said by the ring of
	// these sites, for good: those that come later are given their cells by moves.
	RosterFounded = "tributary.sites.founded.v1"
	// RosterHomed: all sites have come to have the same categories written at one site at a time.
	RosterHomed = "tributary.sites.homed.v1"
	// RosterJoined: a site takes part, and is found at the addresses that are named.
	RosterJoined = "tributary.sites.joined.v1"
	// RosterLeft: a site takes part no more. What it has written stays.
	RosterLeft = "tributary.sites.left.v1"
)

// RosterStream is the stream in which it is on record which sites take part.
func RosterStream() eventstore.StreamID {
	return eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: RosterCategory, ID: "roster"}
}

// Member is a site that takes part.
type Member struct {
	Site string `json:"site"`
	// GRPC is the address of its server, Kafka are the brokers of its topic, behind commas; both empty where each site was given
	// them when it was started.
	GRPC  string `json:"grpc,omitempty"`
	Kafka string `json:"kafka,omitempty"`
}

// Roster says which sites take part, and what they have agreed on.
type Roster struct {
	// Cluster is the name of the system, which no other has; empty before it is founded.
	Cluster string
	// Founders are the sites whose ring says who may write a cell that nobody has moved.
	Founders []string
	// Homed are the categories that all sites have agreed to have written at one site at a time.
	Homed []string
	// Epoch rises with each agreement; 0 is before the system is founded.
	Epoch uint32
	// Members take part, founders among them, Left do so no more; both are in the order of their names.
	Members []Member
	Left    []string
}

// agreed is the payload of RosterFounded and RosterHomed.
type agreed struct {
	Cluster string   `json:"cluster,omitempty"`
	Sites   []string `json:"sites,omitempty"`
	Homed   []string `json:"homed"`
	Epoch   uint32   `json:"epoch"`
	// Without are founders that were gone, as an operator has said, and Reason is why that was thought.
	Without []string `json:"without,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// parting is the payload of RosterLeft.
type parting struct {
	Site   string `json:"site"`
	Reason string `json:"reason"`
}

// FoldRoster says who takes part by the events of the roster's stream in canonical order, of which all sites come to the same.
// An agreement that could not be when its turn came is passed over.
func FoldRoster(events []eventstore.Recorded) (Roster, error) {
	var r Roster
	for i := range events {
		if err := r.fold(&events[i]); err != nil {
			return r, fmt.Errorf("event %s of the roster: %w: %w", events[i].Dot, eventstore.ErrCorrupt, err)
		}
	}
	return r, nil
}

func (r *Roster) fold(e *eventstore.Recorded) error {
	switch e.Type {
	case RosterFounded, RosterHomed:
		var p agreed
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			return err
		}
		if p.Epoch != r.Epoch+1 || (e.Type == RosterFounded) != (r.Epoch == 0) {
			return nil
		}
		r.Epoch, r.Homed = p.Epoch, p.Homed
		if e.Type == RosterFounded {
			r.Cluster, r.Founders = p.Cluster, p.Sites
			for _, site := range p.Sites {
				r.enter(Member{Site: site})
			}
		}
	case RosterJoined:
		var m Member
		if err := json.Unmarshal(e.Payload, &m); err != nil {
			return err
		}
		r.enter(m)
	case RosterLeft:
		var p parting
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			return err
		}
		r.Members = slices.DeleteFunc(r.Members, func(m Member) bool { return m.Site == p.Site })
		if i, found := slices.BinarySearch(r.Left, p.Site); !found {
			r.Left = slices.Insert(r.Left, i, p.Site)
		}
	default:
		return errors.New("it has type " + e.Type)
	}
	return nil
}

func (r *Roster) enter(m Member) {
	i, found := slices.BinarySearchFunc(r.Members, m, func(a, b Member) int { return strings.Compare(a.Site, b.Site) })
	if !found {
		r.Members = slices.Insert(r.Members, i, m)
	} else if m.GRPC != "" {
		r.Members[i] = m
	}
	r.Left = slices.DeleteFunc(r.Left, func(site string) bool { return site == m.Site })
}

// Has reports whether a site takes part.
func (r *Roster) Has(site string) bool {
	return slices.ContainsFunc(r.Members, func(m Member) bool { return m.Site == site })
}

// rosterEvent returns an event of the roster's stream.
func rosterEvent(eventType string, payload any) (eventstore.Event, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("encode event of the roster: %w", err)
	}
	return eventstore.Event{Type: eventType, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: body}, nil
}
