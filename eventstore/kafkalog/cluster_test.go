package kafkalog_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster starts brokers in memory.
func cluster(t *testing.T, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestLeaderMovesUnderLoad(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3))
	addr := c.ListenAddrs()[0]
	s := newStore(t)
	stop := load(t, s)
	o := fast(addr)
	o.Brokers = c.ListenAddrs()
	m := runMirror(t, s, o)
	if err := m.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, newReader(t, addr, topicOf(t, s)), eventstore.Position{}, eventstore.Filter{})
	for i := range 30 {
		progress(t, m.Mirror, 50)
		if err := c.MoveTopicPartition(topicOf(t, s), 0, int32(i%3)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	waitFor(t, m.Mirror, s)
	sameAsStore(t, addr, s)
	got := readTo(t, sub, eventstore.Position{}, head(t, s).Durable)
	sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
	if faults := m.Status().TopicFaults; len(faults) > 0 {
		t.Errorf("a topic of three brokers that the mirror made has %q", faults)
	}
	if settings := topicSettings(t, addr, topicOf(t, s)); settings["min.insync.replicas"] != "2" {
		t.Errorf("min.insync.replicas is %q", settings["min.insync.replicas"])
	}
}

func TestTooFewReplicasAreReported(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3))
	addr := c.ListenAddrs()[0]
	s := newStore(t)
	makeTopic(t, addr, topicOf(t, s), map[string]string{"retention.ms": "-1", "max.message.bytes": "8388608"})
	m := runMirror(t, s, fast(addr))
	if err := m.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	if faults := m.Status().TopicFaults; len(faults) != 1 || faults[0] != "replication factor is 1, should be 3" {
		t.Errorf("faults %q", faults)
	}
}

func TestLoginOverTLS(t *testing.T) {
	server, client := selfSigned(t)
	c := cluster(t, kfake.NumBrokers(1), kfake.TLS(server), kfake.EnableSASL(), kfake.Superuser("PLAIN", "mirror", "secret"))
	s := newStore(t)
	fill(t, s, 100)
	o := fast(c.ListenAddrs()[0])
	o.TLS, o.User, o.Password = client, "mirror", "secret"
	m := runMirror(t, s, o)
	waitFor(t, m.Mirror, s)
	report, err := kafkalog.Audit(context.Background(), s, o, nil)
	if err != nil || !report.OK() {
		t.Fatalf("report %+v, %v", report, err)
	}

	o.Password = "guess"
	o.RequestTimeout = 2 * time.Second
	if _, err := kafkalog.Audit(context.Background(), s, o, nil); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("wrong password: %v", err)
	}
	o.TLS = nil
	if _, err := kafkalog.Audit(context.Background(), s, o, nil); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("without TLS: %v", err)
	}
}

// selfSigned returns both sides' settings for a certificate of 127.0.0.1.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: trusted}
}

// Brokers answer any request of the mirror and of a reader with an error now and then; two of the errors come after the
// records were written all the same.
func TestBrokersThatAnswerWithErrors(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1))
	addr := c.ListenAddrs()[0]
	s := newStore(t)
	stop := load(t, s)
	m := runMirror(t, s, fast(addr))
	if err := m.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, newReader(t, addr, topicOf(t, s)), eventstore.Position{}, eventstore.Filter{})
	for _, f := range []struct {
		key  kmsg.Key
		errs []*kerr.Error
	}{
		{kmsg.Produce, []*kerr.Error{
			kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, // written all the same
			kerr.NotEnoughReplicas, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition, kerr.KafkaStorageError,
			kerr.OutOfOrderSequenceNumber, kerr.DuplicateSequenceNumber, kerr.UnknownProducerID, kerr.CorruptMessage, kerr.UnknownServerError,
		}},
		{kmsg.InitProducerID, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.InvalidProducerIDMapping}},
		{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError}},
		{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.OffsetOutOfRange, kerr.UnknownServerError}},
		{kmsg.DescribeConfigs, []*kerr.Error{kerr.TopicAuthorizationFailed}},
	} {
		for _, err := range f.errs {
			// Each request that is not a produce is made at the beginning of a session.
			faults := []kfake.Fault{{Keys: []kmsg.Key{f.key}, Err: err, Count: 2}}
			if f.key != kmsg.Produce {
				faults = append(faults, kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
			}
			handle := c.Fault(faults...)
			ctx, cancel := context.WithTimeout(context.Background(), within)
			if waitErr := handle.Wait(ctx, len(faults)); waitErr != nil {
				t.Fatalf("%s of %d was not asked for: %v", err.Message, f.key, waitErr)
			}
			cancel()
			progress(t, m.Mirror, 10)
			handle.Remove()
		}
	}
	stop()
	waitFor(t, m.Mirror, s)
	sameAsStore(t, addr, s)
	got := readTo(t, sub, eventstore.Position{}, head(t, s).Durable)
	sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
}

// A broker that refuses for good says so by its error; the mirror stops only where going on would do harm.
func TestBrokerSaysFenced(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.InvalidProducerEpoch, kerr.ProducerFenced} {
		c := cluster(t, kfake.NumBrokers(1))
		s := newStore(t)
		stop := load(t, s)
		m := runMirror(t, s, fast(c.ListenAddrs()[0]))
		progress(t, m.Mirror, 10)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: refusal})
		select {
		case <-m.done:
		case <-time.After(within):
			t.Fatalf("%s does not stop the mirror", refusal.Message)
		}
		if err := m.end(); !errors.Is(err, kafkalog.ErrFenced) {
			t.Errorf("%s gives %v", refusal.Message, err)
		}
		stop()
	}
}
