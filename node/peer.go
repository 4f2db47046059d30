package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Peer names another site.
type Peer struct {
	Site string `json:"site"`
	// GRPC is the address of its server, Kafka are the brokers of its topic, as Config.Kafka names them.
	GRPC  string `json:"grpc"`
	Kafka string `json:"kafka"`
}

// ParsePeers reads what --peer says: SITE=GRPC_ADDR,KAFKA_ADDR with more brokers behind more commas, each site once; "off"
// alone says that there are no others. Nothing at all is nil, for what was remembered.
func ParsePeers(flags []string) ([]Peer, error) {
	if len(flags) == 0 {
		return nil, nil
	}
	if len(flags) == 1 && flags[0] == Off {
		return []Peer{}, nil
	}
	out := make([]Peer, len(flags))
	for i, flag := range flags {
		site, addrs, ok := strings.Cut(flag, "=")
		grpc, kafka, ok2 := strings.Cut(addrs, ",")
		if !ok || !ok2 {
			return nil, fmt.Errorf("%w: --peer %s: use SITE=GRPC_ADDR,KAFKA_ADDR, both as HOST:PORT; off alone forgets all other sites", eventstore.ErrInvalid, flag)
		}
		out[i] = Peer{site, grpc, kafka}
	}
	return out, nil
}

// validatePeers says what is wrong with the other sites.
func (c *Config) validatePeers(fault func(format string, args ...any)) {
	for i, p := range c.Peers {
		if err := eventstore.ValidateSite(p.Site); err != nil {
			fault("--peer %s: %v", p.Site, err)
		}
		if p.Site == c.Site {
			fault("--peer %s: that is this site itself (--site)", p.Site)
		}
		if slices.ContainsFunc(c.Peers[:i], func(q Peer) bool { return q.Site == p.Site }) {
			fault("--peer %s is given twice", p.Site)
		}
		if err := hostPort(p.GRPC); err != nil {
			fault("--peer %s: %v", p.Site, err)
		}
		if _, err := brokers(p.Kafka); err != nil {
			fault("--peer %s: %v; name brokers as HOST:PORT, separated by commas", p.Site, err)
		}
	}
	if len(c.Peers) > 0 && c.Kafka == Off {
		fault("other sites are reached over Kafka, which is switched off (--kafka)")
	}
	if c.KafkaPort != 0 && c.Kafka != Embedded {
		fault("--kafka-port is for the embedded Kafka, not for %s", withoutPassword(c.Kafka))
	}
}
